"""One indexed image to one file (integration file): Miller indices, intensities, sigmas, and the crystals' model.

HDF5, JSON or CSV hold the rows of the run file's tables `lattices` and `reflections` under the same names, with the
same values; `expt` is a pair of files for DIALS.
"""
import csv
import json
import os

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.exports import dials
from mpixfel.io.exports.blocks import active_areas
from mpixfel.io.exports.images import beam_centre_mm
from mpixfel.model import tables, timestamp

FORMATS = ("h5", "json", "csv", "expt")
LINKS = ("event", "first_reflection", "n_reflections")     # columns that have a meaning in the run file alone


def lattice_geometry(row, shot, context):
    """`PanelGeometry` as refined with one lattice: a LATTICE row's shift and distance, in place of the learnt ones."""
    learnt = context.learnt
    x, y = row["beam_shift"] + np.array(learnt.beam_shift_m)
    distance = context.detector.distance_m(shot.clen_m) * learnt.distance_scale
    return shot.geometry.shifted(-x, -y, distance * (row["distance_scale"] / learnt.distance_scale - 1.0))


def write_crystals(stem, record, shot, context, file_format, address=""):
    """Write the lattices of a record to `stem` + suffix, under another name first.

    Parameters
    ----------
    stem : str
        Path without suffix.
    record : Record
        With lattices; `reflections` sorted by lattice.
    shot : Shot
    context : Context
        For detector and what the run has learnt.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(stem)), exist_ok=True)
        if file_format == "expt":
            geometries = [lattice_geometry(row, shot, context) for row in record.lattices]
            parts = dials.write_experiments(f"{stem}_integrated", record, shot, geometries, context)
        else:
            parts = [f"{stem}.{file_format}"]
            _WRITERS[file_format](parts[0] + ".part", description(record, shot, context, address), record)
        for path in parts:
            os.replace(path + ".part", path)
    except OSError as e:
        raise MpixfelError(f"cannot write: {e.strerror or e}", stem, "check the folder and the free space") from e


def description(record, shot, context, address=""):
    """{name: (value, unit, meaning)} of what all lattices share."""
    geometry = lattice_geometry(record.lattices[0], shot, context)
    x, y = beam_centre_mm(geometry, active_areas(context.detector))
    return {
        "event": (record.id.name, "", "name of the event"),
        "timestamp": (timestamp.long_form(record.id.timestamp_ns) if record.id.timestamp_ns >= 0 else "", "", "UTC"),
        "address": (address, "", "detector address"),
        "wavelength": (float(shot.wavelength_angstrom), "angstrom", "wavelength"),
        "distance": (float(1e3 * geometry.origin[:, 2].mean()), "mm", "mean distance of the panels, refined with the "
                     "first lattice"),
        "xbeam": (x, "mm", "beam centre from the data block's corner along fast, refined with the first lattice"),
        "ybeam": (y, "mm", "beam centre along slow"),
        "panel_names": (list(context.detector.names), "", "what `panel` numbers"),
        "panel_origin": (1e3 * geometry.origin, "mm",
                         "corner of each panel's first pixel, refined; the beam is at 0, 0"),
        "panel_fs_axis": (1e3 * geometry.fs_axis, "mm", "step of one pixel in fast scan"),
        "panel_ss_axis": (1e3 * geometry.ss_axis, "mm", "step of one pixel in slow scan")}


def _columns(rows, columns):
    for c in columns:
        if c.name not in LINKS:
            yield c, rows[c.name]


def _write_h5(path, head, record):
    with h5py.File(path, "w") as f:
        for name, (value, unit, meaning) in head.items():
            f[name] = value
            f[name].attrs.update(units=unit, description=meaning)
        for group, rows, columns in (("lattices", record.lattices, tables.LATTICE_COLUMNS),
                                     ("reflections", record.reflections, tables.REFLECTION_COLUMNS)):
            for c, values in _columns(rows, columns):
                f[f"{group}/{c.name}"] = values
                f[f"{group}/{c.name}"].attrs.update(units=c.unit, description=c.meaning)


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()] if value.dtype.kind == "S" else value.tolist()
    return value.decode() if isinstance(value, bytes) else value


def _write_json(path, head, record):
    text = {name: _plain(value) for name, (value, _, _) in head.items()}
    for group, rows, columns in (("lattices", record.lattices, tables.LATTICE_COLUMNS),
                                 ("reflections", record.reflections, tables.REFLECTION_COLUMNS)):
        text[group] = {c.name: _plain(values) for c, values in _columns(rows, columns)}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(text, f)


def _write_csv(path, head, record):
    """Reflections as lines; what else there is in comments before them."""
    with open(path, "w", encoding="utf-8", newline="") as f:
        for name, (value, unit, _) in head.items():
            if not name.startswith("panel_"):
                f.write(f"# {name}: {value} {unit}".rstrip() + "\n")
        for k, row in enumerate(record.lattices):
            for c, value in _columns(row, tables.LATTICE_COLUMNS):
                value = " ".join(map(str, np.ravel(_plain(value)))) if np.ndim(value) else _plain(value)
                f.write(f"# lattice {k} {c.name}: {value} {c.unit}".rstrip() + "\n")
        rows = csv.writer(f, lineterminator="\n")
        names = [c.name for c in tables.REFLECTION_COLUMNS if c.name != "hkl"]
        rows.writerow(["h", "k", "l", *names])
        for r in record.reflections:
            rows.writerow([*r["hkl"].tolist(), *(str(r[name]) for name in names)])


_WRITERS = {"h5": _write_h5, "json": _write_json, "csv": _write_csv}
