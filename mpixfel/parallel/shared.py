"""Large arrays that never change: one copy in the memory of each node, shared by its ranks."""
import numpy as np

from mpixfel.parallel.collect import on_root
from mpixfel.parallel.world import meet, node_comm, wait

PIECE = 1 << 28      # bytes sent at once: MPI counts in 32 bits


def share(comm, function):
    """Call `function` on rank 0 alone; every rank gets its answer, or its error.

    Parameters
    ----------
    function : callable -> (answer, {name: ndarray})
        The answer is told to all; of the arrays there is one copy on each node.

    Returns
    -------
    answer, {name: ndarray}
        The arrays are read only. They last as long as the process.
    """
    known = {}

    def look():
        answer, known["arrays"] = function()
        return answer, {name: (array.shape, array.dtype.str) for name, array in known["arrays"].items()}

    answer, forms = on_root(comm, look)
    arrays = known.get("arrays", {})
    if comm.size > 1 and forms:
        arrays = _shared(comm, arrays, forms)
    for array in arrays.values():
        array.flags.writeable = False
    return answer, arrays


def _shared(comm, given, forms):
    """{name: array} in windows that the ranks of a node share, filled from what rank 0 has."""
    from mpi4py import MPI
    node = node_comm(comm)
    leaders = comm.Split(0 if node.rank == 0 else MPI.UNDEFINED, key=comm.rank)
    arrays = {}
    for name, (shape, dtype) in forms.items():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        # Never freed: that would need all ranks of the node, and some may have died by then.
        window = MPI.Win.Allocate_shared(size if node.rank == 0 else 0, 1, comm=node)
        memory, _ = window.Shared_query(0)
        arrays[name] = np.ndarray(shape, dtype, buffer=memory)
        if node.rank == 0:
            _send(leaders, arrays[name], given.get(name))
    meet(node)
    if node.rank == 0:
        leaders.Free()
    node.Free()
    return arrays


def _send(leaders, mine, given):
    """Fill `mine` on the first rank of every node with what is `given` on the first of all."""
    if given is not None:
        mine[...] = given
    flat = mine.reshape(-1).view(np.uint8)
    for first in range(0, flat.size, PIECE):
        wait(leaders.Ibcast(flat[first:first + PIECE], root=0))
