"""Reading a run directory: from `run.h5` once it is there, from the segments while the run goes on."""
import json
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io import segments
from mpixfel.io.assemble import sorted_tables, told_in_words
from mpixfel.io.geometry import parse_geometry
from mpixfel.io.learnt import read_learnt
from mpixfel.io.sources import open_source
from mpixfel.io.totals import read_totals
from mpixfel.model import tables
from mpixfel.model.crystal import UnitCell
from mpixfel.model.experiment import Context, Learnt
from mpixfel.model.sensor import sensor_of

LARGE = {"peaks": ("peak", tables.PEAK), "reflections": ("reflection", tables.REFLECTION)}


class Results:
    """What a run directory holds.

    Parameters
    ----------
    folder : path
        The run directory, or the `run.h5` in it.

    Attributes
    ----------
    events, lattices : structured arrays
        `tables.EVENT` (with further fields while the run goes on) and `tables.LATTICE`, sorted by event.
    instances : tuple of str
        Names that `stopped_by` numbers.
    complete : bool
        Whether `run.h5` is there.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.folder = folder.parent if folder.is_file() else folder
        self.complete = (self.folder / "run.h5").is_file()
        if not self.complete and not (self.folder / "job.json").is_file():
            raise MpixfelError("no run is here", str(folder), "give the output directory of a run")
        if self.complete:
            self._read_run_file()
        else:
            self.events, self.lattices, self._pieces = sorted_tables(segments.segment_paths(self.folder))
            self.instances = ()

    def _read_run_file(self):
        try:
            with h5py.File(self.folder / "run.h5", "r") as f:
                self.events = read_table(f["events"], tables.EVENT)
                self.lattices = read_table(f["lattices"], tables.LATTICE)
                numbers = h5py.check_enum_dtype(f["events/stopped_by"].dtype) or {}
                self.instances = tuple(sorted(numbers, key=numbers.get))
                self.names = f["events/event_id"].asstr()[:]
                self.messages = f["events/message"].asstr()[:]
        except (OSError, KeyError) as error:
            raise MpixfelError(f"cannot be read: {error}", str(self.folder / "run.h5"),
                               "process the run again, or with --resume to make the file anew") from None

    def peaks(self, row):
        """PEAK rows of an event; `lattice` counts the event's own lattices, -1 none."""
        event = self.events[row]
        return counted_within(event, self._rows("peaks", int(event["first_peak"]), int(event["n_peaks"])))

    def peaks_of(self, rows):
        """[PEAK rows, ...] of several events, as `peaks` gives them: the run file is opened once."""
        if not self.complete:
            return [self.peaks(row) for row in rows]
        with h5py.File(self.folder / "run.h5", "r") as f:
            columns = {name: f["peaks"][name] for name in tables.PEAK.names if name in f["peaks"]}
            spans = [slice(int(e["first_peak"]), int(e["first_peak"]) + int(e["n_peaks"])) for e in self.events[rows]]
            return [counted_within(e, read_table(columns, tables.PEAK, span)) for e, span in zip(self.events[rows], spans)]

    def reflections(self, row):
        """REFLECTION rows of an event, all lattices; `lattice` counts the event's own lattices."""
        event = self.events[row]
        first = int(event["first_lattice"])
        parts = []
        for k in range(int(event["n_lattices"])):
            lattice = self.lattices[first + k]
            rows = self._rows("reflections", int(lattice["first_reflection"]), int(lattice["n_reflections"]))
            rows["lattice"] = k
            parts.append(rows)
        return np.concatenate(parts) if parts else np.zeros(0, tables.REFLECTION)

    def lattices_of(self, row):
        """LATTICE rows of an event."""
        first = int(self.events["first_lattice"][row])
        return self.lattices[first:first + int(self.events["n_lattices"][row])]

    def column(self, table, name):
        """A whole column of `peaks` or `reflections`; [] while the run goes on and nothing is on disk."""
        if self.complete:
            with h5py.File(self.folder / "run.h5", "r") as f:
                return f[table][name][:]
        parts = []
        for piece in self._pieces:
            with h5py.File(piece.path, "r") as f:
                parts.append(f[table][name][:])
        return np.concatenate(parts) if parts else np.zeros(0, LARGE[table][1][name])

    def _rows(self, table, first, count):
        dtype = LARGE[table][1]
        if self.complete:
            with h5py.File(self.folder / "run.h5", "r") as f:
                return read_table(f[table], dtype, slice(first, first + count))
        for piece in self._pieces:
            begin = piece.firsts[table]
            if begin <= first < begin + piece.lengths[table]:
                with h5py.File(piece.path, "r") as f:
                    rows = read_table(f[table], dtype, slice(first - begin, first - begin + count))
                mine = rows["lattice"] >= 0
                rows["lattice"][mine] = piece.lattice_rows[rows["lattice"][mine]]
                return rows
        return np.zeros(0, dtype)

    @cached_property
    def stored_stats(self):
        """`/stats` of the run file as nested dicts; None while the run goes on."""
        if not self.complete:
            return None
        with h5py.File(self.folder / "run.h5", "r") as f:
            return plain(f["stats"])

    @cached_property
    def counts(self):
        """Sums of the segments' own statistics, see `model.statistics`; while the run goes on."""
        return segments.read_counts(piece.path for piece in self._pieces)

    def powder_so_far(self, shape):
        """{"sum", "max", "n_images"} up to the last segment, of panel stacks of this shape; {} where there is none."""
        from mpixfel.kernels.powder import UNITS_PER_PHOTON   # late: the compiler takes a second to load

        totals = read_totals(self.folder).get("powder")
        if not totals:
            return {}
        largest = totals["max_largest"].reshape(shape)
        seen = np.isfinite(largest)
        return {"sum": np.where(seen, totals["total"].reshape(shape) / UNITS_PER_PHOTON, np.nan),
                "max": np.where(seen, largest, np.float32(np.nan)), "n_images": int(totals["images"])}

    @cached_property
    def config(self):
        """`/config` of the run file as nested dicts; {} while the run goes on."""
        if not self.complete:
            return {}
        with h5py.File(self.folder / "run.h5", "r") as f:
            return plain(f["config"])

    @cached_property
    def written(self):
        """[(seconds since 1970, events)] of each segment, oldest first; [] for a run that has ended."""
        pieces = [] if self.complete else self._pieces
        return [(piece.path.stat().st_mtime, piece.lengths["events"]) for piece in pieces]

    def told(self, row):
        """(name, message) of an event: its source's own name, and why it ended there in words."""
        if self.complete:
            return self.names[row], self.messages[row]
        event = self.events[row]
        for piece in self._pieces:
            place = np.flatnonzero(piece.event_rows == row)
            if len(place):
                first, count = (int(x) for x in piece.texts[int(place[0])])
                with h5py.File(piece.path, "r") as f:
                    name, _, text = f["text"][first:first + count].tobytes().partition(b"\0")
                return name.decode(), told_in_words(text)
        return f"event {event['index']}", ""

    @cached_property
    def job(self):
        """What the run was asked to do: {"options", "paths", "geometry", "cells", ...}."""
        try:
            return json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MpixfelError(f"cannot be read: {error}", str(self.folder / "job.json"),
                               "this file belongs to the run directory; restore it") from None

    def options(self, section):
        """{option: value} of a section, as the run had it."""
        start = section + "."
        return {key[len(start):]: tuple(value) if isinstance(value, list) else value
                for key, value in self.job["options"].items() if key.startswith(start)}

    @cached_property
    def calibration(self):
        """{option: value} of `[calibration]` as the first module instance had it that has its own, or as all had it."""
        chain = self.job["options"].get("mpixfel.modules") or ()
        own = [self.options(f"{word.rpartition('.')[2]}.calibration") for word in chain]
        options = {**self.options("calibration"), **next(filter(None, own), {})}
        return {key: self.place(value) if key.endswith("_path") and value else value for key, value in options.items()}

    def place(self, path):
        """A path of the run: one that is relative began where the run was started."""
        there = Path(self.job.get("started_in", ""), path)
        return str(there) if Path(str(there).partition(":/")[0]).exists() else path

    @cached_property
    def status(self):
        """The run's last `status.json`; {} where there is none."""
        try:
            return json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @cached_property
    def sensor(self):
        """`Sensor` whose parallax the run corrected for; None where it did not."""
        run = self.options("mpixfel")
        return sensor_of(run.get("sensor_thickness_um", 0.0), run.get("sensor_material", ""))

    @cached_property
    def given_cells(self):
        """`UnitCell`s as the run was given them; () where it found them itself."""
        cells = self.job.get("cells", ())
        types = self.job.get("cell_types") or [()] * len(cells)
        return tuple(UnitCell(*parameters, *kind) for parameters, kind in zip(cells, types))

    @cached_property
    def learnt(self):
        """`Learnt` of the run."""
        return read_learnt(self.folder) or Learnt()

    @cached_property
    def geometry(self):
        """`io.geometry.Geometry` that the run was made with."""
        return parse_geometry(self.job["geometry"], str(self.folder / "job.json"))

    def open_source(self):
        """The run's `Source`: the images themselves, wherever they still are."""
        start = self.job["options"].get("mpixfel.events") or ""
        events = slice(*(int(w) if w else None for w in start.split(":"))) if ":" in start else None
        kind = self.job["options"].get("mpixfel.source_format") or "hdf5"
        return open_source(tuple(map(self.place, self.job["paths"])), self.geometry, events, kind)

    def context(self, source):
        """`Context` as the stages had it."""
        return Context(self.geometry.detector, self.geometry.beam, self.learnt.cells, source.static_mask(),
                       source.saturation_adu(), self.learnt, sensor=self.sensor)


def counted_within(event, peaks):
    """Peaks of an event whose `lattice` counts the event's own lattices."""
    mine = peaks["lattice"] >= 0
    peaks["lattice"][mine] -= int(event["first_lattice"])
    return peaks


def plain(group):
    """A group's datasets as NumPy arrays, numbers and texts, groups as dicts."""
    out = {}
    for name, member in group.items():
        if isinstance(member, h5py.Group):
            out[name] = plain(member)
        else:
            text = h5py.check_string_dtype(member.dtype) is not None
            value = member.asstr()[()] if text else member[()]
            out[name] = list(value) if text and member.shape else value
    return out


def read_table(group, dtype, rows=slice(None)):
    """Rows of a group of columns as one structured array; fields that the file does not have are left zero."""
    columns = {name: group[name][rows] for name in dtype.names if name in group}
    out = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        out[name] = values
    return out
