"""Where the 3 x 3 sums of an image stand out of the local background: the one pass over all pixels."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

ZERO, ONE = np.float32(0), np.float32(1)
CHUNK = 64          # pixels screened together: four AVX-512 words
STRIP = 4           # rows that share one interpolation between boxes
BEYOND = np.float32(3e38)


@njit(cache=True, fastmath=FASTMATH)
def expand(boxes, width, out):
    """Interpolate one grid row `boxes` (nx,) linearly to `width` pixels; constant beyond the outer box centres."""
    nx, edge = boxes.size, np.float32(width / boxes.size)
    start = 0
    for i in range(nx + 1):
        left, right = boxes[max(i - 1, 0)], boxes[min(i, nx - 1)]
        stop = width if i == nx else int(np.ceil((i + 0.5) * edge - 0.5))
        slope = (right - left) / edge
        base = left - slope * ((i - np.float32(0.5)) * edge - np.float32(0.5) - np.float32(start))
        at = np.uint64(start)
        for x in range(np.uint64(max(stop - start, 0))):
            out[at + x] = base + slope * np.float32(x)
        start = max(stop, start)


# In these loops indices are unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, fastmath=FASTMATH)
def _blend(above, below, weight, out):
    for x in range(np.uint64(out.size)):
        out[x] = above[x] + weight * (below[x] - above[x])


@njit(cache=True, fastmath=FASTMATH)
def _excess(image, at, width, mean, out):
    """A pixel row of the flat image above its background, 0 where bad; `out` has one column before the first."""
    for x in range(np.uint64(width)):
        v = image[at + x] - mean[x]
        out[x + np.uint64(1)] = v if v == v else ZERO


@njit(cache=True, fastmath=FASTMATH)
def _sum3(line, out, row):
    for x in range(np.uint64(out.shape[1])):
        out[row, x] = line[x] + line[x + np.uint64(1)] + line[x + np.uint64(2)]


@njit(cache=True, fastmath=FASTMATH)
def _pick(sums, limit, first, index, value, n):
    """Append the pixels of one row whose 3 x 3 sum exceeds the limit: sums (3, n, CHUNK), limit (n, CHUNK)."""
    for k in range(np.uint64(limit.shape[0])):
        hits = ZERO
        for x in range(np.uint64(CHUNK)):
            hits += ONE if sums[0, k, x] + sums[1, k, x] + sums[2, k, x] > limit[k, x] else ZERO
        if hits > ZERO:
            for x in range(np.uint64(CHUNK)):
                s = sums[0, k, x] + sums[1, k, x] + sums[2, k, x]
                if s > limit[k, x]:
                    if n < index.size:
                        index[n] = first + np.int64(k) * CHUNK + np.int64(x)
                        value[n] = s
                    n += 1
    return n


@njit(cache=True, fastmath=FASTMATH)
def screen(image, shape, first, grid, mean, threshold, line, rows, index, value):
    """All pixels whose 3 x 3 sum above the local background exceeds the local threshold.

    Parameters
    ----------
    image : (P, SS, FS) float32, NaN = bad
    shape : (P, 2) int64
    first : (P,) int64, grid : (P, 2) int64
        Boxes of the panels, see `kernels.background`.
    mean, threshold : (B,) float32
        Background per pixel, and the least 3 x 3 sum above it; both are interpolated between box centres.
    line : (W + 2,) float32, rows : (9, W) float32
        Work space; W is a whole number of chunks that holds FS.
    index : (room,) int64, value : (room,) float32
        Out: flat indices in ascending order, and their sums.

    Returns
    -------
    int
        Pixels found; may exceed the room.
    """
    n, n_ss, n_fs = 0, image.shape[1], image.shape[2]
    sums, level, limit, flat = rows[:3], rows[3], rows[4], image.reshape(-1)
    folded, limits = rows[:3].reshape(3, -1, CHUNK), rows[4].reshape(-1, CHUNK)
    for p in range(first.size):
        height, width, ny, nx = shape[p, 0], shape[p, 1], grid[p, 0], grid[p, 1]
        line[:] = ZERO
        sums[:] = ZERO
        for r in range(5, 9):
            rows[r, width:] = BEYOND
        current = -1
        for s in range(height + 1):
            if s % STRIP == 0:
                at = min(max((s + 0.5 * STRIP) * ny / height - 0.5, 0.0), ny - 1.0)
                j = min(int(at), max(ny - 2, 0))
                for k in range(max(current + 1, j), min(j + 2, ny)):     # grid row k stands in rows 5, 7 or 6, 8
                    b = first[p] + k * nx
                    expand(mean[b:b + nx], width, rows[5 + k % 2])
                    expand(threshold[b:b + nx], width, rows[7 + k % 2])
                    current = k
                above, below = j % 2, (j + 1) % 2 if ny > 1 else 0
                _blend(rows[5 + above], rows[5 + below], np.float32(at - j), level)
                _blend(rows[7 + above], rows[7 + below], np.float32(at - j), limit)
            if s < height:
                _excess(flat, np.uint64((p * n_ss + s) * n_fs), width, level, line)
                _sum3(line, sums, np.uint64(s % 3))
            else:
                sums[s % 3, :] = ZERO
            if s > 0:
                n = _pick(folded, limits, (p * n_ss + s - 1) * n_fs, index, value, n)
    return n
