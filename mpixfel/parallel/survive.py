"""Ranks that die. With an MPI that survives it (ULFM: Open MPI 5 under `mpirun --with-ft ulfm`) the others go on.

A rank notices a death as an error of a call that has to do with the dead one, or with a communicator that somebody has
revoked. Whoever notices revokes the communicator, so that all notice; then they make a smaller one. No barrier comes
before that: there would always be one rank that never enters it.
"""
import sys
import time

from mpixfel.parallel.deadline import no_longer_than
from mpixfel.parallel.world import abort

CLASSES = ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING", "ERR_REVOKED")   # of errors, by MPI's names
# An error of MPI-IO or HDF5 can come before the news of the death that has caused it.
SECONDS_UNTIL_KNOWN = 2.0
# Beyond the time that an event may take: a rank comes when it is done with its own; one that hangs never does.
SECONDS_TO_MEET = 60.0
TWINS = []   # communicators of `double` that are in use


def somebody_died(comm, error=None):
    """Whether a rank of `comm` is dead, as far as this rank can know; False where MPI does not survive deaths."""
    from mpi4py import MPI
    if isinstance(error, MPI.Exception) and error.Get_error_class() in {getattr(MPI, name, None) for name in CLASSES}:
        return True
    try:
        end = time.monotonic() + SECONDS_UNTIL_KNOWN * (comm.size > 1)
        while True:
            if comm.Is_revoked() or comm.Get_failed().size:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
    except (NotImplementedError, MPI.Exception):
        return False


def double(comm):
    """A duplicate of `comm`, for messages of one's own, that `survivors` revokes; `release` frees it."""
    twin = comm.Dup()
    TWINS.append(twin)
    return twin


def release(twin):
    """Free a communicator that `double` made."""
    TWINS.remove(twin)
    twin.Free()


def survivors(comm, event_s, exit_code):
    """The communicator of those that are left; every one of them must call this.

    An event may take `event_s` seconds. Where a rank does not come in time, all are ended with `exit_code`: better a job
    to resume than one that hangs.
    """
    # A rank that waits in one of these for one that lives hears neither of the death nor of what happens to `comm`.
    while TWINS:
        TWINS.pop().Revoke()
    with no_longer_than(SECONDS_TO_MEET + event_s, lambda: give_up(comm, exit_code)):
        comm.Revoke()
        return comm.Shrink()


def give_up(comm, exit_code):
    """End all ranks: some of them hang."""
    print("mpixfel: error: a rank died, and those that are left do not come together: "
          "what is written stays, go on with --resume", file=sys.stderr, flush=True)
    abort(comm, exit_code)
