"""Kernels of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): pixels above the planes, and maxima among them.

A row of marks is kept as bits, 64 pixels in a word: so neighbours are counted for 64 pixels at once.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

WORD = 64            # pixels in a word
SHIFT, LOW = 20, (1 << 20) - 1
NEVER = np.float32(3e38)
U0, U1 = np.uint64(0), np.uint64(1)


@njit(cache=True, fastmath=FASTMATH)
def _set_limits(boxes, height, base, slope):
    """The limit of Z > height for the pixels of a row of boxes is base + slope * (ss - first ss of the boxes)."""
    base[:], slope[:] = NEVER, np.float32(0)
    for k in range(boxes.size):
        box = boxes[k]
        if box["sigma"] > 0.0:
            level = box["c"] + height * box["sigma"]
            for f in range(box["f0"], box["f1"] + 1):
                base[f] = level + box["b"] * (f - box["f0"])
                slope[f] = box["a"]


@njit(cache=True, fastmath=FASTMATH)
def _mark_row(flat, at, width, x, low, base, slope, marks, to):
    """1 or 0 into marks[to:to + width]: whether a pixel from flat[at] on lies above its limit, and above `low`."""
    zero, one = np.uint8(0), np.uint8(1)
    for f in range(width):
        v = flat[at + f]
        marks[to + f] = one if (v > base[f] + slope[f] * x) & (v > low) else zero


@njit(cache=True)
def _pack(eights, at, words):
    """Words of bits from `eights` (n,) uint64 that hold 0 or 1 in each byte, from eights[at] on."""
    for k in range(words.size):
        word = U0
        for j in range(8):
            x = eights[at + np.uint64(8 * k + j)]
            # Bytes 0 ... 7 to bits 0 ... 7: three steps that each bring two neighbours together.
            x |= x >> np.uint64(7)
            x &= np.uint64(0x0003000300030003)
            x |= x >> np.uint64(14)
            x &= np.uint64(0x0000000F0000000F)
            x |= x >> np.uint64(28)
            word |= (x & np.uint64(0xFF)) << np.uint64(8 * j)
        words[k] = word


@njit(cache=True)
def _sum3(words, k):
    """(ones, twos): for each bit of word `k`, the sum of itself and its two neighbours in the row."""
    here = words[k]
    left = here << U1 | (words[k - 1] >> np.uint64(WORD - 1) if k > 0 else U0)
    right = here >> U1 | (words[k + 1] << np.uint64(WORD - 1) if k + 1 < words.size else U0)
    return here ^ left ^ right, here & left | here & right | left & right


@njit(cache=True)
def crowded(above, here, below, k, least):
    """The set bits of word `k` of the row `here` with at least `least` (1 ... 5) in their 3 x 3, themselves counted."""
    a1, a2 = _sum3(above, k)
    b1, b2 = _sum3(here, k)
    c1, c2 = _sum3(below, k)
    s1, carry = a1 ^ b1 ^ c1, a1 & b1 | a1 & c1 | b1 & c1
    s2, d = a2 ^ b2 ^ c2, a2 & b2 | a2 & c2 | b2 & c2
    e = s2 & carry
    s2 ^= carry
    four, eight = d | e, d & e                     # of fours there may be none, one or two
    s4 = four & ~eight
    if least <= 1:
        enough = s1 | s2 | four
    elif least == 2:
        enough = s2 | four
    elif least == 3:
        enough = s1 & s2 | four
    elif least == 4:
        enough = four
    else:
        enough = s4 & (s1 | s2) | eight
    return here[k] & enough


@njit(cache=True)
def lowest_bit(word):
    """Number of the lowest set bit of a word that is not 0: how many lie below it."""
    x = (word & ~(word - U1)) - U1
    x = x - (x >> U1 & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + (x >> np.uint64(2) & np.uint64(0x3333333333333333))
    x = x + (x >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    x += x >> np.uint64(8)
    x += x >> np.uint64(16)
    x += x >> np.uint64(32)
    return np.int64(x & np.uint64(0x7F))


@njit(cache=True, fastmath=FASTMATH)
def highest(flat, at, p, s, f, shape, n_fs):
    """Whether no neighbour of pixel flat[at], which is (p, s, f), is higher."""
    v = flat[at]
    if 0 < s < shape[p, 0] - 1 and 0 < f < shape[p, 1] - 1:
        # All eight without a branch: nobody can guess which of them is the first that is higher.
        above, below = at - n_fs, at + n_fs
        return not ((flat[above - 1] > v) | (flat[above] > v) | (flat[above + 1] > v) | (flat[at - 1] > v)
                    | (flat[at + 1] > v) | (flat[below - 1] > v) | (flat[below] > v) | (flat[below + 1] > v))
    for j in range(-1 if s > 0 else 0, 2 if s + 1 < shape[p, 0] else 1):
        for i in range(-1 if f > 0 else 0, 2 if f + 1 < shape[p, 1] else 1):
            if flat[at + j * n_fs + i] > v:
                return False
    return True


@njit(cache=True, fastmath=FASTMATH)
def maxima(image, shape, boxes, grid, height, low, least, margin, limits, words, body, out):
    """Mark the pixels with Z > height and value > low, and list the maxima among them.

    A maximum has no higher neighbour, at least `least` (1 ... 5) marked pixels in the 3 x 3 around it, itself among
    them, and lies at least `margin` pixels from the edge of its panel.

    Parameters
    ----------
    limits : (2, W) float32, words : (3, W / 64) uint64
        Work space; W is a whole number of words that holds FS.
    body : (P, SS, W) uint8
        1 for marked pixels, otherwise 0; padding must be 0 before.
    out : (room,) int64
        panel << 2 * SHIFT | ss << SHIFT | fs, ascending: a division would cost more than all the rest.

    Returns
    -------
    int
        Number of maxima; may exceed the room.
    """
    n, n_ss, n_fs, wide = 0, image.shape[1], image.shape[2], body.shape[2]
    flat, marks = image.reshape(-1), body.reshape(-1)
    eights = marks.view(np.uint64)
    for p in range(shape.shape[0]):
        current, s0, width = np.int64(-1), np.int64(0), np.uint64(shape[p, 1])
        words[:] = U0
        for s in range(shape[p, 0] + 1):
            last = words[s % 3]
            row = np.int64(grid.row_of[p, s]) if s < shape[p, 0] else -1
            to = np.uint64((p * n_ss + s) * wide)
            if row < 0:
                last[:] = U0
                if s < shape[p, 0]:
                    for f in range(width):
                        marks[to + f] = np.uint8(0)
            else:
                if row != current:
                    current, first = row, grid.first[p] + row * grid.columns[p]
                    _set_limits(boxes[first:first + grid.columns[p]], height, limits[0], limits[1])
                    s0 = np.int64(boxes[first]["s0"])
                at, x = np.uint64((p * n_ss + s) * n_fs), np.float32(s - s0)
                _mark_row(flat, at, width, x, low, limits[0], limits[1], marks, to)
                _pack(eights, to // np.uint64(8), last)
            if margin < s <= shape[p, 0] - margin:
                n = _list_row(flat, words, shape, np.int64(p), s - 1, n_ss, n_fs, least, margin, out, n)
    return n


@njit(cache=True, fastmath=FASTMATH)
def _list_row(flat, words, shape, p, s, n_ss, n_fs, least, margin, out, n):
    """Append the maxima of row `s`, whose marks stand in words[s % 3]."""
    above, here, below = words[(s + 2) % 3], words[s % 3], words[(s + 1) % 3]
    for k in range(here.size):
        if here[k] == U0:
            continue
        found = crowded(above, here, below, k, least)
        while found != U0:
            f = WORD * k + lowest_bit(found)
            found &= found - U1
            at = (p * n_ss + s) * n_fs + f
            if margin <= f < shape[p, 1] - margin and highest(flat, at, p, s, f, shape, n_fs):
                if n < out.size:
                    out[n] = p << 2 * SHIFT | s << SHIFT | f
                n += 1
    return n
