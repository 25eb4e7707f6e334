"""Which reflections are known: a table that finds one among many, or tells that it is not there, in a few nanoseconds."""
from typing import NamedTuple

import numpy as np
from numba import njit

SCATTER = np.uint64(0x9E3779B97F4A7C15)     # 2^64 over the golden ratio: neighbouring numbers go far apart (Knuth)


class Known(NamedTuple):
    """Numbers of reflections (`key`) and where each stands in its table."""

    numbers: np.ndarray    # (n,) int64
    places: np.ndarray     # (2^k,) int32: rows of `numbers`, -1 where free; at least half are


@njit(cache=True, error_model="numpy", inline="always")
def key(number, h, k, l):
    """One number for each lattice and reflection."""
    return ((np.int64(number) << 48) | ((np.int64(h) + 32768) << 32) | ((np.int64(k) + 32768) << 16)
            | (np.int64(l) + 32768))


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_keys(lattice, hkl, out):
    """Fill out (n,) int64 with the `key` of each reflection."""
    for i in range(out.size):
        out[i] = key(lattice[i], hkl[i, 0], hkl[i, 1], hkl[i, 2])


def known(numbers):
    """`Known` of numbers (n,) int64; of equal ones the first counts."""
    out = Known(numbers, np.full(2 << max(len(numbers), 1).bit_length(), -1, np.int32))
    fill_places(out)
    return out


@njit(cache=True, error_model="numpy", inline="always")
def first_place(number, places):
    """Where a number stands unless others were there before: then it is in the next free place."""
    # Each bit of the product depends on those of the number up to it: from the fortieth on, on h, k and l.
    return (np.uint64(number) * SCATTER >> np.uint64(40)) & np.uint64(places.size - 1)


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_places(known):
    """Give each of the numbers of a `Known` its place."""
    last = np.uint64(known.places.size - 1)
    for row in range(known.numbers.size):
        at = first_place(known.numbers[row], known.places)
        while known.places[at] >= 0 and known.numbers[known.places[at]] != known.numbers[row]:
            at = (at + np.uint64(1)) & last
        if known.places[at] < 0:
            known.places[at] = row


@njit(cache=True, error_model="numpy", inline="always")
def row_of(number, known):
    """The row of a number in `known`, or -1."""
    last, at = np.uint64(known.places.size - 1), first_place(number, known.places)
    while known.places[at] >= 0 and known.numbers[known.places[at]] != number:
        at = (at + np.uint64(1)) & last
    return known.places[at]
