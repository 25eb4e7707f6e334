"""Intensities of predicted spots by summation and profile fit; where a spot stands, and how wide it is."""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.levels import plane
from mpixfel.kernels.profiles import belongs, fill_profile, foreground, inverse_of

ROUNDS = 3          # of the profile fit: its weights follow the intensity


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


@njit(cache=True)
def measure(image, light, rows, prior, n, bounds, owners, levels, stamp, limit, radius, readout_variance, bright, work,
            out):
    """Measure n predicted spots.

    Parameters
    ----------
    image : (P, SS, FS) float32 photons, NaN where bad
    light : (P, SS, FS) float32 what the spots shine on the pixels, made by `footprint.shine` with the intensities
        `prior` (n,): the light of all others is taken off each spot
    rows : Predictions
    bounds : (P, 2) panel shapes (ss, fs)
    owners : (P, SS, FS) uint8 made by `footprint.mark`
    levels, stamp : room for the background, and a number that no earlier call with it had
    limit, radius : extent of a spot, see `profiles.foreground`
    bright : signal to noise from which place and width are measured
    out : Spots
    """
    for i in range(n):
        p = rows.panel[i]
        x0, y0 = int(rows.place[i, 0]), int(rows.place[i, 1])
        fit = plane(image, p, rows.place[i, 0], rows.place[i, 1], stamp, bounds, owners, readout_variance, levels)
        fore = foreground(rows.shape[i], rows.tail[i], prior[i], limit, radius)
        left, top, nx, ny = x0 - fore.wide, y0 - fore.high, 2 * fore.wide + 1, 2 * fore.high + 1
        fill_profile(rows.place[i, 0] - left, rows.place[i, 1] - top, rows.shape[i], rows.tail[i], fore.far2, nx, ny,
                     work)
        one_spot(image, light, p, left, top, nx, ny, rows, prior[i], fore, fit, readout_variance, bounds, owners, bright,
                 work, out, i)


@njit(cache=True)
def one_spot(image, light, p, left, top, nx, ny, rows, prior, fore, fit, readout_variance, bounds, owners, bright, work,
             out, i):
    """Summation and profile fit of spot i on its box.

    Its good pixels are first written in a row, so that the rounds of the fit have no branches.
    """
    profile, above, variance, xs, ys = work.pixel
    m, total, share, claimed, noise, largest = 0, 0.0, 0.0, 0.0, 0.0, -np.inf
    for y in range(max(top, 0), min(top + ny, bounds[p, 0])):
        dy = y + 0.5 - rows.place[i, 1]
        for x in range(max(left, 0), min(left + nx, bounds[p, 1])):
            dx = x + 0.5 - rows.place[i, 0]
            v = image[p, y, x]
            if not belongs(dx, dy, fore) or np.isnan(v):
                continue
            shape = work.profile[y - top, x - left]
            other = light[p, y, x] - prior * shape
            level = fit[0] + fit[1] * dx + fit[2] * dy
            profile[m], above[m], xs[m], ys[m] = shape, v - level - other, dx, dy
            variance[m] = max(level, 0.01) + max(other, 0.0) + readout_variance
            total += above[m]
            share += shape
            noise += variance[m]
            largest = max(largest, above[m])
            if owners[p, y, x] > 1:
                claimed += shape
            m += 1
    if share <= 0.0 or not np.isfinite(fit[3]):
        void(out, i)
        return
    intensity = 0.0
    for _ in range(ROUNDS):
        upper, weights, _ = profile_sums(profile, above, variance, m, intensity)
        intensity = upper / weights
    _, weights, side = profile_sums(profile, above, variance, m, intensity)
    leak = side / weights
    out.intensity[i] = intensity
    out.sigma[i] = np.sqrt(1.0 / weights + leak * leak * fit[3])
    out.total[i] = total / share
    out.total_sigma[i] = np.sqrt(max(total, 0.0) + noise + m * m * fit[3]) / share
    out.background[i], out.background_sigma[i] = fit[0], np.sqrt(fit[3])
    out.peak[i], out.share[i], out.claimed[i] = largest, share, claimed
    out.chi2[i] = np.nan
    out.offset[i], out.information[i], out.widening[i], out.width_information[i] = 0.0, 0.0, 0.0, 0.0
    if intensity > bright * out.sigma[i]:
        place_and_width(rows, m, profile, above, variance, xs, ys, out, i)


@njit(cache=True, fastmath=True)
def profile_sums(profile, above, variance, m, intensity):
    """Sums of w P v, w P^2 and w P over a spot's m pixels, with w = 1 / (variance + intensity P)."""
    positive = max(intensity, 0.0)
    upper, weights, side = 0.0, 0.0, 0.0
    for k in range(m):
        weighted = profile[k] / (variance[k] + positive * profile[k])
        upper += weighted * above[k]
        weights += weighted * profile[k]
        side += weighted
    return upper, weights, side


@njit(cache=True)
def void(out, i):
    """Mark spot i as not measured."""
    out.intensity[i] = out.sigma[i] = out.total[i] = out.total_sigma[i] = np.nan
    out.background[i] = out.background_sigma[i] = out.peak[i] = out.share[i] = out.claimed[i] = out.chi2[i] = np.nan
    out.offset[i], out.information[i], out.widening[i], out.width_information[i] = 0.0, 0.0, 0.0, 0.0


@njit(cache=True, fastmath=True)
def place_and_width(rows, m, profile, above, variance, xs, ys, out, i):
    """One Gauss-Newton step of the place and of the widths along r and t; see `Spots`.

    Derivatives are those of the Gaussian core, with the pixel's variance in its covariance C: with u = C^-1 d, that by
    the place is P u, and that by the variance along a direction g is P ((g u)^2 - g C^-1 g) / 2.
    """
    intensity, core = out.intensity[i], 1.0 - rows.tail[i, 0]
    a, b, c = inverse_of(rows.shape[i, 0] + 1.0 / 12.0, rows.shape[i, 1], rows.shape[i, 2] + 1.0 / 12.0)
    fr, sr, ft, st = rows.frame[i, 0], rows.frame[i, 1], rows.frame[i, 2], rows.frame[i, 3]
    grr = a * fr * fr + 2.0 * b * fr * sr + c * sr * sr
    gtt = a * ft * ft + 2.0 * b * ft * st + c * st * st
    chi2, pp, px, py, pr, pt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    xx, xy, yy, rr, tt, rt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    pull_x, pull_y, pull_r, pull_t = 0.0, 0.0, 0.0, 0.0
    for k in range(m):
        shape = profile[k]
        rest = above[k] - intensity * shape
        w = 1.0 / (variance[k] + intensity * shape)
        ux, uy = a * xs[k] + b * ys[k], b * xs[k] + c * ys[k]
        ur, ut = fr * ux + sr * uy, ft * ux + st * uy
        gx, gy = shape * ux, shape * uy
        dr, dt = 0.5 * core * shape * (ur * ur - grr), 0.5 * core * shape * (ut * ut - gtt)
        chi2 += w * rest * rest
        pull_x += w * gx * rest
        pull_y += w * gy * rest
        pull_r += w * dr * rest
        pull_t += w * dt * rest
        pp += w * shape * shape
        px += w * gx * shape
        py += w * gy * shape
        pr += w * dr * shape
        pt += w * dt * shape
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
