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


class Levels(NamedTuple):
    """Moments of blocks; those whose stamp is not the current one have still to be taken."""

    moments: np.ndarray    # (P, rows, columns, N_MOMENTS)
    stamps: np.ndarray     # (P, rows, columns) int64


def levels(stack_shape):
    """`Levels` for images of a shape (P, SS, FS)."""
    blocks = (stack_shape[0], -(-stack_shape[1] // BLOCK), -(-stack_shape[2] // BLOCK))
    return Levels(np.zeros((*blocks, N_MOMENTS)), np.full(blocks, -1, np.int64))


@njit(cache=True)
def take(image, light, p, row, column, bounds, owners, readout_variance, moments):
    """Fill the moments of one block from its pixels that no spot claims, the spots' light taken off.

    A first mean may hold a peak that nobody predicted; the bound made from it is lowered once, by the mean below it.
    """
    first_y, last_y = row * BLOCK, min((row + 1) * BLOCK, bounds[p, 0])
    first_x, last_x = column * BLOCK, min((column + 1) * BLOCK, bounds[p, 1])
    bound = np.inf
    for _ in range(2):
        total, count = 0.0, 0
        for y in range(first_y, last_y):
            for x in range(first_x, last_x):
                v = image[p, y, x] - light[p, y, x]
                if owners[p, y, x] == 0 and v < bound:
                    total += v
                    count += 1
        mean = total / max(count, 1)
        bound = mean + CLIP_SIGMA * np.sqrt(max(mean, 0.05) + readout_variance) + CLIP_EXTRA
    moments[:] = 0.0
    for y in range(first_y, last_y):
        dy = y + 0.5 - (row + 0.5) * BLOCK
        n, sx, sxx, sv, svx, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for x in range(first_x, last_x):
            v = image[p, y, x] - light[p, y, x]
            if owners[p, y, x] == 0 and v < bound:
                dx = x + 0.5 - (column + 0.5) * BLOCK
                n += 1.0
                sx += dx
                sxx += dx * dx
                sv += v
                svx += v * dx
                svv += v * v
        moments[0] += n
        moments[1] += sx
        moments[2] += n * dy
        moments[3] += sxx
        moments[4] += sx * dy
        moments[5] += n * dy * dy
        moments[6] += sv
        moments[7] += svx
        moments[8] += sv * dy
        moments[9] += svv


@njit(cache=True)
def plane(image, light, p, x0, y0, stamp, bounds, owners, readout_variance, levels, total, result):
    """Background plane about the point (x0, y0), pixels from the panel's corner.

    Fills result: value there, slopes along fs and ss, variance of the value, number of pixels; the variance is inf where
    there are no free pixels. `total` (N_MOMENTS,) is scratch.
    """
    row, column = int(np.floor(y0 / BLOCK - 0.5)), int(np.floor(x0 / BLOCK - 0.5))
    for ring in range(2):
        gather(image, light, p, row - ring, row + 2 + ring, column - ring, column + 2 + ring, x0, y0, stamp, bounds,
               owners, readout_variance, levels, total)
        if total[0] >= FEW:
            break
    n = total[0]
    result[0], result[1], result[2], result[3], result[4] = 0.0, 0.0, 0.0, np.inf, n
    if n < 10:
        return
    mx, my, mean = total[1] / n, total[2] / n, total[6] / n
    cxx, cxy, cyy = total[3] / n - mx * mx, total[4] / n - mx * my, total[5] / n - my * my
    determinant = cxx * cyy - cxy * cxy
    variance = max(total[9] / n - mean * mean, mean, 1e-6)
    result[0], result[3] = mean, variance / n
    if n >= FEW // 2 and determinant > 1.0:
        gx, gy = total[7] / n - mean * mx, total[8] / n - mean * my
        slope_x, slope_y = (cyy * gx - cxy * gy) / determinant, (cxx * gy - cxy * gx) / determinant
        result[0], result[1], result[2] = mean - slope_x * mx - slope_y * my, slope_x, slope_y
        result[3] *= 1.0 + (cyy * mx * mx - 2.0 * cxy * mx * my + cxx * my * my) / determinant


@njit(cache=True)
def gather(image, light, p, first_row, last_row, first_column, last_column, x0, y0, stamp, bounds, owners,
           readout_variance, levels, total):
    """Add up the moments of a range of blocks about the point (x0, y0), taking those that are not there yet."""
    total[:] = 0.0
    for row in range(max(first_row, 0), min(last_row, levels.stamps.shape[1])):
        for column in range(max(first_column, 0), min(last_column, levels.stamps.shape[2])):
            m = levels.moments[p, row, column]
            if levels.stamps[p, row, column] != stamp:
                take(image, light, p, row, column, bounds, owners, readout_variance, m)
                levels.stamps[p, row, column] = stamp
            dx, dy = (column + 0.5) * BLOCK - x0, (row + 0.5) * BLOCK - y0
            total[0] += m[0]
            total[1] += m[1] + dx * m[0]
            total[2] += m[2] + dy * m[0]
            total[3] += m[3] + 2.0 * dx * m[1] + dx * dx * m[0]
            total[4] += m[4] + dx * m[2] + dy * m[1] + dx * dy * m[0]
            total[5] += m[5] + 2.0 * dy * m[2] + dy * dy * m[0]
            total[6] += m[6]
            total[7] += m[7] + dx * m[6]
            total[8] += m[8] + dy * m[6]
            total[9] += m[9]
