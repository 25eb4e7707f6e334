"""Local background from few pixels: clipped moments of boxes, pooled over their neighbours.

The boxes of a panel form a grid (ny, nx); the grids of all panels lie end to end. `first[p]` is a panel's first box.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

ZERO, ONE = np.float32(0), np.float32(1)
RUN = 4              # pixels that are sampled together


class Samples(NamedTuple):
    """Which pixels of an image are sampled: runs of `RUN`, which share a cache line and cost little more than a pixel.

    They come row by row, so that they can be taken while the rows are in the processor's cache.
    """

    first: np.ndarray     # (P * SS + 1,) int64: the first run of each row of the image, and their number
    column: np.ndarray    # (n,) int32: where a run begins in its row
    to: np.ndarray        # (n,) int32: where it goes in `values`
    values: np.ndarray    # (places, RUN) float32; those that no run goes to are NaN


NO_SAMPLES = Samples(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, RUN), np.float32))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def sample_row(flat, row, begin, samples):
    """Take the samples of a row of an image, whose pixels begin at flat[begin]."""
    # Indices are unsigned: a signed one might be negative, and testing for that takes time.
    for i in range(np.uint64(samples.first[row]), np.uint64(samples.first[row + 1])):
        at, to = begin + np.uint64(samples.column[i]), np.uint64(samples.to[i])
        for k in range(np.uint64(RUN)):
            samples.values[to, k] = flat[at + k]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def sample(image, samples):
    """Take all samples of an image (P, SS, FS) float32."""
    flat, n_fs = image.reshape(-1), np.uint64(image.shape[2])
    for row in range(np.uint64(samples.first.size - 1)):
        sample_row(flat, row, row * n_fs, samples)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
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


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def clipped_moments(values, centre, n_sigma, quantum, n_rounds, out):
    """Mean and variance of each box's sample, clipped at `n_sigma` standard deviations plus `quantum`.

    The quantum keeps the single photons of a nearly empty background: without it the first photon is an outlier.

    Parameters
    ----------
    values : (B, m) float32
        Sampled pixels of each box; NaN where bad.
    centre : float32
        Subtracted before squaring, so that a pedestal costs no precision.
    out : (3, B) float32
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
        out[0, b], out[1, b], out[2, b] = n, mean + centre if n > 0 else ZERO, variance


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def pool(boxes, first, grid, least, out):
    """Pool each box with its neighbours on the same panel: (3, B) count, mean, variance within boxes.

    `grid` (P, 2) holds ny, nx. Even an empty neighbourhood may hold what one more photon in its sample would be: no
    variance is below `least` over the count. A box whose neighbourhood knows nothing gets count 0.
    """
    for p in range(first.size):
        ny, nx = grid[p, 0], grid[p, 1]
        for y in range(ny):
            for x in range(nx):
                n, s1, s2, known = ZERO, ZERO, ZERO, ZERO
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    for i in range(max(x - 1, 0), min(x + 2, nx)):
                        b = np.uint64(first[p] + j * nx + i)
                        count = boxes[0, b]
                        some = ONE if count > ZERO else ZERO
                        n += count
                        known += some
                        s1 += count * boxes[1, b]
                        s2 += boxes[2, b] * (count - some)
                b = np.uint64(first[p] + y * nx + x)
                out[0, b] = n
                out[1, b] = s1 / n if n > ZERO else ZERO
                out[2, b] = max(s2 / max(n - known, ONE), least / max(n, ONE))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _run_sums(values, b, mean, reach, runs):
    """Sum and count over each run of box b of the distance from the mean, at most `reach`, into runs (2, m / RUN)."""
    for i in range(np.uint64(runs.shape[1])):
        total, count = ZERO, ZERO
        for k in range(np.uint64(RUN)):
            v = values[b, np.uint64(RUN) * i + k] - mean
            good = v == v
            v = min(max(v, -reach), reach)
            total += v if good else ZERO
            count += ONE if good else ZERO
        runs[0, i], runs[1, i] = total, count


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def profile(values, boxes, n_sigma, quantum, bins, runs, out):
    """Sum and count, for each ring, of the samples' distance from their box's mean in standard deviations.

    Parameters
    ----------
    values : (B, m) float32
    boxes : (3, B) float32
        Count, mean and variance of each box; samples beyond `n_sigma` deviations plus `quantum` count as that far off:
        a bright ring must be seen, and a spot not mistaken for one.
    bins : (B, m / RUN) int32
        Ring of each run of samples.
    runs : (2, m / RUN) float32, work space
    out : (n, 2) float32
    """
    out[:] = ZERO
    for b in range(values.shape[0]):
        deviation = np.sqrt(boxes[2, b])
        if boxes[0, b] == 0 or deviation == 0:
            continue
        _run_sums(values, np.uint64(b), boxes[1, b], n_sigma * deviation + quantum, runs)
        scale = ONE / deviation
        for i in range(bins.shape[1]):
            out[bins[b, i], 0] += runs[0, i] * scale
            out[bins[b, i], 1] += runs[1, i]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
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


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def third(boxes, low, high):
    """Average mean and variance of the boxes (3, B) with low <= mean <= high, without those that hold spots.

    Boxes hold spots whose variance stands out by three standard deviations, twice over.
    """
    limit, mean, variance = np.float32(np.inf), 0.0, 0.0
    for _ in range(3):
        n, s1, v1, v2 = 0.0, 0.0, 0.0, 0.0
        for b in range(np.uint64(boxes.shape[1])):
            m, v = boxes[1, b], boxes[2, b]
            good = (boxes[0, b] > ONE) & (m >= low) & (m <= high) & (v <= limit)
            n += 1.0 if good else 0.0
            m, v = np.float64(m if good else ZERO), np.float64(v if good else ZERO)
            s1 += m
            v1 += v
            v2 += v * v
        if n == 0:
            break
        mean, variance = s1 / n, v1 / n
        limit = np.float32(variance + 3 * np.sqrt(max(v2 / n - variance * variance, 0.0)))
    return mean, variance
