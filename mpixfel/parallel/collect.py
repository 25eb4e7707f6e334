"""What one rank finds out for all, and what all ranks bring together."""
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.parallel.schedule import DONE, OWN_COUNTERS, Schedule
from mpixfel.parallel.world import meet, node_comm


def on_root(comm, function, *arguments):
    """Call `function` on rank 0 alone; every rank gets its answer, or its error.

    So what only one rank can know (a file's text, whether a directory exists) is found out once, and nobody waits for
    a rank that has failed. The other ranks sleep meanwhile.
    """
    answer = error = None
    if comm.rank == 0:
        try:
            answer = function(*arguments)
        except MpixfelError as caught:
            error = caught
    meet(comm)
    if comm.size > 1:
        answer, error = comm.bcast((answer, error), root=0)
    if error is not None:
        raise error
    return answer


def on_each(comm, function, *arguments):
    """Call `function` on every rank; if it fails with a repairable error on any, every rank gets the first such error."""
    answer = error = None
    try:
        answer = function(*arguments)
    except MpixfelError as caught:
        error = caught
    meet(comm)
    error = next((e for e in comm.allgather(error) if e is not None), None)
    if error is not None:
        raise error
    return answer


def one_per_node_first(comm, function):
    """Call `function` on one rank of each machine, then on the others: what the first leaves in a cache serves them."""
    node = node_comm(comm)

    def in_turn():
        if node.rank > 0:
            meet(node)
        try:
            return function()
        finally:
            if node.rank == 0:
                meet(node)

    try:
        return on_each(comm, in_turn)
    finally:
        node.Free()


def shared_by_node(comm, n, do):
    """Let the ranks of each machine call `do` for 0 to n - 1, each number once on each machine; collective."""
    node, tally = node_comm(comm), np.zeros(OWN_COUNTERS, np.int64)
    try:
        for number in Schedule(node, np.arange(n), tally, largest=1):
            do(number)
            tally[DONE] += 1
    finally:
        node.Free()
    meet(comm)


def join(comm, mine, merge):
    """Join what the ranks have along a tree, lower ranks first; rank 0 gets all of it, the others None.

    Parameters
    ----------
    mine : object
        Anything that can be pickled.
    merge : callable of two such objects -> their union
    """
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step):
            comm.send(mine, dest=comm.rank - step)
            return None
        if comm.rank + step < comm.size:
            mine = merge(mine, comm.recv(source=comm.rank + step))
        step *= 2
    return mine
