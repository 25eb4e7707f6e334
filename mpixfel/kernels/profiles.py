"""The shape of a spot on the pixels: Gaussian core and Porod tail, integrated over each pixel."""
from typing import NamedTuple

import numpy as np
from numba import njit

LARGEST = 40            # edge of the largest box, pixels: a multiple of CHUNK
CHUNK = 8               # boxes are so many pixels wide, or twice that, ...: what the processor takes side by side
SPACE = LARGEST * LARGEST
SHARP = 0.09            # variance, pixels^2, below which a pixel takes 3 x 3 points
TAIL_SHARPNESS = 0.4    # squared radius of a tail that is as sharp
POWER = 1024.0
TAIL_EXTENT = 0.6       # how far the tail counts for the extent of a spot, in its squared radius
FAINT = 0.03            # photons in a pixel below which a spot's far tail is not followed


class Work(NamedTuple):
    """Scratch of the kernels, made once."""

    profile: np.ndarray   # (LARGEST, LARGEST) float32 profile on the box
    pixels: np.ndarray    # (3 SPACE,) float32, a spot's pixels in a row: profile, then photons above background, then
                          # what these scatter by without the spot. One array: the compiler then sees that the three
                          # do not overlap, and takes several pixels side by side
    column: np.ndarray    # (LARGEST,) float32: 0, 1, 2, ...


def work():
    """`Work` for one thread."""
    return Work(np.zeros((LARGEST, LARGEST), np.float32), np.zeros(3 * SPACE, np.float32),
                np.arange(LARGEST, dtype=np.float32))


@njit(cache=True, error_model="numpy")
def fill_profile(dx, dy, shape, tail, far2, nx, ny, work):
    """Fill work.profile[:ny, :nx] with a spot centred (dx, dy) from the corner of the box's first pixel.

    Its content within the radius sqrt(far2), where a spot ends by definition, is 1. A pixel is 2 x 2 points, of very
    sharp spots 3 x 3; what variance those lack against the pixel's own is added to the spot's. So a pixel is right to
    0.1 % of the spot down to a sigma of 0.3 pixels, to 0.4 % down to 0.2. (0.2 us for 8 x 7 pixels, 0.4 us for 16 x 9.)
    """
    sxx, sxy, syy, share = shape[0], shape[1], shape[2], tail[0]
    smallest = 0.5 * (sxx + syy) - np.sqrt(0.25 * (sxx - syy) ** 2 + sxy * sxy)
    m = 2 if min(smallest, TAIL_SHARPNESS * tail[1]) > SHARP else 3
    step = 1.0 / m
    lack = step * step / 12.0
    sxx, syy, radius2 = sxx + lack, syy + lack, tail[1] + 2.0 * lack
    determinant = sxx * syy - sxy * sxy
    whole = step * step / (1.0 - share * radius2 / (far2 + radius2))
    core = np.float32((1.0 - share) * whole / (2.0 * np.pi * np.sqrt(determinant)))
    wide = np.float32(share * whole * radius2 / np.pi)
    scale = 1.0 / (determinant * POWER)
    a, b, c = np.float32(-0.5 * syy * scale), np.float32(sxy * scale), np.float32(-0.5 * sxx * scale)
    radius2, step, offset = np.float32(radius2), np.float32(step), np.float32(0.5 * step - dx)
    for y in range(ny):
        r = np.float32(y - dy) + np.float32(0.5) * step
        if m == 2:
            s = r + step
            two_by_two(work.profile, y, work.column, nx, offset, step, c * r * r, b * r, r * r + radius2, c * s * s, b * s,
                       s * s + radius2, a, core, wide)
        else:
            for i in range(3):
                s = r + np.float32(i) * step
                three(work.profile, y, work.column, nx, offset, step, c * s * s, b * s, s * s + radius2, a, core, wide,
                      np.float32(min(i, 1)))


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def density(x, t0, t1, t2, r2, core, wide):
    """core exp(POWER (t0 + t1 x + t2 x^2)) + wide / (x^2 + r2)^2.

    The exponential is (1 + t + t^2 / 2)^1024, good to 10^-4 of itself down to e^-10: ten products, side by side for
    several pixels, in the time of a tenth of a call.
    """
    t = max(t0 + x * (t1 + t2 * x), np.float32(-0.03))
    e = np.float32(1.0) + t * (np.float32(1.0) + np.float32(0.5) * t)
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    q = x * x + r2
    return core * e + wide / (q * q)


@njit(cache=True, fastmath=True, error_model="numpy")
def two_by_two(profile, y, column, nx, offset, step, p0, p1, p2, q0, q1, q2, a, core, wide):
    """Fill a row of pixels with the sums of their 2 x 2 points: p, q are the coefficients of the two rows of points."""
    for x in range(nx):
        r = column[x] + offset
        s = r + step
        profile[y, x] = (density(r, p0, p1, a, p2, core, wide) + density(s, p0, p1, a, p2, core, wide)
                         + density(r, q0, q1, a, q2, core, wide) + density(s, q0, q1, a, q2, core, wide))


@njit(cache=True, fastmath=True, error_model="numpy")
def three(profile, y, column, nx, offset, step, p0, p1, p2, a, core, wide, keep):
    """Add one row of points, three a pixel, to `keep` times what a row of pixels holds."""
    for x in range(nx):
        r = column[x] + offset
        profile[y, x] = (keep * profile[y, x] + density(r, p0, p1, a, p2, core, wide) + density(r + step, p0, p1, a, p2, core, wide)
                         + density(r + step + step, p0, p1, a, p2, core, wide))


class Foreground(NamedTuple):
    """The pixels of a spot: within an ellipse, or within `near2` of the centre, and never beyond `far2`."""

    a: float         # the ellipse a x^2 + 2 b x y + c y^2 <= 1, pixels
    b: float
    c: float
    near2: float     # squared radii, pixels^2
    far2: float
    wide: int        # half widths of the box that holds it all
    high: int


@njit(cache=True, error_model="numpy")
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
    largest = LARGEST // 2 - 1
    scale = 1.0 / (limit * limit)
    return Foreground(a * scale, b * scale, c * scale, near * near, far * far, min(int(wide + 0.5) + 1, largest),
                      min(int(high + 0.5) + 1, largest))


@njit(cache=True, error_model="numpy", inline="always")
def belongs(dx, dy, fore):
    """Whether a pixel at (dx, dy) from a spot's centre is of its foreground."""
    r2 = dx * dx + dy * dy
    return r2 <= fore.far2 and (r2 <= fore.near2
                                or fore.a * dx * dx + 2.0 * fore.b * dx * dy + fore.c * dy * dy <= 1.0)


@njit(cache=True, error_model="numpy", inline="always")
def inverse_of(sxx, sxy, syy):
    """Elements of the inverse of a symmetric 2 x 2 matrix."""
    determinant = sxx * syy - sxy * sxy
    return syy / determinant, -sxy / determinant, sxx / determinant


@njit(cache=True, error_model="numpy", inline="always")
def box_of(fore, x, y):
    """(left, top, width, height) of the box about a spot centred (x, y), its width a multiple of CHUNK."""
    width = 2 * fore.wide + 1
    return int(x) - fore.wide, int(y) - fore.high, (width + CHUNK - 1) // CHUNK * CHUNK, 2 * fore.high + 1
