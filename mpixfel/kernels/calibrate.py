"""Raw detector words to photons, one pass over memory.

A block is one (ss, fs) array of the source; it holds one panel or many. The kernels work on all panels of a block at
once, so that a detector of 128 small panels costs no more calls than one large one.

Static bad pixels come as sorted lists per detector row: a list costs nothing where nothing is bad, while a mask image
would cost a third more memory traffic. Padding is never written: the caller fills the stack with NaN once.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

# NaN marks bad pixels, so the compiler must not assume that there are none.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
NAN = np.float32(np.nan)
NONE, JUNGFRAU, AGIPD = 0, 1, 2      # how a detector tells the gain stage of a pixel


class Layout(NamedTuple):
    """Where panels lie and which raw values are sound; tables have a row for each panel of the detector."""

    corner: np.ndarray       # (P, 2) int64: first pixel in the block (ss, fs)
    shape: np.ndarray        # (P, 2) int64: size (ss, fs)
    limits: np.ndarray       # (P, 4) float64: values strictly below, strictly above, equal: bad; above: saturated
    bad_start: np.ndarray    # (P * SS + 1,) int64
    bad_fs: np.ndarray       # (n_bad,) int32


class Maps(NamedTuple):
    """Constants per pixel, float32; (1, 1, 1, 1) or (1, 1, 1) where there are none."""

    pedestal: np.ndarray     # (G, P, SS, FS) ADU
    factor: np.ndarray       # (G, P, SS, FS)
    threshold: np.ndarray    # (2, P, SS, FS) gain words
    saturation: np.ndarray   # (P, SS, FS) raw units


@njit(cache=True, fastmath=FASTMATH)
def _linear(raw, pedestal, factor, offset, scale, out):
    """(raw - pedestal - offset) * factor * scale; a pedestal or factor of size 0 is left out."""
    n = raw.size
    if pedestal.size == n and factor.size == n:
        for i in range(n):
            out[i] = (np.float32(raw[i]) - pedestal[i] - offset) * (factor[i] * scale)
    elif pedestal.size == n:
        for i in range(n):
            out[i] = (np.float32(raw[i]) - pedestal[i] - offset) * scale
    elif factor.size == n:
        for i in range(n):
            out[i] = (np.float32(raw[i]) - offset) * (factor[i] * scale)
    else:
        for i in range(n):
            out[i] = (np.float32(raw[i]) - offset) * scale


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
        ceiling = saturation[i] if saturation.size == raw.size else limit
        if value > ceiling and not np.isnan(out[i]):
            if n_saturated < saturated.size:
                saturated[n_saturated] = first + i
            n_saturated += 1
        if value < less or value > more or value == equal or np.isinf(value):
            out[i] = NAN
    return n_saturated


@njit(cache=True, fastmath=FASTMATH)
def convert(raw, panels, layout, maps, watch, scale, offset, out, saturated, n_saturated):
    """Convert the panels of one block of a detector with one gain: (raw - pedestal - offset) * factor * scale.

    Parameters
    ----------
    raw : (ss, fs) any real dtype
    panels : (n,) int64
        Which panels the block holds.
    watch : (P, 2) of raw's dtype
        Rows with all values within these inclusive bounds need no look at `layout.limits`.
    scale : (P,) float32
        Photons per unit of factor * ADU.
    offset : (P, m, n) float32
        Common mode of each section of a panel, ADU.
    out : (P, SS, FS) float32, NaN in its padding
    saturated : (room,) int64
        Flat indices, filled from `n_saturated` on.

    Returns
    -------
    int
        Number of saturated pixels so far; may exceed the room.
    """
    n_ss, n_fs = out.shape[1], out.shape[2]
    rows, columns = offset.shape[1], offset.shape[2]
    for k in range(panels.size):
        p = panels[k]
        s0, f0 = layout.corner[p, 0], layout.corner[p, 1]
        height, width = layout.shape[p, 0], layout.shape[p, 1]
        limits = layout.limits[p]
        bounds = (limits[0], limits[1], limits[2], limits[3])
        always = maps.saturation.size > 1 or not np.isnan(limits[2])
        for s in range(height):
            words, row = raw[s0 + s, f0:f0 + width], out[p, s, :width]
            for c in range(columns):
                a, b = c * width // columns, (c + 1) * width // columns
                pedestal = maps.pedestal[0, p, s, a:b] if maps.pedestal.size > 1 else maps.pedestal[0, 0, 0, :0]
                factor = maps.factor[0, p, s, a:b] if maps.factor.size > 1 else maps.factor[0, 0, 0, :0]
                _linear(words[a:b], pedestal, factor, offset[p, s * rows // height, c], scale[p], row[a:b])
            for j in range(layout.bad_start[p * n_ss + s], layout.bad_start[p * n_ss + s + 1]):
                row[layout.bad_fs[j]] = NAN
            if always or count_outside(words, watch[p, 0], watch[p, 1]) > 0:
                level = maps.saturation[p, s, :width] if maps.saturation.size > 1 else maps.saturation[0, 0, :0]
                n_saturated = _flag_row(words, bounds, level, (p * n_ss + s) * n_fs, row, saturated, n_saturated)
    return n_saturated


@njit(cache=True, fastmath=FASTMATH)
def _repair_jungfrau(words, pedestal, factor, scale, first, out, saturated, n_saturated):
    """Redo the pixels of a row that have left the first gain stage: 01 is the second, 11 the third, 10 makes no sense.

    The third stage falls with the signal: nothing is left of it at 0, and such a pixel is saturated.
    """
    for i in range(words.size):
        word = np.int64(words[i])
        bits = word >> 14
        if bits == 0 or np.isnan(out[i]):
            continue
        if bits == 2:
            out[i] = NAN
            continue
        stage = 2 if bits == 3 else 1
        out[i] = (np.float32(word & 0x3FFF) - pedestal[stage, i]) * (factor[stage, i] * scale)
        if word == 0xC000 or word == 0xFFFF:
            if n_saturated < saturated.size:
                saturated[n_saturated] = first + i
            n_saturated += 1
    return n_saturated


@njit(cache=True, fastmath=FASTMATH)
def _repair_agipd(words, gains, pedestal, factor, threshold, limit, scale, first, out, saturated, n_saturated):
    """Redo the pixels of a row whose gain word lies above the first threshold; above `limit` they are saturated."""
    for i in range(words.size):
        if gains[i] > threshold[0, i] and not np.isnan(out[i]):
            stage = 2 if gains[i] > threshold[1, i] else 1
            out[i] = (np.float32(words[i]) - pedestal[stage, i]) * (factor[stage, i] * scale)
            if stage == 2 and words[i] > limit:
                if n_saturated < saturated.size:
                    saturated[n_saturated] = first + i
                n_saturated += 1
    return n_saturated


@njit(cache=True, fastmath=FASTMATH)
def convert_switching(raw, gains, panels, layout, maps, scale, offset, kind, out, saturated, n_saturated):
    """`convert` for detectors that switch their gain pixel by pixel; `maps` hold three stages.

    JUNGFRAU has the stage in the two highest bits of its words. AGIPD sends a gain word for each pixel, `gains`
    (ss, fs), to be compared with two thresholds. All pixels are taken to be in the first stage, then the few others
    are done again; they have no common mode subtracted, which is far below their noise.
    """
    n_ss, n_fs = out.shape[1], out.shape[2]
    rows, columns = offset.shape[1], offset.shape[2]
    for k in range(panels.size):
        p = panels[k]
        s0, f0 = layout.corner[p, 0], layout.corner[p, 1]
        height, width = layout.shape[p, 0], layout.shape[p, 1]
        for s in range(height):
            words, row, first = raw[s0 + s, f0:f0 + width], out[p, s, :width], (p * n_ss + s) * n_fs
            for c in range(columns):
                a, b = c * width // columns, (c + 1) * width // columns
                _linear(words[a:b], maps.pedestal[0, p, s, a:b], maps.factor[0, p, s, a:b],
                        offset[p, s * rows // height, c], scale[p], row[a:b])
            for j in range(layout.bad_start[p * n_ss + s], layout.bad_start[p * n_ss + s + 1]):
                row[layout.bad_fs[j]] = NAN
            pedestal, factor = maps.pedestal[:, p, s, :width], maps.factor[:, p, s, :width]
            if kind == AGIPD:
                n_saturated = _repair_agipd(words, gains[s0 + s, f0:f0 + width], pedestal, factor,
                                            maps.threshold[:, p, s, :width], layout.limits[p, 3], scale[p], first, row,
                                            saturated, n_saturated)
            elif count_outside(words, 0, 0x3FFF) > 0:
                n_saturated = _repair_jungfrau(words, pedestal, factor, scale[p], first, row, saturated, n_saturated)
    return n_saturated
