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
    dark: np.ndarray      # (1, 1, LARGEST) float32: no light


def work():
    """`Work` for one thread."""
    return Work(np.zeros((LARGEST, LARGEST), np.float32), np.zeros(3 * SPACE, np.float32),
                np.arange(LARGEST, dtype=np.float32), np.zeros((1, 1, LARGEST), np.float32))


@njit(cache=True, error_model="numpy")
def fill_profile(dx, dy, shape, tail, far2, nx, ny, work):
    """Fill work.profile[:ny, :nx] with a spot centred (dx, dy) from the corner of the box's first pixel.

    Its content within the radius sqrt(far2), where a spot ends by definition, is 1. A pixel is 2 x 2 points, of very
    sharp spots 3 x 3; what variance those lack against the pixel's own is added to the spot's. So a pixel is right to
    0.1 % of the spot down to a sigma of 0.3 pixels, to 0.4 % down to 0.2. (0.2 us for 8 x 7 pixels, 0.4 us for 16 x 9.)
    """
    sxx, sxy, syy, share = shape[0], shape[1], shape[2], tail[0]
    m = 2 if min(narrowest(sxx, sxy, syy), TAIL_SHARPNESS * narrowest(tail[3], tail[4], tail[5])) > SHARP else 3
    step = 1.0 / m
    lack = step * step / 12.0
    sxx, syy, wxx, wxy, wyy = sxx + lack, syy + lack, tail[3] + 2.0 * lack, tail[4], tail[5] + 2.0 * lack
    determinant, wide_determinant = sxx * syy - sxy * sxy, wxx * wyy - wxy * wxy
    radius2 = np.sqrt(wide_determinant)
    whole = step * step / (1.0 - share * radius2 / (far2 + radius2))
    core = np.float32((1.0 - share) * whole / (2.0 * np.pi * np.sqrt(determinant)))
    # The tail is whole share / pi / radius2 / (1 + d^T W^-1 d)^2; its root is taken into the quadratic form.
    fold = np.sqrt(np.pi * radius2 / max(whole * share, 1e-30)) / wide_determinant
    scale = 1.0 / (determinant * POWER)
    a, b, c = np.float32(-0.5 * syy * scale), np.float32(sxy * scale), np.float32(-0.5 * sxx * scale)
    u, v, w = np.float32(wyy * fold), np.float32(-2.0 * wxy * fold), np.float32(wxx * fold)
    rest = np.float32(fold * wide_determinant)
    step, offset = np.float32(step), np.float32(0.5 * step - dx)
    aside_x, aside_y = np.float32(tail[1]), np.float32(tail[2])
    for y in range(ny):
        s = np.float32(y - dy) + np.float32(0.5) * step
        if m == 2:
            t = s + step
            fs, ft = s - aside_y, t - aside_y
            two_rows(work.profile, y, work.column, nx, offset, step, aside_x, c * s * s, b * s, v * fs, w * fs * fs + rest,
                     c * t * t, b * t, v * ft, w * ft * ft + rest, a, u, core)
            continue
        work.profile[y, :nx] = np.float32(0.0)
        for _ in range(3):
            fs = s - aside_y
            row_of_three(work.profile, y, work.column, nx, offset, step, aside_x, c * s * s, b * s, v * fs,
                         w * fs * fs + rest, a, u, core)
            s += step


@njit(cache=True, error_model="numpy", inline="always")
def narrowest(sxx, sxy, syy):
    """Smallest eigenvalue of a symmetric 2 x 2 matrix."""
    return 0.5 * (sxx + syy) - np.sqrt(0.25 * (sxx - syy) ** 2 + sxy * sxy)


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def density(x, aside, p0, p1, a, q1, q0, u, core):
    """core exp(POWER (p0 + p1 x + a x^2)) + 1 / (u z^2 + q1 z + q0)^2 with z = x - aside.

    The exponential is (1 + t + t^2 / 2)^1024, good to 10^-4 of itself down to e^-10: ten products, side by side for
    several pixels, in the time of a tenth of a call.
    """
    t = max(p0 + x * (p1 + a * x), np.float32(-0.03))
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
    z = x - aside
    q = q0 + z * (q1 + u * z)
    return core * e + np.float32(1.0) / (q * q)


@njit(cache=True, fastmath=True, error_model="numpy")
def two_rows(profile, y, column, nx, offset, step, aside, p0, p1, q1, q0, r0, r1, s1, s0, a, u, core):
    """Fill a row of pixels with the sums of 2 x 2 points each: p, q are coefficients of the first row, r, s the second's."""
    for x in range(nx):
        f = column[x] + offset
        g = f + step
        profile[y, x] = (density(f, aside, p0, p1, a, q1, q0, u, core) + density(g, aside, p0, p1, a, q1, q0, u, core)
                         + density(f, aside, r0, r1, a, s1, s0, u, core) + density(g, aside, r0, r1, a, s1, s0, u, core))


@njit(cache=True, fastmath=True, error_model="numpy")
def row_of_three(profile, y, column, nx, offset, step, aside, p0, p1, q1, q0, a, u, core):
    """Add one row of points, three a pixel, to a row of pixels."""
    for x in range(nx):
        f = column[x] + offset
        g = f + step
        profile[y, x] += (density(f, aside, p0, p1, a, q1, q0, u, core) + density(g, aside, p0, p1, a, q1, q0, u, core)
                          + density(g + step, aside, p0, p1, a, q1, q0, u, core))


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
    t, w = tail[0], TAIL_EXTENT * tail[0]
    sxx = (1.0 - t) * shape[0] + w * tail[3] + 1.0 / 12.0
    sxy = (1.0 - t) * shape[1] + w * tail[4]
    syy = (1.0 - t) * shape[2] + w * tail[5] + 1.0 / 12.0
    a, b, c = inverse_of(sxx, sxy, syy)
    # A tail that is drawn out (wide spectrum) makes the spot longer, not rounder.
    longest = (shape[0] + shape[2] - narrowest(shape[0], shape[1], shape[2]) + 1.0 / 12.0
               + w * (tail[3] + tail[5] - 2.0 * narrowest(tail[3], tail[4], tail[5])))
    far = max(radius, limit * np.sqrt(longest))
    radius2 = np.sqrt(tail[3] * tail[5] - tail[4] * tail[4])
    near = min(np.sqrt(np.sqrt(max(intensity, 0.0) * t * (radius2 + 1.0 / 6.0) / np.pi / FAINT)), far)
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
