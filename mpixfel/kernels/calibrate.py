"""Raw detector words to photons, one pass over memory.

A block is one (ss, fs) array of the source; it holds one panel or many. The kernels work on all panels of a block at
once, so that a detector of 128 small panels costs no more calls than one large one.

Static bad pixels come as sorted lists per detector row: a list costs nothing where nothing is bad, while a mask image
would cost a third more memory traffic. Padding is never written: the caller fills the stack with NaN once.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.background import Samples, sample_row
from mpixfel.kernels.highs import STRIP, fill_strip

NAN = np.float32(np.nan)
CHUNK = 64                           # pixels looked at together
NONE, JUNGFRAU, AGIPD = 0, 1, 2      # how a detector tells the gain stage of a pixel


class Layout(NamedTuple):
    """Where panels lie and which raw values are sound; tables have a row for each panel of the detector."""

    corner: np.ndarray       # (P, 2) int64: first pixel in the block (ss, fs)
    shape: np.ndarray        # (P, 2) int64: size (ss, fs)
    limits: np.ndarray       # (P, 4) float64: values strictly below, strictly above, equal: bad; above: saturated
    bad_start: np.ndarray    # (P * SS + 1,) int64
    bad_fs: np.ndarray       # (n_bad,) int32


class Glance(NamedTuple):
    """What is taken of rows as they are converted, for a hit finder that looks at little else; see `kernels.highs`."""

    highs: np.ndarray        # (P, rows, columns) float32; of no size where nobody wants a glance
    work: tuple              # see `highs.room`
    samples: Samples


class Maps(NamedTuple):
    """Constants per pixel, float32; (1, 1, 1, 1) or (1, 1, 1) where there are none."""

    pedestal: np.ndarray     # (G, P, SS, FS) ADU
    factor: np.ndarray       # (G, P, SS, FS)
    threshold: np.ndarray    # (2, P, SS, FS) gain words
    saturation: np.ndarray   # (P, SS, FS) raw units


# Rows are given by where they begin in flat arrays: a slice costs more than the arithmetic of a short row. Indices are
# unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _mask_row(layout, row, o, out):
    """Static bad pixels of detector row number `row`, whose pixels begin at out[o]."""
    for j in range(layout.bad_start[row], layout.bad_start[row + 1]):
        out[o + np.uint64(layout.bad_fs[j])] = NAN


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def outside(raw, r, n, low, high):
    """Whether any of raw[r:r + n] is below `low` or above `high`, all of one integer dtype."""
    least, most = raw[r], raw[r]
    for i in range(np.uint64(n)):
        least, most = min(least, raw[r + i]), max(most, raw[r + i])
    return least < low or most > high


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def outside_real(raw, r, n, low, high):
    """`outside` for floating-point numbers; NaN counts as inside."""
    found = low * 0
    for i in range(np.uint64(n)):
        found += low * 0 + 1 if (raw[r + i] < low) | (raw[r + i] > high) else low * 0
    return found > 0


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _flag_row(raw, r, n, limits, saturation, o, out, saturated, n_saturated):
    """Bad values to NaN, saturated ones to the list; only rows that hold such values come here."""
    for i in range(np.uint64(n)):
        value = np.float64(raw[r + i])
        ceiling = saturation[o + i] if saturation.size > 1 else limits[3]
        if value > ceiling and not np.isnan(out[o + i]):
            if n_saturated < saturated.size:
                saturated[n_saturated] = np.int64(o + i)
            n_saturated += 1
        if value < limits[0] or value > limits[1] or value == limits[2] or np.isinf(value):
            out[o + i] = NAN
    return n_saturated


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _glance_at(flat, p, s, n_ss, n_fs, height, width, glance):
    """The samples of row s of panel p, and the highs of the strips that are complete with it."""
    if glance.highs.size == 0:
        return
    row = p * n_ss + s
    sample_row(flat, row, np.uint64(row * n_fs), glance.samples)
    first, at = p * n_ss * n_fs, p * glance.highs.shape[1]
    if s % STRIP == 0 and s > 0:
        k = s // STRIP - 1
        fill_strip(flat, first, n_fs, k * STRIP, height, width, glance.work, glance.highs.reshape(-1),
                   (at + k) * glance.highs.shape[2])
    if s == height - 1:
        k = s // STRIP
        fill_strip(flat, first, n_fs, k * STRIP, height, width, glance.work, glance.highs.reshape(-1),
                   (at + k) * glance.highs.shape[2])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def convert(raw, panels, layout, maps, watch, real, scale, offset, out, glance, saturated, n_saturated):
    """Convert the panels of one block of a detector with one gain: (raw - pedestal - offset) * factor * scale.

    Parameters
    ----------
    raw : (ss, fs) any real dtype, C-contiguous
    panels : (n,) int64
        Which panels the block holds.
    watch : (P, 2) of raw's dtype
        Rows with all values within these inclusive bounds need no look at `layout.limits`.
    real : bool
        Whether raw is of a floating-point dtype.
    scale : (P,) float32
        Photons per unit of factor * ADU.
    offset : (P, m, n) float32
        Common mode of each section of a panel, ADU.
    out : (P, SS, FS) float32, NaN in its padding
    glance : Glance
    saturated : (room,) int64
        Flat indices, filled from `n_saturated` on.

    Returns
    -------
    int
        Number of saturated pixels so far; may exceed the room.
    """
    n_ss, n_fs, stride = out.shape[1], out.shape[2], raw.shape[1]
    words, flat = raw.reshape(-1), out.reshape(-1)
    pedestal, factor = maps.pedestal[0].reshape(-1), maps.factor[0].reshape(-1)
    saturation, sections, columns = maps.saturation.reshape(-1), offset.shape[1], offset.shape[2]
    n_sections = sections * columns
    for k in range(panels.size):
        p = panels[k]
        limits = layout.limits[p]
        height, width = layout.shape[p, 0], layout.shape[p, 1]
        low, high, unit = watch[p, 0], watch[p, 1], scale[p]
        always = saturation.size > 1 or not np.isnan(limits[2])
        for s in range(height):
            r = np.uint64((layout.corner[p, 0] + s) * stride + layout.corner[p, 1])
            o = np.uint64((p * n_ss + s) * n_fs)
            for c in range(columns):
                shift = offset[p, s * sections // height, c] if n_sections > 1 else offset[p, 0, 0]
                a, b = (np.uint64(c * width // columns), np.uint64((c + 1) * width // columns)) if columns > 1 else (
                    np.uint64(0), np.uint64(width))
                # These loops stand here because a call for each row costs more than a short row.
                if pedestal.size > 1 and factor.size > 1:
                    for i in range(a, b):
                        flat[o + i] = (np.float32(words[r + i]) - pedestal[o + i] - shift) * (factor[o + i] * unit)
                elif pedestal.size > 1:
                    for i in range(a, b):
                        flat[o + i] = (np.float32(words[r + i]) - pedestal[o + i] - shift) * unit
                elif factor.size > 1:
                    for i in range(a, b):
                        flat[o + i] = (np.float32(words[r + i]) - shift) * (factor[o + i] * unit)
                else:
                    for i in range(a, b):
                        flat[o + i] = (np.float32(words[r + i]) - shift) * unit
            _mask_row(layout, p * n_ss + s, o, flat)
            strange = outside_real(words, r, width, low, high) if real else outside(words, r, width, low, high)
            if always or strange:
                n_saturated = _flag_row(words, r, width, limits, saturation, o, flat, saturated, n_saturated)
            _glance_at(flat, p, s, n_ss, n_fs, height, width, glance)
    return n_saturated


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _repair_jungfrau(words, r, n, pedestal, factor, scale, o, out, saturated, n_saturated):
    """Redo the pixels of a row that have left the first gain stage: 01 is the second, 11 the third, 10 makes no sense.

    The third stage falls with the signal: nothing is left of it at 0, and such a pixel is saturated.
    """
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        if not outside(words, r + np.uint64(start), stop - start, 0, 0x3FFF):
            continue
        for i in range(np.uint64(start), np.uint64(stop)):
            word = np.int64(words[r + i])
            bits = word >> 14
            if bits == 0 or np.isnan(out[o + i]):
                continue
            if bits == 2:
                out[o + i] = NAN
                continue
            stage = 2 if bits == 3 else 1
            out[o + i] = (np.float32(word & 0x3FFF) - pedestal[stage, o + i]) * (factor[stage, o + i] * scale)
            if word == 0xC000 or word == 0xFFFF:
                if n_saturated < saturated.size:
                    saturated[n_saturated] = np.int64(o + i)
                n_saturated += 1
    return n_saturated


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _repair_agipd(words, gains, r, n, pedestal, factor, threshold, limit, scale, o, out, saturated, n_saturated):
    """Redo the pixels of a row whose gain word lies above the first threshold; above `limit` they are saturated."""
    for i in range(np.uint64(n)):
        gain = gains[r + i]
        if gain > threshold[0, o + i] and not np.isnan(out[o + i]):
            stage = 2 if gain > threshold[1, o + i] else 1
            out[o + i] = (np.float32(words[r + i]) - pedestal[stage, o + i]) * (factor[stage, o + i] * scale)
            if stage == 2 and words[r + i] > limit:
                if n_saturated < saturated.size:
                    saturated[n_saturated] = np.int64(o + i)
                n_saturated += 1
    return n_saturated


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def convert_switching(raw, gains, panels, layout, maps, scale, offset, kind, out, glance, saturated, n_saturated):
    """`convert` for detectors that switch their gain pixel by pixel; `maps` hold three stages.

    JUNGFRAU has the stage in the two highest bits of its words. AGIPD sends a gain word for each pixel, `gains`
    (ss, fs), to be compared with two thresholds. All pixels are taken to be in the first stage, then the few others
    are done again; they have no common mode subtracted, which is far below their noise.
    """
    n_ss, n_fs, stride, sections, columns = out.shape[1], out.shape[2], raw.shape[1], offset.shape[1], offset.shape[2]
    words, flat, others = raw.reshape(-1), out.reshape(-1), gains.reshape(-1)
    pedestal, factor = maps.pedestal.reshape(3, -1), maps.factor.reshape(3, -1)
    threshold = maps.threshold.reshape(maps.threshold.shape[0], -1)
    first, gain = pedestal[0], factor[0]
    for k in range(panels.size):
        p = panels[k]
        height, width, unit = layout.shape[p, 0], layout.shape[p, 1], scale[p]
        for s in range(height):
            r = np.uint64((layout.corner[p, 0] + s) * stride + layout.corner[p, 1])
            o = np.uint64((p * n_ss + s) * n_fs)
            for c in range(columns):
                shift = offset[p, s * sections // height, c]
                for i in range(np.uint64(c * width // columns), np.uint64((c + 1) * width // columns)):
                    flat[o + i] = (np.float32(words[r + i]) - first[o + i] - shift) * (gain[o + i] * unit)
            _mask_row(layout, p * n_ss + s, o, flat)
            if kind == AGIPD:
                n_saturated = _repair_agipd(words, others, r, width, pedestal, factor, threshold, layout.limits[p, 3],
                                            scale[p], o, flat, saturated, n_saturated)
            else:
                n_saturated = _repair_jungfrau(words, r, width, pedestal, factor, scale[p], o, flat, saturated,
                                               n_saturated)
            _glance_at(flat, p, s, n_ss, n_fs, height, width, glance)
    return n_saturated


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def mask_block(bad, panels, layout, out, saturated, first, n_saturated):
    """Pixels that are bad in this event alone: NaN in the image, and not among the saturated ones.

    Parameters
    ----------
    bad : (ss, fs) bool
        Of the whole block.
    saturated : (room,) int64
        Those of this block stand in saturated[first:n_saturated].

    Returns
    -------
    int
        Number of saturated pixels so far.
    """
    n_ss, n_fs = out.shape[1], out.shape[2]
    for k in range(panels.size):
        p = panels[k]
        for s in range(layout.shape[p, 0]):
            row, f0 = bad[layout.corner[p, 0] + s], layout.corner[p, 1]
            for f in range(layout.shape[p, 1]):
                if row[f0 + f]:
                    out[p, s, f] = NAN
    kept = first
    for i in range(first, min(n_saturated, saturated.size)):
        p, rest = saturated[i] // (n_ss * n_fs), saturated[i] % (n_ss * n_fs)
        if not bad[layout.corner[p, 0] + rest // n_fs, layout.corner[p, 1] + rest % n_fs]:
            saturated[kept] = saturated[i]
            kept += 1
    return kept
