"""Where the 3 x 3 sums of an image stand out of the local background: the one pass over all pixels.

The image is looked at in cells of 4 x 32 pixels. Whether anything in a cell may stand out is told by its plain sums, held
against what background and threshold are together: that is all that most cells need, and it takes hardly longer than
reading them. Only cells in which something may stand out, and those with bad pixels, for their sums are NaN, are copied
and looked at pixel by pixel.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

ZERO, ONE, THREE, NINE = np.float32(0), np.float32(1), np.float32(3), np.float32(9)
CHUNK = 32          # pixels of a row that are screened together
STRIP = 4           # rows that are, and share one interpolation between boxes
WIDE = CHUNK + 2    # a cell with its neighbours, in a row
RING = 8            # rows whose sums of three are kept: at least those of a strip and its neighbours
SLACK = np.float32(1e-5)    # of the background's sum: what plain sums may have lost in rounding
STEP, NEXT, CELL, CELL_2 = np.uint64(1), np.uint64(2), np.uint64(WIDE), np.uint64(2 * WIDE)
SUMS = np.uint64((STRIP + 4) * WIDE)    # where the sums of a cell's row stand behind its pixels


def room(width, n_boxes):
    """Work space of `screen` for panels up to `width` pixels wide, of `n_boxes` in all."""
    columns = CHUNK * -(-width // CHUNK)
    return (np.zeros(n_boxes, np.float32), np.zeros((3, columns), np.float32), np.zeros((4, columns + 2), np.float32),
            np.zeros(RING * columns, np.float32), np.zeros(columns // CHUNK, bool),
            np.zeros((STRIP + 5) * WIDE, np.float32), np.zeros(STRIP + 2, np.uint64), np.zeros(2, np.int64))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def expand(boxes, first, nx, width, out, begin):
    """Interpolate the grid row boxes[first:first + nx] linearly to `width` pixels, into `out` from `begin` on; constant
    beyond the outer box centres."""
    edge, start = np.float32(width / nx), 0
    for i in range(nx + 1):
        left, right = boxes[first + max(i - 1, 0)], boxes[first + min(i, nx - 1)]
        stop = width if i == nx else int(np.ceil((i + 0.5) * edge - 0.5))
        slope = (right - left) / edge
        base = left - slope * ((i - np.float32(0.5)) * edge - np.float32(0.5) - np.float32(start))
        at = np.uint64(begin + start)
        for x in range(np.uint64(max(stop - start, 0))):
            out[at + x] = base + slope * np.float32(x)
        start = max(stop, start)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _expand_more(boxes, first, nx, width, out):
    """`expand` with a column before the first pixel, and as many as there are after the last, like their neighbours."""
    expand(boxes, first, nx, width, out, 1)
    out[0] = out[1]
    out[width + 1:] = out[width]


# In these loops indices are unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _fill_bounds(mean, threshold, out):
    """What the plain sum of nine pixels of each box must exceed."""
    for b in range(np.uint64(out.size)):
        level = NINE * mean[b]
        out[b] = level + threshold[b] - SLACK * abs(level)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _blend(rows, above, below, weight):
    """Write what lies between two of `rows` into the last of them."""
    for x in range(np.uint64(rows.shape[1])):
        rows[np.uint64(2), x] = rows[above, x] + weight * (rows[below, x] - rows[above, x])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _sum3(flat, at, width, before, after, sums, to):
    """Sums of three neighbours in a row, from `at` on, into `sums` from `to` on; `before` and `after` stand beside it."""
    first, end = np.uint64(at), np.uint64(width - 1)
    sums[to] = before + flat[first] + (flat[first + STEP] if width > 1 else after)
    for k in range(STEP, end):
        i = first + k
        sums[to + k] = flat[i - STEP] + flat[i] + flat[i + STEP]
    if width > 1:
        sums[to + end] = flat[first + end - STEP] + flat[first + end] + after


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _sum_rows(flat, begin, stride, s, height, width, mean, upper, lower, nx, sums, slot):
    """`_sum3` of the rows of a strip and of those above and below it; fills where in `sums` they begin.

    Off the panel is background, at least that of the boxes of the grid rows that begin at `upper` and `lower`, between
    which the strip lies.
    """
    left, right = max(mean[upper], mean[lower]), max(mean[upper + nx - 1], mean[lower + nx - 1])
    for j in range(STRIP + 2):
        at, t = (s + j) % RING * (sums.size // RING), s + j - 1
        slot[j] = np.uint64(at)
        if s > 0 and j < 2:     # is there from the strip before
            continue
        if 0 <= t < height:
            _sum3(flat, begin + t * stride, width, left, right, sums, slot[j])
        else:
            expand(mean, upper if t < 0 else lower, nx, width, sums, at)
            for k in range(at, at + width):
                sums[k] *= THREE


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _mark(sums, slot, bounds, cells, marked):
    """Fill `marked`: whether any 3 x 3 sum of a cell exceeds the last row of `bounds` or is NaN; slot (6,): where the sums
    of three of the cells' rows, and of those above and below, begin."""
    i0, i1, i2, i3, i4, i5 = slot[0], slot[1], slot[2], slot[3], slot[4], slot[5]
    for cell in range(np.uint64(cells)):
        found, x = ZERO, cell * np.uint64(CHUNK)
        for k in range(x, x + np.uint64(CHUNK)):
            r0, r1, r2, r3, r4, r5 = sums[i0 + k], sums[i1 + k], sums[i2 + k], sums[i3 + k], sums[i4 + k], sums[i5 + k]
            upper, lower, most = r1 + r2, r3 + r4, bounds[np.uint64(2), k]
            below = (r0 + upper <= most) & (upper + r3 <= most) & (r2 + lower <= most) & (lower + r5 <= most)
            found += ZERO if below else ONE
        marked[cell] = found > ZERO


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _blend_cell(more, above, below, weight, x, cell):
    """Background and threshold of a cell's columns and their neighbours, from x - 1 on."""
    for k in range(CELL):
        i = np.uint64(x) + k
        cell[k] = more[above, i] + weight * (more[below, i] - more[above, i])
        cell[CELL + k] = more[2 + above, i] + weight * (more[2 + below, i] - more[2 + above, i])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _copy(flat, first, stride, s, x, height, width, cell):
    """The pixels of a cell and their neighbours above background into `cell`, which begins with background and threshold;
    bad pixels and those off the panel are background."""
    low, high = max(1 - x, 0), min(width + 1 - x, WIDE)
    for j in range(STRIP + 2):
        to, t = np.uint64((j + 2) * WIDE), s + j - 1
        at, within = first + t * stride + x - 1, 0 <= t < height
        if within and low == 0 and high == WIDE:
            for k in range(CELL):
                v = flat[np.uint64(at) + k] - cell[k]
                cell[to + k] = v if v == v else ZERO
        else:
            for k in range(WIDE):
                v = flat[at + k] - cell[k] if within and low <= k < high else ZERO
                cell[to + np.uint64(k)] = v if v == v else ZERO


@njit(cache=True, _nrt=False, fastmath=FASTMATH, inline="always")
def _sum9(cell, i):
    j, k = i + CELL, i + CELL_2
    return (cell[i] + cell[i + STEP] + cell[i + NEXT] + (cell[j] + cell[j + STEP] + cell[j + NEXT])
            + (cell[k] + cell[k + STEP] + cell[k + NEXT]))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _pick(cell, columns, height, first, stride, index, value, n):
    """Append the pixels of a cell whose 3 x 3 sum above the background exceeds the threshold."""
    for s in range(height):
        at, hits = np.uint64((s + 2) * WIDE), ZERO
        for k in range(np.uint64(CHUNK)):
            total = _sum9(cell, at + k)
            cell[SUMS + k] = total
            hits += ONE if total > cell[CELL + STEP + k] else ZERO
        if hits > ZERO:
            for k in range(columns):
                total = cell[SUMS + np.uint64(k)]
                if total > cell[CELL + STEP + np.uint64(k)]:
                    if n < index.size:
                        index[n] = first + s * stride + k
                        value[n] = total
                    n += 1
    return n


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def screen(image, shape, first, grid, mean, threshold, work, index, value):
    """All pixels whose 3 x 3 sum above the local background exceeds the local threshold.

    Parameters
    ----------
    image : (P, SS, FS) float32, NaN = bad: counts as background
    shape : (P, 2) int64
    first : (P,) int64, grid : (P, 2) int64
        Boxes of the panels, see `kernels.background`.
    mean, threshold : (B,) float32
        Background per pixel, and the least 3 x 3 sum above it; both are interpolated between box centres.
    work
        See `room`.
    index : (room,) int64, value : (room,) float32
        Out: flat indices, cell by cell, and their sums.

    Returns
    -------
    int
        Pixels found; may exceed the room.
    """
    n, n_ss, n_fs, flat = 0, image.shape[1], image.shape[2], image.reshape(-1)
    bounds, rows, more, sums, marked, cell, slot, ready = work
    _fill_bounds(mean, threshold, bounds)
    for p in range(first.size):
        height, width, ny, nx = shape[p, 0], shape[p, 1], grid[p, 0], grid[p, 1]
        begin, current, cells = p * n_ss * n_fs, -1, (width + CHUNK - 1) // CHUNK
        ready[:] = -1
        for s in range(0, height, STRIP):
            at = min(max((s + 0.5 * STRIP) * ny / height - 0.5, 0.0), ny - 1.0)
            j = min(int(at), max(ny - 2, 0))
            for k in range(max(current + 1, j), min(j + 2, ny)):
                expand(bounds, first[p] + k * nx, nx, width, rows[k % 2], 0)
                current = k
            upper, lower, weight = j, min(j + 1, ny - 1), np.float32(at - j)
            _blend(rows, upper % 2, lower % 2, weight)
            _sum_rows(flat, begin, n_fs, s, height, width, mean, first[p] + upper * nx, first[p] + lower * nx, nx, sums, slot)
            _mark(sums, slot, rows, cells, marked)
            for c in range(cells):
                if marked[c]:
                    for k in (upper, lower):
                        if ready[k % 2] != k:
                            _expand_more(mean, first[p] + k * nx, nx, width, more[k % 2])
                            _expand_more(threshold, first[p] + k * nx, nx, width, more[2 + k % 2])
                            ready[k % 2] = k
                    _blend_cell(more, upper % 2, lower % 2, weight, c * CHUNK, cell)
                    _copy(flat, begin, n_fs, s, c * CHUNK, height, width, cell)
                    n = _pick(cell, min(CHUNK, width - c * CHUNK), min(STRIP, height - s), begin + s * n_fs + c * CHUNK,
                              n_fs, index, value, n)
    return n
