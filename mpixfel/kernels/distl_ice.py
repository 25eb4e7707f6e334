"""Kernel of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): what tells rings of ice."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH



@njit(cache=True, fastmath=FASTMATH)
def _count_row(flat, rings, at, size, step, low, high, slope, counts):
    """Count each `step`-th of `size` pixels from flat[at] on; cutoffs begin at `low` and `high` and rise by `slope`."""
    last = np.uint64(counts.shape[0])
    for f in range(np.uint64(0), size, step):
        v, r = np.float64(flat[at + f]) - slope * np.float64(np.int64(f)), np.uint64(rings[at + f])
        if r < last and v == v:
            # Three counts in one word (a ring has fewer than 2^21 pixels): neighbours wait for each other's.
            counts[r, 0] += 1 | np.int64(v < low) << 21 | np.int64(v < high) << 42


@njit(cache=True, fastmath=FASTMATH)
def ring_counts(image, boxes, rings, step, cutoffs, counts):
    """Count, for each ring, the pixels in it, and those with Z below each of two cutoffs.

    Parameters
    ----------
    rings : (P, SS, FS) uint16
        Ring of each pixel; those beyond the last are not counted.
    step : int
        Every so many pixels are looked at, both ways.
    cutoffs : (2,) float64
    counts : (n, 3) int64
    """
    counts[:] = 0
    n_ss, n_fs, flat, numbers = image.shape[1], image.shape[2], image.reshape(-1), rings.reshape(-1)
    for k in range(boxes.size):
        box = boxes[k]
        low, high = cutoffs[0] * box["sigma"] + box["c"], cutoffs[1] * box["sigma"] + box["c"]
        for s in range(box["s0"], box["s1"] + 1, step):
            at, shift = np.uint64((box["panel"] * n_ss + s) * n_fs + box["f0"]), box["a"] * (s - box["s0"])
            size = np.uint64(box["f1"] - box["f0"] + 1)
            _count_row(flat, numbers, at, size, np.uint64(step), low + shift, high + shift, box["b"], counts)
    mask = (1 << 21) - 1
    for r in range(counts.shape[0]):
        packed = counts[r, 0]
        counts[r, 0], counts[r, 1], counts[r, 2] = packed & mask, packed >> 21 & mask, packed >> 42
