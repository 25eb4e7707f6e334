"""The background under spots: planes through the pixels between them.

The image is cut into blocks; the moments of a block's free pixels are taken once, when a spot first asks, and each spot
adds up those of the four blocks around it. So a background rests on some thousand pixels at the cost of a few.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.footprint import row_bits

BLOCK = 16          # edge of a block, pixels
FEW = 60            # free pixels in four blocks below which the ring around them is asked, too
N_MOMENTS = 10      # of v, x, y about the block's centre: 1, x, y, xx, xy, yy, v, vx, vy, vv
CLIP_SIGMA = 3.8    # counts so far above the mean are no background: a Poisson count passes once in about 10^4
CLIP_EXTRA = 2.0
NEARLY = 0.75
BITS = np.left_shift(1, np.arange(BLOCK)).astype(np.int32)   # that stand for the pixels of a block's row
UNBOUND = np.float32(3e38)


class Levels(NamedTuple):
    """Moments of blocks; those whose stamp is not the current one have still to be taken."""

    moments: np.ndarray    # (P, rows, columns, N_MOMENTS)
    stamps: np.ndarray     # (P, rows, columns) int64
    bound: np.ndarray      # (1,) float32: what the last block's mean allows its pixels, where the next one begins


def levels(stack_shape):
    """`Levels` for images of a shape (P, SS, FS), whose panels are at least BLOCK pixels wide and high."""
    blocks = (stack_shape[0], -(-stack_shape[1] // BLOCK), -(-stack_shape[2] // BLOCK))
    return Levels(np.zeros((*blocks, N_MOMENTS)), np.full(blocks, -1, np.int64), np.full(1, UNBOUND))


@njit(cache=True, error_model="numpy", inline="always")
def corner(block, size):
    """First pixel of a block along an axis of `size` pixels: the last block is moved back to be whole."""
    return max(min(block * BLOCK, size - BLOCK), 0)


@njit(cache=True, _nrt=False, error_model="numpy", forceinline=True)
def take(image, p, row, column, bounds, claimed, readout_variance, bound, moments):
    """Fill the moments of one block from its pixels that no spot claims.

    Pixels above what the mean allows are left out. What it allows is mostly what it allowed in the block before; where
    it is not (a peak that nobody predicted, an edge of the background) the sums are taken again, from no bound at all.
    """
    first_y, first_x = corner(row, bounds[p, 0]), corner(column, bounds[p, 1])
    used, attempt = bound[0], 0
    while True:
        n, sv, svv, sx, svx, sy, svy, sxy = block_sums(image, p, claimed, first_y, first_x, used)
        limit = allowed(sv / max(n, np.float32(1.0)), readout_variance)
        close = NEARLY * used <= limit and (limit * NEARLY <= used or used == UNBOUND)
        if (close and (attempt > 0 or used < UNBOUND)) or attempt == 3:
            break
        used = UNBOUND if attempt == 0 and used < UNBOUND else limit
        attempt += 1
    bound[0] = limit
    # Free pixels lie nearly evenly over a block: their second moments are those of as many in even rows and columns.
    even = n * BLOCK * BLOCK / 12.0
    m = moments
    m[p, row, column, 0], m[p, row, column, 1], m[p, row, column, 2], m[p, row, column, 3] = n, sx, sy, even
    m[p, row, column, 4], m[p, row, column, 5], m[p, row, column, 6] = sxy, even, sv
    m[p, row, column, 7], m[p, row, column, 8], m[p, row, column, 9] = svx, svy, svv


@njit(cache=True, error_model="numpy", inline="always")
def allowed(mean, readout_variance):
    """The most that a pixel of the background may hold."""
    return np.float32(mean + CLIP_SIGMA * np.sqrt(max(mean + readout_variance, 0.05)) + CLIP_EXTRA)


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy", forceinline=True)
def block_sums(image, p, claimed, first_y, first_x, bound):
    """Sums of 1, v, v^2, x, v x, y, v y, x y over a block's free pixels below `bound`.

    All rows at a time, without branches or stores, in lengths that the compiler knows: so the columns go side by side
    through the processor, in a fifth of the time of a plain loop.
    """
    zero, four, eight, twelve = np.float32(0.0), np.float32(4.0), np.float32(8.0), np.float32(12.0)
    half = np.float32(0.5 * BLOCK - 0.5)
    n, sv, svv, sx, svx, sy, svy, sxy = zero, zero, zero, zero, zero, zero, zero, zero
    y1, y2, y3 = first_y + 4, first_y + 8, first_y + 12
    bits0, bits1 = four_bits(claimed, p, first_y, first_x), four_bits(claimed, p, y1, first_x)
    bits2, bits3 = four_bits(claimed, p, y2, first_x), four_bits(claimed, p, y3, first_x)
    # Unsigned, so that the compiler need not look whether they count from the end.
    left, y0, y1, y2, y3 = np.uint64(first_x), np.uint64(first_y), np.uint64(y1), np.uint64(y2), np.uint64(y3)
    for k in range(np.uint64(BLOCK)):
        x, bit, dx = left + k, BITS[k], np.float32(k) - half
        n0, v0, q0, ny0, vy0 = four_rows(image, p, y0, x, bits0, bit, bound)
        n1, v1, q1, ny1, vy1 = four_rows(image, p, y1, x, bits1, bit, bound)
        n2, v2, q2, ny2, vy2 = four_rows(image, p, y2, x, bits2, bit, bound)
        n3, v3, q3, ny3, vy3 = four_rows(image, p, y3, x, bits3, bit, bound)
        ones, values = n0 + n1 + n2 + n3, v0 + v1 + v2 + v3
        ones_y = ny0 + ny1 + ny2 + ny3 + four * n1 + eight * n2 + twelve * n3 - half * ones
        n += ones
        sv += values
        svv += q0 + q1 + q2 + q3
        sx += ones * dx
        svx += values * dx
        sy += ones_y
        svy += vy0 + vy1 + vy2 + vy3 + four * v1 + eight * v2 + twelve * v3 - half * values
        sxy += ones_y * dx
    return n, sv, svv, sx, svx, sy, svy, sxy


@njit(cache=True, error_model="numpy", inline="always")
def four_bits(claimed, p, y, x):
    """The claims on the `BLOCK` pixels from x on of four rows, see `footprint.row_bits`."""
    return (np.int32(row_bits(claimed, p, y, x)), np.int32(row_bits(claimed, p, y + 1, x)),
            np.int32(row_bits(claimed, p, y + 2, x)), np.int32(row_bits(claimed, p, y + 3, x)))


@njit(cache=True, fastmath=FASTMATH, error_model="numpy", inline="always")
def four_rows(image, p, y, x, bits, bit, bound):
    """Sums of 1, v, v^2, y, v y over the free pixels of four rows in one column, y from the first row on."""
    zero, one, two, three = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(3.0)
    v0, v1 = image[p, y, x], image[p, y + np.uint64(1), x]
    v2, v3 = image[p, y + np.uint64(2), x], image[p, y + np.uint64(3), x]
    free0, free1 = (bits[0] & bit == 0) & (v0 < bound), (bits[1] & bit == 0) & (v1 < bound)
    free2, free3 = (bits[2] & bit == 0) & (v2 < bound), (bits[3] & bit == 0) & (v3 < bound)
    v0, v1, v2, v3 = v0 if free0 else zero, v1 if free1 else zero, v2 if free2 else zero, v3 if free3 else zero
    n0, n1, n2, n3 = one if free0 else zero, one if free1 else zero, one if free2 else zero, one if free3 else zero
    return (n0 + n1 + n2 + n3, v0 + v1 + v2 + v3, v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3,
            n1 + two * n2 + three * n3, v1 + two * v2 + three * v3)


@njit(cache=True, _nrt=False, error_model="numpy")
def plane(image, p, x0, y0, stamp, bounds, claimed, readout_variance, levels):
    """Background plane about the point (x0, y0), pixels from the panel's corner.

    Returns the value there, the slopes along fs and ss, and the variance of the value: inf without free pixels.
    """
    row, column = int(np.floor(y0 / BLOCK - 0.5)), int(np.floor(x0 / BLOCK - 0.5))
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = gather(image, p, row, row + 2, column, column + 2, x0, y0, stamp, bounds,
                                                         claimed, readout_variance, levels)
    if n < FEW:
        n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = gather(image, p, row - 1, row + 3, column - 1, column + 3, x0, y0,
                                                             stamp, bounds, claimed, readout_variance, levels)
    if n < 10:
        return 0.0, 0.0, 0.0, np.inf
    mx, my, mean = sx / n, sy / n, sv / n
    cxx, cxy, cyy = sxx / n - mx * mx, sxy / n - mx * my, syy / n - my * my
    determinant = cxx * cyy - cxy * cxy
    variance = max(svv / n - mean * mean, mean + readout_variance, 1e-6) / n
    if n < FEW // 2 or determinant <= 1.0:
        return mean, 0.0, 0.0, variance
    gx, gy = svx / n - mean * mx, svy / n - mean * my
    slope_x, slope_y = (cyy * gx - cxy * gy) / determinant, (cxx * gy - cxy * gx) / determinant
    leverage = (cyy * mx * mx - 2.0 * cxy * mx * my + cxx * my * my) / determinant
    return mean - slope_x * mx - slope_y * my, slope_x, slope_y, variance * (1.0 + leverage)


@njit(cache=True, _nrt=False, error_model="numpy")
def gather(image, p, first_row, last_row, first_column, last_column, x0, y0, stamp, bounds, claimed, readout_variance,
           levels):
    """The moments of a range of blocks about the point (x0, y0); those that are not there yet are taken."""
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(max(first_row, 0), min(last_row, levels.stamps.shape[1])):
        for column in range(max(first_column, 0), min(last_column, levels.stamps.shape[2])):
            if levels.stamps[p, row, column] != stamp:
                take(image, p, row, column, bounds, claimed, readout_variance, levels.bound, levels.moments)
                levels.stamps[p, row, column] = stamp
            dx = corner(column, bounds[p, 1]) + 0.5 * BLOCK - x0
            dy = corner(row, bounds[p, 0]) + 0.5 * BLOCK - y0
            m, v = levels.moments[p, row, column, 0], levels.moments[p, row, column, 6]
            mx, my = levels.moments[p, row, column, 1], levels.moments[p, row, column, 2]
            n += m
            sx += mx + dx * m
            sy += my + dy * m
            sxx += levels.moments[p, row, column, 3] + 2.0 * dx * mx + dx * dx * m
            sxy += levels.moments[p, row, column, 4] + dx * my + dy * mx + dx * dy * m
            syy += levels.moments[p, row, column, 5] + 2.0 * dy * my + dy * dy * m
            sv += v
            svx += levels.moments[p, row, column, 7] + dx * v
            svy += levels.moments[p, row, column, 8] + dy * v
            svv += levels.moments[p, row, column, 9]
    return n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv
