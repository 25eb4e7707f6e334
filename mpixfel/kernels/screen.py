"""Where the 3 x 3 sums of an image stand out of the local background.

Most cells of the image need no look: their highs (`kernels.highs`) do not exceed what background and threshold are
together. Those that do, and those with bad pixels, are looked at pixel by pixel.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.highs import CHUNK, STEP, STRIP, cells

ZERO, ONE, NINE = np.float32(0), np.float32(1), np.float32(9)
SLACK = np.float32(1e-5)    # of the background's sum: what plain sums may have lost in rounding
BACKGROUND, THRESHOLD = np.uint64(0), np.uint64(2)    # where their two rows stand in `levels`
RUN = 8             # cells that are looked at together, at most


def room(width, n_boxes):
    """Work space of `screen` for panels up to `width` pixels wide, of `n_boxes` in all."""
    n = cells((1, width))[1]
    return (np.zeros(n_boxes, np.float32), np.zeros(n_boxes, np.float32), np.zeros(n + 1, np.float32),
            np.zeros((4, n * CHUNK + 2), np.float32), np.zeros((STRIP + 4, RUN * CHUNK + 2), np.float32),
            np.zeros((STRIP, CHUNK), np.float32))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def expand(boxes, first, nx, width, out):
    """Interpolate the grid row boxes[first:first + nx] linearly to `width` pixels, into `out` from its second place on;
    constant beyond the outer box centres, and beyond the panel like the pixel there."""
    edge, start = np.float32(width / nx), 0
    for i in range(nx + 1):
        left, right = boxes[first + max(i - 1, 0)], boxes[first + min(i, nx - 1)]
        stop = width if i == nx else int(np.ceil((i + 0.5) * edge - 0.5))
        slope = (right - left) / edge
        base = left - slope * ((i - np.float32(0.5)) * edge - np.float32(0.5) - np.float32(start))
        at = np.uint64(start + 1)
        for x in range(np.uint64(max(stop - start, 0))):
            out[at + x] = base + slope * np.float32(x)
        start = max(stop, start)
    out[0] = out[1]
    for x in range(width + 1, out.size):
        out[x] = out[width]


# In these loops indices are unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _fill_bounds(mean, threshold, out):
    """What the plain sum of nine pixels of each box must exceed."""
    for b in range(np.uint64(out.size)):
        level = NINE * mean[b]
        out[b] = level + threshold[b] - SLACK * abs(level)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _between_rows(bounds, above, below, weight, nx, out):
    """What lies between two grid rows that begin at `above` and `below`."""
    upper, lower = np.uint64(above), np.uint64(below)
    for i in range(np.uint64(nx)):
        out[i] = bounds[upper + i] + weight * (bounds[lower + i] - bounds[upper + i])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _at_edges(row, nx, width, n, out):
    """Values of a grid row, between the centres of its boxes, at the n + 1 edges of n cells."""
    scale, last = np.float32(nx / width), np.float32(nx - 1)
    for c in range(n + 1):
        x = min(np.float32(c * CHUNK), np.float32(width))
        at = min(max(x * scale - np.float32(0.5), ZERO), last)
        i = int(at)
        right = row[min(i + 1, nx - 1)]
        out[c] = row[i] + (at - np.float32(i)) * (right - row[i])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _least(row, edges, nx, width, c):
    """The least value of a grid row in cell c: at an edge, or at a box's centre between them."""
    least, scale = min(edges[c], edges[c + 1]), nx / width
    for i in range(int(np.ceil(c * CHUNK * scale - 0.5)), min(int((c + 1) * CHUNK * scale - 0.5), nx - 1) + 1):
        least = min(least, row[max(i, 0)])
    return least


@njit(cache=True, _nrt=False, fastmath=FASTMATH, inline="always")
def _between(levels, row, weight, i):
    return levels[row, i] + weight * (levels[row + STEP, i] - levels[row, i])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _copy(flat, first, stride, s, x, n, height, width, levels, weight, cell):
    """n columns of a strip from x on and their neighbours, less background, into `cell` (8, n + 2), which begins with
    background and threshold; bad pixels and those off the panel are background."""
    wide, start, zero = np.uint64(n + 2), np.uint64(x), np.uint64(0)
    low, high = np.uint64(max(1 - x, 0)), np.uint64(min(width + 1 - x, n + 2))
    for k in range(wide):
        cell[zero, k] = _between(levels, BACKGROUND, weight, start + k)
        cell[STEP, k] = _between(levels, THRESHOLD, weight, start + k)
    for j in range(STRIP + 2):
        to, t = np.uint64(j + 2), s + j - 1
        if t < 0 or t >= height:
            for k in range(wide):
                cell[to, k] = ZERO
            continue
        at = np.uint64(first + t * stride + x) - STEP
        cell[to, zero] = cell[to, wide - STEP] = ZERO
        for k in range(high, wide):
            cell[to, k] = ZERO
        for k in range(low, high):
            v = flat[at + k] - cell[zero, k]
            cell[to, k] = v if v == v else ZERO


@njit(cache=True, _nrt=False, fastmath=FASTMATH, inline="always")
def _sum3(cell, row, k):
    return cell[row, k] + cell[row, k + STEP] + cell[row, k + STEP + STEP]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _stands_out(cell, c, sums):
    """Whether any 3 x 3 sum of cell c of those in `cell` exceeds its threshold; sums (4, CHUNK) are filled."""
    hits, zero, one, two, three = ZERO, np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
    for i in range(np.uint64(CHUNK)):
        k = np.uint64(c * CHUNK) + i
        r0, r1, r2 = _sum3(cell, np.uint64(2), k), _sum3(cell, np.uint64(3), k), _sum3(cell, np.uint64(4), k)
        r3, r4, r5 = _sum3(cell, np.uint64(5), k), _sum3(cell, np.uint64(6), k), _sum3(cell, np.uint64(7), k)
        upper, lower, limit = r1 + r2, r3 + r4, cell[STEP, k + STEP]
        a, b, c0, d = r0 + upper, upper + r3, r2 + lower, lower + r5
        sums[zero, i], sums[one, i], sums[two, i], sums[three, i] = a, b, c0, d
        hits += ONE if (a > limit) | (b > limit) | (c0 > limit) | (d > limit) else ZERO
    return hits > ZERO


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _pick(cell, c, sums, columns, height, first, stride, index, value, n):
    """Append the pixels of cell c of those in `cell` whose sums exceed the threshold."""
    for s in range(height):
        for k in range(columns):
            if sums[s, k] > cell[1, c * CHUNK + k + 1]:
                if n < index.size:
                    index[n], value[n] = first + s * stride + k, sums[s, k]
                n += 1
    return n


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def screen(image, highs, shape, first, grid, mean, threshold, work, index, value):
    """All pixels whose 3 x 3 sum above the local background exceeds the local threshold.

    Parameters
    ----------
    image : (P, SS, FS) float32, NaN = bad: counts as background
    highs : of the image's cells, see `kernels.highs`
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
    bounds, row, edges, levels, cell, sums = work
    _fill_bounds(mean, threshold, bounds)
    for p in range(first.size):
        height, width, ny, nx = shape[p, 0], shape[p, 1], grid[p, 0], grid[p, 1]
        begin, n_cells, upper, lower = p * n_ss * n_fs, (width + CHUNK - 1) // CHUNK, -1, -1
        for s in range(0, height, STRIP):
            at = min(max((s + 0.5 * STRIP) * ny / height - 0.5, 0.0), ny - 1.0)
            j = min(int(at), max(ny - 2, 0))
            above, below, weight = first[p] + j * nx, first[p] + min(j + 1, ny - 1) * nx, np.float32(at - j)
            _between_rows(bounds, above, below, weight, nx, row)
            _at_edges(row, nx, width, n_cells, edges)
            c = 0
            while c < n_cells:
                run = 0     # cells beside each other that are to be looked at, together
                while c + run < n_cells and run < RUN and not highs[p, s // STRIP, c + run] <= _least(
                        row, edges, nx, width, c + run):
                    run += 1
                if run == 0:
                    c += 1
                    continue
                if upper != above or lower != below:      # these rows are expanded where they are needed first
                    upper, lower = above, below
                    for k in range(2):
                        expand(mean, below if k else above, nx, width, levels[k])
                        expand(threshold, below if k else above, nx, width, levels[2 + k])
                _copy(flat, begin, n_fs, s, c * CHUNK, run * CHUNK, height, width, levels, weight, cell)
                for i in range(run):
                    if _stands_out(cell, i, sums):
                        x = (c + i) * CHUNK
                        n = _pick(cell, i, sums, min(CHUNK, width - x), min(STRIP, height - s), begin + s * n_fs + x, n_fs,
                                  index, value, n)
                c += run
    return n
