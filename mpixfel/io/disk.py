"""What a disk cannot take, and what has reached it."""
import contextlib
import faulthandler
import os
import sys

from mpixfel.errors import MpixfelError

WRITE_LIMIT_S = float(os.environ.get("MPIXFEL_WRITE_LIMIT_S", "600"))
SPARE_BYTES = 1 << 24   # for what HDF5 adds, and for run.h5


class CannotWrite(OSError):
    """A file of the run cannot be written, and HDF5 may be left in a state in which the program had better end at once.

    Other ranks may wait in a collective call, and the file cannot be closed. What was written and renamed before is whole.
    """


def cannot_write(why, path):
    """What to tell of it."""
    return MpixfelError(f"cannot be written: {why}", str(path), "make room, then --resume goes on from what is written")


@contextlib.contextmanager
def writing(path, comm):
    """Turns what HDF5 or the disk cannot write into `CannotWrite`.

    Some errors do not even come back from a collective call: a write that lasts longer than any ends the program.
    """
    if comm.size > 1:
        faulthandler.dump_traceback_later(WRITE_LIMIT_S, exit=True, file=sys.__stderr__)
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and not str(error).startswith("Unable to"):
            raise
        raise CannotWrite(str(cannot_write(error, path))) from error
    finally:
        if comm.size > 1:
            faulthandler.cancel_dump_traceback_later()


def refuse_full_disk(path, n_bytes, comm):
    """Raise `MpixfelError` on all ranks where the disk has no room for what they hold; collective."""
    need = comm.allreduce(n_bytes)
    error = None
    if comm.rank == 0:
        try:
            disk = os.statvfs(path.parent)
            free = disk.f_bavail * disk.f_frsize
            if free < need + SPARE_BYTES:
                error = f"the disk is full: {need / 1e6:.0f} MB are to be written, {free / 1e6:.0f} MB are free"
        except OSError as caught:
            error = str(caught)
    error = comm.bcast(error, root=0)
    if error:
        raise cannot_write(error, path)


def sync(path):
    """fsync a file or a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
