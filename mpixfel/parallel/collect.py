"""What one rank finds out for all, and what all ranks bring together."""
from mpixfel.errors import MpixfelError
from mpixfel.parallel.world import meet


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
    errors = [e for e in comm.allgather(error) if e is not None]
    if errors:
        raise errors[0]
    return answer


def reduce_arrays(comm, arrays):
    """Reduce {name: array} over ranks to rank 0, which gets the same names; the others get {}.

    Arrays are summed; those named `max_...` or `min_...` are reduced by maximum or minimum. A rank may lack names that
    others have. Sums of integers do not depend on the number of ranks; a module that wants exact sums gives integers.
    """
    from mpi4py import MPI
    import numpy as np

    shapes = {}
    for named in comm.allgather({k: (np.shape(v), np.asarray(v).dtype.str) for k, v in arrays.items()}):
        shapes.update(named)
    total = {}
    for name in sorted(shapes):
        shape, dtype = shapes[name]
        operation = {"max": MPI.MAX, "min": MPI.MIN}.get(name.split("_")[0], MPI.SUM)
        mine = np.ascontiguousarray(arrays[name]) if name in arrays else neutral(shape, dtype, name)
        out = np.empty(shape, dtype) if comm.rank == 0 else None
        comm.Reduce(mine, out, operation, root=0)
        if comm.rank == 0:
            total[name] = out
    return total


def neutral(shape, dtype, name):
    """What changes nothing when it is reduced."""
    import numpy as np
    dtype = np.dtype(dtype)
    kind = name.split("_")[0]
    if kind not in ("max", "min"):
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return np.full(shape, -np.inf if kind == "max" else np.inf, dtype)
    limits = np.iinfo(dtype)
    return np.full(shape, limits.min if kind == "max" else limits.max, dtype)
