"""Segments: the immutable pieces of a run file, each written once, by all ranks together.

A segment holds the ragged tables column by column (`/peaks/*`, `/reflections/*`: what `run.h5` reaches by virtual
datasets) and the small ones as rows (`/events`, `/lattices`: what `run.h5` takes over, sorted). Indices count within
the segment. `/text` is one pool of bytes: names and tracebacks of events.
"""
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.disk import refuse_full_disk, sync, writing
from mpixfel.model import tables

# Internal columns of /events in a segment: position in the run's selection, and bytes of the pool.
SEGMENT_EVENT = np.dtype(tables.EVENT.descr + [("position", "i8"), ("first_text", "i8"), ("n_text", "i4")])
RAGGED = {"peaks": tables.PEAK_COLUMNS, "reflections": tables.REFLECTION_COLUMNS}
CHUNK_ROWS = 1 << 16
NAME = re.compile(r"^(\d{5,})\.h5$")


class Storage(NamedTuple):
    """How segments are stored: deflated or not, by all ranks together or by one, aligned to so many bytes, with MPI's hints."""

    compression: bool = True
    collective: bool = bool(h5py.get_config().mpi)
    alignment: int = 0
    hints: object = None       # MPI.Info


class Piece(NamedTuple):
    """What one rank holds of a segment; indices count within the piece.

    `peaks` and `reflections` are tables, `Columns` or dicts of columns: whatever gives a column by its name.
    """

    events: np.ndarray         # SEGMENT_EVENT
    peaks: object              # columns of PEAK
    lattices: np.ndarray       # LATTICE
    reflections: object        # columns of REFLECTION
    text: np.ndarray           # uint8
    stats: dict                # integer arrays by name, summed over ranks

    def sizes(self):
        """Rows of events, peaks, lattices, reflections, text."""
        return np.array([len(self.events), len(self.peaks["lattice"]), len(self.lattices), len(self.reflections["lattice"]),
                         len(self.text)], np.int64)


def segment_paths(folder):
    """Complete segments in a run directory, in the order of their numbers."""
    found = [(int(m[1]), p) for p in Path(folder, "segments").glob("*.h5") if (m := NAME.match(p.name))]
    return [p for _, p in sorted(found)]


def next_number(folder):
    """The number of the next segment."""
    paths = segment_paths(folder)
    return int(paths[-1].stem) + 1 if paths else 0


def write_segment(folder, number, piece, comm, storage, before_publishing=lambda: None):
    """Write one segment; collective. Every rank gets the same answer or the same `MpixfelError`.

    A rank with nothing takes part with empty selections. A disk without room is found out before. What fails within a
    collective call is `CannotWrite`, on the ranks that notice. `before_publishing` is called on rank 0 when the segment is
    complete, but not yet under its name.
    """
    final = Path(folder, "segments", f"{number:05d}.h5")
    temporary = final.with_suffix(".h5.part")
    refuse_full_disk(final, sum(array.nbytes for _, array, _ in arrays_of(piece)), comm)
    piece, counts = placed(piece, comm)
    if storage.collective and comm.size > 1:
        with writing(final, comm):
            _write_together(temporary, piece, counts, comm, storage)
    else:
        pieces = comm.gather(piece, root=0) if comm.size > 1 else [piece]
        if comm.rank == 0:
            with writing(final, comm):
                _write_alone(temporary, joined(pieces), storage)
    if comm.rank == 0:
        with writing(final, comm):
            before_publishing()
            sync(temporary)
            os.replace(temporary, final)
            sync(final.parent)
    comm.barrier()
    return final


def placed(piece, comm):
    """The piece with indices that count within the segment, and ({table: (first, total)})."""
    sizes = piece.sizes()
    firsts = comm.exscan(sizes)
    firsts = np.zeros(5, np.int64) if firsts is None else firsts
    totals = comm.allreduce(sizes)
    first_event, first_peak, first_lattice, first_reflection, first_text = (int(f) for f in firsts)
    events, lattices = piece.events.copy(), piece.lattices.copy()
    events["first_peak"] += first_peak
    events["first_lattice"] += first_lattice
    events["first_text"] += first_text
    lattices["event"] += first_event
    lattices["first_reflection"] += first_reflection
    peaks, reflections = ({c.name: table[c.name] for c in columns} for table, columns in
                          ((piece.peaks, RAGGED["peaks"]), (piece.reflections, RAGGED["reflections"])))
    reflections["lattice"] = reflections["lattice"] + first_lattice
    peaks["lattice"] = np.where(peaks["lattice"] < 0, peaks["lattice"], peaks["lattice"] + first_lattice)
    shifted = piece._replace(events=events, peaks=peaks, lattices=lattices, reflections=reflections)
    return shifted, {name: (int(f), int(t)) for name, f, t in zip(Piece._fields, firsts, totals)}


def joined(pieces):
    """One piece of several that are placed already."""
    if len(pieces) == 1:
        return pieces[0]
    stats = {}
    for piece in pieces:
        for name, array in piece.stats.items():
            stats[name] = stats[name] + array if name in stats else array
    rows = {name: np.concatenate([getattr(p, name) for p in pieces]) for name in ("events", "lattices", "text")}
    columns = {table: {c.name: np.concatenate([getattr(p, table)[c.name] for p in pieces]) for c in names}
               for table, names in RAGGED.items()}
    return Piece(**rows, **columns, stats=stats)


def arrays_of(piece):
    """(dataset name, array, table it is counted by) of everything in a segment, in a fixed order."""
    yield "events", piece.events, "events"
    yield "lattices", piece.lattices, "lattices"
    yield "text", piece.text, "text"
    for table, columns in RAGGED.items():
        rows = getattr(piece, table)
        for column in columns:
            yield f"{table}/{column.name}", rows[column.name], table


# No `with` in these two: after a failure a file must not be closed. Closing is collective, and where the disk is full
# HDF5 1.10 crashes over it.

def _write_together(path, piece, counts, comm, how):
    began, stats = time.perf_counter(), summed(piece.stats, comm)
    tuned = {"info": how.hints} if how.hints is not None else {}
    file = h5py.File(path, "w", driver="mpio", comm=comm, libver="v110", **aligned(how), **tuned)
    for name, array, table in arrays_of(piece):
        first, total = counts[table]
        dataset = file.create_dataset(name, (total, *array.shape[1:]), array.dtype,
                                      **stored(total, array.shape[1:], array.dtype, how))
        write_part(dataset, first, array)
    for name, array in stats.items():
        write_whole(file.create_dataset(f"stats/{name}", array.shape, array.dtype), array, comm.rank == 0)
    file.flush()
    file.attrs["write_seconds"] = comm.allreduce(time.perf_counter() - began)
    file.close()


def _write_alone(path, piece, how):
    began, file = time.perf_counter(), h5py.File(path, "w", libver="v110", **aligned(how))
    for name, array, _ in arrays_of(piece):
        file.create_dataset(name, data=array, **stored(len(array), array.shape[1:], array.dtype, how))
    for name, array in piece.stats.items():
        file.create_dataset(f"stats/{name}", data=array)
    file.flush()
    file.attrs["write_seconds"] = time.perf_counter() - began
    file.close()


def aligned(how):
    """Keyword arguments of `h5py.File`."""
    return {"alignment_threshold": how.alignment, "alignment_interval": how.alignment} if how.alignment else {}


def write_part(dataset, first, array):
    """Write rows [first, first + n) collectively; n may be 0, but the call must be made."""
    if dataset.shape[0] == 0:
        return
    file_space = dataset.id.get_space()
    memory_space = h5py.h5s.create_simple(array.shape)
    if len(array):
        file_space.select_hyperslab((first, *(0,) * (array.ndim - 1)), array.shape)
    else:
        file_space.select_none()
        memory_space.select_none()
    transfer = h5py.h5p.create(h5py.h5p.DATASET_XFER)
    transfer.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
    dataset.id.write(memory_space, file_space, np.ascontiguousarray(array), h5py.h5t.py_create(dataset.dtype), transfer)


def write_whole(dataset, array, mine):
    """Write an array that all ranks have, from one of them; collective."""
    write_part(dataset, 0, np.asarray(array) if mine else np.asarray(array)[:0])


def stored(rows, row_shape, dtype, how):
    """Keyword arguments of `create_dataset` for so many rows.

    Whole numbers are deflated: they become a tenth. Fractions would lose a fifth of their bytes at 46 MB/s a core, a
    thirtieth of the speed of writing them as they are; other filters need a plug-in wherever the file is read.
    """
    if not rows or not how.compression or np.dtype(dtype).kind not in "iu":
        return {"fill_time": "never"}
    return {"chunks": (min(rows, CHUNK_ROWS), *row_shape), "shuffle": True, "compression": "gzip", "compression_opts": 1,
            "fill_time": "never"}


def summed(stats, comm):
    """Integer arrays summed over ranks, on every rank; names are the same everywhere."""
    names = sorted(set().union(*comm.allgather(tuple(stats))))
    found = {}
    for name in names:
        parts = [a for a in comm.allgather(stats.get(name)) if a is not None]
        found[name] = np.sum(parts, axis=0)
    return found


def read_rows(path):
    """(events, lattices, {table: rows}) of a segment; raises `MpixfelError` where it cannot be read.

    The time of writing, known only afterwards, is shared out to its events.
    """
    try:
        with h5py.File(path, "r") as file:
            lengths = {table: file[f"{table}/{columns[0].name}"].shape[0] for table, columns in RAGGED.items()}
            events = file["events"][:]
            events["time_write"] = file.attrs["write_seconds"] / max(1, len(events))
            return events, file["lattices"][:], lengths
    except (OSError, KeyError) as error:
        raise MpixfelError(f"cannot read the segment: {error}", str(path),
                           "restore it, or delete it and go on with --resume: its events are done again") from None


def read_positions(path):
    """Positions in the selection of the events of a segment."""
    try:
        with h5py.File(path, "r") as file:
            return file["events"].fields("position")[:]
    except (OSError, KeyError) as error:
        raise MpixfelError(f"cannot read the segment: {error}", str(path),
                           "restore it, or delete it and go on with --resume: its events are done again") from None


def read_counts(paths):
    """Sums of the segments' `/stats`: {name: array of whole numbers}."""
    sums = {}
    for path in paths:
        with h5py.File(path, "r") as file:
            for name, dataset in file.get("stats", {}).items():
                sums[name] = sums.get(name, 0) + dataset[()]
    return sums
