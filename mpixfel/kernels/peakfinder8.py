"""Kernels of peakfinder8 (Barty et al., J. Appl. Cryst. 47 (2014) 1118): statistics, flood fill, background.

Written from the description of its behaviour. All panels share the radial bins; peaks are searched panel by panel.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

ROUNDS = 5
BLOCK = 64                       # pixels screened together
NEVER = np.float32(3.4028235e38)
ZERO, ONE = np.float32(0), np.float32(1)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _clipped(values, low, high):
    """Count, sum and sum of squares of the values between two bounds (exclusive); NaN stays outside."""
    n, s1, s2 = ZERO, ZERO, ZERO
    for i in range(values.size):
        inside = (values[i] > low) & (values[i] < high)
        v = values[i] if inside else ZERO
        n += np.float32(1) if inside else ZERO
        s1 += v
        s2 += v * v
    return n, s1, s2


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def radial_statistics(values, start, min_snr, floor, mean, sigma, upper):
    """Clipped mean, sigma and threshold of each radial bin.

    Parameters
    ----------
    values : (n,) float32
        Pixels sorted by bin, NaN where bad; bin b has values[start[b]:start[b + 1]].
    floor : float32
        The threshold is at least this.
    mean, sigma, upper : (B,) float32
        Out; an empty bin gets a threshold that nothing exceeds.
    """
    for b in range(mean.size):
        part = values[start[b]:start[b + 1]]
        low, high = np.float32(-1e9), np.float32(1e9)
        mean[b], sigma[b], upper[b] = ZERO, ZERO, NEVER
        for k in range(ROUNDS):
            n, s1, s2 = _clipped(part, low, high)
            if n == 0:
                mean[b], sigma[b], upper[b] = ZERO, ZERO, NEVER
                break
            mean[b] = s1 / n
            sigma[b] = np.sqrt(max(s2 / n - mean[b] * mean[b], ZERO))
            before = high
            high = max(mean[b] + min_snr * sigma[b], floor)
            low = mean[b] - min_snr * sigma[b]
            upper[b] = high
            if high == before:
                break


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def block_limits(first_bin, last_bin, level, upper, least, out):
    """The least threshold of each block of pixels, whose bins lie between two bounds (inclusive).

    least[k, b] becomes the least of upper[b:b + 2**k], so that two looks tell that of any range: `level` (n,) is the
    largest k with 2**k bins in the range of the block, or -1 for a block without bins.
    """
    n = upper.size
    for b in range(n):
        least[0, b] = upper[b]
    for k in range(1, least.shape[0]):
        half = 1 << (k - 1)
        for b in range(n):
            least[k, b] = min(least[k - 1, b], least[k - 1, min(b + half, n - 1)])
    for i in range(out.size):
        k = level[i]
        out[i] = min(least[k, first_bin[i]], least[k, last_bin[i] + 1 - (1 << k)]) if k >= 0 else NEVER


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def candidates(image, limits, bins, upper, out):
    """Flat indices, ascending, of the pixels above the threshold of their bin; returns their number.

    `image` (n,) and `bins` (n,) uint16 are whole blocks long; a bin without threshold stands for masked pixels.
    """
    n = 0
    for i in range(limits.size):
        # Unsigned: a signed index might be negative, and testing for that costs the vector code.
        at, limit, hits = np.uint64(i * BLOCK), limits[i], ZERO
        for k in range(np.uint64(BLOCK)):
            hits += ONE if image[at + k] > limit else ZERO
        if hits > ZERO:
            for k in range(np.uint64(BLOCK)):
                if image[at + k] > limit and image[at + k] > upper[bins[at + k]]:
                    if n < out.size:
                        out[n] = np.int64(at + k)
                    n += 1
    return n


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _fill(image, bins, upper, state, shape, p, s, f, pixels):
    """Flood fill, 8-connected, over pixels above their threshold; returns their number (may exceed the room)."""
    n_fs = image.shape[2]
    n, done = 1, 0
    pixels[0] = s * n_fs + f
    state[p, s, f] = 1
    while done < min(n, pixels.size):
        s0, f0 = pixels[done] // n_fs, pixels[done] % n_fs
        done += 1
        for j in range(max(s0 - 1, 0), min(s0 + 2, shape[p, 0])):
            for i in range(max(f0 - 1, 0), min(f0 + 2, shape[p, 1])):
                if state[p, j, i] == 0 and image[p, j, i] > upper[bins[p, j, i]]:
                    state[p, j, i] = 1
                    if n < pixels.size:
                        pixels[n] = j * n_fs + i
                    n += 1
    return n


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _local_background(image, bins, upper, state, shape, p, s, f, reach):
    """Number, mean, sigma and largest of the pixels within `reach` of (s, f): below threshold, in no peak, not bad.

    The square runs from -reach to reach - 1, as it always did. A bin whose pixels were all clipped away has no
    threshold, but its pixels count here; those of the last bin are masked.
    """
    n, s1, s2, largest, masked = 0, 0.0, 0.0, -np.inf, upper.size - 1
    for j in range(max(s - reach, 0), min(s + reach, shape[p, 0])):
        for i in range(max(f - reach, 0), min(f + reach, shape[p, 1])):
            if (j - s) ** 2 + (i - f) ** 2 > reach * reach or state[p, j, i] != 0:
                continue
            v = np.float64(image[p, j, i])
            if v < upper[bins[p, j, i]] and bins[p, j, i] < masked:
                n += 1
                s1 += v
                s2 += v * v
                largest = max(largest, v)
    mean = s1 / max(n, 1)
    return n, mean, np.sqrt(max(s2 / max(n, 1) - mean * mean, 0.0)), largest


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _centre(image, pixels, n, n_fs, p, offset, absolute):
    """Weighted centre (ss, fs) of a peak's pixels; weights are value - offset, or their absolute values."""
    total, ss, fs = 0.0, 0.0, 0.0
    for k in range(n):
        s, f = pixels[k] // n_fs, pixels[k] % n_fs
        w = image[p, s, f] - offset[k]
        w = abs(w) if absolute else w
        total += w
        ss += w * s
        fs += w * f
    return (ss / total, fs / total) if total != 0 else (np.nan, np.nan)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def find(image, bins, mean, upper, shape, seeds, min_pixels, max_pixels, min_snr, reach, state, pixels, offset, out):
    """Peaks from `seeds` (n,) flat indices, ascending; pixels on a panel's outermost rows and columns start none.

    Parameters
    ----------
    image : (P, SS, FS) float32; bins : (P, SS, FS) uint16
    mean, upper : (B,) float32
    reach : int
        Radius of the local background, pixels.
    state : (P, SS, FS) uint8
        Zero before and after.
    pixels, offset : (room,) work space; peaks with more pixels than the room are none
    out : (room, 9) float64
        panel, ss, fs (pixel centres at whole numbers), sum, local background, its sigma, pixels, largest above
        background, number of background pixels.

    Returns
    -------
    int
        Number of peaks; may exceed the room.
    """
    n_ss, n_fs, found = image.shape[1], image.shape[2], 0
    for k in range(seeds.size):
        p, rest = seeds[k] // (n_ss * n_fs), seeds[k] % (n_ss * n_fs)
        s, f = rest // n_fs, rest % n_fs
        if state[p, s, f] or s < 1 or f < 1 or s >= shape[p, 0] - 1 or f >= shape[p, 1] - 1:
            continue
        n = _fill(image, bins, upper, state, shape, p, s, f, pixels)
        if n < min_pixels or n > min(max_pixels, pixels.size):
            continue
        for i in range(n):
            offset[i] = mean[bins[p, pixels[i] // n_fs, pixels[i] % n_fs]]
        ss, fs = _centre(image, pixels, n, n_fs, p, offset, True)
        if not (ss == ss):
            continue
        row = int(min(max(np.rint(ss), 0), shape[p, 0] - 1))
        column = int(min(max(np.rint(fs), 0), shape[p, 1] - 1))
        m, level, sigma, brightest = _local_background(image, bins, upper, state, shape, p, row, column, reach)
        if m == 0:
            level, sigma, brightest = mean[bins[p, row, column]], 0.01, -np.inf
        total, largest = 0.0, -np.inf
        for i in range(n):
            v = image[p, pixels[i] // n_fs, pixels[i] % n_fs] - level
            total += v
            largest = max(largest, v)
            offset[i] = 0
        if total < min_snr * sigma or largest < brightest - level:
            continue
        ss, fs = _centre(image, pixels, n, n_fs, p, offset, False)
        if found < out.shape[0]:
            row_out = out[found]
            row_out[0], row_out[1], row_out[2], row_out[3] = p, ss, fs, total
            row_out[4], row_out[5], row_out[6], row_out[7], row_out[8] = level, sigma, n, largest, m
        found += 1
    _clear(seeds, bins, shape, state)
    return found


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _clear(seeds, bins, shape, state):
    """Every pixel that was marked is a seed: all pixels above threshold are."""
    flat = state.reshape(-1)
    for k in range(seeds.size):
        flat[seeds[k]] = 0
