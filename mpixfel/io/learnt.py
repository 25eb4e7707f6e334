"""What a run has learnt, on disk: `learnt.h5` in the run directory, and the group `/learnt` of the run file."""
import os
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np

from mpixfel.model.ambiguity import ambiguity
from mpixfel.model.crystal import UnitCell
from mpixfel.model.experiment import Learnt

MEANING = {
    "n_events": ("", "events that the run learnt from"), "n_lattices": ("", "lattices among them"),
    "beam_shift_m": ("m", "mean shift of the panels, laboratory x and y"),
    "beam_shift_sigma_m": ("m", "spread of the shift from shot to shot"),
    "distance_scale": ("", "distance over the given one"),
    "cell_sigma": ("angstrom, degrees", "spread of the cells from shot to shot"),
    "half_mosaicity_deg": ("degrees", "half mosaic spread"), "domain_size_angstrom": ("angstrom", "mosaic block size"),
    "bandwidth_fwhm": ("", "relative spread of the wavelength, full width at half maximum"),
}
CELL_FIELDS = ("lattice_type", "centring", "unique_axis", "space_group", "name")


def write_learnt(folder, learnt):
    """Write `learnt.h5`; complete or not at all."""
    temporary, final = Path(folder, "learnt.h5.part"), Path(folder, "learnt.h5")
    with h5py.File(temporary, "w") as file:
        fill_learnt(file, learnt)
    os.replace(temporary, final)


def read_learnt(folder):
    """The `Learnt` of a run directory, or None."""
    path = Path(folder, "learnt.h5")
    if not path.exists():
        return None
    with h5py.File(path, "r") as file:
        return learnt_of(file)


def fill_learnt(group, learnt):
    """Write a `Learnt` into an HDF5 group."""
    for f in fields(learnt):
        value = getattr(learnt, f.name)
        if f.name == "cells":
            fill_cells(group.create_group("cells"), value)
        elif f.name == "extra":
            _fill_dict(group.create_group("extra"), value)
        else:
            dataset = group.create_dataset(f.name, data=np.asarray(value, dtype=float if f.name == "cell_sigma" else None))
            describe(dataset, *MEANING.get(f.name, ("", f.name)))


def fill_cells(group, cells):
    """Write unit cells: parameters (n, 6) and one list of texts for each further field."""
    group.create_dataset("parameters", data=np.array([c.parameters for c in cells], float).reshape(-1, 6))
    for name in CELL_FIELDS:
        values = np.array([getattr(c, name) for c in cells], object)
        dataset = group.create_dataset(name, values.shape, h5py.string_dtype())
        if len(values):
            dataset[...] = values
        describe(dataset, "", f"{name.replace('_', ' ')} of each cell")
    laws = group.create_dataset("ambiguity", (len(cells),), h5py.string_dtype())
    if len(cells):
        laws[...] = ["; ".join(ambiguity(c)) for c in cells]
    describe(laws, "", "changes of indices that the lattice allows and the space group (where unknown, the least symmetric "
                       "one) does not: merohedral ambiguity, not resolved here")
    describe(group["parameters"], "angstrom, degrees", "a, b, c, alpha, beta, gamma of each cell")


def describe(dataset, unit, meaning):
    """Unit and meaning as attributes."""
    dataset.attrs["units"], dataset.attrs["description"] = unit, meaning


def _fill_dict(group, members):
    for name, value in members.items():
        if isinstance(value, dict):
            _fill_dict(group.create_group(name), value)
        else:
            describe(group.create_dataset(name, data=np.asarray(value)), "", f"learnt: {name}")


def learnt_of(group):
    """The `Learnt` in an HDF5 group."""
    values = {}
    for f in fields(Learnt):
        if f.name == "cells":
            values["cells"] = cells_of(group["cells"])
        elif f.name == "extra":
            values["extra"] = _dict_of(group["extra"])
        else:
            value = group[f.name][()]
            values[f.name] = tuple(map(tuple, value)) if f.name == "cell_sigma" and value.ndim == 2 else (
                tuple(map(float, value)) if np.ndim(value) else type(f.default)(value) if f.default is not None else value)
    return Learnt(**values)


def cells_of(group):
    """UnitCells of a group written by `fill_cells`."""
    texts = {name: [t.decode() for t in group[name][:]] for name in CELL_FIELDS}
    return tuple(UnitCell(*map(float, row), **{name: texts[name][k] for name in CELL_FIELDS})
                 for k, row in enumerate(group["parameters"][:]))


def _dict_of(group):
    return {name: _dict_of(member) if isinstance(member, h5py.Group) else member[()] for name, member in group.items()}


