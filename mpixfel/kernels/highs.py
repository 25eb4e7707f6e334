"""The largest 3 x 3 sum in each cell of 4 x 32 pixels of an image: beside samples of the background (`kernels.background`)
all that the default hit finder must know of most pixels.

They are taken while an image is calibrated, of rows that are still in the processor's cache: reading them once more would
take longer than the sums.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

STRIP, CHUNK = 4, 32        # rows and columns of a cell
RING = 8                    # rows whose sums of three are kept: at least those of a strip and its neighbours
LOW = np.float32(-1e30)     # what stands where there are no pixels
ZERO, HALF, ONE_HALF, THREE = np.float32(0), np.float32(0.5), np.float32(1.5), np.float32(3)
STEP, TWO, THREE_ = np.uint64(1), np.uint64(2), np.uint64(3)


def cells(shape):
    """Rows and columns of cells of panels up to a shape (ss, fs)."""
    return -(-shape[0] // STRIP), -(-shape[1] // CHUNK)


def room(stack_shape):
    """Work space for images of a shape (P, SS, FS)."""
    columns = CHUNK * cells(stack_shape[1:])[1]
    return np.full(RING * columns, LOW, np.float32), np.zeros(columns, np.float32), np.zeros(STRIP + 2, np.uint64)


def highs_of(stack_shape):
    """(P, rows, columns) float32 for the cells of images of a shape (P, SS, FS)."""
    return np.full((stack_shape[0], *cells(stack_shape[1:])), LOW, np.float32)


# Indices are unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _sum3(flat, at, width, columns, sums, to):
    """Sums of three neighbours in a row, from `at` on, into `sums` from `to` on; at its ends one and a half times two."""
    first, last = np.uint64(at), np.uint64(width - 1)
    for k in range(STEP, last):
        i = first + k
        sums[to + k] = flat[i - STEP] + flat[i] + flat[i + STEP]
    if width > 1:
        sums[to] = ONE_HALF * (flat[first] + flat[first + STEP])
        sums[to + last] = ONE_HALF * (flat[first + last - STEP] + flat[first + last])
    else:
        sums[to] = THREE * flat[first]
    for k in range(np.uint64(width), np.uint64(columns)):
        sums[to + k] = LOW


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _beyond(sums, one, other, weight, to, columns):
    """A row off the panel: half of two others, or nothing."""
    for k in range(np.uint64(columns)):
        sums[to + k] = weight * (sums[one + k] + sums[other + k]) if weight > np.float32(0) else LOW


@njit(cache=True, _nrt=False, fastmath=FASTMATH, inline="always")
def _larger(a, b):
    """The larger of two numbers; NaN if one of them is: a comparison loses the first, nothing times it does not."""
    return (a if a > b else b) + ZERO * a


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _largest(sums, slot, columns, lanes):
    """Largest 3 x 3 sum of each column of a strip, NaN where one of them is, into `lanes`."""
    i0, i1, i2, i3, i4, i5 = slot[0], slot[1], slot[2], slot[3], slot[4], slot[5]
    for k in range(np.uint64(columns)):
        r0, r1, r2, r3, r4, r5 = sums[i0 + k], sums[i1 + k], sums[i2 + k], sums[i3 + k], sums[i4 + k], sums[i5 + k]
        upper, lower = r1 + r2, r3 + r4
        lanes[k] = _larger(_larger(r0 + upper, upper + r3), _larger(r2 + lower, lower + r5))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _fold(lanes, n, out, at):
    """The largest of each `CHUNK` of lanes into `out` from `at` on: eight side by side, and then these."""
    quarter = np.uint64(CHUNK // 4)
    for c in range(np.uint64(n)):
        first = c * np.uint64(CHUNK)
        for k in range(first, first + quarter):
            one, other = _larger(lanes[k], lanes[k + quarter]), _larger(lanes[k + TWO * quarter], lanes[k + THREE_ * quarter])
            lanes[k] = _larger(one, other)
        best = lanes[first]
        for k in range(first + STEP, first + quarter):
            best = _larger(best, lanes[k])
        out[at + c] = best


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def fill_strip(flat, first, stride, s, height, width, work, out, at):
    """Highs of the cells of the strip that begins in row s, into `out` from `at` on; strips come one after another.

    flat : an image, in which the panel begins at `first`; work : see `room`
    """
    sums, lanes, slot = work
    n = (width + CHUNK - 1) // CHUNK
    columns, space = n * CHUNK, np.uint64(lanes.size)
    for j in range(STRIP + 2):
        t = s + j - 1
        slot[j] = np.uint64((s + j) % RING) * space
        if 0 <= t < height and (s == 0 or j > 1):     # others are there from the strip before
            _sum3(flat, first + t * stride, width, columns, sums, slot[j])
    for j in range(STRIP + 2):
        t = s + j - 1
        if t < 0:
            _beyond(sums, slot[1], slot[2 if height > 1 else 1], HALF, slot[0], columns)
        elif t >= height:
            weight = HALF if t == height else np.float32(0)
            _beyond(sums, slot[j - 1], slot[j - 2] if height > 1 else slot[j - 1], weight, slot[j], columns)
    _largest(sums, slot, columns, lanes)
    _fold(lanes, n, out, np.uint64(at))


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def fill_highs(image, shape, work, out):
    """Highs of all cells of an image (P, SS, FS) float32, into `out`, see `highs_of`; shape (P, 2) int64.

    A high is at least the largest sum of nine pixels in its cell, those off the panel counted as the mean of those on it:
    so a cell whose high does not exceed nine times a level, and a threshold, holds no sum of fewer pixels that does. It is
    NaN where there is a bad pixel in the cell or beside it.
    """
    n_ss, n_fs, flat, highs = image.shape[1], image.shape[2], image.reshape(-1), out.reshape(-1)
    for p in range(shape.shape[0]):
        for s in range(0, shape[p, 0], STRIP):
            fill_strip(flat, p * n_ss * n_fs, n_fs, s, shape[p, 0], shape[p, 1], work, highs,
                       (p * out.shape[1] + s // STRIP) * out.shape[2])
