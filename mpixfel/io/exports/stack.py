"""All corrected images of a run in one CXI file: each rank writes a part of it, one rank joins the parts."""
import os
from dataclasses import replace

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.blocks import active_areas
from mpixfel.io.exports.images import create_cxi, fill_cxi
from mpixfel.io.exports.parts import new_part, open_whole, parts_of
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
        self.path = new_part(path)
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
        write_rows(self.file, self.rows)
        self.file.close()


def write_rows(group, rows):
    """What is known of the images beside their pixels: source, index, time; distance, clen, pixel, wavelength; name."""
    group["order"] = np.array([r[:3] for r in rows], np.int64).reshape(-1, 3)
    group["lengths"] = np.array([r[3:7] for r in rows], float).reshape(-1, 4)
    group.create_dataset("names", data=[r[7] for r in rows], dtype=h5py.string_dtype())


def join(path, detector, beam):
    """Put the parts of a stack in one CXI file, in the order of the events, and write a geometry beside it.

    A part that its process did not close has no tables and is left out: its events are done again on resume. Images of
    a stack that is there already are replaced by those of the parts, event by event.
    """
    whole = lambda f: "names" in _facts(f)
    files = [f for f in (open_whole(p, whole) for p in (path, *parts_of(path))) if f is not None]
    rows = {}
    for f in files:
        for row, (source, index, _) in enumerate(_facts(f)["order"][:]):
            rows[int(source), int(index)] = _Row(f, row)
    if rows:
        images = [rows[key] for key in sorted(rows)]
        with create_cxi(path + ".new", images[0].data.shape[1:], len(images)) as out:
            for i, image in enumerate(images):
                fill_cxi(out, i, image, photon_energy_ev(image.wavelength_angstrom))
            write_rows(out.create_group("mpixfel"), [image.facts for image in images])
        with open(os.path.splitext(path)[0] + ".geom", "w") as g:
            g.write(stack_geometry(detector, beam))
    for f in files:
        f.close()
    if rows:
        os.replace(path + ".new", path)
    for part in parts_of(path):
        os.remove(part)


def _facts(f):
    return f["mpixfel"] if "mpixfel" in f else f


class _Row:
    """One image of a part or stack, with the names that `fill_cxi` reads."""

    def __init__(self, f, row):
        self.data, self.row = f["data"] if "data" in f else f["entry_1/data_1/data"], row
        facts = _facts(f)
        order, lengths = facts["order"][row], facts["lengths"][row]
        self.facts = (*map(int, order), *map(float, lengths), facts["names"].asstr()[row])
        self.timestamp_ns, self.name = self.facts[2], self.facts[7]
        self.distance_mm, self.clen_mm, self.pixel_size_mm, self.wavelength_angstrom = self.facts[3:7]

    @property
    def block(self):
        return self.data[self.row]


def stack_geometry(detector, beam):
    """The geometry of a stack: the panels as they were, in photons, camera length and energy of each event."""
    areas = active_areas(detector)
    panels = tuple(replace(p, block=0, min_ss=int(area[0]), adu_per_photon=1.0, adu_per_ev=None,
                           flag_less_than=float("-inf"), flag_more_than=float("inf"), flag_equal=float("nan"),
                           max_adu=float("inf")) for p, area in zip(detector.panels, areas))
    layout = Layout((Block("/entry_1/data_1/data", ("%", "ss", "fs")),), tuple(PanelLayout() for _ in panels),
                    Quantity(path="/LCLS/photon_energy_eV", unit="eV"),
                    Quantity(path="/LCLS/detector_1/EncoderValue", unit="mm", scale=1e-3))
    return write_geometry(replace(detector, panels=panels), beam, None, None, layout)
