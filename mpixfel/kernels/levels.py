"""The background under spots: planes through the pixels between them.

The image is cut into blocks; the moments of a block's free pixels are taken once, when a spot first asks, and each spot
adds up those of the four blocks around it. So a background rests on some thousand pixels at the cost of a few.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 16          # edge of a block, pixels
FEW = 60            # free pixels in four blocks below which the ring around them is asked, too
N_MOMENTS = 10      # of v, x, y about the block's centre: 1, x, y, xx, xy, yy, v, vx, vy, vv
CLIP_SIGMA = 3.8    # counts so far above the mean are no background: a Poisson count passes once in about 10^4
CLIP_EXTRA = 2.0
NEARLY = 0.75
UNBOUND = np.float32(3e38)
NO_NAN = {"reassoc", "contract", "arcp", "nsz"}   # NaN marks bad pixels: fastmath without nnan


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


@njit(cache=True, error_model="numpy")
def take(image, p, row, column, bounds, owners, readout_variance, bound, moments):
    """Fill the moments of one block from its pixels that no spot claims.

    Pixels above what the mean allows are left out. What it allows is mostly what it allowed in the block before; where
    it is not (a peak that nobody predicted, an edge of the background) the sums are taken again, from no bound at all.
    """
    first_y, first_x = corner(row, bounds[p, 0]), corner(column, bounds[p, 1])
    limit = bound[0]
    for attempt in range(4):
        used = limit
        n, sv, svv, sx, svx, sy, svy, sxy = block_sums(image[p], owners[p], first_y, first_x, used)
        mean = sv / max(n, np.float32(1.0))
        limit = np.float32(mean + CLIP_SIGMA * np.sqrt(max(mean + readout_variance, 0.05)) + CLIP_EXTRA)
        if NEARLY * used <= limit and (limit * NEARLY <= used or used == UNBOUND) and (attempt > 0 or used < UNBOUND):
            break
        if attempt == 0 and used < UNBOUND:
            limit = UNBOUND
    bound[0] = limit
    moments[0], moments[1], moments[2], moments[3], moments[4] = n, sx, sy, n * BLOCK * BLOCK / 12.0, sxy
    # Free pixels lie nearly evenly over a block: their second moments are those of as many in even rows and columns.
    moments[5] = moments[3]
    moments[6], moments[7], moments[8], moments[9] = sv, svx, svy, svv


@njit(cache=True, fastmath=NO_NAN, error_model="numpy")
def block_sums(image, owners, first_y, first_x, bound):
    """Sums of 1, v, v^2, x, v x, y, v y, x y over a block's free pixels below `bound`.

    Four rows at a time, without branches or stores, in lengths that the compiler knows: so the columns go side by side
    through the processor, in a quarter of the time of a plain loop (0.25 us a block).
    """
    zero, one, two, three = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(3.0)
    half = np.float32(0.5 * BLOCK - 0.5)
    n, sv, svv, sx, svx, sy, svy, sxy = zero, zero, zero, zero, zero, zero, zero, zero
    for q in range(BLOCK // 4):
        y, dy = first_y + 4 * q, np.float32(4 * q) - half
        rn, rv, rvv, rx, rvx, ry, rvy, rxy = zero, zero, zero, zero, zero, zero, zero, zero
        for x in range(first_x, first_x + BLOCK):
            dx = np.float32(x - first_x) - half
            v0, v1, v2, v3 = image[y, x], image[y + 1, x], image[y + 2, x], image[y + 3, x]
            free0, free1 = (owners[y, x] == 0) & (v0 < bound), (owners[y + 1, x] == 0) & (v1 < bound)
            free2, free3 = (owners[y + 2, x] == 0) & (v2 < bound), (owners[y + 3, x] == 0) & (v3 < bound)
            v0, v1, v2, v3 = v0 if free0 else zero, v1 if free1 else zero, v2 if free2 else zero, v3 if free3 else zero
            n0, n1, n2, n3 = one if free0 else zero, one if free1 else zero, one if free2 else zero, one if free3 else zero
            ones, values = n0 + n1 + n2 + n3, v0 + v1 + v2 + v3
            ones_y, values_y = n1 + two * n2 + three * n3, v1 + two * v2 + three * v3
            rn += ones
            rv += values
            rvv += v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3
            rx += ones * dx
            rvx += values * dx
            ry += ones_y
            rvy += values_y
            rxy += ones_y * dx
        n += rn
        sv += rv
        svv += rvv
        sx += rx
        svx += rvx
        sy += ry + dy * rn
        svy += rvy + dy * rv
        sxy += rxy + dy * rx
    return n, sv, svv, sx, svx, sy, svy, sxy


@njit(cache=True, error_model="numpy")
def plane(image, p, x0, y0, stamp, bounds, owners, readout_variance, levels):
    """Background plane about the point (x0, y0), pixels from the panel's corner.

    Returns the value there, the slopes along fs and ss, and the variance of the value: inf without free pixels.
    """
    row, column = int(np.floor(y0 / BLOCK - 0.5)), int(np.floor(x0 / BLOCK - 0.5))
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = gather(image, p, row, row + 2, column, column + 2, x0, y0, stamp, bounds,
                                                         owners, readout_variance, levels)
    if n < FEW:
        n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = gather(image, p, row - 1, row + 3, column - 1, column + 3, x0, y0,
                                                             stamp, bounds, owners, readout_variance, levels)
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


@njit(cache=True, error_model="numpy")
def gather(image, p, first_row, last_row, first_column, last_column, x0, y0, stamp, bounds, owners, readout_variance,
           levels):
    """The moments of a range of blocks about the point (x0, y0); those that are not there yet are taken."""
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(max(first_row, 0), min(last_row, levels.stamps.shape[1])):
        for column in range(max(first_column, 0), min(last_column, levels.stamps.shape[2])):
            m = levels.moments[p, row, column]
            if levels.stamps[p, row, column] != stamp:
                take(image, p, row, column, bounds, owners, readout_variance, levels.bound, m)
                levels.stamps[p, row, column] = stamp
            dx = corner(column, bounds[p, 1]) + 0.5 * BLOCK - x0
            dy = corner(row, bounds[p, 0]) + 0.5 * BLOCK - y0
            n += m[0]
            sx += m[1] + dx * m[0]
            sy += m[2] + dy * m[0]
            sxx += m[3] + 2.0 * dx * m[1] + dx * dx * m[0]
            sxy += m[4] + dx * m[2] + dy * m[1] + dx * dy * m[0]
            syy += m[5] + 2.0 * dy * m[2] + dy * dy * m[0]
            sv += m[6]
            svx += m[7] + dx * m[6]
            svy += m[8] + dy * m[6]
            svv += m[9]
    return n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv
