"""Opening HDF5 files and datasets: what can be wrong with them is found here and named."""
import math
import os

import h5py
import hdf5plugin  # noqa: F401  registers the compression filters

from mpixfel.errors import ManyErrors, MpixfelError


def open_file(path):
    """The open `h5py.File`. Raises `MpixfelError` for a file that is missing, truncated or no HDF5 file."""
    try:
        return _open(path)
    except FileNotFoundError:
        raise MpixfelError("the file is not there", path, "check the path, or that it has not been moved") from None
    except PermissionError:
        raise MpixfelError("the file must not be read", path, "ask for permission to read it") from None
    except OSError as error:
        raise MpixfelError(_open_fault(path, str(error)), path, "copy or write the file again") from None


def _open(path):
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "already open for" in str(error):
            return h5py.File(path, "r", swmr=True)   # being written by one who lets others read; fails otherwise
        if "lock" not in str(error):
            raise
        # A file that is being written, or lies on a file system without locks, is read without them. Not at first:
        # HDF5 refuses to open one file with and without locks in one process.
        return h5py.File(path, "r", locking=False)


def _open_fault(path, message):
    if "truncated" in message:
        return f"the HDF5 file is truncated at {os.path.getsize(path)} bytes"
    if "signature not found" in message or "not an HDF5" in message:
        return "this is no HDF5 file"
    return f"the HDF5 file cannot be opened: {message}"


def open_dataset(file, name, remedy="correct `data` in the geometry"):
    """A numeric dataset of an open file, checked: it exists, holds numbers, and its virtual sources are there."""
    path = file.filename
    try:
        dataset = file[name]
    except KeyError:
        raise MpixfelError(f"there is no dataset {name}{_link_fault(file, name)}", path,
                           f"{remedy}; image datasets there: {_images(file)}") from None
    except OSError as error:
        raise MpixfelError(f"{name} cannot be opened: {error}", path, "copy or write the file again") from None
    if not isinstance(dataset, h5py.Dataset):
        raise MpixfelError(f"{name} is a group, not a dataset", path,
                           f"{remedy}; inside: {', '.join(list(dataset)[:8])}")
    if dataset.dtype.kind not in "iufb" or dataset.shape is None:
        raise MpixfelError(f"{name} holds {_kind(dataset)}, not numbers", path, remedy)
    if dataset.is_virtual:
        check_virtual(dataset, path)
    return dataset


def _kind(dataset):
    if dataset.shape is None:
        return "nothing"
    if dataset.dtype.names:
        return f"compound rows ({', '.join(dataset.dtype.names)})"
    return {"O": "strings or references", "S": "strings", "U": "strings", "c": "complex numbers",
            "V": "opaque data"}.get(dataset.dtype.kind, str(dataset.dtype))


def _link_fault(file, name):
    """What an HDF5 link on the way to a missing name points at, or ""."""
    node = file["/"]
    for part in filter(None, name.split("/")):
        links, child = node.id.links, node.get(part)
        if isinstance(child, h5py.Group):
            node = child
        elif child is None and links.exists(part.encode()):
            value = links.get_val(part.encode())
            target = " in ".join(v.decode() for v in reversed(value)) if isinstance(value, tuple) else value.decode()
            return f": {node.name.rstrip('/')}/{part} is a link to {target}, which is not there"
        else:
            break
    return ""


def _images(file, most=4):
    """Names and shapes of datasets that may hold images, for an error's remedy."""
    found = []

    def visit(name, node):
        if isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "iuf" and min(node.shape[-2:]) > 7:
            found.append(f"/{name} {node.shape}")
        return True if len(found) >= most else None
    try:
        file.visititems(visit)
    except (RuntimeError, OSError):
        return "none that can be read"
    return ", ".join(found) or "none"


def check_virtual(dataset, path):
    """Raise for every source of a virtual dataset that is missing: HDF5 would silently read fill values."""
    errors, seen = [], {}
    folder = os.path.dirname(os.path.realpath(path))
    for vspace, file_name, name, source_space in dataset.virtual_sources():
        # "%b" in a name counts blocks along an unlimited axis: the first must be there.
        file_name, name = (text.replace("%b", "0").replace("%%", "%") for text in (file_name, name))
        key = (file_name, name)
        if key not in seen:
            seen[key] = _source_shape(path, folder, file_name, name)
        shape = seen[key]
        if isinstance(shape, str):
            errors.append(f"{name} in {file_name} ({shape})")
        elif _is_too_small(shape, vspace, source_space):
            errors.append(f"{name} in {file_name} (its shape is {shape}, too small)")
    if errors:
        errors = list(dict.fromkeys(errors))
        raise ManyErrors(MpixfelError(f"virtual dataset {dataset.name} lacks a source: {e}", path,
                                      "put the file back where the virtual dataset looks for it") for e in errors)


def _is_too_small(shape, vspace, source_space):
    """Whether a source lacks part of what is mapped from it: HDF5 would read fill values for that, too."""
    try:
        if source_space.get_select_type() == h5py.h5s.SEL_ALL:
            return vspace.get_select_npoints() > math.prod(shape)
        last = source_space.get_select_bounds()[1]
    except (ValueError, RuntimeError):
        return False                     # a selection without end grows with its source
    return len(last) == len(shape) and any(high >= n for high, n in zip(last, shape))


def _source_shape(path, folder, file_name, name):
    """The shape of one source of a virtual dataset, or what is wrong with it."""
    if file_name == ".":
        candidates = [path]
    else:
        prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", folder)
        candidates = [os.path.join(p, file_name) for p in (prefix, folder, "") if p or os.path.isabs(file_name)]
        candidates += [file_name]
    found = next((c for c in candidates if os.path.isfile(c)), None)
    if found is None:
        return "no such file"
    try:
        with _open(found) as source:
            return source[name].shape
    except KeyError:
        return "no such dataset"
    except OSError as error:
        return f"cannot be opened: {_open_fault(found, str(error))}"
