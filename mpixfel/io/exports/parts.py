"""Files that all ranks fill: each process writes parts beside the file, and one rank joins them at the end.

A process closes its part at each checkpoint and begins another; a part that a killed process left open is left out, and
its events are done again when the run goes on.
"""
import contextlib
import glob
import os
import socket

import h5py


def new_part(path):
    """The path of a part of `path` that is not taken yet."""
    number, stem = 0, f"{path}.{socket.gethostname()}.{os.getpid()}"
    while os.path.exists(f"{stem}.{number}.part"):
        number += 1
    return f"{stem}.{number}.part"


def parts_of(path):
    """Paths of all parts of `path`."""
    return sorted(glob.glob(glob.escape(path) + ".*.part"))


def forget(path):
    """Remove a file and its parts: those of a run that is not gone on with. Any number of ranks may do so at once."""
    for old in (path, *parts_of(path)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(old)


def open_whole(path, is_whole):
    """The HDF5 file at `path`, if it is there and `is_whole(file)`; otherwise None."""
    try:
        f = h5py.File(path, "r")
    except OSError:
        return None
    if is_whole(f):
        return f
    f.close()
    return None
