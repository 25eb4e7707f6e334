"""All corrected images of a run in one CXI file: each rank writes a part of it, one rank joins the parts."""
import glob
import os
import socket
from dataclasses import replace

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.images import create_cxi, fill_cxi
from mpixfel.io.geometry import Block, Layout, PanelLayout, Quantity, write_geometry
from mpixfel.units import photon_energy_ev


class Part:
    """The images of one process, in the order in which they came.

    Parameters
    ----------
    path : str
        The stack's path; the part stands beside it under a name of its own.
    shape : (ss, fs)
    """

    GROW = 64

    def __init__(self, path, shape):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self.path = f"{path}.{socket.gethostname()}.{os.getpid()}.part"
        self.n, self.rows = 0, []
        try:
            self.file = h5py.File(self.path, "w")
        except OSError as e:
            raise MpixfelError(f"cannot write: {e}", self.path, "check the folder and the free space") from e
        self.data = self.file.create_dataset("data", (0, *shape), "f4", maxshape=(None, *shape), chunks=(1, *shape),
                                             compression="gzip", compression_opts=1, shuffle=True)

    def add(self, image, record):
        """Append a `CorrectedImage`."""
        if self.n == len(self.data):
            self.data.resize(self.n + self.GROW, axis=0)
        self.data[self.n] = image.block
        self.rows.append((record.id.source, record.id.index, record.id.timestamp_ns, image.distance_mm, image.clen_mm,
                          image.pixel_size_mm, image.wavelength_angstrom, record.id.name))
        self.n += 1

    def close(self):
        self.data.resize(self.n, axis=0)
        numbers = np.array([r[:3] for r in self.rows], np.int64).reshape(-1, 3)
        self.file["order"] = numbers
        self.file["lengths"] = np.array([r[3:7] for r in self.rows], float).reshape(-1, 4)
        self.file.create_dataset("names", data=[r[7] for r in self.rows], dtype=h5py.string_dtype())
        self.file.close()


def join(path, detector, beam):
    """Put the parts of a stack in one CXI file, in the order of the events, and write a geometry beside it.

    A part of a process that was killed has no closing tables and is left out: its events are done again on resume.
    """
    parts = [p for p in map(_open_part, sorted(glob.glob(glob.escape(path) + ".*.part"))) if p is not None]
    rows = {}
    for f in parts:
        for row, (source, index, _) in enumerate(f["order"][:]):
            rows[int(source), int(index)] = (f, row)
    if rows:
        shape = parts[0]["data"].shape[1:]
        with create_cxi(path + ".new", shape, len(rows)) as out:
            for i, key in enumerate(sorted(rows)):
                _copy_row(out, i, *rows[key])
        os.replace(path + ".new", path)
        with open(os.path.splitext(path)[0] + ".geom", "w") as g:
            g.write(stack_geometry(detector, beam))
    for f in parts:
        name = f.filename
        f.close()
        os.remove(name)


def _open_part(path):
    try:
        f = h5py.File(path, "r")
    except OSError:
        return None
    if "names" in f:
        return f
    f.close()
    return None


class _Row:
    """One image of a part, with the names that `fill_cxi` reads."""

    def __init__(self, part, row):
        self.block = part["data"][row]
        self.timestamp_ns = int(part["order"][row, 2])
        self.distance_mm, self.clen_mm, self.pixel_size_mm, self.wavelength_angstrom = map(float, part["lengths"][row])
        self.name = part["names"].asstr()[row]


def _copy_row(out, i, part, row):
    image = _Row(part, row)
    fill_cxi(out, i, image, photon_energy_ev(image.wavelength_angstrom))


def stack_geometry(detector, beam):
    """The geometry of a stack: the panels as they were, in photons, camera length and energy of each event."""
    blocks = sorted({p.block for p in detector.panels})
    height = {b: max(p.min_ss + p.shape[0] for p in detector.panels if p.block == b) for b in blocks}
    top = {b: sum(height[c] for c in blocks if c < b) for b in blocks}
    panels = tuple(replace(p, block=0, min_ss=p.min_ss + top[p.block], adu_per_photon=1.0, adu_per_ev=None,
                           flag_less_than=float("-inf"), flag_more_than=float("inf"), flag_equal=float("nan"),
                           max_adu=float("inf")) for p in detector.panels)
    layout = Layout((Block("/entry_1/data_1/data", ("%", "ss", "fs")),), tuple(PanelLayout() for _ in panels),
                    Quantity(path="/LCLS/photon_energy_eV", unit="eV"),
                    Quantity(path="/LCLS/detector_1/EncoderValue", unit="mm", scale=1e-3))
    return write_geometry(replace(detector, panels=panels), beam, None, None, layout)
