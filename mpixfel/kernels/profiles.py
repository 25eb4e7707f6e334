"""The shape of a spot on the pixels: Gaussian core and Porod tail, integrated over each pixel."""
from typing import NamedTuple

import numpy as np
from numba import njit

LARGEST = 41            # edge of the largest box, pixels
TAIL_EXTENT = 0.6       # how far the tail counts for the extent of a spot, in its squared radius


class Work(NamedTuple):
    """Scratch of the kernels, made once."""

    profile: np.ndarray   # (LARGEST, LARGEST) profile on the box
    start: np.ndarray     # (2 LARGEST,) Gaussian recurrences along fs, one for each half row
    ratio: np.ndarray     # (2 LARGEST,)


def work():
    """`Work` for one thread."""
    return Work(np.zeros((LARGEST, LARGEST)), np.zeros(2 * LARGEST), np.zeros(2 * LARGEST))


@njit(cache=True)
def fill_profile(dx, dy, shape, tail, nx, ny, work):
    """Fill work.profile[:ny, :nx] with a spot of unit content centred (dx, dy) from the corner of its first pixel."""
    work.profile[:ny, :nx] = 0.0
    if tail[0] < 1.0:
        add_gaussian(dx, dy, shape[0], shape[1], shape[2], 1.0 - tail[0], nx, ny, work)
    if tail[0] > 0.0:
        add_tail(dx, dy, tail[0], tail[1], nx, ny, work)


@njit(cache=True)
def add_gaussian(dx, dy, sxx, sxy, syy, weight, nx, ny, work):
    """Add weight times a Gaussian, integrated over each pixel, to work.profile[:ny, :nx].

    (dx, dy) is the centre from the corner of the box's first pixel. The pixel is four points on a grid of 0.5; what
    variance they lack against the pixel's own (1/12 - 1/16 = 1/48) is added to the covariance: at a sigma of 0.35 px
    the centre pixel is right to 0.1 %, at 0.25 px to 0.5 %. Along fs the exponent is a quadratic in the step, so two
    products a point take the place of the exponential.
    """
    sxx, syy = sxx + 1.0 / 48.0, syy + 1.0 / 48.0
    determinant = sxx * syy - sxy * sxy
    a, b, c = syy / determinant, -sxy / determinant, sxx / determinant
    scale = 0.25 * weight / (2.0 * np.pi * np.sqrt(determinant))
    x0 = 0.25 - dx
    for i in range(2 * ny):
        y = 0.25 + 0.5 * i - dy
        work.start[i] = scale * np.exp(-0.5 * (a * x0 * x0 + 2.0 * b * x0 * y + c * y * y))
        work.ratio[i] = np.exp(-(0.5 * a * x0 + 0.5 * b * y + 0.125 * a))
    again = np.exp(-0.25 * a)
    for x in range(nx):
        for y in range(ny):
            s0, s1, r0, r1 = work.start[2 * y], work.start[2 * y + 1], work.ratio[2 * y], work.ratio[2 * y + 1]
            t0, t1 = s0 * r0, s1 * r1
            work.profile[y, x] += s0 + s1 + t0 + t1
            r0, r1 = r0 * again, r1 * again
            work.start[2 * y], work.start[2 * y + 1] = t0 * r0, t1 * r1
            work.ratio[2 * y], work.ratio[2 * y + 1] = r0 * again, r1 * again


@njit(cache=True)
def add_tail(dx, dy, weight, radius2, nx, ny, work):
    """Add weight times radius^2 / pi / (r^2 + radius^2)^2, the tail of a spot, to work.profile[:ny, :nx].

    The pixel's own width is added to the radius: its variance 1/12 along each direction, twice.
    """
    radius2 += 1.0 / 6.0
    scale = weight * radius2 / np.pi
    for y in range(ny):
        y2 = (y + 0.5 - dy) ** 2 + radius2
        for x in range(nx):
            r2 = (x + 0.5 - dx) ** 2 + y2
            work.profile[y, x] += scale / (r2 * r2)


@njit(cache=True, inline="always")
def extent(shape, tail):
    """Covariance (fs fs, fs ss, ss ss) that says how far a spot reaches, its pixel and its tail included."""
    t = tail[0]
    own = t * TAIL_EXTENT * tail[1] + 1.0 / 12.0
    return (1.0 - t) * shape[0] + own, (1.0 - t) * shape[1], (1.0 - t) * shape[2] + own


@njit(cache=True, inline="always")
def inverse_of(sxx, sxy, syy):
    """Elements of the inverse of a symmetric 2 x 2 matrix."""
    determinant = sxx * syy - sxy * sxy
    return syy / determinant, -sxy / determinant, sxx / determinant


@njit(cache=True, inline="always")
def half_box(variance, limit):
    """Half width in pixels, at most (LARGEST - 1) / 2, of a box that holds `limit` standard deviations."""
    return min(int(limit * np.sqrt(variance) + 0.5) + 1, LARGEST // 2)
