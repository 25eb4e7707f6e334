"""Local background from few pixels: clipped moments of boxes, pooled over their neighbours.

The boxes of a panel form a grid (ny, nx); the grids of all panels lie end to end. `first[p]` is a panel's first box.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

ZERO, ONE = np.float32(0), np.float32(1)
RUN = 4              # pixels that are sampled together


@njit(cache=True, fastmath=FASTMATH)
def gather(image, start, out):
    """Runs of pixels of the flat `image` from each of `start` (n,) on into `out` (n, RUN); negative: all NaN.

    Neighbours share a cache line: a run costs little more than a pixel.
    """
    for i in range(start.size):
        for k in range(RUN):
            out[i, k] = image[start[i] + k] if start[i] >= 0 else np.float32(np.nan)


@njit(cache=True, fastmath=FASTMATH)
def _moments(values, centre, low, high):
    """Count, sum and sum of squares of (value - centre) of the values between two bounds; NaN stays outside."""
    n, s1, s2 = ZERO, ZERO, ZERO
    for i in range(values.size):
        inside = (values[i] >= low) & (values[i] <= high)
        v = values[i] - centre if inside else ZERO
        n += ONE if inside else ZERO
        s1 += v
        s2 += v * v
    return n, s1, s2


@njit(cache=True, fastmath=FASTMATH)
def clipped_moments(values, centre, n_sigma, quantum, n_rounds, out):
    """Mean and variance of each box's sample, clipped at `n_sigma` standard deviations plus `quantum`.

    The quantum keeps the single photons of a nearly empty background: without it the first photon is an outlier.

    Parameters
    ----------
    values : (B, m) float32
        Sampled pixels of each box; NaN where bad.
    centre : float32
        Subtracted before squaring, so that a pedestal costs no precision.
    out : (B, 3) float32
        Pixels kept, their mean, and their variance (over n - 1). Fewer than two pixels: all zero.
    """
    for b in range(values.shape[0]):
        low, high = np.float32(-3e38), np.float32(3e38)
        n, mean, variance = ZERO, ZERO, ZERO
        for k in range(n_rounds):
            before = n
            n, s1, s2 = _moments(values[b], centre, low, high)
            if n < 2:
                n, mean, variance = ZERO, ZERO, ZERO
                break
            if n == before:
                break
            mean = s1 / n
            variance = max((s2 - s1 * mean) / (n - ONE), ZERO)
            reach = n_sigma * np.sqrt(variance) + quantum
            low, high = centre + mean - reach, centre + mean + reach
        out[b, 0], out[b, 1], out[b, 2] = n, mean + centre if n > 0 else ZERO, variance


@njit(cache=True, fastmath=FASTMATH)
def pool(boxes, first, grid, out):
    """Pool each box with its neighbours on the same panel: (B, 3) count, mean, variance within boxes.

    `grid` (P, 2) holds ny, nx. A box whose neighbourhood knows nothing gets count 0.
    """
    for p in range(first.size):
        ny, nx = grid[p, 0], grid[p, 1]
        for y in range(ny):
            for x in range(nx):
                n, s1, s2, free = ZERO, ZERO, ZERO, ZERO
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    for i in range(max(x - 1, 0), min(x + 2, nx)):
                        b = first[p] + j * nx + i
                        if boxes[b, 0] > 0:
                            n += boxes[b, 0]
                            s1 += boxes[b, 0] * boxes[b, 1]
                            free += boxes[b, 0] - ONE
                            s2 += boxes[b, 2] * (boxes[b, 0] - ONE)
                b = first[p] + y * nx + x
                out[b, 0] = n
                out[b, 1] = s1 / n if n > 0 else ZERO
                out[b, 2] = s2 / free if n > 0 else ZERO


@njit(cache=True, fastmath=FASTMATH)
def profile(values, boxes, n_sigma, quantum, bins, out):
    """Sum and count, for each ring, of the samples' distance from their box's mean in standard deviations.

    Parameters
    ----------
    values : (B, m) float32
    boxes : (B, 3) float32
        Count, mean and variance of each box; samples beyond `n_sigma` deviations plus `quantum` count as that far off:
        a bright ring must be seen, and a spot not mistaken for one.
    bins : (B, m / RUN) int32
        Ring of each run of samples.
    out : (n, 2) float32
    """
    out[:] = ZERO
    for b in range(values.shape[0]):
        deviation = np.sqrt(boxes[b, 2])
        if boxes[b, 0] == 0 or deviation == 0:
            continue
        reach, scale = n_sigma * deviation + quantum, ONE / deviation
        for i in range(bins.shape[1]):
            total, count = ZERO, ZERO
            for k in range(RUN):
                v = values[b, RUN * i + k] - boxes[b, 1]
                if v == v:
                    total += min(max(v, -reach), reach)
                    count += ONE
            out[bins[b, i], 0] += total * scale
            out[bins[b, i], 1] += count


@njit(cache=True, fastmath=FASTMATH)
def tally(image, shape, first, grid, mean, bar, seen, above, out):
    """Count, pixel by pixel, how often it was good, above its box's mean, and far above: into uint16 maps.

    Parameters
    ----------
    image : (P, SS, FS) float32
    mean, bar : (B,) float32
        Background of each box, and what a pixel must exceed to count as far above.
    seen, above, out : (P, SS, FS) uint16
        Are increased by one where it was so.
    """
    for p in range(first.size):
        height, width, ny, nx = shape[p, 0], shape[p, 1], grid[p, 0], grid[p, 1]
        for s in range(height):
            row = first[p] + (s * ny // height) * nx
            for i in range(nx):
                level, limit = mean[row + i], bar[row + i]
                for f in range(-(-i * width // nx), -(-(i + 1) * width // nx)):
                    v = image[p, s, f]
                    if v == v:
                        seen[p, s, f] += 1
                        above[p, s, f] += v > level
                        out[p, s, f] += v > limit


@njit(cache=True, fastmath=FASTMATH)
def third(boxes, low, high):
    """Average mean and variance of the boxes (B, 3) with low <= mean <= high, without those that hold spots.

    Boxes hold spots whose variance stands out by three standard deviations, twice over.
    """
    limit, mean, variance = np.inf, 0.0, 0.0
    for _ in range(3):
        n, s1, v1, v2 = 0.0, 0.0, 0.0, 0.0
        for b in range(boxes.shape[0]):
            v = np.float64(boxes[b, 2])
            if boxes[b, 0] > 1 and low <= boxes[b, 1] <= high and v <= limit:
                n += 1
                s1 += boxes[b, 1]
                v1 += v
                v2 += v * v
        if n == 0:
            break
        mean, variance = s1 / n, v1 / n
        limit = variance + 3 * np.sqrt(max(v2 / n - variance * variance, 0.0))
    return mean, variance
