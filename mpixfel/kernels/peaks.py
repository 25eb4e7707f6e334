"""Peaks of an image stack: where 3 x 3 sums stand out, what belongs together, and how much it holds."""
import numpy as np
from numba import njit

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
ZERO = np.float32(0)
CHUNK = 64          # pixels screened together: four AVX-512 words
STRIP = 4           # rows that share one interpolation between boxes
BEYOND = np.float32(3e38)
GUARD = 6           # half width of the square from which a peak's own background is taken


@njit(cache=True, fastmath=FASTMATH)
def expand(boxes, width, out):
    """Interpolate one grid row `boxes` (nx,) linearly to `width` pixels; constant beyond the outer box centres."""
    nx, edge = boxes.size, np.float32(width / boxes.size)
    start = 0
    for i in range(nx + 1):
        left, right = boxes[max(i - 1, 0)], boxes[min(i, nx - 1)]
        stop = width if i == nx else int(np.ceil((i + 0.5) * edge - 0.5))
        slope = (right - left) / edge
        base = left - slope * ((i - np.float32(0.5)) * edge - np.float32(0.5))
        for x in range(start, stop):
            out[x] = base + slope * np.float32(x)
        start = stop


@njit(cache=True, fastmath=FASTMATH)
def _blend(above, below, weight, out):
    for x in range(out.size):
        out[x] = above[x] + weight * (below[x] - above[x])


@njit(cache=True, fastmath=FASTMATH)
def _excess(row, mean, out):
    """A pixel row above its background, 0 where bad; `out` has one column before the first."""
    for x in range(row.size):
        v = row[x] - mean[x]
        out[x + 1] = v if v == v else ZERO


@njit(cache=True, fastmath=FASTMATH)
def _sum3(line, out):
    for x in range(out.size):
        out[x] = line[x] + line[x + 1] + line[x + 2]


@njit(cache=True, fastmath=FASTMATH)
def _pick(sums, limit, first, index, value, n):
    """Append the pixels of one row whose 3 x 3 sum exceeds the limit; sums (3, chunks, CHUNK), limit (chunks, CHUNK)."""
    for k in range(limit.shape[0]):
        hits = 0
        for x in range(CHUNK):
            hits += (sums[0, k, x] + sums[1, k, x] + sums[2, k, x]) > limit[k, x]
        if hits > 0:
            for x in range(CHUNK):
                s = sums[0, k, x] + sums[1, k, x] + sums[2, k, x]
                if s > limit[k, x]:
                    if n < index.size:
                        index[n] = first + k * CHUNK + x
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
    sums, level, limit = rows[:3], rows[3], rows[4]
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
                if j != current:
                    current = j
                    b, c = first[p] + j * nx, first[p] + min(j + 1, ny - 1) * nx
                    expand(mean[b:b + nx], width, rows[5])
                    expand(mean[c:c + nx], width, rows[6])
                    expand(threshold[b:b + nx], width, rows[7])
                    expand(threshold[c:c + nx], width, rows[8])
                _blend(rows[5], rows[6], np.float32(at - j), level)
                _blend(rows[7], rows[8], np.float32(at - j), limit)
            if s < height:
                _excess(image[p, s, :width], level, line)
                _sum3(line, sums[s % 3])
            else:
                sums[s % 3, :] = ZERO
            if s > 0:
                n = _pick(folded, limits, (p * n_ss + s - 1) * n_fs, index, value, n)
    return n


@njit(cache=True, fastmath=FASTMATH)
def mark(index, value, score):
    """Write `value` at `index` into the flat map `score`, which is zero elsewhere."""
    for i in range(index.size):
        score[index[i]] = value[i]


@njit(cache=True, fastmath=FASTMATH)
def unmark(index, score, owner):
    """Undo `mark` and `climb`, so that the maps can be used again."""
    for i in range(index.size):
        score[index[i]] = ZERO
        owner[index[i]] = 0


@njit(cache=True, fastmath=FASTMATH)
def _best_neighbour(at, score, shape, n_ss, n_fs):
    """The highest of the 3 x 3 pixels around flat index `at`; the first of equals."""
    p, rest = at // (n_ss * n_fs), at % (n_ss * n_fs)
    s, f = rest // n_fs, rest % n_fs
    best, top = at, score[at]
    for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
        for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
            k = (p * n_ss + j) * n_fs + i
            if score[k] > top or (score[k] == top and k < best and top > 0):
                best, top = k, score[k]
    return best


@njit(cache=True, fastmath=FASTMATH)
def climb(index, score, owner, shape, n_ss, n_fs, up, seeds):
    """Give every marked pixel to the summit that steepest ascent leads to.

    `owner` (flat int32, zero before) becomes 1 + the summit's number; `up` (n,) is work space. Returns the number of
    summits; `seeds` (room,) holds their flat indices. Summits beyond the room own nothing.
    """
    n = 0
    for i in range(index.size):
        owner[index[i]] = -1 - i
    for i in range(index.size):
        up[i] = _best_neighbour(index[i], score, shape, n_ss, n_fs)
    for i in range(index.size):
        if up[i] == index[i]:
            if n < seeds.size:
                seeds[n] = index[i]
            owner[index[i]] = n + 1 if n < seeds.size else 0
            n += 1
    for i in range(index.size):
        at = index[i]
        while owner[at] < 0:
            at = up[-1 - owner[at]]
        owner[index[i]] = owner[at]
    return n


@njit(cache=True, fastmath=FASTMATH)
def surroundings(image, owner, shape, p, s, f, low, high):
    """Mean of the free pixels of the square around (s, f) whose values lie between two bounds, and their number."""
    n, s1 = 0, 0.0
    for j in range(max(s - GUARD, 0), min(s + GUARD + 1, shape[p, 0])):
        for i in range(max(f - GUARD, 0), min(f + GUARD + 1, shape[p, 1])):
            v = image[p, j, i]
            near = abs(j - s) <= 2 and abs(i - f) <= 2
            if near or owner[p, j, i] != 0 or not (v >= low and v <= high):
                continue
            n += 1
            s1 += v
    return s1 / max(n, 1), n


@njit(cache=True, fastmath=FASTMATH)
def measure(image, score, owner, seeds, index, shape, box_mean, box_variance, quantum, out):
    """Sum, centroid and shape of each summit's pixels: those it owns and the 3 x 3 around it.

    `box_mean`, `box_variance` (n,) are the interpolated background at the summits. `out` (n, 10) float64: panel, ss, fs
    (pixel centres at whole numbers), intensity, background, pixels, largest pixel, 3 x 3 sum above the own background,
    background pixels, second moment (pixels^2).
    """
    n_ss, n_fs = image.shape[1], image.shape[2]
    for k in range(seeds.size):
        p, rest = seeds[k] // (n_ss * n_fs), seeds[k] % (n_ss * n_fs)
        s, f = rest // n_fs, rest % n_fs
        reach = 4.0 * np.sqrt(box_variance[k]) + 3.0 * quantum
        background, n = surroundings(image, owner, shape, p, s, f, box_mean[k] - reach, box_mean[k] + reach)
        if n < 16:
            background = box_mean[k]
        out[k, 0], out[k, 4], out[k, 8] = p, background, n
        for c in (1, 2, 3, 5, 6, 7, 9):
            out[k, c] = 0.0
        for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
            for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                v = image[p, j, i] - background
                if v == v:
                    out[k, 7] += v
                    if owner[p, j, i] != k + 1:
                        _add(out[k], v, j - s, i - f)
    for i in range(index.size):
        p, rest = index[i] // (n_ss * n_fs), index[i] % (n_ss * n_fs)
        s, f = rest // n_fs, rest % n_fs
        k = owner[p, s, f] - 1
        if k >= 0:
            v = image[p, s, f] - out[k, 4]
            if v == v:
                rest = seeds[k] % (n_ss * n_fs)
                _add(out[k], v, s - rest // n_fs, f - rest % n_fs)
    for k in range(seeds.size):
        rest = seeds[k] % (n_ss * n_fs)
        total = out[k, 3]
        if total > 0:
            ds, df = out[k, 1] / total, out[k, 2] / total
            out[k, 9] = max(out[k, 9] / total - ds * ds - df * df, 0.0)
            out[k, 1], out[k, 2] = ds, df
        out[k, 1] += rest // n_fs
        out[k, 2] += rest % n_fs


@njit(cache=True, fastmath=FASTMATH)
def _add(row, v, ds, df):
    row[1] += v * ds
    row[2] += v * df
    row[3] += v
    row[5] += 1
    row[6] = max(row[6], v)
    row[9] += v * (ds * ds + df * df)
