"""Intensities of predicted spots by summation and profile fit; where a spot stands, and how wide it is."""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.levels import plane
from mpixfel.kernels.profiles import CHUNK, SPACE, box_of, fill_profile, foreground, inverse_of, whole_groups

ROUNDS = 3          # of the profile fit: its weights follow the intensity
NOTHING = np.float32(1e30)   # variance of a pixel that does not count
NO_NAN = {"reassoc", "contract", "arcp", "nsz"}   # NaN marks bad pixels: fastmath without nnan


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
    share: np.ndarray               # (n,) share of the spot on good pixels
    claimed: np.ndarray             # (n,) share on pixels that other spots claim too
    chi2: np.ndarray                # (n,) chi square per pixel of the profile fit
    offset: np.ndarray              # (n, 2) from the prediction along fs, ss, pixels
    information: np.ndarray         # (n, 3) fs fs, fs ss, ss ss, 1/pixel^2
    widening: np.ndarray            # (n, 2) what the variances along r and t lack, 1/angstrom^2
    width_information: np.ndarray   # (n, 2) angstrom^4


WIDTHS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 2, 2)


def spots(n):
    """`Spots` with room for n."""
    return Spots(*(np.empty((n, w)) if w else np.empty(n) for w in WIDTHS))


@njit(cache=True, error_model="numpy")
def measure(image, light, rows, prior, lit, n, bounds, owners, levels, stamp, limit, radius, readout_variance, bright, work,
            out):
    """Measure n predicted spots.

    Parameters
    ----------
    image : (P, SS, FS) float32 photons, NaN where bad
    light : (P, SS, FS) float32 what the spots shine on the pixels, made by `footprint.shine` with the intensities
        `prior` (n,): the light of all others is taken off each spot
    lit : (n,) bool: whether others shine on a spot at all; where not, `light` is not looked at
    rows : Predictions
    bounds : (P, 2) panel shapes (ss, fs)
    owners : (P, SS, FS) uint8 made by `footprint.mark`
    levels, stamp : room for the background, and a number that no earlier call with it had
    limit, radius : extent of a spot, see `profiles.foreground`
    readout_variance : of a pixel beyond that of the photons in it; negative where they stand on a pedestal
    bright : signal to noise from which place and width are measured
    out : Spots
    """
    for i in range(n):
        p = rows.panel[i]
        fit = plane(image, p, rows.place[i, 0], rows.place[i, 1], stamp, bounds, owners, readout_variance, levels)
        fore = foreground(rows.shape[i], rows.tail[i], prior[i], limit, radius)
        x, y = rows.place[i, 0], rows.place[i, 1]
        left, top, width, height = box_of(fore, x, y)
        size = width * height
        fill_profile(x - left, y - top, rows.shape[i], rows.tail[i], fore.far2, width, height, work)
        copy_box(image[p], left, top, width, height, bounds[p, 1], bounds[p, 0], work.pixels)
        total, share, noise, m = take(
            work.pixels, whole_groups(size), work.x[width // CHUNK - 1], work.y[width // CHUNK - 1],
            np.float32(left + 0.5 - x), np.float32(top + 0.5 - y), np.float32(fit[0]), np.float32(fit[1]),
            np.float32(fit[2]), np.float32(readout_variance), np.float32(fore.a), np.float32(2.0 * fore.b),
            np.float32(fore.c), np.float32(fore.near2), np.float32(fore.far2))
        claimed = 0.0
        if lit[i]:
            total, noise, claimed = dim(light[p], owners[p], left, top, width, size, prior[i], work.pixels, total, noise)
        if share <= 0.0 or not np.isfinite(fit[3]):
            void(out, i)
            continue
        intensity, weights, leak = best_fit(work.pixels, size)
        sigma = np.sqrt(1.0 / weights + leak * leak * fit[3])
        out.intensity[i], out.sigma[i] = intensity, sigma
        out.total[i] = total / share
        out.total_sigma[i] = np.sqrt(max(total, 0.0) + noise + m * m * fit[3]) / share
        out.background[i], out.background_sigma[i] = fit[0], np.sqrt(fit[3])
        out.peak[i], out.share[i], out.claimed[i] = greatest(work.pixels, SPACE, size), share, claimed
        out.chi2[i] = np.nan
        for k in range(2):
            out.offset[i, k] = out.widening[i, k] = out.width_information[i, k] = 0.0
        for k in range(3):
            out.information[i, k] = 0.0
        if intensity > bright * sigma:
            place_and_width(intensity, rows.shape[i], rows.tail[i, 0], rows.frame[i], width, height, left - x,
                            top - y, m, work.pixels, out, i)


@njit(cache=True, error_model="numpy")
def copy_box(image, left, top, width, height, size_x, size_y, pixels):
    """Copy the pixels of a box to pixels[3 SPACE:], and NaN for those off the panel and for a GROUP beyond the last."""
    raw = pixels[3 * SPACE:]
    inside = left >= 0 and left + width <= size_x
    for y in range(height):
        to = raw[y * width:(y + 1) * width]
        if top + y < 0 or top + y >= size_y:
            to[:] = np.nan
        elif inside:
            row = image[top + y, left:left + width]
            for x in range(width):
                to[x] = row[x]
        else:
            for x in range(width):
                to[x] = image[top + y, left + x] if 0 <= left + x < size_x else np.nan
    for k in range(width * height, whole_groups(width * height)):
        raw[k] = np.nan


@njit(cache=True, fastmath=NO_NAN, error_model="numpy")
def take(pixels, n, columns, lines, offset_x, offset_y, level, slope_x, slope_y, readout_variance, a, b, c, near2, far2):
    """Write profile, photons above background and variance of a box's pixels; those that do not count become nothing, so
    that what follows needs no branches. Returns sums: photons above background, profile, variance, 1.

    A pixel counts that is not NaN and lies in the ellipse a x^2 + b x y + c y^2 <= 1 or within near2, but not beyond far2.
    """
    zero, one, least = np.float32(0.0), np.float32(1.0), np.float32(0.01)
    total, share, noise, count = zero, zero, zero, zero
    for k in range(n):
        x, y, v, shape = columns[k] + offset_x, lines[k] + offset_y, pixels[3 * SPACE + k], pixels[k]
        r2 = x * x + y * y
        good = (v == v) & (r2 <= far2) & ((r2 <= near2) | (x * (a * x + b * y) + c * y * y <= one))
        background = level + slope_x * x + slope_y * y
        rest = v - background if good else zero
        shape = shape if good else zero
        variance = max(background + readout_variance, least)
        pixels[k] = shape
        pixels[SPACE + k] = rest
        pixels[2 * SPACE + k] = variance if good else NOTHING
        total += rest
        share += shape
        noise += variance if good else zero
        count += one if good else zero
    return total, share, noise, count


@njit(cache=True, error_model="numpy")
def dim(light, owners, left, top, width, size, prior, pixels, total, noise):
    """Take the light of other spots off a spot's pixels; (total, noise) after it, and the share that others claim."""
    claimed = 0.0
    for k in range(size):
        if pixels[2 * SPACE + k] < NOTHING:
            y, x = top + k // width, left + k % width
            other = light[y, x] - np.float32(prior) * pixels[k]
            pixels[SPACE + k] -= other
            total -= other
            if other > 0.0:
                pixels[2 * SPACE + k] += other
                noise += other
            if owners[y, x] > 1:
                claimed += pixels[k]
    return total, noise, claimed


@njit(cache=True, error_model="numpy")
def best_fit(pixels, size):
    """(intensity, sum of w P^2, sum of w P over it) of a profile fit whose weights follow the intensity."""
    intensity = 0.0
    for _ in range(ROUNDS):
        upper, weights, _ = profile_sums(pixels, size, np.float32(max(intensity, 0.0)))
        intensity = upper / weights
    _, weights, side = profile_sums(pixels, size, np.float32(max(intensity, 0.0)))
    return intensity, weights, side / weights


@njit(cache=True, fastmath=True, error_model="numpy")
def greatest(values, first, size):
    """Largest of `size` values."""
    largest = values[first]
    for k in range(first, first + size):
        largest = max(largest, values[k])
    return largest


@njit(cache=True, fastmath=True, error_model="numpy")
def profile_sums(pixels, size, positive):
    """Sums of w P v, w P^2 and w P over a spot's pixels, with w = 1 / (variance + intensity P)."""
    upper, weights, side = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for k in range(size):
        shape = pixels[k]
        weighted = shape / (pixels[2 * SPACE + k] + positive * shape)
        upper += weighted * pixels[SPACE + k]
        weights += weighted * shape
        side += weighted
    return upper, weights, side


@njit(cache=True, error_model="numpy")
def void(out, i):
    """Mark spot i as not measured."""
    out.intensity[i] = out.sigma[i] = out.total[i] = out.total_sigma[i] = np.nan
    out.background[i] = out.background_sigma[i] = out.peak[i] = out.share[i] = out.claimed[i] = out.chi2[i] = np.nan
    out.offset[i], out.information[i], out.widening[i], out.width_information[i] = 0.0, 0.0, 0.0, 0.0


@njit(cache=True, fastmath=True, error_model="numpy")
def place_and_width(intensity, shape, tail, frame, width, height, begin_x, begin_y, m, pixels, out, i):
    """One Gauss-Newton step of the place and of the widths along r and t; see `Spots`.

    Derivatives are those of the Gaussian core, with the pixel's variance in its covariance C: with u = C^-1 d, that by
    the place is P u, and that by the variance along a direction g is P ((g u)^2 - g C^-1 g) / 2.
    """
    core = 1.0 - tail
    a, b, c = inverse_of(shape[0] + 1.0 / 12.0, shape[1], shape[2] + 1.0 / 12.0)
    fr, sr, ft, st = frame[0], frame[1], frame[2], frame[3]
    grr = a * fr * fr + 2.0 * b * fr * sr + c * sr * sr
    gtt = a * ft * ft + 2.0 * b * ft * st + c * st * st
    chi2, pp, px, py, pr, pt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    xx, xy, yy, rr, tt, rt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    pull_x, pull_y, pull_r, pull_t = 0.0, 0.0, 0.0, 0.0
    for line in range(height):
        dy = begin_y + line + 0.5
        for x in range(width):
            dx = begin_x + x + 0.5
            k = line * width + x
            value = pixels[k]
            rest = pixels[SPACE + k] - intensity * value
            w = 1.0 / (pixels[2 * SPACE + k] + intensity * value)
            ux, uy = a * dx + b * dy, b * dx + c * dy
            ur, ut = fr * ux + sr * uy, ft * ux + st * uy
            gx, gy = value * ux, value * uy
            dr, dt = 0.5 * core * value * (ur * ur - grr), 0.5 * core * value * (ut * ut - gtt)
            chi2 += w * rest * rest
            pull_x += w * gx * rest
            pull_y += w * gy * rest
            pull_r += w * dr * rest
            pull_t += w * dt * rest
            pp += w * value * value
            px += w * gx * value
            py += w * gy * value
            pr += w * dr * value
            pt += w * dt * value
            xx += w * gx * gx
            xy += w * gx * gy
            yy += w * gy * gy
            rr += w * dr * dr
            tt += w * dt * dt
            rt += w * dr * dt
    xx, xy, yy = xx - px * px / pp, xy - px * py / pp, yy - py * py / pp
    rr, rt, tt = rr - pr * pr / pp, rt - pr * pt / pp, tt - pt * pt / pp
    out.chi2[i] = chi2 / max(m - 1.0, 1.0)
    determinant, strength = xx * yy - xy * xy, intensity * intensity
    if determinant > 0.0:
        out.offset[i, 0] = (yy * pull_x - xy * pull_y) / determinant / intensity
        out.offset[i, 1] = (xx * pull_y - xy * pull_x) / determinant / intensity
        out.information[i, 0], out.information[i, 1], out.information[i, 2] = strength * xx, strength * xy, strength * yy
    determinant = rr * tt - rt * rt
    if determinant > 0.0:
        out.widening[i, 0] = (tt * pull_r - rt * pull_t) / determinant / intensity
        out.widening[i, 1] = (rr * pull_t - rt * pull_r) / determinant / intensity
        # Each as known when the other is fitted too.
        out.width_information[i, 0], out.width_information[i, 1] = strength * determinant / tt, strength * determinant / rr
