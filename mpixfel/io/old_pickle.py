"""Old cctbx image pickles (darks, gain maps, masks): a reader that builds arrays and plain values, and nothing else.

A pickle is a program that may call anything. This reader knows the few calls that such files need, gives its own
functions for them, and refuses all others with their name.
"""
import pickle

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.kernels import base256

KINDS = {"double": np.float64, "float": np.float32, "int": np.int32, "long": np.int64, "size_t": np.int64,
         "bool": np.bool_}


class _Grid:
    """Shape of a flex array: grid(origin, last, open_range), later told its focus."""

    def __init__(self, *arguments):
        origin, last, open_range = (arguments + ((), (), True))[:3]
        size = [b - a for a, b in zip(origin, last)]
        self.shape = tuple(int(n) if open_range else int(n) + 1 for n in size)

    def __setstate__(self, state):
        """The focus: what part of the grid is of interest; old files have it all."""


class _Flex:
    """A flex array on its way: (grid, encoded values) become `array`."""

    kind = np.float64
    width = ()                    # (3,): each element is three numbers

    def __setstate__(self, state):
        grid, text = state
        data = np.frombuffer(text.encode("latin1") if isinstance(text, str) else text, np.uint8)
        n, at = base256.read_integer(data, 0)
        shape = getattr(grid, "shape", ())
        if at < 0 or n < 0 or n > data.size or int(np.prod(shape)) != n:
            raise pickle.UnpicklingError(f"{n} values for an array of shape {shape}")
        if self.kind is np.bool_:
            self.array = (data[at:at + n] == ord("1")).reshape(shape)
            return
        out = np.empty(n * int(np.prod(self.width)), self.kind if self.kind not in (np.float32,) else np.float64)
        read = base256.read_reals if np.issubdtype(self.kind, np.floating) else base256.read_integers
        if read(data, at, out) < 0:
            raise pickle.UnpicklingError("an array ends too soon")
        self.array = out.astype(self.kind, copy=False).reshape((*shape, *self.width))


class _NumpyType:
    """A NumPy dtype on its way; numbers only."""

    def __init__(self, name, *_):
        name = name.decode("latin1") if isinstance(name, bytes) else str(name)
        if name[:1] not in "?biuf" or not name[1:].isdigit():
            raise pickle.UnpicklingError(f"an array of {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        if state[1] in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class _NumpyArray:
    """A NumPy array on its way."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, kind, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(data, kind.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding}")
    return text.encode("latin1")


def _numpy_array(*_):
    return _NumpyArray()


_FLEX = {kind: type(f"_Flex_{kind}", (_Flex,), {"kind": dtype}) for kind, dtype in KINDS.items()}
for _name, _kind, _width in (("vec2_double", np.float64, 2), ("vec3_double", np.float64, 3), ("miller_index", np.int32, 3)):
    _FLEX[_name] = type(f"_Flex_{_name}", (_Flex,), {"kind": _kind, "width": (_width,)})
_NUMPY = {"_reconstruct": _numpy_array, "ndarray": _NumpyArray, "dtype": _NumpyType}
_KNOWN = {("_codecs", "encode"): _encode,
          **{(module, name): build for name, build in {**_FLEX, "grid": _Grid}.items()
             for module in ("scitbx_array_family_flex_ext", "scitbx.array_family.flex", "cctbx_array_family_flex_ext")},
          **{(module, name): build for name, build in _NUMPY.items()
             for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")}}


class _Reader(pickle.Unpickler):
    """Builds what is `known`, {(module, name): own class or function}."""

    def __init__(self, file, known):
        super().__init__(file, encoding="latin1")
        self.known = known

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside of the file")


def read_old_pickle(path, more=None):
    """The contents of an old image pickle: {key: value}, or an array; flex arrays become NumPy arrays.

    `more`, {(module, name): own class or function}, is what the reader may build beside arrays.

    Raises
    ------
    MpixfelError
        If the file is no pickle, is damaged, or asks for anything but arrays of numbers; says what it asked for.
    """
    try:
        with open(path, "rb") as file:
            found = _Reader(file, {**_KNOWN, **(more or {})}).load()
    except OSError as error:
        raise MpixfelError(f"cannot be read: {error.strerror}", str(path), "check the path") from None
    except Exception as error:                       # a damaged pickle raises nearly anything
        raise MpixfelError(f"refused: {error}", str(path), "only arrays of numbers are read from pickles; "
                           "convert it to HDF5 or NumPy with the program that wrote it") from None
    return _plain(found)


def _plain(found):
    if isinstance(found, dict):
        return {str(key): _plain(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return type(found)(_plain(value) for value in found)
    return getattr(found, "array", found)
