"""One file of a run: the segments' tables, sorted by event, taken into `run.h5`."""
import os
import shutil
from pathlib import Path

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io import segments
from mpixfel.io.disk import sync
from mpixfel.io.totals import forget_totals

# The large tables, and the columns of their owners that say which rows are theirs.
OWNERS = {"peaks": ("events/first_peak", "events/n_peaks"),
          "reflections": ("lattices/first_reflection", "lattices/n_reflections")}
ROWS_AT_ONCE = 1 << 20


def pack(folder):
    """Replace `run.h5` by one that holds everything, then delete the segments. A packed run is left as it is.

    Raises `MpixfelError` for a run that is not complete: it could not go on without its segments.
    """
    folder = Path(folder)
    path, temporary = folder / "run.h5", folder / "run.h5.part"
    try:
        with h5py.File(path, "r") as file:
            complete, packed = bool(file.attrs.get("complete", False)), bool(file.attrs.get("packed", False))
            if complete and not packed:
                _write_packed(file, temporary)
    except OSError as error:
        raise MpixfelError(f"cannot be packed: {error}", str(path), "give the output of a run, and make room") from None
    if not complete:
        raise MpixfelError("the run is not complete, so it is not packed", str(folder), "--resume it first")
    if not packed:
        sync(temporary)
        os.replace(temporary, path)
        sync(folder)
    shutil.rmtree(folder / "segments", ignore_errors=True)
    forget_totals(folder)


def _write_packed(file, path):
    with h5py.File(path, "w", libver="v110") as out:
        for name, value in file.attrs.items():
            out.attrs[name] = value
        out.attrs["packed"] = True
        for name in file:
            if name not in OWNERS:
                file.copy(name, out)
        for table, (first, count) in OWNERS.items():
            begins, counts = file[first][:], file[count][:].astype(np.int64)
            group = out.create_group(table)
            for name, column in file[table].items():
                _sort_column(column, group, name, begins, counts)
            out[first][...] = np.cumsum(counts) - counts


def _sort_column(column, group, name, begins, counts):
    """Copy a column with its rows in the order of their owners, a bounded number of rows at a time."""
    dataset = group.create_dataset(name, column.shape, column.dtype,
                                   **segments.stored(len(column), column.shape[1:], column.dtype, segments.Storage()))
    for key, value in column.attrs.items():
        dataset.attrs[key] = value
    ends = np.cumsum(counts)
    owner = done = 0
    while owner < len(counts):
        last = max(owner + 1, int(np.searchsorted(ends, done + ROWS_AT_ONCE, side="right")))
        parts = [column[a:b] for a, b in runs(begins[owner:last], counts[owner:last])]
        if parts:
            dataset[done:ends[last - 1]] = np.concatenate(parts)
        owner, done = last, int(ends[last - 1])


def runs(begins, counts):
    """[(start, stop)] of consecutive rows, in the order of their owners; owners without rows left out."""
    begins, counts = begins[counts > 0], counts[counts > 0]
    breaks = np.flatnonzero(begins[1:] != begins[:-1] + counts[:-1]) + 1
    first, last = np.concatenate([[0], breaks]).astype(int), np.concatenate([breaks, [len(begins)]]).astype(int)
    return [(int(begins[a]), int(begins[b - 1] + counts[b - 1])) for a, b in zip(first, last) if b > a]
