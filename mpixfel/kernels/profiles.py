"""The shape of a spot on the pixels: Gaussian core and Porod tail, integrated over each pixel."""
from typing import NamedTuple

import numpy as np
from numba import njit

LARGEST = 48            # edge of the largest box, pixels: a multiple of CHUNK
CHUNK = 16              # boxes are so many pixels wide, or twice that, ...: what the compiler takes side by side
GROUP = 32              # pixels that loops take side by side, at most
SPACE = LARGEST * LARGEST
SMOOTH = 0.4            # variance, pixels^2, from which a pixel's centre will do
FINENESS = 0.6          # of a sharper spot, points are so many standard deviations apart at most,
FINEST = 8              # but there are no more than so many along a pixel's edge: sharper spots are blurred to fit
REACH = 5.5             # standard deviations beyond which a core is nothing
SHARP_REACH = 2.0       # pixels beyond which even the sharpest tail is smooth enough for one point a pixel
ALL_TAIL = 0.9995       # share of the tail from which there is no core
TAIL_SHARPNESS = 0.4    # squared radius of a tail that is as sharp
POWER = 1024.0
TAIL_EXTENT = 0.6       # how far the tail counts for the extent of a spot, in its squared radius
NOWHERE = 1e6           # pixels
FAINT = 0.03            # photons in a pixel below which a spot's far tail is not followed


class Work(NamedTuple):
    """Scratch of the kernels, made once. Boxes lie in it row by row, `nx` pixels each: 0, 1, 2 ... CHUNK pixels wide.

    So all that is done to a box is one long loop, in which the processor takes many pixels side by side.
    """

    pixels: np.ndarray    # (4 SPACE,) float32, a spot's pixels: profile; photons above background; what these scatter
                          # by without the spot; raw photons. One array: the compiler then sees that they do not overlap
    x: np.ndarray         # (widths, SPACE) float32: the pixel's column in boxes of CHUNK, 2 CHUNK, ... pixels
    y: np.ndarray         # (widths, SPACE) float32: its row


def work():
    """`Work` for one thread."""
    widths = np.arange(CHUNK, LARGEST + 1, CHUNK)[:, None]
    place = np.arange(SPACE)
    return Work(np.zeros(4 * SPACE, np.float32), (place % widths).astype(np.float32), (place // widths).astype(np.float32))


@njit(cache=True, error_model="numpy", inline="always")
def whole_groups(n):
    """Pixels up to which a loop over n goes: what it does beyond does no harm, and no remainder is left."""
    return (n + GROUP - 1) // GROUP * GROUP


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_profile(dx, dy, shapes, tails, i, far2, nx, ny, work):
    """Fill work.pixels[:nx * ny] with a spot centred (dx, dy) from the corner of the box's first pixel.

    shapes (n, 3), tails (n, 6): see `predict.Predictions`; the spot is the ith. (Views of single rows cost more than what is
    done with them.)

    Its content within the radius sqrt(far2), where a spot ends by definition, is 1. The tail is taken at the pixels'
    centres; where the core lies, and where the tail is sharp, a pixel is 2 x 2 points, of very sharp spots up to 8 x 8. What
    variance points lack against the pixel's own is added to the spot's. So a pixel is right to 0.4 % of the spot down to
    a sigma of 0.075 pixels, and sharper ones are drawn with that: nobody knows so well where they stand.
    """
    shape, tail = (shapes[i, 0], shapes[i, 1], shapes[i, 2]), six(tails, i)
    wide = TAIL_SHARPNESS * narrowest(tail[3], tail[4], tail[5])
    sharp = wide if tail[0] > ALL_TAIL else min(wide, narrowest(shape[0], shape[1], shape[2]))
    points = 1 if sharp >= SMOOTH else max(min(int(np.ceil(FINENESS / np.sqrt(sharp))), FINEST), 2)
    blur = max((FINENESS / FINEST) ** 2 - sharp, 0.0)
    reach = SHARP_REACH if points > 1 else 0.0
    if tail[0] <= ALL_TAIL:
        reach = max(reach, REACH * np.sqrt(shape[2] + 0.1))
    first, last = max(int(np.floor(dy - reach)), 0), min(int(np.floor(dy + reach)) + 1, ny)
    if reach == 0.0:
        first = last = ny
    begin = nx * first
    end = begin + whole_groups(nx * (last - first))
    _, u, v, w, rest = tail_form(tail, far2, 1.0 / 12.0)
    form, x, y = (u, v, w, rest), np.float32(0.5 - dx - tail[1]), np.float32(0.5 - dy - tail[2])
    tail_points(work.pixels, np.uint64(0), np.uint64(whole_groups(begin)), work.x, work.y, np.uint64(nx // CHUNK - 1), x,
                y, form)
    if first < last:
        core_rows(dx, dy, shape, tail, far2, points, blur, begin, end - begin, work, nx // CHUNK - 1)
    if end < nx * ny:
        tail_points(work.pixels, np.uint64(end), np.uint64(whole_groups(nx * ny - end)), work.x, work.y,
                    np.uint64(nx // CHUNK - 1), x, y, form)


@njit(cache=True, error_model="numpy", inline="always")
def six(table, i):
    """A row of a table (n, 6) as a tuple."""
    return table[i, 0], table[i, 1], table[i, 2], table[i, 3], table[i, 4], table[i, 5]


@njit(cache=True, error_model="numpy", inline="always")
def tail_form(tail, far2, lack):
    """(what makes the content within far2 one, root of the tail's quadratic form: xx, xy, yy and 1) at points a `lack`
    of variance apart: the tail is 1 / (form)^2."""
    wxx, wxy, wyy = tail[3] + 2.0 * lack, tail[4], tail[5] + 2.0 * lack
    determinant = wxx * wyy - wxy * wxy
    radius2 = np.sqrt(determinant)
    whole = 1.0 / (1.0 - tail[0] * radius2 / (far2 + radius2))
    # The tail is whole share / pi / radius2 / (1 + d^T W^-1 d)^2; its root is taken into the quadratic form.
    fold = np.sqrt(np.pi * radius2 / max(whole * tail[0], 1e-30)) / determinant
    return whole, np.float32(wyy * fold), np.float32(-2.0 * wxy * fold), np.float32(wxx * fold), np.float32(fold * determinant)


@njit(cache=True, _nrt=False, fastmath=True, error_model="numpy")
def tail_points(pixels, begin, n, columns, lines, width, offset_x, offset_y, form):
    """Fill n pixels from `begin` on with the tail at their centres; unsigned counts, which need no look at their sign."""
    u, v, w, rest = form
    for k in range(begin, begin + n):
        x, y = columns[width, k] + offset_x, lines[width, k] + offset_y
        q = rest + x * (u * x + v * y) + w * y * y
        pixels[k] = np.float32(1.0) / (q * q)


@njit(cache=True, _nrt=False, error_model="numpy")
def core_rows(dx, dy, shape, tail, far2, m, blur, begin, n, work, width):
    """Fill n pixels from `begin` on with core and tail, each the mean of m x m points; `blur` adds to their variances."""
    step = 1.0 / m
    lack = step * step / 12.0 + blur
    whole, u, v, w, rest = tail_form(tail, far2, lack)
    sxx, sxy, syy = shape[0] + lack, shape[1], shape[2] + lack
    determinant = sxx * syy - sxy * sxy
    core = np.float32((1.0 - tail[0]) * whole * step * step / (2.0 * np.pi * np.sqrt(determinant)))
    scale = 1.0 / (determinant * POWER)
    a, b, c = np.float32(-0.5 * syy * scale), np.float32(sxy * scale), np.float32(-0.5 * sxx * scale)
    form = (core, a, b, c, u * np.float32(m), v * np.float32(m), w * np.float32(m), rest * np.float32(m),
            np.float32(tail[1]), np.float32(tail[2]))
    for j in range(m):
        y = np.float32((j + 0.5) * step - dy)
        for i in range(m):
            x = np.float32((i + 0.5) * step - dx)
            keep = np.float32(0.0) if i == 0 and j == 0 else np.float32(1.0)
            core_points(work.pixels, np.uint64(begin), np.uint64(n), work.x, work.y, np.uint64(width), x, y, keep, form)


@njit(cache=True, _nrt=False, fastmath=True, error_model="numpy")
def core_points(pixels, begin, n, columns, lines, width, offset_x, offset_y, keep, form):
    """Add one point of each of n pixels to `keep` times what is there; unsigned counts as above."""
    core, a, b, c, u, v, w, rest, aside_x, aside_y = form
    for k in range(begin, begin + n):
        x, y = columns[width, k] + offset_x, lines[width, k] + offset_y
        pixels[k] = keep * pixels[k] + density(x, y, core, a, b, c, u, v, w, rest, aside_x, aside_y)


@njit(cache=True, error_model="numpy", inline="always")
def narrowest(sxx, sxy, syy):
    """Smallest eigenvalue of a symmetric 2 x 2 matrix."""
    return 0.5 * (sxx + syy) - np.sqrt(0.25 * (sxx - syy) ** 2 + sxy * sxy)


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def density(x, y, core, a, b, c, u, v, w, rest, aside_x, aside_y):
    """core exp(POWER (a x^2 + b x y + c y^2)) + 1 / (u z^2 + v z t + w t^2 + rest)^2, z and t are x and y less the asides.

    The exponential is (1 + t + t^2 / 2)^1024, good to 10^-4 of itself down to e^-10: ten products, side by side for
    several pixels, in the time of a tenth of a call.
    """
    p = max(x * (a * x + b * y) + c * y * y, np.float32(-0.03))
    e = np.float32(1.0) + p * (np.float32(1.0) + np.float32(0.5) * p)
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
    z, t = x - aside_x, y - aside_y
    q = rest + z * (u * z + v * t) + w * t * t
    return core * e + np.float32(1.0) / (q * q)


class Foreground(NamedTuple):
    """The pixels of a spot: within an ellipse, or within `near2` of the centre, and never beyond `far2`."""

    a: float         # the ellipse a x^2 + 2 b x y + c y^2 <= 1, pixels
    b: float
    c: float
    near2: float     # squared radii, pixels^2
    far2: float
    wide: float      # half widths of the box that holds it all, pixels
    high: float


@njit(cache=True, _nrt=False, error_model="numpy")
def foreground(shapes, tails, i, intensity, limit, radius):
    """`Foreground` of the ith spot: an ellipse of `limit` standard deviations, its tail's share in them.

    A spot of known `intensity` (photons, 0 if not known) is followed to where its tail falls to `FAINT`; no spot is
    followed farther than `radius` pixels unless its core is drawn out farther.
    """
    shape, tail = (shapes[i, 0], shapes[i, 1], shapes[i, 2]), six(tails, i)
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
    largest = 0.5 * LARGEST - 1.0
    scale = 1.0 / (limit * limit)
    return Foreground(a * scale, b * scale, c * scale, near * near, far * far, min(wide, largest), min(high, largest))


@njit(cache=True, error_model="numpy", inline="always")
def belongs(dx, dy, fore):
    """Whether a pixel at (dx, dy) from a spot's centre is of its foreground."""
    r2 = dx * dx + dy * dy
    return r2 <= fore.far2 and (r2 <= fore.near2
                                or fore.a * dx * dx + 2.0 * fore.b * dx * dy + fore.c * dy * dy <= 1.0)


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_spans(fore, x, y, top, n, width, ends):
    """Fill ends[:n] with the first pixel, and that after the last, of a spot in n rows from `top` on.

    It stands at x, y on a panel `width` wide. The pixels are those that `belongs` says, without branches, so that the rows
    go side by side. Where the spot has none in a row, first >= last.
    """
    lean, squeeze, widest2 = -fore.b / fore.a, (fore.b * fore.b - fore.a * fore.c) / (fore.a * fore.a), 1.0 / fore.a
    for j in range(np.uint64(n)):
        dy = top + 0.5 - y + j
        dy2 = dy * dy
        far2, near2, half2 = fore.far2 - dy2, fore.near2 - dy2, squeeze * dy2 + widest2
        far, near, half = np.sqrt(max(far2, 0.0)), np.sqrt(max(near2, 0.0)), np.sqrt(max(half2, 0.0))
        first = min(lean * dy - half if half2 >= 0.0 else NOWHERE, -near if near2 >= 0.0 else NOWHERE)
        last = max(lean * dy + half if half2 >= 0.0 else -NOWHERE, near if near2 >= 0.0 else -NOWHERE)
        first, last = max(first, -far), min(last, far if far2 >= 0.0 else -NOWHERE)
        ends[j, 0] = max(np.ceil(x + first - 0.5), 0.0)
        ends[j, 1] = min(np.floor(x + last + 0.5), float(width))


@njit(cache=True, error_model="numpy", inline="always")
def inverse_of(sxx, sxy, syy):
    """Elements of the inverse of a symmetric 2 x 2 matrix."""
    determinant = sxx * syy - sxy * sxy
    return syy / determinant, -sxy / determinant, sxx / determinant


@njit(cache=True, error_model="numpy", inline="always")
def box_of(fore, x, y):
    """(left, top, width, height) of the box about a spot centred (x, y), its width a multiple of CHUNK.

    Its pixels are those whose centres lie within the half widths, and some more on the right.
    """
    left, top = int(np.ceil(x - 0.5 - fore.wide)), int(np.ceil(y - 0.5 - fore.high))
    width, height = int(np.floor(x - 0.5 + fore.wide)) - left + 1, int(np.floor(y - 0.5 + fore.high)) - top + 1
    return left, top, max(width + CHUNK - 1, CHUNK) // CHUNK * CHUNK, max(height, 1)
