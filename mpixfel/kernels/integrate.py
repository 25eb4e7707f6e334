"""Intensities of predicted spots by summation and profile fit; where a spot stands, and how wide it is."""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.footprint import row_bits
from mpixfel.kernels.levels import plane
from mpixfel.kernels.profiles import CHUNK, SPACE, box_of, fill_profile, foreground, inverse_of, whole_groups

ROUNDS = 4          # of the profile fit, at most: its weights follow the intensity
SETTLED = 0.03      # standard errors of the intensity by which it moves no more
MADE_UP = 0.08      # error, relative, of what the profile makes up for bad and saturated pixels
NOTHING = np.float32(1e30)   # variance of a pixel that does not count
# Without signs: nothing is counted from an array's end, and the compiler need not look.
ONE, TWO, THREE, FOUR, EIGHT = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(8)
SPACE_1, SPACE_2, SPACE_3 = np.uint64(SPACE), np.uint64(2 * SPACE), np.uint64(3 * SPACE)


class Spots(NamedTuple):
    """What is measured of spots, one row each; a spot that could not be measured is NaN throughout.

    `offset`, `information`, `widening`, `width_information` are for spots that stand out: one Gauss-Newton step of
    place and width with the intensity fitted along, and how well the pixels know it.
    """

    intensity: np.ndarray           # (n,) photons, profile fit
    sigma: np.ndarray               # (n,)
    total: np.ndarray               # (n,) photons, summation over the foreground, its missing share made up
    total_sigma: np.ndarray         # (n,)
    background: np.ndarray          # (n,) photons / pixel
    background_sigma: np.ndarray    # (n,)
    peak: np.ndarray                # (n,) largest pixel above background, photons
    share: np.ndarray               # (n,) of the light that falls on the spot's foreground, the share on good pixels
    claimed: np.ndarray             # (n,) share on pixels that other spots claim too
    offset: np.ndarray              # (n, 2) from the prediction along fs, ss, pixels
    information: np.ndarray         # (n, 3) fs fs, fs ss, ss ss, 1/pixel^2
    widening: np.ndarray            # (n, 2) what the variances along r and t lack, 1/angstrom^2
    width_information: np.ndarray   # (n, 2) angstrom^4


WIDTHS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 2, 2)


def spots(n):
    """`Spots` with room for n."""
    return Spots(*(np.empty((n, w)) if w else np.empty(n) for w in WIDTHS))


@njit(cache=True, _nrt=False, error_model="numpy")
def measure(image, light, rows, which, wide, prior, lit, bounds, claims, levels, stamp, limit, radius, readout_variance,
            bright, work, out):
    """Measure predicted spots: those whose indices are in `which` (m,).

    Parameters
    ----------
    image : (P, SS, FS) float32 photons, NaN where bad
    light : (P, SS, FS) float32 what the spots shine on the pixels, made by `footprint.shine` with the intensities
        `prior` (n,): the light of all others is taken off each spot
    wide : (n,) intensities that say how far spots extend, those of `footprint.mark` and `footprint.shine`
    lit : (n,) bool: whether others shine on a spot at all; where not, `light` is not looked at
    rows : Predictions
    bounds : (P, 2) panel shapes (ss, fs)
    claims : Claims made by `footprint.mark`
    levels, stamp : room for the background, and a number that no earlier call with it had
    limit, radius : extent of a spot, see `profiles.foreground`
    readout_variance : of a pixel beyond that of the photons in it; negative where they stand on a pedestal
    bright : signal to noise from which place and width are measured
    out : Spots
    """
    for i in which:
        p, x, y = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
        level, slope_x, slope_y, error2 = plane(image, p, x, y, stamp, bounds, claims.one, readout_variance, levels)
        fore = foreground(rows.shape, rows.tail, i, wide[i], limit, radius)
        left, top, width, height = box_of(fore, x, y)
        size = width * height
        fill_profile(x - left, y - top, rows.shape, rows.tail, i, fore.far2, width, height, work)
        copy_box(image, p, left, top, width, height, bounds[p, 1], bounds[p, 0], work.pixels)
        total, share, whole, noise, m = take(
            work.pixels, whole_groups(size), work.x, work.y, width // CHUNK - 1, np.float32(left + 0.5 - x),
            np.float32(top + 0.5 - y), np.float32(level), np.float32(slope_x), np.float32(slope_y),
            np.float32(readout_variance), np.float32(fore.a), np.float32(2.0 * fore.b), np.float32(fore.c),
            np.float32(fore.near2), np.float32(fore.far2))
        claimed = 0.0
        if lit[i]:
            total, noise, claimed = dim(light, claims.more, p, left, top, width, size, prior[i], work.pixels, total,
                                        noise)
        if share <= 0.0 or not np.isfinite(error2):
            void(out, i)
            continue
        intensity, weights, leak = best_fit(work.pixels, size, prior[i])
        made_up2 = (MADE_UP * (1.0 - share / whole)) ** 2
        sigma = np.sqrt(1.0 / weights + leak * leak * error2 + made_up2 * max(intensity, 0.0) ** 2)
        out.intensity[i], out.sigma[i] = intensity, sigma
        out.total[i] = total / share
        out.total_sigma[i] = np.sqrt(max(total, 0.0) + noise + m * m * error2 + made_up2 * max(total, 0.0) ** 2) / share
        out.background[i], out.background_sigma[i] = level, np.sqrt(error2)
        out.peak[i], out.share[i], out.claimed[i] = greatest(work.pixels, size), share / whole, claimed
        forget_place(out, i)
        if intensity > bright * sigma:
            place_and_width(intensity, rows.shape, rows.tail, rows.frame, size, work, width // CHUNK - 1, left - x,
                            top - y, out, i)


@njit(cache=True, _nrt=False, error_model="numpy")
def copy_box(image, p, left, top, width, height, size_x, size_y, pixels):
    """Copy the pixels of a box to pixels[3 SPACE:], and NaN for those off the panel and for a GROUP beyond the last."""
    if left >= 0 and left + width <= size_x and top >= 0 and top + height <= size_y:
        to, panel = SPACE_3, np.uint64(p)
        for y in range(np.uint64(top), np.uint64(top + height)):
            for x in range(np.uint64(left), np.uint64(left + width), EIGHT):
                # All are read before any is written: so they go in one piece.
                a, b, c, d = image[panel, y, x], image[panel, y, x + ONE], image[panel, y, x + TWO], image[panel, y, x + THREE]
                x += FOUR
                e, f, g, h = image[panel, y, x], image[panel, y, x + ONE], image[panel, y, x + TWO], image[panel, y, x + THREE]
                pixels[to], pixels[to + ONE], pixels[to + TWO], pixels[to + THREE] = a, b, c, d
                to += FOUR
                pixels[to], pixels[to + ONE], pixels[to + TWO], pixels[to + THREE] = e, f, g, h
                to += FOUR
    else:
        for k in range(width * height):
            y, x = top + k // width, left + k % width
            inside = 0 <= y < size_y and 0 <= x < size_x
            pixels[3 * SPACE + k] = image[p, y, x] if inside else np.nan
    for k in range(width * height, whole_groups(width * height)):
        pixels[3 * SPACE + k] = np.nan


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def take(pixels, n, columns, lines, row, offset_x, offset_y, level, slope_x, slope_y, readout_variance, a, b, c, near2,
         far2):
    """Write profile, photons above background and variance of a box's pixels; those that do not count become nothing, so
    that what follows needs no branches. Returns sums: photons above background, profile, that with bad pixels, variance, 1.

    A pixel counts that is not NaN and lies in the ellipse a x^2 + b x y + c y^2 <= 1 or within near2, but not beyond far2.
    """
    zero, one, least = np.float32(0.0), np.float32(1.0), np.float32(0.01)
    total, share, whole, noise, count = zero, zero, zero, zero, zero
    row = np.uint64(row)
    for k in range(np.uint64(n)):
        x, y, v, shape = columns[row, k] + offset_x, lines[row, k] + offset_y, pixels[SPACE_3 + k], pixels[k]
        r2 = x * x + y * y
        shape = shape if (r2 <= far2) & ((r2 <= near2) | (x * (a * x + b * y) + c * y * y <= one)) else zero
        whole += shape
        good = (v == v) & (shape > zero)
        background = level + slope_x * x + slope_y * y
        rest = v - background if good else zero
        shape = shape if good else zero
        variance = max(background + readout_variance, least)
        pixels[k] = shape
        pixels[SPACE_1 + k] = rest
        pixels[SPACE_2 + k] = variance if good else NOTHING
        total += rest
        share += shape
        noise += variance if good else zero
        count += one if good else zero
    return total, share, whole, noise, count


@njit(cache=True, _nrt=False, error_model="numpy")
def dim(light, shared, p, left, top, width, size, prior, pixels, total, noise):
    """Take the light of other spots off a spot's pixels; (total, noise) after it, and the share that others claim."""
    claimed = 0.0
    for k in range(size):
        if pixels[2 * SPACE + k] < NOTHING:
            y, x = top + k // width, left + k % width
            other = light[p, y, x] - np.float32(prior) * pixels[k]
            pixels[SPACE + k] -= other
            total -= other
            if other > 0.0:
                pixels[2 * SPACE + k] += other
                noise += other
            if row_bits(shared, p, y, x) & 1:
                claimed += pixels[k]
    return total, noise, claimed


@njit(cache=True, _nrt=False, error_model="numpy")
def best_fit(pixels, size, expected):
    """(intensity, sum of w P^2, sum of w P over it) of a profile fit whose weights follow the intensity.

    The weights begin with the `expected` photons; they are settled when what they make of the intensity is theirs to a small
    share of its error.
    """
    positive, intensity, weights, side = max(expected, 0.0), 0.0, 1.0, 0.0
    for _ in range(ROUNDS):
        upper, weights, side = profile_sums(pixels, size, np.float32(positive))
        intensity = upper / weights
        change, positive = max(intensity, 0.0) - positive, max(intensity, 0.0)
        if change * change * weights < SETTLED * SETTLED:
            break
    return intensity, weights, side / weights


@njit(cache=True, _nrt=False, fastmath=True, error_model="numpy")
def greatest(pixels, size):
    """Photons above background in the brightest of a spot's pixels; eight at a time, so that none waits for the last."""
    first = pixels[SPACE]
    a, b, c, d, e, f, g, h = first, first, first, first, first, first, first, first
    for k in range(SPACE_1, SPACE_1 + np.uint64(size), EIGHT):
        v, w, x, y = pixels[k], pixels[k + ONE], pixels[k + TWO], pixels[k + THREE]
        a, b, c, d = v if v > a else a, w if w > b else b, x if x > c else c, y if y > d else d
        at = k + FOUR
        v, w, x, y = pixels[at], pixels[at + ONE], pixels[at + TWO], pixels[at + THREE]
        e, f, g, h = v if v > e else e, w if w > f else f, x if x > g else g, y if y > h else h
    return max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h)))


@njit(cache=True, _nrt=False, fastmath=True, error_model="numpy")
def profile_sums(pixels, size, positive):
    """Sums of w P v, w P^2 and w P over a spot's pixels, with w = 1 / (variance + intensity P)."""
    upper, weights, side = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for k in range(np.uint64(size)):
        shape = pixels[k]
        weighted = shape / (pixels[SPACE_2 + k] + positive * shape)
        upper += weighted * pixels[SPACE_1 + k]
        weights += weighted * shape
        side += weighted
    return upper, weights, side


@njit(cache=True, _nrt=False, error_model="numpy")
def void(out, i):
    """Mark spot i as not measured."""
    out.intensity[i] = out.sigma[i] = out.total[i] = out.total_sigma[i] = np.nan
    out.background[i] = out.background_sigma[i] = out.peak[i] = out.share[i] = out.claimed[i] = np.nan
    forget_place(out, i)


@njit(cache=True, _nrt=False, error_model="numpy")
def forget_place(out, i):
    """Spot i is where it was predicted, and as wide, for all that is known."""
    for k in range(2):
        out.offset[i, k] = out.widening[i, k] = out.width_information[i, k] = 0.0
    for k in range(3):
        out.information[i, k] = 0.0


@njit(cache=True, _nrt=False, error_model="numpy")
def place_and_width(intensity, shape, tail, frame, size, work, row, begin_x, begin_y, out, i):
    """One Gauss-Newton step of the place and of the widths along r and t; see `Spots`.

    Derivatives are those of the Gaussian core, with the pixel's variance in its covariance C: with u = C^-1 d, that by
    the place is P u, and that by the variance along a direction g is P ((g u)^2 - g C^-1 g) / 2.
    """
    a, b, c = inverse_of(shape[i, 0] + 1.0 / 12.0, shape[i, 1], shape[i, 2] + 1.0 / 12.0)
    fr, sr, ft, st = frame[i, 0], frame[i, 1], frame[i, 2], frame[i, 3]
    # Steps along r and t, pixels * angstrom, are thousands: in pixels the sums are of order one.
    r, t = np.sqrt(fr * fr + sr * sr), np.sqrt(ft * ft + st * st)
    fr, sr, ft, st = fr / r, sr / r, ft / t, st / t
    form = (np.float32(a), np.float32(b), np.float32(c), np.float32(fr), np.float32(sr), np.float32(ft), np.float32(st),
            np.float32(a * fr * fr + 2.0 * b * fr * sr + c * sr * sr),
            np.float32(a * ft * ft + 2.0 * b * ft * st + c * st * st), np.float32(0.5 * (1.0 - tail[i, 0])))
    pp, px, py, pr, pt, xx, xy, yy, rr, rt, tt, pull_x, pull_y, pull_r, pull_t = shape_sums(
        work.pixels, size, work.x, work.y, row, np.float32(begin_x + 0.5), np.float32(begin_y + 0.5),
        np.float32(intensity), form)
    xx, xy, yy = xx - px * px / pp, xy - px * py / pp, yy - py * py / pp
    rr, rt, tt = rr - pr * pr / pp, rt - pr * pt / pp, tt - pt * pt / pp
    determinant, strength = xx * yy - xy * xy, intensity * intensity
    if determinant > 0.0:
        out.offset[i, 0] = (yy * pull_x - xy * pull_y) / determinant / intensity
        out.offset[i, 1] = (xx * pull_y - xy * pull_x) / determinant / intensity
        out.information[i, 0], out.information[i, 1], out.information[i, 2] = strength * xx, strength * xy, strength * yy
    determinant = rr * tt - rt * rt
    if determinant > 0.0:
        r, t = r * r, t * t
        out.widening[i, 0] = (tt * pull_r - rt * pull_t) / determinant / intensity / r
        out.widening[i, 1] = (rr * pull_t - rt * pull_r) / determinant / intensity / t
        # Each as known when the other is fitted too.
        out.width_information[i, 0] = strength * determinant / tt * r * r
        out.width_information[i, 1] = strength * determinant / rr * t * t


@njit(cache=True, _nrt=False, fastmath=True, error_model="numpy")
def shape_sums(pixels, size, columns, lines, row, offset_x, offset_y, intensity, form):
    """Sums over a spot's pixels of w P^2, of w P and of w times the residual with the derivatives of P by x, y, r, t,
    and of w times products of the derivatives by x and y, and by r and t; see `place_and_width`."""
    a, b, c, fr, sr, ft, st, grr, gtt, half = form
    row, zero = np.uint64(row), np.float32(0.0)
    pp, px, py, pr, pt, xx, xy, yy = zero, zero, zero, zero, zero, zero, zero, zero
    rr, rt, tt, pull_x, pull_y, pull_r, pull_t = zero, zero, zero, zero, zero, zero, zero
    for k in range(np.uint64(size)):
        dx, dy, value = columns[row, k] + offset_x, lines[row, k] + offset_y, pixels[k]
        rest = pixels[SPACE_1 + k] - intensity * value
        w = np.float32(1.0) / (pixels[SPACE_2 + k] + intensity * value)
        ux, uy = a * dx + b * dy, b * dx + c * dy
        ur, ut = fr * ux + sr * uy, ft * ux + st * uy
        gx, gy = value * ux, value * uy
        dr, dt = half * value * (ur * ur - grr), half * value * (ut * ut - gtt)
        wp, wx, wy, wr, wt = w * value, w * gx, w * gy, w * dr, w * dt
        pp += wp * value
        px += wp * gx
        py += wp * gy
        pr += wp * dr
        pt += wp * dt
        xx += wx * gx
        xy += wx * gy
        yy += wy * gy
        rr += wr * dr
        rt += wr * dt
        tt += wt * dt
        pull_x += wx * rest
        pull_y += wy * rest
        pull_r += wr * rest
        pull_t += wt * rest
    return pp, px, py, pr, pt, xx, xy, yy, rr, rt, tt, pull_x, pull_y, pull_r, pull_t
