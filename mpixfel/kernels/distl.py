"""Kernels of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): background planes, and pixels above them.

A box's background is a plane a x + b y + c, fitted by least squares to every second pixel both ways (Rossmann, J. Appl.
Cryst. 12 (1979) 225); its sigma is the r.m.s. residual; Z = (I - plane) / sigma. Z is never stored: where it is needed,
it is made from the planes.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

STEP = 2             # every second pixel is sampled
ROWS = 32            # sampled rows that are counted in one word

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
def _set_bounds(boxes, cutoff, first_pass, bounds):
    """Background, Z < cutoff, is below bounds[0] + bounds[1] * (ss - first ss of the boxes) in a row of boxes."""
    bounds[0], bounds[1] = np.inf, 0
    for k in range(0 if first_pass else boxes.size):
        box = boxes[k]
        if box["sigma"] > 0.0:
            level = box["c"] + cutoff * box["sigma"]
            for f in range(box["f0"], box["f1"] + 1):
                bounds[0, f] = level + box["b"] * (f - box["f0"])
                bounds[1, f] = box["a"]


@njit(cache=True)
def _packed(row):
    """What a sampled row adds to the packed sums of 1, row and row^2 of a column: 6, 9 and 14 bits hold ROWS rows."""
    return np.uint32(1 | row << 6 | row * row << 15)


@njit(cache=True, fastmath=FASTMATH)
def _add_rows(flat, at, step, row, first, stop, y, low, x, bounds, counts, sums):
    """Add four rows, `step` pixels apart, to the sums of columns `first` to `stop`, the first of them at flat[at].

    Background is low < value < the bounds, with y pixels since they were set. counts (W,) packs the sums of 1, row and
    row^2; sums[3:] (3, W) are of v, v x and v^2, with v above bounds[2], x counted along ss. Every column is added,
    though every second is a sample: to pick them one by one would take longer. A sum is loaded and stored once for four
    pixels. One core of a Xeon with AVX-512: 0.15 to 0.2 ms a pass for 1 Mpx, where a loop over samples took 0.35.
    """
    kind = sums.dtype.type
    two, three, zero, none, gap = kind(2), kind(3), kind(0), np.uint32(0), kind(STEP)
    c0, c1, c2, c3 = _packed(row), _packed(row + 1), _packed(row + 2), _packed(row + 3)
    base, slope, reference = bounds[0], bounds[1], bounds[2]
    total, moment, square = sums[3], sums[4], sums[5]
    at1, at2, at3 = at + step, at + np.uint64(2) * step, at + np.uint64(3) * step
    # Unsigned indices: a signed one may be negative, and the test for that keeps the loop from being vectorised.
    for k in range(np.uint64(stop - first)):
        f = np.uint64(first) + k
        limit, rise = base[f] + slope[f] * y, gap * slope[f]
        v0, v1, v2, v3 = kind(flat[at + k]), kind(flat[at1 + k]), kind(flat[at2 + k]), kind(flat[at3 + k])
        inside0, inside1 = (v0 > low) & (v0 < limit), (v1 > low) & (v1 < limit + rise)
        inside2, inside3 = (v2 > low) & (v2 < limit + two * rise), (v3 > low) & (v3 < limit + three * rise)
        counts[f] += np.uint32((c0 if inside0 else none) + (c1 if inside1 else none) + (c2 if inside2 else none)
                               + (c3 if inside3 else none))
        v0, v1 = v0 - reference[f] if inside0 else zero, v1 - reference[f] if inside1 else zero
        v2, v3 = v2 - reference[f] if inside2 else zero, v3 - reference[f] if inside3 else zero
        v = v0 + v1 + v2 + v3
        total[f] += v
        moment[f] += v * x + gap * (v1 + two * v2 + three * v3)
        square[f] += v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3


@njit(cache=True, fastmath=FASTMATH)
def _add_row(flat, at, row, first, stop, y, low, x, bounds, counts, sums):
    """`_add_rows` of one row."""
    kind, count = sums.dtype.type, _packed(row)
    for k in range(np.uint64(stop - first)):
        f, value = np.uint64(first) + k, kind(flat[at + k])
        inside = (value > low) & (value < bounds[0, f] + bounds[1, f] * y)
        counts[f] += count if inside else np.uint32(0)
        v = value - bounds[2, f] if inside else kind(0)
        sums[3, f] += v
        sums[4, f] += v * x
        sums[5, f] += v * v


@njit(cache=True, fastmath=FASTMATH)
def _unpack(counts, x, sums):
    """Add the packed counts, whose row 0 lies at `x`, to the sums of 1, x and x^2; they begin again at 0."""
    kind = sums.dtype.type
    n, nx, nxx, gap = sums[0], sums[1], sums[2], kind(STEP)
    for f in range(counts.size):
        c = counts[f]
        one, square = kind(c & np.uint32(0x3F)), kind(c >> np.uint32(15))
        row = kind(c >> np.uint32(6) & np.uint32(0x1FF))
        n[f] += one
        nx[f] += x * one + gap * row
        nxx[f] += x * x * one + kind(2) * x * gap * row + gap * gap * square
        counts[f] = np.uint32(0)


@njit(cache=True, fastmath=FASTMATH)
def _add_box_row(image, boxes, old, old_grid, cutoff, low, first_pass, bounds, counts, sums):
    """Add every second row of the boxes (n,) that stand side by side to the sums of their columns."""
    kind = sums.dtype.type
    n_ss, n_fs, flat, p = image.shape[1], image.shape[2], image.reshape(-1), np.int64(boxes[0]["panel"])
    s0, s1 = np.int64(boxes[0]["s0"]), np.int64(boxes[0]["s1"])
    first, stop = np.int64(boxes[0]["f0"]), np.int64(boxes[-1]["f1"]) + 1
    counts[:], sums[:] = 0, 0
    for k in range(boxes.size):
        box = boxes[k]
        middle = kind(image[p, (s0 + s1) // 2, (box["f0"] + box["f1"]) // 2])
        bounds[2, box["f0"]:box["f1"] + 1] = middle if middle == middle else kind(0)
    s, last, y0, packed = s0, np.int64(-2), np.int64(0), s0
    while s <= s1:
        # The boxes of two passes need not coincide.
        row = np.int64(old_grid.row_of[p, s])
        if row != last:
            number, columns = old_grid.first[p] + row * old_grid.columns[p], old_grid.columns[p]
            _set_bounds(old[number:number + columns], cutoff, first_pass or row < 0, bounds)
            last, y0 = row, np.int64(old[number]["s0"]) if row >= 0 else np.int64(0)
        together = s + 3 * STEP <= s1 and old_grid.row_of[p, s + 3 * STEP] == row
        n = 4 if together else 1
        if (s - packed) // STEP + n > ROWS:
            _unpack(counts, kind(packed - s0), sums)
            packed = s
        at, k, x, y = np.uint64((p * n_ss + s) * n_fs + first), (s - packed) // STEP, kind(s - s0), kind(s - y0)
        if together:
            _add_rows(flat, at, np.uint64(STEP * n_fs), k, first, stop, y, kind(low), x, bounds, counts, sums)
        else:
            _add_row(flat, at, k, first, stop, y, kind(low), x, bounds, counts, sums)
        s += n * STEP
    _unpack(counts, kind(packed - s0), sums)


@njit(cache=True, fastmath=FASTMATH)
def _total(sums, f0, f1):
    """n, p, q, pp, pq, qq, v, vp, vq, vv of a box from the sums of its columns; p along ss, q along fs."""
    n, p, q, pp, pq, qq, v, vp, vq, vv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for f in range(f0, f1 + 1, STEP):
        y, m = np.float64(f - f0), np.float64(sums[0, f])
        n += m
        q += m * y
        qq += m * y * y
        p += sums[1, f]
        pq += sums[1, f] * y
        pp += sums[2, f]
        v += sums[3, f]
        vq += sums[3, f] * y
        vp += sums[4, f]
        vv += sums[5, f]
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
def _grown(image, shape, box, old, old_grid, new, grid, done, cutoff, low, first_pass):
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
                if not value > low:
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
def fit_planes(image, shape, boxes, grid, old, old_grid, cutoff, low, first_pass, bounds, counts, sums):
    """Fit the background plane of every box in place; `old` are the boxes of the pass before (ignored in the first).

    Background are the sampled pixels with low < value (and so not NaN) and Z < cutoff in the pass before. A box with
    fewer than two thirds of its samples grows; one that cannot makes do with its own. `counts` (FS,) uint32, `bounds`
    (3, FS) and `sums` (6, FS) are work space, the last two float32 or float64: the precision of the sums.
    """
    done = 0
    while done < boxes.size:
        columns = grid.columns[boxes[done]["panel"]]
        _add_box_row(image, boxes[done:done + columns], old, old_grid, cutoff, low, first_pass, bounds, counts, sums)
        for k in range(done, done + columns):
            box = boxes[k]
            need = (box["f1"] - box["f0"] + 1) * (box["s1"] - box["s0"] + 1) * 2 // 3 // (STEP * STEP)
            total, shift = _total(sums, box["f0"], box["f1"]), np.float64(bounds[2, box["f0"]])
            if total[0] < need:
                found, grown = _grown(image, shape, box, old, old_grid, boxes, grid, k, cutoff, low, first_pass)
                if found:
                    total, shift = grown, 0.0
            _solve(total, box, shift)
        done += columns
