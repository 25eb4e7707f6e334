"""Real-space vectors for which the spots' q.v are whole numbers: lattice vectors of a crystal whose cell is unknown.

All vectors within a ball are scored on a grid. Spots on an Ewald sphere that is nearly flat at low resolution need few
steps along the beam, which makes the grid a hundred times smaller than a cubic one of the same fineness.
"""
import numpy as np

from mpixfel.kernels.lattice import COSINES, refine_axis, score
from mpixfel.kernels.match import log_product
from mpixfel.kernels.vectors import determinant, inlined, invert, kernel, with_arrays

f32 = np.float32


@with_arrays
def scan_ball(radius, least, step, step_z, q, spread, out):
    """Score, less what is expected, over its spread, of vectors on a grid in half a ball.

    radius, least: largest and smallest length, angstrom; step across, step_z along the beam; q (3, M) float32, zeros
    as padding, M a multiple of 8; spread (2, B): work; out (Z, N, N) float32 with N = 2 n + 1, x fastest, n = floor(radius /
    step), Z = floor(radius / step_z) + 1: vectors ((i - n) step, (j - n) step, k step_z). -1e9 where it is not to be looked
    at.
    """
    side, across = out.shape[2], np.sqrt(q[0] * q[0] + q[1] * q[1])
    middle = side // 2
    xs = ((np.arange(side) - middle) * step).astype(f32)
    out[:] = f32(-1e9)
    for k in range(out.shape[0]):
        z = f32(k * step_z)
        _expected(z, radius, q, across, spread)
        for j in range(middle if k == 0 else 0, side):
            y = f32((j - middle) * step)
            beyond = radius * radius - z * z - y * y
            if beyond < 0.0:
                continue
            reach = min(int(np.sqrt(beyond) / step), middle)
            first = middle - (0 if k == 0 and j == middle else reach)     # a vector and its opposite are one
            x, row = xs[first:middle + reach + 1], out[k, j, first:middle + reach + 1]
            row[:] = f32(0.0)
            for m in range(0, q.shape[1], 8):
                _add_row_scores(x, y, z, q, m, row)
            _weigh(x, y, z, f32(least), f32(spread.shape[1] / radius), spread, row)


@inlined
def _in_row(q, y, z, m):
    return q[0, m], y * q[1, m] + z * q[2, m]


@kernel
def _add_row_scores(x, y, z, q, m, out):
    """Add the scores of eight spots to a row of vectors: along the row no sum over lanes is left, and few loads."""
    a0, b0 = _in_row(q, y, z, m)
    a1, b1 = _in_row(q, y, z, m + 1)
    a2, b2 = _in_row(q, y, z, m + 2)
    a3, b3 = _in_row(q, y, z, m + 3)
    a4, b4 = _in_row(q, y, z, m + 4)
    a5, b5 = _in_row(q, y, z, m + 5)
    a6, b6 = _in_row(q, y, z, m + 6)
    a7, b7 = _in_row(q, y, z, m + 7)
    for i in range(np.uint64(out.size)):
        u = x[i]
        out[i] += (((score(u * a0 + b0) + score(u * a1 + b1)) + (score(u * a2 + b2) + score(u * a3 + b3)))
                   + ((score(u * a4 + b4) + score(u * a5 + b5)) + (score(u * a6 + b6) + score(u * a7 + b7))))


@kernel
def _weigh(x, y, z, least, scale, spread, out):
    """Take from the scores of a row of vectors what is expected, in units of its spread; none shorter than `least`."""
    for i in range(out.size):
        r2 = x[i] * x[i] + y * y
        b = min(int(np.sqrt(r2) * scale), spread.shape[1] - 1)
        out[i] = (out[i] - spread[0, b]) * spread[1, b] if r2 + z * z >= least * least else f32(-1e9)


@kernel
def _expected(z, radius, q, across, spread):
    """Mean score over azimuths, and inverse of its standard deviation, by distance from the beam: spread (2, B)."""
    count, bins = q.shape[1], spread.shape[1]
    for b in range(bins):
        reach, first, second = f32(radius * (b + 0.5) / bins), f32(0.0), f32(0.0)
        for k in range(0, COSINES.size, 2):
            swing = reach * f32(COSINES[k])
            for m in range(count):
                p = z * q[2, m] + swing * across[m]
                t = f32(1.0) - f32(2.0) * abs(p - np.rint(p))
                t = t * t
                t = t * t
                first += t
                second += t * t
        mean = first / (COSINES.size // 2)
        spread[0, b] = mean
        spread[1, b] = 1.0 / np.sqrt(0.5 + second / (COSINES.size // 2) - mean * mean / count)


@kernel
def refine_vectors(vectors, q, reaches, limit, out):
    """Least squares of each vector against ever more spots.

    vectors (K, 3) angstrom; q (3, M) float32 by ascending |q|, zeros as padding at the end; reaches (R,) how many of
    them, multiples of 8; limit cycles; out (K, 3) refined, 0 where nothing is left.
    """
    for k in range(vectors.shape[0]):
        x, y, z = f32(vectors[k, 0]), f32(vectors[k, 1]), f32(vectors[k, 2])
        for reach in reaches:
            nx, ny, nz, n = refine_axis(x, y, z, q, reach, limit)
            if n < 4.0:
                continue
            x, y, z = nx, ny, nz
        out[k, 0], out[k, 1], out[k, 2] = x, y, z


@kernel
def vector_odds(vectors, spots, out):
    """Log odds that spots' q.v are whole numbers, against chance; spots: see `kernels.match`; out (K,)."""
    n = np.sum(spots[19])
    for k in range(vectors.shape[0]):
        x, y, z = vectors[k, 0], vectors[k, 1], vectors[k, 2]
        total, product, lanes = 0.0, 1.0, 0
        for i in range(spots.shape[1]):
            p = x * spots[0, i] + y * spots[1, i] + z * spots[2, i]
            f = p - np.rint(p)
            a = x * spots[3, i] + y * spots[4, i] + z * spots[5, i]
            b = x * spots[6, i] + y * spots[7, i] + z * spots[8, i]
            v3 = spots[11, i]
            variance = v3 * (x * x + y * y + z * z) + (spots[9, i] - v3) * a * a + (spots[10, i] - v3) * b * b + 1e-4
            # Student density with 3 degrees of freedom.
            t = 1.0 / (1.0 + f * f / (3.0 * variance))
            density = 0.3675525969478612 / np.sqrt(variance) * t * t
            product *= 1.0 + spots[19, i] * 0.7 * (density - 1.0)
            lanes += 1
            if lanes == 64:
                total += np.log(product)
                product, lanes = 1.0, 0
        out[k] = total + np.log(product)
        if x * x + y * y + z * z < 1.0 or n == 0.0:
            out[k] = -np.inf


@with_arrays
def triple_odds(vectors, spots, least_volume, share, wide_q, triples, scores, work):
    """Log odds of the lattice of each triple of vectors; returns how many triples have at least `least_volume`.

    vectors (K, 3) angstrom; triples (T, 3) filled with indices, scores (T,) with odds; work (2, 3, 3).
    """
    n = 0
    shift = np.zeros(2)
    for a in range(vectors.shape[0]):
        for b in range(a):
            for c in range(b):
                if n == scores.size:
                    return n
                axes, matrix = work[0], work[1]
                axes[0], axes[1], axes[2] = vectors[a], vectors[b], vectors[c]
                volume = abs(determinant(axes))
                size = np.sqrt(np.sum(axes[0] ** 2) * np.sum(axes[1] ** 2) * np.sum(axes[2] ** 2))
                if volume < least_volume or volume < 0.08 * size:
                    continue
                invert(axes, matrix)
                triples[n, 0], triples[n, 1], triples[n, 2] = a, b, c
                scores[n] = log_product(spots, matrix, axes, shift, share, 0.0, wide_q)
                n += 1
    return n
