"""The truth of a simulated run: frames, lattices and reflections as they were, for scoring."""
import h5py
import numpy as np

BOUND = ("least sigma (photons) that any unbiased estimate can have, from the true spot shape and background: "
         "1/sqrt(sum P^2/v) over unmasked pixels, v the expected photons plus read-out variance")
BASIS = "columns a*,b*,c* [1/A], lab frame = CrystFEL/McStas (z beam, y up, x left looking downstream)"
DOC = """Truth of simulated serial-crystallography stills.

FRAME (lab = CrystFEL = NeXus/McStas): z along the beam (downstream), y up, x = y cross z, i.e. to the LEFT when looking
downstream. A (3x3): COLUMNS are a*, b*, c* in 1/angstrom, no 2 pi: q = A @ (h,k,l), k_in = (0,0,1/lambda).
Pixel i covers [i,i+1). frame/n_visible: reflections with photons of at least 6 sigma_bound; n_strong: 12.
reflection/photons: expected photons on the panels, bad pixels included, before background and noise; fs, ss: their
centroid, pixels of the panel reflection/panel (the one with most of them); excitation_error: |(|k_in + q| - 1/lambda)|.
Reflections with fewer than 0.2 photons are not listed.
"""
LATTICE = ("A", "U", "cell", "mosaicity_deg", "block_size_A", "block_cells", "crystal_size_um", "scale", "bragg_photons",
           "n_visible", "n_strong")
REFLECTION = {"hkl": "i2", "photons": "f4", "panel": "i2", "fs": "f4", "ss": "f4", "sigma_bound": "f4",
              "excitation_error": "f4"}


def read_config(path):
    """The attribute `config` of a truth file: JSON of what it was made with."""
    with h5py.File(path) as f:
        return str(f.attrs.get("config", ""))


class TruthWriter:
    """Gathers the truth frame by frame; `write` puts it into a file.

    Parameters
    ----------
    attributes : dict
        Attributes of the file: what is the same for every frame.
    """

    def __init__(self, attributes):
        self._attributes = attributes
        self._frames, self._lattices, self._reflections, self._counts = [], [], [], []

    def add(self, frame, lattices, reflections):
        """One frame: dict of scalars; a dict for each lattice; a dict of columns for each lattice."""
        self._frames.append({**frame, "first_lattice": len(self._lattices), "n_lattices": len(lattices),
                             "n_visible": sum(x["n_visible"] for x in lattices)})
        for lattice, rows in zip(lattices, reflections):
            self._lattices.append({**lattice, "frame": len(self._frames) - 1})
            self._reflections.append(rows)
            self._counts.append(len(rows["photons"]))

    def write(self, path):
        """Write truth.h5: groups frame, lattice, reflection, one dataset for each column."""
        with h5py.File(path, "w") as f:
            f.attrs["doc"] = DOC
            for name, value in self._attributes.items():
                f.attrs[name] = value
            for name in self._frames[0]:
                f[f"frame/{name}"] = np.array([row[name] for row in self._frames])
            self._write_lattices(f.create_group("lattice"))
            self._write_reflections(f.create_group("reflection"))

    def _write_lattices(self, group):
        shapes = {"A": (3, 3), "U": (3, 3), "cell": (6,), "block_cells": (3,)}
        whole = ("frame", "n_visible", "n_strong", "block_cells")
        for name in ("frame", *LATTICE):
            column = np.array([row[name] for row in self._lattices], np.int64 if name in whole else np.float64)
            group[name] = column.reshape(len(self._lattices), *shapes.get(name, ()))
        group["A"].attrs["convention"] = BASIS

    def _write_reflections(self, group):
        owner = np.repeat(np.arange(len(self._counts), dtype=np.int32), self._counts)
        columns = {"lattice": owner}
        for name, dtype in REFLECTION.items():
            empty = np.zeros((0, 3) if name == "hkl" else 0)
            columns[name] = np.concatenate([rows[name] for rows in self._reflections] or [empty]).astype(dtype)
        for name, column in columns.items():
            compressed = {"compression": "gzip", "shuffle": True} if len(column) else {}
            group.create_dataset(name, data=column, **compressed)
        group["sigma_bound"].attrs["description"] = BOUND
