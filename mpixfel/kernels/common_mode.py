"""The common mode of a detector section: what all its pixels drift by together in one shot."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

LEAST = 24          # a dark peak holds at least so many of the sampled pixels


@njit(cache=True, fastmath=FASTMATH)
def collect(raw, mask, rows, columns, pedestal, out):
    """Pedestal-subtracted values of sampled pixels: raw[rows[i], columns[i]] & mask - pedestal[i] into out (n,).

    `mask` is applied to integer words (a JUNGFRAU word holds its gain stage in the highest bits); a pixel whose word
    has bits beyond the mask is NaN. A negative row gives NaN, too.
    """
    for i in range(rows.size):
        if rows[i] < 0:
            out[i] = np.float32(np.nan)
            continue
        word = raw[rows[i], columns[i]]
        if mask != 0 and np.int64(word) > mask:
            out[i] = np.float32(np.nan)
        else:
            out[i] = np.float32(word) - pedestal[i]


@njit(cache=True, fastmath=FASTMATH)
def dark_peak(values, sigma, reach):
    """Where the pixels without photons lie: the lowest dense cluster of `values` within +-reach of 0; 0 if none.

    Light only adds, so of several clusters (0, 1, 2 photons, a bright ring) the lowest one is dark. A cluster counts
    if it holds half as many pixels as the densest one, and `LEAST` at least. Isolated low values are no cluster.

    Parameters
    ----------
    values : (n,) float32, ascending, NaN last
    sigma : float
        Read-out noise of a pixel, in the units of `values`.
    """
    n = 0
    while n < values.size and values[n] == values[n]:
        n += 1
    densest = 0
    for again in range(2):
        last, best, at = 0, 0, 0.0
        for i in range(n):
            if values[i] < -reach - sigma:
                continue
            if values[i] > reach - sigma:
                break
            while last < n and values[last] <= values[i] + 2 * sigma:
                last += 1
            count = last - i
            if again == 0:
                densest = max(densest, count)
            elif best > 0 and values[i] > at + sigma:
                break
            elif 2 * count >= densest and count > best:
                best, at = count, values[i] + sigma
        if densest < LEAST:
            return 0.0
    for _ in range(4):
        total, count = 0.0, 0
        for i in range(n):
            if abs(values[i] - at) <= 1.5 * sigma:
                total += values[i]
                count += 1
        at = total / max(count, 1)
    return at


@njit(cache=True, fastmath=FASTMATH)
def dark_peaks(values, sigma, reach, out):
    """`dark_peak` of each row of `values` (m, n), sorted in place; sigma, reach, out (m,)."""
    for k in range(values.shape[0]):
        values[k].sort()
        out[k] = dark_peak(values[k], sigma[k], reach[k])
