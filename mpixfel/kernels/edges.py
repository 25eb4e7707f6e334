"""What is usual along the edge of a panel: its outermost pixels may be larger, brighter and noisier than all others."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

STEP, STEPS = 3, 12      # 3 x 3 sums side by side, so many in each direction
FEWEST = 8               # of them that tell what is usual


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _patch(image, shape, p, s, f):
    """Mean and number of the good pixels of the 3 x 3 around (s, f)."""
    n, total = 0, 0.0
    for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
        for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
            v = image[p, j, i]
            if v == v:
                n += 1
                total += v
    return total / max(n, 1), n


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _usual(image, shape, p, s, f, along_ss, sums):
    """Median of the patches' means along one edge, and the variance per pixel that their upper half would need."""
    found, pixels = 0, 0
    for k in range(-STEPS, STEPS + 1):
        j, i = (s + k * STEP, f) if along_ss else (s, f + k * STEP)
        if k == 0 or j < 0 or i < 0 or j >= shape[p, 0] or i >= shape[p, 1]:
            continue
        mean, n = _patch(image, shape, p, j, i)
        if n < 4:
            continue
        pixels += n
        b = found - 1
        while b >= 0 and sums[b] > mean:
            sums[b + 1] = sums[b]
            b -= 1
        sums[b + 1] = mean
        found += 1
    if found < FEWEST:
        return -np.inf, 0.0
    median = sums[found // 2]
    spread = sums[(84 * found) // 100] - median      # one standard deviation; spots are further out
    return median, spread * spread * pixels / found


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def along_edges(image, shape, panel, s, f, sums, out):
    """What is usual around summits on edges, along these edges.

    Parameters
    ----------
    image : (P, SS, FS) float32, NaN = bad
    shape : (P, 2) int64
    panel, s, f : (n,) integers
        The summits' pixels; one that is no more than a pixel from an edge has its 3 x 3 on the edge.
    sums : (2 * STEPS,) float64, work space
    out : (n, 2) float64
        Background per pixel, and its variance; -inf and 0 for summits elsewhere, and where too little is known.
    """
    for k in range(panel.size):
        p = panel[k]
        out[k, 0], out[k, 1] = -np.inf, 0.0
        for along_ss in range(2):
            at, last = (f[k], shape[p, 1] - 1) if along_ss else (s[k], shape[p, 0] - 1)
            if 1 < at < last - 1:
                continue
            level, variance = _usual(image, shape, p, s[k], f[k], along_ss == 1, sums)
            out[k, 0], out[k, 1] = max(out[k, 0], level), max(out[k, 1], variance)
