"""The boxes of DISTL's background planes: none crosses the edge of a panel."""
import numpy as np

from mpixfel.kernels.distl import BOX, Grid


def intervals(size, margin, width, narrow):
    """[(first, last)] inclusive: the pixels of an edge without its margins, in as many parts of about `width` as fit.

    Where none fits, the whole edge is one part if `narrow`, otherwise there is none (as it was in the old program).
    """
    first, last = margin, size - margin - 1
    n = (last - first + 1) // width
    if n == 0:
        return [(first, last)] if narrow and last > first else []
    ends = [first + int((k + 1) / n * (last - first)) for k in range(n)]
    return list(zip([first] + [e + 1 for e in ends[:-1]], ends))


def make_boxes(shape, stack, margin, width, panels, narrow):
    """(boxes, Grid) of one pass: `shape` (P, 2); only the given panels have boxes."""
    rows, first, columns = [], np.zeros(len(shape), np.int64), np.ones(len(shape), np.int64)
    row_of, column_of = np.full(stack[:2], -1, np.int16), np.full((stack[0], stack[2]), -1, np.int16)
    for p in range(len(shape)):
        first[p] = len(rows)
        if not panels[p]:
            continue
        ss, fs = (intervals(int(n), margin, width, narrow) for n in shape[p])
        columns[p] = max(len(fs), 1)
        for j, (a, b) in enumerate(ss):
            row_of[p, a:b + 1] = j
        for i, (a, b) in enumerate(fs):
            column_of[p, a:b + 1] = i
        rows += [(p, *s, *f, 0.0, 0.0, 0.0, 0.0) for s in ss for f in fs]
    return np.array(rows, BOX), Grid(first, columns, row_of, column_of)
