"""Kernels of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): background planes, and pixels above them.

A box's background is a plane a x + b y + c, fitted by least squares to every second pixel both ways (Rossmann, J. Appl.
Cryst. 12 (1979) 225); its sigma is the r.m.s. residual; Z = (I - plane) / sigma. Z is never stored: where it is needed,
it is made from the planes.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

# NaN marks bad pixels, so the compiler must not assume that there are none.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
STEP = 2             # every second pixel is sampled
MAX_COLUMNS = 512    # samples along the edge of a box
CHUNK, SHORT = 64, 16  # pixels compared together
NEVER = np.float32(3e38)

BOX = np.dtype([("panel", "i4"), ("s0", "i4"), ("s1", "i4"), ("f0", "i4"), ("f1", "i4"),      # inclusive
                ("a", "f8"), ("b", "f8"), ("c", "f8"), ("sigma", "f8")])


class Grid(NamedTuple):
    """Which box holds a pixel: the boxes of panel p form a grid from number first[p] on, columns[p] wide."""

    first: np.ndarray        # (P,) int64
    columns: np.ndarray      # (P,) int64
    row_of: np.ndarray       # (P, SS) int16, -1 outside of all boxes
    column_of: np.ndarray    # (P, FS) int16


@njit(cache=True, fastmath=FASTMATH)
def box_of(grid, p, s, f):
    """Number of the box of pixel (p, s, f), or -1."""
    row, column = np.int64(grid.row_of[p, s]), np.int64(grid.column_of[p, f])
    return grid.first[p] + row * grid.columns[p] + column if row >= 0 and column >= 0 else -1


@njit(cache=True, fastmath=FASTMATH)
def _add_row(row, count, start, level, slope, low, high, reference, x, sums):
    """Add every second pixel of `row` that is background to the sums of its column of the box.

    Background is low < value < high and value < level + slope * k, for the k-th sample. `sums` (6 * MAX_COLUMNS,) holds
    for column `start` + k: n, n x, n x^2, v, v x, v^2, with v above `reference`, x counted along ss.
    """
    kind = sums.dtype.type
    one, zero = kind(1), kind(0)
    # Unsigned indices: a signed one may be negative, and the test for that keeps the loop from being vectorised.
    first, stride = np.uint64(start), np.uint64(MAX_COLUMNS)
    for k in range(np.uint64(count)):
        value = kind(row[np.uint64(STEP) * k])
        inside = (value > low) & (value < high) & (value < level + slope * kind(k))
        w = one if inside else zero
        v = value - reference if inside else zero
        i = first + k
        sums[i] += w
        sums[i + stride] += w * x
        sums[i + np.uint64(2) * stride] += w * x * x
        sums[i + np.uint64(3) * stride] += v
        sums[i + np.uint64(4) * stride] += v * x
        sums[i + np.uint64(5) * stride] += v * v


@njit(cache=True, fastmath=FASTMATH)
def _total(sums, columns):
    """n, p, q, pp, pq, qq, v, vp, vq, vv of a box from the sums of its columns; p along ss, q along fs."""
    n, p, q, pp, pq, qq, v, vp, vq, vv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(columns):
        y, m = np.float64(STEP * k), np.float64(sums[k])
        n += m
        q += m * y
        qq += m * y * y
        p += sums[k + MAX_COLUMNS]
        pq += sums[k + MAX_COLUMNS] * y
        pp += sums[k + 2 * MAX_COLUMNS]
        v += sums[k + 3 * MAX_COLUMNS]
        vq += sums[k + 3 * MAX_COLUMNS] * y
        vp += sums[k + 4 * MAX_COLUMNS]
        vv += sums[k + 5 * MAX_COLUMNS]
    return n, p, q, pp, pq, qq, v, vp, vq, vv


@njit(cache=True, fastmath=FASTMATH)
def _solve(sums, box, reference):
    """Plane and r.m.s. residual from the sums of a box: n, p, q, pp, pq, qq, v, vp, vq, vv."""
    n, p, q, pp, pq, qq, v, vp, vq, vv = sums
    d0, d1, d2 = qq * n - q * q, pq * n - q * p, pq * q - qq * p
    det = pp * d0 - pq * d1 + p * d2
    if n < 3 or det <= 1e-9 * pp * qq * n:
        box["a"], box["b"], box["c"] = 0.0, 0.0, reference + v / max(n, 1.0)
        box["sigma"] = np.sqrt(max(vv / n - (v / n) ** 2, 0.0)) if n > 0 else 0.0
        return
    a = (vp * d0 - pq * (vq * n - q * v) + p * (vq * q - qq * v)) / det
    b = (pp * (vq * n - q * v) - vp * d1 + p * (pq * v - vq * p)) / det
    c = (pp * (qq * v - vq * q) - pq * (pq * v - vq * p) + vp * d2) / det
    box["a"], box["b"], box["c"] = a, b, c + reference
    residual = (vv - a * vp - b * vq - c * v) / n
    box["sigma"] = np.sqrt(residual) if residual > 1e-12 * vv / n else 0.0    # rounding makes no noise


@njit(cache=True, fastmath=FASTMATH)
def z_of(image, boxes, grid, p, s, f):
    """Z of a pixel, from the box that holds it; 0 outside of all boxes."""
    k = box_of(grid, p, s, f)
    if k < 0 or boxes[k]["sigma"] == 0.0:
        return 0.0
    box = boxes[k]
    return (image[p, s, f] - box["a"] * (s - box["s0"]) - box["b"] * (f - box["f0"]) - box["c"]) / box["sigma"]


@njit(cache=True, fastmath=FASTMATH)
def _grown(image, shape, box, old, old_grid, new, grid, done, cutoff, low, high, first_pass):
    """The sums of a box too poor in background, over a window that grows by a third until two thirds of it are.

    Z is of this pass where a box is done, otherwise of the pass before. False where the panel holds no such window.
    """
    p, width, height = box["panel"], box["f1"] - box["f0"] + 1, box["s1"] - box["s0"] + 1
    need, growth = width * height * 2 // 3 // (STEP * STEP), max(min(width, height) // 3, 1)
    s0, f0 = box["s0"], box["f0"]
    n_ss, n_fs = shape[p, 0], shape[p, 1]
    while True:
        if height >= n_ss and width >= n_fs:
            return False, (0.0,) * 10
        height, width = min(height + 2 * growth, n_ss), min(width + 2 * growth, n_fs)
        s0, f0 = min(max(0, s0 - growth), n_ss - height), min(max(0, f0 - growth), n_fs - width)
        n, sp, sq, spp, spq, sqq, sv, svp, svq, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for s in range(s0, s0 + height, STEP):
            for f in range(f0, f0 + width, STEP):
                value = np.float64(image[p, s, f])
                if not (value > low and value < high):
                    continue
                k = box_of(grid, p, s, f)
                z = 0.0
                if 0 <= k < done:
                    z = z_of(image, new, grid, p, s, f)
                elif not first_pass:
                    z = z_of(image, old, old_grid, p, s, f)
                if z < cutoff:
                    x, y, v = np.float64(s - box["s0"]), np.float64(f - box["f0"]), value
                    n += 1
                    sp += x
                    sq += y
                    spp += x * x
                    spq += x * y
                    sqq += y * y
                    sv += v
                    svp += v * x
                    svq += v * y
                    svv += v * v
        if n >= need:
            return True, (n, sp, sq, spp, spq, sqq, sv, svp, svq, svv)


@njit(cache=True, fastmath=FASTMATH)
def _bound(old, old_grid, cutoff, p, s, f):
    """Level and slope per sample below which pixels from (s, f) on are background, and the last one of that box."""
    k = box_of(old_grid, p, s, f)
    if k < 0:
        return np.inf, 0.0, f
    box = old[k]
    if box["sigma"] == 0.0:
        return np.inf, 0.0, np.int64(box["f1"])
    level = box["a"] * (s - box["s0"]) + box["b"] * (f - box["f0"]) + box["c"] + cutoff * box["sigma"]
    return level, STEP * box["b"], np.int64(box["f1"])


@njit(cache=True, fastmath=FASTMATH)
def fit_planes(image, shape, boxes, grid, old, old_grid, cutoff, low, high, first_pass, sums):
    """Fit the background plane of every box in place; `old` are the boxes of the pass before (ignored in the first).

    Background are the sampled pixels with low < value < high (and so not NaN) and Z < cutoff in the pass before. A box
    with fewer than two thirds of its samples grows; one that cannot makes do with its own. `sums` (6 * MAX_COLUMNS,) is
    work space, float32 or float64: its type is the precision of the sums.
    """
    kind = sums.dtype.type
    for k in range(boxes.size):
        box = boxes[k]
        p, columns = box["panel"], (box["f1"] - box["f0"]) // STEP + 1
        for j in range(6):
            sums[j * MAX_COLUMNS:j * MAX_COLUMNS + columns] = 0
        reference = kind(image[p, (box["s0"] + box["s1"]) // 2, (box["f0"] + box["f1"]) // 2])
        reference = reference if reference == reference else kind(0)
        for s in range(box["s0"], box["s1"] + 1, STEP):
            f = np.int64(box["f0"])
            while f <= box["f1"]:
                # The boxes of two passes need not coincide: go from one old box to the next along the row.
                level, slope, stop = np.inf, 0.0, np.int64(box["f1"])
                if not first_pass:
                    level, slope, stop = _bound(old, old_grid, cutoff, p, s, f)
                    stop = min(stop, np.int64(box["f1"]))
                count = (stop - f) // STEP + 1
                _add_row(image[p, s, f:stop + 1], count, (f - box["f0"]) // STEP, kind(level), kind(slope), kind(low),
                         kind(high), reference, kind(s - box["s0"]), sums)
                f += count * STEP
        need = (box["f1"] - box["f0"] + 1) * (box["s1"] - box["s0"] + 1) * 2 // 3 // (STEP * STEP)
        total = _total(sums, columns)
        shift = np.float64(reference)
        if total[0] < need:
            found, grown = _grown(image, shape, box, old, old_grid, boxes, grid, k, cutoff, low, high, first_pass)
            if found:
                total, shift = grown, 0.0
        _solve(total, box, shift)


@njit(cache=True, fastmath=FASTMATH)
def ring_counts(image, boxes, rings, step, cutoffs, counts):
    """Count, for each ring, the pixels in it, and those with Z below each of two cutoffs.

    Parameters
    ----------
    rings : (P, SS, FS) uint16
        Ring of each pixel; those beyond the last are not counted.
    step : int
        Every so many pixels are looked at, both ways.
    cutoffs : (2,) float64
    counts : (n, 3) int64
    """
    counts[:] = 0
    for k in range(boxes.size):
        box = boxes[k]
        p = box["panel"]
        low = cutoffs[0] * box["sigma"] + box["c"]
        high = cutoffs[1] * box["sigma"] + box["c"]
        for s in range(box["s0"], box["s1"] + 1, step):
            shift = box["a"] * (s - box["s0"])
            for f in range(box["f0"], box["f1"] + 1, step):
                v = np.float64(image[p, s, f]) - shift - box["b"] * (f - box["f0"])
                r = rings[p, s, f]
                if r < counts.shape[0] and v == v:
                    counts[r, 0] += 1
                    counts[r, 1] += v < low
                    counts[r, 2] += v < high


@njit(cache=True, fastmath=FASTMATH)
def _set_limits(boxes, height, base, slope):
    """The limit of Z > height for the pixels of a row of boxes is base + slope * (ss - first ss of the boxes)."""
    base[:], slope[:] = NEVER, np.float32(0)
    for k in range(boxes.size):
        box = boxes[k]
        if box["sigma"] > 0.0:
            level = box["c"] + height * box["sigma"]
            for f in range(box["f0"], box["f1"] + 1):
                base[f] = level + box["b"] * (f - box["f0"])
                slope[f] = box["a"]


@njit(cache=True, fastmath=FASTMATH)
def mark(image, shape, boxes, grid, height, low, limits, body):
    """Say of every pixel whether Z > height and value > low: 1 or 0 into `body` (P, SS, FS) uint8, zero in its padding.

    `limits` (2, W) float32 is work space, W at least FS.
    """
    n_ss, n_fs = image.shape[1], image.shape[2]
    base, slope, flat, marks = limits[0], limits[1], image.reshape(-1), body.reshape(-1)
    zero, one = np.uint8(0), np.uint8(1)
    for p in range(shape.shape[0]):
        current, s0 = np.int64(-1), 0
        width = np.uint64(shape[p, 1])
        for s in range(shape[p, 0]):
            row, at = np.int64(grid.row_of[p, s]), np.uint64((p * n_ss + s) * n_fs)
            if row < 0:
                for f in range(width):
                    marks[at + f] = zero
                continue
            if row != current:
                current, first = row, grid.first[p] + row * grid.columns[p]
                _set_limits(boxes[first:first + grid.columns[p]], height, base, slope)
                s0 = boxes[first]["s0"]
            x = np.float32(s - s0)
            for f in range(width):
                v = flat[at + f]
                marks[at + f] = one if (v > base[f] + slope[f] * x) & (v > low) else zero


@njit(cache=True, fastmath=FASTMATH)
def crowded(body, shape, neighbours, line, sums, out):
    """Flat indices, ascending, of the marked pixels with more than so many marked ones among their eight neighbours.

    Parameters
    ----------
    body : (P, SS, FS) uint8
        1 for marked pixels, otherwise 0.
    line : (W + 2,) uint8, sums : (3, W) uint8
        Work space, W a whole number of chunks that holds FS.
    out : (room,) int64

    Returns
    -------
    int
        Number of pixels; may exceed the room.
    """
    n, n_ss, n_fs, marks, zero = 0, body.shape[1], body.shape[2], body.reshape(-1), np.uint8(0)
    least, wide = np.uint8(max(neighbours + 2, 1)), np.uint64(sums.shape[1])      # the pixel itself is in the sum
    for p in range(shape.shape[0]):
        height, width = shape[p, 0], np.uint64(shape[p, 1])
        line[:], sums[:] = zero, zero
        for s in range(height + 1):
            if s < height:
                at = np.uint64((p * n_ss + s) * n_fs)
                for f in range(width):
                    line[f + np.uint64(1)] = marks[at + f]
                last = sums[s % 3]
                for f in range(wide):
                    last[f] = np.uint8(line[f] + line[f + np.uint64(1)] + line[f + np.uint64(2)])
            else:
                sums[s % 3, :] = zero
            if s > 0:
                n = _pick(marks, np.uint64((p * n_ss + s - 1) * n_fs), width, sums, least, out, n)
    return n


@njit(cache=True, fastmath=FASTMATH)
def _pick(marks, at, width, sums, least, out, n):
    """Append the marked pixels of a row, from marks[at] on, whose 3 x 3 sum is at least so large."""
    a, b, c = sums[0], sums[1], sums[2]
    start = np.uint64(0)
    while start < width:
        hits = np.uint8(0)
        for k in range(np.uint64(SHORT)):
            i = start + k
            hits |= np.uint8(np.uint8(a[i] + b[i] + c[i]) >= least)
        if hits:
            for k in range(min(np.uint64(SHORT), width - start)):
                i = start + k
                if marks[at + i] and a[i] + b[i] + c[i] >= least:
                    if n < out.size:
                        out[n] = np.int64(at + i)
                    n += 1
        start += np.uint64(SHORT)
    return n
