"""The run file while it is being written: records in memory, segments on disk, `run.h5` at the end.

`docs/output.md` describes what is written; `io/segments.py` writes one piece, `io/assemble.py` makes `run.h5` of them.
"""
import contextlib
import json
import logging
import os
import shutil
import time
from numbers import Real
from pathlib import Path

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io import segments
from mpixfel.io.columns import Columns
from mpixfel.io.totals import forget_totals, write_totals
from mpixfel.model import tables
from mpixfel.model.event import Reason
from mpixfel.model.statistics import count_tables

LOG = logging.getLogger("mpixfel")
STAGES = ("read", "calibrate", "hitfind", "index", "refine", "integrate", "write")


class RunFile:
    """Collects the records of this rank and writes them, together with all ranks, as segments.

    Parameters
    ----------
    folder : path
        The run directory; it exists (`open_output`).
    comm : communicator
    instances : sequence of str
        Names that `stopped_by` numbers; 0 is "", for none.
    n_events : int
        Number of events selected.
    shape : (P, 2) int
        Pixels of each panel in ss, fs.
    totals : callable
        Asked on all ranks at each flush; what rank 0 gets ({module: {name: array}}) is kept beside the segment.
    """

    def __init__(self, folder, comm, instances, n_events, shape, totals=dict, storage=None):
        self.folder, self.comm, self.n_events, self.shape, self.totals = Path(folder), comm, n_events, shape, totals
        self.storage = storage or segments.Storage()
        self.instances = {name: k for k, name in enumerate(instances)}
        self.number = next_number(folder, comm)
        self.write_s = 0.0
        self.tables = {"peaks": Columns(tables.PEAK), "reflections": Columns(tables.REFLECTION)}
        self._clear()

    def _clear(self):
        self.rows, self.texts, self.n_text, self.lattices = [], [], 0, []
        for table in self.tables.values():
            table.clear()
        self.counts = {"peaks": 0, "lattices": 0, "reflections": 0}
        self.bytes = 0

    def missing(self):
        """Positions of the selection that are not on disk; on rank 0, (0,) elsewhere."""
        todo = np.ones(self.n_events if self.comm.rank == 0 else 0, bool)
        if self.comm.rank == 0:
            for path in segments.segment_paths(self.folder):
                todo[segments.read_positions(path)] = False
        return np.flatnonzero(todo)

    def on_disk(self):
        """(events, lattices) of all segments as they stand there; on one rank."""
        parts = [segments.read_rows(path)[:2] for path in segments.segment_paths(self.folder)]
        return (np.concatenate([np.zeros(0, segments.SEGMENT_EVENT), *(events for events, _ in parts)]),
                np.concatenate([np.zeros(0, tables.LATTICE), *(lattices for _, lattices in parts)]))

    def add(self, record, position):
        """Keep one event's record until the next flush. `position`: its place in the run's selection."""
        counts = self.counts
        text = json.dumps(story(record)).encode() if record.traceback or record.notes or record.skip else b""
        text = record.id.name.encode() + b"\0" + text
        self.rows.append(event_row(record, self.instances, self.comm.rank, counts)
                         + (position, self.n_text, len(text)))
        self.texts.append(text)
        self.n_text += len(text)
        for name, table in self.tables.items():
            rows = getattr(record, name)
            table.append(rows)
            owner = table["lattice"][counts[name]:]
            owner[owner >= 0] += counts["lattices"]
        if len(record.lattices):
            lattices = record.lattices.copy()
            lattices["event"] = len(self.rows) - 1
            lattices["first_reflection"] += counts["reflections"]
            self.lattices.append(lattices)
        for name in counts:
            counts[name] += len(getattr(record, name))
            self.bytes += getattr(record, name).nbytes
        self.bytes += segments.SEGMENT_EVENT.itemsize + len(text)

    def flush(self):
        """Write what all ranks hold as one segment; collective. Nothing is forgotten before it stands on disk."""
        began = time.perf_counter()
        if not self.comm.allreduce(len(self.rows)):
            return
        totals = self.totals()
        segments.write_segment(self.folder, self.number, self._piece(), self.comm, self.storage,
                               lambda: write_totals(self.folder, self.number, totals))
        if self.comm.rank == 0:
            with contextlib.suppress(OSError):   # what is left over does no harm
                forget_totals(self.folder, self.number)
        seconds = time.perf_counter() - began
        LOG.info("segment %05d written in %.2f s", self.number, seconds)
        self.number += 1
        self._clear()
        self.write_s += seconds

    def _piece(self):
        events = np.array(self.rows, segments.SEGMENT_EVENT)
        lattices = np.concatenate([np.zeros(0, tables.LATTICE), *self.lattices])
        peaks, reflections = self.tables["peaks"], self.tables["reflections"]
        return segments.Piece(events, peaks, lattices, reflections, np.frombuffer(b"".join(self.texts), np.uint8),
                              count_tables(events, peaks, lattices, reflections, self.shape))


def next_number(folder, comm):
    """The number of the segment that will be written next; collective."""
    return comm.bcast(segments.next_number(folder) if comm.rank == 0 else None, root=0)


def event_row(record, instances, rank, counts):
    """One row of /events as a tuple, in the order of `tables.EVENT`."""
    skip, seconds = record.skip, record.seconds
    reason = skip.reason if skip is not None else Reason.none
    return (record.id.source, record.id.index, record.id.timestamp_ns, record.photon_energy_ev, record.distance_m,
            int(record.outcome), instances.get(record.stopped_by, 0), int(reason), len(record.peaks),
            len(record.lattices), counts["peaks"], counts["lattices"],
            *(seconds.get(stage, 0.0) for stage in STAGES), rank,
            record.background, record.max_intensity, record.resolution)


def story(record):
    """What is told of an event in words."""
    skip = record.skip
    return {"stage": skip.stage if skip else "", "detail": skip.detail if skip else "",
            "numbers": {k: float(v) for k, v in skip.numbers.items() if isinstance(v, Real)} if skip else {},
            "notes": list(record.notes), "traceback": record.traceback}


def is_complete(folder):
    """Whether a run directory holds a whole run."""
    try:
        with h5py.File(Path(folder, "run.h5"), "r") as file:
            return bool(file.attrs.get("complete", False))
    except OSError:
        return False


def open_output(folder, resume=False, overwrite=False):
    """Make the run directory, or refuse one that is there; on one rank only.

    Raises `MpixfelError` for an existing output without `resume` or `overwrite`, and for one that cannot be written.
    """
    folder = Path(folder)
    try:
        used = folder.exists() and any(folder.iterdir())
        if used and overwrite:
            remove_output(folder)
        elif used and not resume:
            raise MpixfelError("the output exists already", str(folder),
                               "--resume goes on with it, --overwrite deletes it, or choose another output")
        for name in ("segments", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        probe = folder / "segments" / ".probe"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
        for leftover in (folder / "segments").glob("*.part"):
            leftover.unlink()
    except OSError as error:
        raise MpixfelError(f"cannot write the output: {error.strerror or error}", str(folder),
                           "choose another output, make room, or change its permissions") from None


OWN = ("run.h5*", "segments", "log", "status.json*", "learnt.h5*", "job.json", "totals-*.h5", "report.html", "report.json",
       "report.pdf")
COPIES = ("*.cfg", "*.phil", "*.geom")


def remove_output(folder):
    """Delete what a run has written, and nothing else; refuse a directory that is no run's."""
    own = [path for pattern in OWN for path in folder.glob(pattern)]
    if not own:
        raise MpixfelError("is not the output of a run, so it is not deleted", str(folder), "choose another output")
    for path in own + [path for pattern in COPIES for path in folder.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            os.unlink(path)
