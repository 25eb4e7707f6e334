"""Raw detector words to photons, one pass over memory.

A block is one (ss, fs) array of the source; it holds one panel or many. Every kernel here works on the panels of one
block at once, so that a detector of 128 small panels costs no more calls than one large one.

Static bad pixels come as sorted lists per detector row (`bad_start`, `bad_fs`): a list costs nothing where nothing is
bad, while a mask image would cost a third more memory traffic. Padding is never written: the caller fills the stack
with NaN once.
"""
import numpy as np
from numba import njit

# NaN marks bad pixels, so the compiler must not assume that there are none.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
NAN = np.float32(np.nan)


@njit(cache=True, fastmath=FASTMATH)
def _scale(raw, scale, out):
    for i in range(raw.size):
        out[i] = np.float32(raw[i]) * scale


@njit(cache=True, fastmath=FASTMATH)
def _subtract(raw, pedestal, scale, out):
    for i in range(raw.size):
        out[i] = (np.float32(raw[i]) - pedestal[i]) * scale


@njit(cache=True, fastmath=FASTMATH)
def _multiply(factor, out):
    for i in range(out.size):
        out[i] *= factor[i]


@njit(cache=True, fastmath=FASTMATH)
def count_outside(raw, low, high):
    """How many of `raw` (n,) are below `low` or above `high`, all of one dtype. NaN counts as inside."""
    n = 0
    for i in range(raw.size):
        n += (raw[i] < low) | (raw[i] > high)
    return n


@njit(cache=True, fastmath=FASTMATH)
def _flag_row(raw, limits, saturation, first, out, saturated, n_saturated):
    """Bad values to NaN, saturated ones to the list; only rows that hold such values come here."""
    less, more, equal, limit = limits
    for i in range(raw.size):
        value = np.float64(raw[i])
        ceiling = saturation[i] if saturation.size > 1 else limit
        if value > ceiling and not np.isnan(out[i]):
            if n_saturated < saturated.size:
                saturated[n_saturated] = first + i
            n_saturated += 1
        if value < less or value > more or value == equal or np.isinf(value):
            out[i] = NAN
    return n_saturated


@njit(cache=True, fastmath=FASTMATH)
def convert(raw, panels, corner, shape, limits, watch, scale, pedestal, factor, saturation, bad_start, bad_fs, out,
            saturated, n_saturated):
    """Convert the panels of one block: (raw - pedestal) * factor * scale, NaN where bad.

    Parameters
    ----------
    raw : (ss, fs) any real dtype
    panels : (n,) int64
        Which panels the block holds; all tables below have a row for each panel of the detector.
    corner, shape : (P, 2) int64
        First pixel in the block, and size, each (ss, fs).
    limits : (P, 4) float64
        Raw values strictly below, strictly above, or equal: bad; strictly above the fourth: saturated.
    watch : (P, 2) of raw's dtype
        Rows with all values within these inclusive bounds need no look at `limits`.
    scale : (P,) float32
        Photons per ADU.
    pedestal, factor : (P, SS, FS) float32, or (1, 1, 1) where there is none
    saturation : (P, SS, FS) float32, raw units, or (1, 1, 1)
    bad_start : (P * SS + 1,) int64
    bad_fs : (n_bad,) int32
    out : (P, SS, FS) float32
    saturated : (room,) int64
        Filled from `n_saturated` on.

    Returns
    -------
    int
        Number of saturated pixels so far; may exceed the room.
    """
    n_ss, n_fs = out.shape[1], out.shape[2]
    for k in range(panels.size):
        p = panels[k]
        s0, f0 = corner[p, 0], corner[p, 1]
        width = shape[p, 1]
        low, high = watch[p, 0], watch[p, 1]
        bounds = (limits[p, 0], limits[p, 1], limits[p, 2], limits[p, 3])
        always = saturation.size > 1 or not np.isnan(limits[p, 2])
        for s in range(shape[p, 0]):
            words = raw[s0 + s, f0:f0 + width]
            row = out[p, s, :width]
            if pedestal.size > 1:
                _subtract(words, pedestal[p, s, :width], scale[p], row)
            else:
                _scale(words, scale[p], row)
            if factor.size > 1:
                _multiply(factor[p, s, :width], row)
            for j in range(bad_start[p * n_ss + s], bad_start[p * n_ss + s + 1]):
                row[bad_fs[j]] = NAN
            if always or count_outside(words, low, high) > 0:
                level = saturation[p, s, :width] if saturation.size > 1 else saturation[0, 0]
                n_saturated = _flag_row(words, bounds, level, (p * n_ss + s) * n_fs, row, saturated, n_saturated)
    return n_saturated
