"""The shape of a spot on the pixels: Gaussian core and Porod tail, integrated over each pixel."""
from typing import NamedTuple

import numpy as np
from numba import njit

LARGEST = 41            # edge of the largest box, pixels
CORE_REACH = 5.5        # standard deviations of the core beyond which it is nothing
TAIL_EXTENT = 0.6       # how far the tail counts for the extent of a spot, in its squared radius
FAINT = 0.03            # photons in a pixel below which a spot's far tail is not followed


class Work(NamedTuple):
    """Scratch of the kernels, made once."""

    profile: np.ndarray   # (LARGEST, LARGEST) profile on the box
    pixel: np.ndarray     # (5, LARGEST^2) a spot's pixels in a row: profile, above background, variance, dx, dy
    start: np.ndarray     # (3 LARGEST,) Gaussian recurrences along fs, one for each row of points
    ratio: np.ndarray     # (3 LARGEST,)


def work():
    """`Work` for one thread."""
    return Work(np.zeros((LARGEST, LARGEST)), np.zeros((5, LARGEST * LARGEST)), np.zeros(3 * LARGEST), np.zeros(3 * LARGEST))


@njit(cache=True)
def fill_profile(dx, dy, shape, tail, far2, nx, ny, work):
    """Fill work.profile[:ny, :nx] with a spot centred (dx, dy) from the corner of the box's first pixel.

    Its content within the radius sqrt(far2), where a spot ends by definition, is 1.
    """
    work.profile[:ny, :nx] = 0.0
    radius2 = tail[1]
    whole = 1.0 / (1.0 - tail[0] * radius2 / (far2 + radius2))
    if tail[0] < 1.0:
        add_gaussian(dx, dy, shape[0], shape[1], shape[2], whole * (1.0 - tail[0]), nx, ny, work)
    if tail[0] > 0.0:
        add_tail(dx, dy, whole * tail[0], radius2, nx, ny, work)


@njit(cache=True)
def add_gaussian(dx, dy, sxx, sxy, syy, weight, nx, ny, work):
    """Add weight times a Gaussian, integrated over each pixel, to work.profile[:ny, :nx].

    (dx, dy) is the centre from the corner of the box's first pixel. A pixel is m x m points; what variance they lack
    against the pixel's own, 1 / (12 m^2), is added to the covariance. With m = 2 down to a variance of 0.09 and m = 3
    below, every pixel is right to 0.1 % of the spot down to a sigma of 0.2 pixels. Along fs the exponent is a quadratic
    in the step, so two products a point take the place of the exponential.
    """
    smallest = 0.5 * (sxx + syy) - np.sqrt(0.25 * (sxx - syy) ** 2 + sxy * sxy)
    m = 2 if smallest > 0.09 else 3
    step = 1.0 / m
    sxx, syy = sxx + step * step / 12.0, syy + step * step / 12.0
    a, b, c = inverse_of(sxx, sxy, syy)
    scale = step * step * weight / (2.0 * np.pi) * np.sqrt(a * c - b * b)
    # Beyond the core's reach there is nothing to add, and the recurrence would start from an underflow.
    wide, high = CORE_REACH * np.sqrt(sxx), CORE_REACH * np.sqrt(syy)
    first_x, last_x = max(int(dx - wide), 0), min(int(dx + wide) + 1, nx)
    first_y, last_y = max(int(dy - high), 0), min(int(dy + high) + 1, ny)
    x0 = first_x + 0.5 * step - dx
    for i in range(m * first_y, m * last_y):
        y = (i + 0.5) * step - dy
        work.start[i] = scale * np.exp(-0.5 * (a * x0 * x0 + 2.0 * b * x0 * y + c * y * y))
        work.ratio[i] = np.exp(-step * (a * x0 + b * y + 0.5 * step * a))
    again = np.exp(-step * step * a)
    for x in range(first_x, last_x):
        for y in range(first_y, last_y):
            total = 0.0
            for i in range(m * y, m * y + m):
                value, ratio = work.start[i], work.ratio[i]
                for _ in range(m):
                    total += value
                    value *= ratio
                    ratio *= again
                work.start[i], work.ratio[i] = value, ratio
            work.profile[y, x] += total


@njit(cache=True)
def add_tail(dx, dy, weight, radius2, nx, ny, work):
    """Add weight times R / pi / (r^2 + R)^2, R = radius2: the tail of a spot, to work.profile[:ny, :nx].

    Integrated over 3 x 3 points of each pixel near the centre, and taken at the centre of the others; what variance
    the points lack against the pixel, 1/108 along each direction, is added to R.
    """
    radius2 += 1.0 / 54.0
    scale = weight * radius2 / np.pi
    for y in range(ny):
        ry = y + 0.5 - dy
        for x in range(nx):
            rx = x + 0.5 - dx
            r2 = rx * rx + ry * ry
            if r2 > 9.0:
                r2 += radius2 + 4.0 / 27.0
                work.profile[y, x] += scale / (r2 * r2)
                continue
            total = 0.0
            for i in range(3):
                y2 = (ry + (i - 1) / 3.0) ** 2 + radius2
                for j in range(3):
                    r2 = (rx + (j - 1) / 3.0) ** 2 + y2
                    total += 1.0 / (r2 * r2)
            work.profile[y, x] += scale / 9.0 * total


class Foreground(NamedTuple):
    """The pixels of a spot: within an ellipse, or within `near2` of the centre, and never beyond `far2`."""

    a: float         # the ellipse a x^2 + 2 b x y + c y^2 <= 1, pixels
    b: float
    c: float
    near2: float     # squared radii, pixels^2
    far2: float
    wide: int        # half widths of the box that holds it all
    high: int


@njit(cache=True)
def foreground(shape, tail, intensity, limit, radius):
    """`Foreground` of a spot: an ellipse of `limit` standard deviations, its tail's share in them.

    A spot of known `intensity` (photons, 0 if not known) is followed to where its tail falls to `FAINT`; no spot is
    followed farther than `radius` pixels unless its core is drawn out farther.
    """
    t = tail[0]
    own = t * TAIL_EXTENT * tail[1] + 1.0 / 12.0
    sxx, sxy, syy = (1.0 - t) * shape[0] + own, (1.0 - t) * shape[1], (1.0 - t) * shape[2] + own
    a, b, c = inverse_of(sxx, sxy, syy)
    longest = 0.5 * (shape[0] + shape[2]) + np.sqrt(0.25 * (shape[0] - shape[2]) ** 2 + shape[1] * shape[1]) + 1.0 / 12.0
    far = max(radius, limit * np.sqrt(longest))
    near = min(np.sqrt(np.sqrt(max(intensity, 0.0) * t * (tail[1] + 1.0 / 6.0) / np.pi / FAINT)), far)
    wide = min(max(limit * np.sqrt(sxx), near), far)
    high = min(max(limit * np.sqrt(syy), near), far)
    largest = LARGEST // 2
    scale = 1.0 / (limit * limit)
    return Foreground(a * scale, b * scale, c * scale, near * near, far * far, min(int(wide + 0.5) + 1, largest),
                      min(int(high + 0.5) + 1, largest))


@njit(cache=True, inline="always")
def belongs(dx, dy, fore):
    """Whether a pixel at (dx, dy) from a spot's centre is of its foreground."""
    r2 = dx * dx + dy * dy
    return r2 <= fore.far2 and (r2 <= fore.near2
                                or fore.a * dx * dx + 2.0 * fore.b * dx * dy + fore.c * dy * dy <= 1.0)


@njit(cache=True, inline="always")
def inverse_of(sxx, sxy, syy):
    """Elements of the inverse of a symmetric 2 x 2 matrix."""
    determinant = sxx * syy - sxy * sxy
    return syy / determinant, -sxy / determinant, sxx / determinant
