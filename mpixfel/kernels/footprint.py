"""Which pixels belong to spots, and what spots shine on them."""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.profiles import LARGEST, box_of, fill_profile, fill_spans, foreground

WORD = 32     # pixels of a row that one word of the maps stands for


class Claims(NamedTuple):
    """Maps of the pixels that spots claim, one bit each: so those of a whole image stay in the processor's cache."""

    one: np.ndarray     # (P, SS, words) uint32: claimed by a spot
    more: np.ndarray    # (P, SS, words) uint32: by more than one


def claims(stack_shape):
    """`Claims` for images of a shape (P, SS, FS), with a word to spare at the end of a row."""
    words = stack_shape[2] // WORD + 2
    return Claims(*(np.zeros((*stack_shape[:2], words), np.uint32) for _ in Claims._fields))


@njit(cache=True, error_model="numpy", inline="always")
def row_bits(claims, p, y, x):
    """The bits of the pixels from x on, at least `WORD` / 2 of them, the first one lowest."""
    w = x // WORD
    # The sign is the last pixel's of the second word; shifted, it fills the bits above, at which nobody looks.
    return (int(claims[p, y, w]) | (int(claims[p, y, w + 1]) << WORD)) >> (x - w * WORD)


@njit(cache=True, error_model="numpy", inline="always")
def bits_between(first, last, w):
    """The bits of word w that stand for the pixels first ... last - 1."""
    low, high = max(first - w * WORD, 0), min(last - w * WORD, WORD)
    return ((1 << (high - low)) - 1) << low if high > low else 0


@njit(cache=True, error_model="numpy")
def mark(rows, intensity, n, limit, radius, bounds, claims):
    """Claim the pixels of n spots, see `profiles.foreground`; returns whether any is claimed twice."""
    twice, ends = 0, np.empty((LARGEST, 2))
    for i in range(n):
        fore = foreground(rows.shape, rows.tail, i, intensity[i], limit, radius)
        p, x, y = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
        _, top, _, height = box_of(fore, x, y)
        bottom, top = min(top + height, bounds[p, 0]), max(top, 0)
        fill_spans(fore, x, y, top, max(bottom - top, 0), bounds[p, 1], ends)
        for row in range(top, bottom):
            first, last = int(ends[row - top, 0]), int(ends[row - top, 1])
            if first < last:
                for w in range(first // WORD, (last - 1) // WORD + 1):
                    bits = bits_between(first, last, w)
                    again = int(claims.one[p, row, w]) & bits
                    if again != 0:
                        claims.more[p, row, w] = int(claims.more[p, row, w]) | again
                        twice |= again
                    claims.one[p, row, w] = int(claims.one[p, row, w]) | bits
    return twice != 0


def clear(claims, twice):
    """Undo `mark`, which returned `twice`; whole maps: they are small, and to look each spot up again takes longer."""
    for one_map in claims[:1 + twice]:
        one_map.fill(0)


@njit(cache=True, error_model="numpy")
def crowded(rows, intensity, n, limit, radius, bounds, claims, out):
    """Fill out (n,) bool: whether a spot shares any pixel with another; after `mark`, with the same arguments."""
    ends = np.empty((LARGEST, 2))
    for i in range(n):
        fore = foreground(rows.shape, rows.tail, i, intensity[i], limit, radius)
        p, x, y = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
        left, top, width, height = box_of(fore, x, y)
        bottom, top = min(top + height, bounds[p, 0]), max(top, 0)
        shared, known = 0, False
        for row in range(top, bottom):
            for w in range(max(left, 0) // WORD, (min(left + width, bounds[p, 1]) - 1) // WORD + 1):
                if claims.more[p, row, w] != 0:
                    if not known:
                        fill_spans(fore, x, y, top, bottom - top, bounds[p, 1], ends)
                        known = True
                    bits = bits_between(int(ends[row - top, 0]), int(ends[row - top, 1]), w)
                    shared |= int(claims.more[p, row, w]) & bits
        out[i] = shared != 0


@njit(cache=True, _nrt=False, error_model="numpy")
def shine(rows, intensity, wide, n, limit, radius, bounds, work, light):
    """Add to light (P, SS, FS) float32 the photons that n spots of given intensities put on each pixel, as far
    as intensities `wide` (n,) say that they extend."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape, rows.tail, i, wide[i], limit, radius)
            p = rows.panel[i]
            left, top, nx, ny = box_of(fore, rows.place[i, 0], rows.place[i, 1])
            fill_profile(rows.place[i, 0] - left, rows.place[i, 1] - top, rows.shape, rows.tail, i, fore.far2, nx, ny,
                         work)
            for y in range(max(top, 0), min(top + ny, bounds[p, 0])):
                for x in range(max(left, 0), min(left + nx, bounds[p, 1])):
                    light[p, y, x] += intensity[i] * work.pixels[(y - top) * nx + x - left]


@njit(cache=True, _nrt=False, error_model="numpy")
def darken(rows, intensity, wide, n, limit, radius, bounds, light):
    """Undo `shine`: zero the boxes that it touched."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape, rows.tail, i, wide[i], limit, radius)
            left, top, nx, ny = box_of(fore, rows.place[i, 0], rows.place[i, 1])
            light[rows.panel[i], max(top, 0):max(top + ny, 0), max(left, 0):max(left + nx, 0)] = 0.0
