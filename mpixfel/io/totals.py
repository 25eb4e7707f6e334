"""What modules have summed up so far, beside the segments: a run that is resumed goes on with these sums.

`totals-NNNNN.h5` holds the sums over all events up to segment NNNNN. It is complete before that segment is, and the one
before it is deleted after, so that sums and segments always belong together.
"""
from pathlib import Path

import h5py
import numpy as np

from mpixfel.io.segments import next_number


def totals_path(folder, number):
    """Where the sums up to a segment stand."""
    return Path(folder, f"totals-{number:05d}.h5")


def write_totals(folder, number, totals):
    """Write {module: {name: array}}; nothing is written for no sums. Raises OSError."""
    if not any(totals.values()):
        return
    with h5py.File(totals_path(folder, number), "w") as file:
        for module, arrays in totals.items():
            group = file.create_group(module)
            for name, array in arrays.items():
                group.create_dataset(name, data=np.asarray(array))


def read_totals(folder):
    """{module: {name: array}} up to the last segment; {} where there are none."""
    path = totals_path(folder, next_number(folder) - 1)
    if not path.exists():
        return {}
    with h5py.File(path, "r") as file:
        return {module: {name: array[()] for name, array in group.items()} for module, group in file.items()}


def forget_totals(folder, number=-1):
    """Delete the sums of all segments but one; with -1 of all, because the run is complete."""
    for path in Path(folder).glob("totals-*.h5"):
        if path != totals_path(folder, number):
            path.unlink()
