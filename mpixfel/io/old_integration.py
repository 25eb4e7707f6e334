"""Old integration pickles (cctbx.xfel): reflections and model of one indexed image, by a reader that executes nothing."""
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.old_pickle import read_old_pickle


class _UnitCell:
    """cctbx.uctbx.unit_cell: its six parameters, angstrom and degrees."""

    def __init__(self, parameters):
        self.array = np.array(parameters, float)


class _Text:
    """Objects that are made of one text: a space group's Hall symbol, a change of basis."""

    def __init__(self, text="", *_):
        self.array = str(text)

    def __setstate__(self, state):
        """They have none."""


class _Orientation:
    """cctbx.crystal_orientation: a matrix of reciprocal axes, 1/angstrom, or of direct ones, angstrom."""

    def __init__(self, matrix, reciprocal=True):
        matrix = np.array(matrix, float).reshape(3, 3)
        self.array = matrix if reciprocal else np.linalg.inv(matrix)

    def __setstate__(self, state):
        """They have none."""


class _GroupInfo(_Text):
    """cctbx.sgtbx.space_group_info: the text of its space group."""

    def __setstate__(self, state):
        first = state[0] if isinstance(state, tuple) and state else state
        self.array = getattr(first, "array", str(first))


class _Fields:
    """An object that is its own dictionary: miller.array, crystal.symmetry."""

    def __setstate__(self, state):
        self.fields = state if isinstance(state, dict) else {}


_SEEN = {"cctbx_uctbx_ext": {"unit_cell": _UnitCell}, "cctbx_sgtbx_ext": {"space_group": _Text, "change_of_basis_op": _Text},
         "cctbx_orientation_ext": {"crystal_orientation": _Orientation}, "cctbx.miller": {"array": _Fields, "set": _Fields},
         "cctbx.sgtbx": {"space_group_info": _GroupInfo}, "cctbx.crystal": {"symmetry": _Fields}}


def read_old_integration(path):
    """What an old integration pickle holds, under its own keys, in NumPy arrays and plain values.

    `observations` becomes a list of {"miller_index" (n, 3), "intensity" (n,), "sigma" (n,) or None, "unit_cell" (6,)
    angstrom and degrees, "space_group" Hall symbol}; `current_orientation` a list of (3, 3) reciprocal matrices as cctbx
    has them; `mapped_predictions` of (n, 2) pixels, slow and fast; lengths are in mm, the wavelength in angstrom.

    Raises
    ------
    MpixfelError
        If the file is no such pickle, or asks for anything that is not known to be harmless.
    """
    more = {(module, name): cls for module, names in _SEEN.items() for name, cls in names.items()}
    found = read_old_pickle(path, more)
    if not isinstance(found, dict) or "observations" not in found:
        raise MpixfelError("this is no integration pickle", str(path), "it must be a dictionary with `observations`")
    return {key: _simple(value) for key, value in found.items()}


def _simple(value):
    if isinstance(value, dict):
        return {key: _simple(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_simple(v) for v in value]
    fields = getattr(value, "fields", None)
    if fields is None:
        return getattr(value, "array", value)
    if "_indices" not in fields:
        return {key.lstrip("_"): _simple(v) for key, v in fields.items()}
    return {"miller_index": _simple(fields["_indices"]), "intensity": _simple(fields.get("_data")),
            "sigma": _simple(fields.get("_sigmas")), "unit_cell": _simple(fields.get("_unit_cell")),
            "space_group": _simple(fields.get("_space_group_info"))}
