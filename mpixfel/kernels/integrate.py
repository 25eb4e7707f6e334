"""Intensities of predicted spots: foreground, local background, summation, profile fit."""
from typing import NamedTuple

import numpy as np
from numba import njit

NO_NAN = {"reassoc", "contract", "arcp", "nsz"}   # NaN marks bad pixels: fastmath without nnan
LARGEST = 33            # edge of the largest box, pixels


class Work(NamedTuple):
    """Scratch of the integration kernel, made once."""

    profile: np.ndarray   # (LARGEST, LARGEST) profile on the box
    start: np.ndarray     # (2 LARGEST,) Gaussian recurrences along fs, one for each half row
    ratio: np.ndarray     # (2 LARGEST,)


def work():
    """`Work` for one thread."""
    return Work(np.zeros((LARGEST, LARGEST)), np.zeros(2 * LARGEST), np.zeros(2 * LARGEST))


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


@njit(cache=True)
def reach(shape, limit):
    """Half width of the box (pixels along fs, along ss) that holds the foreground ellipse of a spot."""
    return (int(np.ceil(limit * np.sqrt(shape[0] + 1.0 / 12.0) - 0.5)) + 1,
            int(np.ceil(limit * np.sqrt(shape[2] + 1.0 / 12.0) - 0.5)) + 1)


@njit(cache=True)
def mark(panel, place, shape, n, limit, bounds, owners):
    """Count in owners (P, SS, FS) uint8 how many spots claim each pixel within Mahalanobis distance `limit`."""
    for i in range(n):
        visit(panel[i], place[i], shape[i], limit, bounds, owners, 1)


@njit(cache=True)
def unmark(panel, place, shape, n, limit, bounds, owners):
    """Undo `mark`."""
    for i in range(n):
        visit(panel[i], place[i], shape[i], limit, bounds, owners, 0)


@njit(cache=True)
def visit(p, place, shape, limit, bounds, owners, add):
    sxx, sxy, syy = shape[0] + 1.0 / 12.0, shape[1], shape[2] + 1.0 / 12.0
    determinant = sxx * syy - sxy * sxy
    a, b, c = syy / determinant, -sxy / determinant, sxx / determinant
    wide, high = reach(shape, limit)
    x0, y0 = int(place[0]), int(place[1])
    for y in range(max(y0 - high, 0), min(y0 + high + 1, bounds[p, 0])):
        dy = y + 0.5 - place[1]
        for x in range(max(x0 - wide, 0), min(x0 + wide + 1, bounds[p, 1])):
            dx = x + 0.5 - place[0]
            if a * dx * dx + 2.0 * b * dx * dy + c * dy * dy <= limit * limit:
                owners[p, y, x] = owners[p, y, x] + 1 if add else 0


@njit(cache=True)
def plane(image, p, x0, y0, radius, bounds, owners, result):
    """Background plane about pixel (x0, y0) from the pixels of a box that no spot claims.

    Fills result: value at the centre of (x0, y0), slopes along fs and ss, variance of the value, number of pixels.
    Counts above a bound that a Poisson count passes once in 10^4 are left out: two rounds, the first bound from the
    mean of what lies below the plain mean's own bound.
    """
    mean, bound = 0.0, np.inf
    for _ in range(3):
        total, count = 0.0, 0
        for y in range(max(y0 - radius, 0), min(y0 + radius + 1, bounds[p, 0])):
            for x in range(max(x0 - radius, 0), min(x0 + radius + 1, bounds[p, 1])):
                v = image[p, y, x]
                if owners[p, y, x] == 0 and v < bound:
                    total += v
                    count += 1
        if count < 10:
            result[0], result[1], result[2], result[3], result[4] = 0.0, 0.0, 0.0, np.inf, count
            return
        mean = total / count
        bound = mean + 3.8 * np.sqrt(max(mean, 0.05)) + 2.0
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(max(y0 - radius, 0), min(y0 + radius + 1, bounds[p, 0])):
        for x in range(max(x0 - radius, 0), min(x0 + radius + 1, bounds[p, 1])):
            v = image[p, y, x]
            if owners[p, y, x] == 0 and v < bound:
                dx, dy = x - x0, y - y0
                n += 1.0
                sx += dx
                sy += dy
                sxx += dx * dx
                sxy += dx * dy
                syy += dy * dy
                sv += v
                svx += v * dx
                svy += v * dy
                svv += v * v
    mx, my = sx / n, sy / n
    cxx, cxy, cyy = sxx / n - mx * mx, sxy / n - mx * my, syy / n - my * my
    determinant = cxx * cyy - cxy * cxy
    mean = sv / n
    variance = max(svv / n - mean * mean, mean, 1e-6)
    if n < 30 or determinant < 1.0:
        result[0], result[1], result[2], result[3], result[4] = mean, 0.0, 0.0, variance / n, n
        return
    gx, gy = svx / n - mean * mx, svy / n - mean * my
    slope_x, slope_y = (cyy * gx - cxy * gy) / determinant, (cxx * gy - cxy * gx) / determinant
    leverage = (cyy * mx * mx - 2.0 * cxy * mx * my + cxx * my * my) / determinant
    result[0], result[1], result[2] = mean - slope_x * mx - slope_y * my, slope_x, slope_y
    result[3], result[4] = variance / n * (1.0 + leverage), n


@njit(cache=True)
def integrate(image, panel, place, shape, tail, n, bounds, owners, radius, limit, readout_variance, work, out):
    """Integrate n spots.

    Parameters
    ----------
    image : (P, SS, FS) float32 photons, NaN where bad
    panel, place, shape, tail : what `predict` gives
    bounds : (P, 2) panel shapes (ss, fs)
    owners : (P, SS, FS) uint8 marked by `mark`
    radius : half width of the background box, pixels
    limit : foreground in Mahalanobis distances (the pixel's own width included)
    out : (n, 10) filled with intensity by profile fit, its sigma, intensity by summation, its sigma, background,
        background sigma, largest pixel above background, share of the profile on good pixels, chi square per pixel of
        the fit, share of the profile on pixels that other spots claim too
    """
    fit = np.empty(5)
    for i in range(n):
        p = panel[i]
        x0, y0 = int(place[i, 0]), int(place[i, 1])
        plane(image, p, x0, y0, radius, bounds, owners, fit)
        wx, wy = reach(shape[i], limit)
        wx, wy = min(wx, LARGEST // 2), min(wy, LARGEST // 2)
        nx, ny = 2 * wx + 1, 2 * wy + 1
        left, top = x0 - wx, y0 - wy
        work.profile[:ny, :nx] = 0.0
        sxx, sxy, syy = shape[i, 0], shape[i, 1], shape[i, 2]
        add_gaussian(place[i, 0] - left, place[i, 1] - top, sxx, sxy, syy, 1.0 - tail[i, 0], nx, ny, work)
        if tail[i, 0] > 0.0:
            add_tail(place[i, 0] - left, place[i, 1] - top, tail[i, 0], tail[i, 1], nx, ny, work)
        one_spot(image, p, left, top, nx, ny, place[i], shape[i], limit, fit, x0, y0, readout_variance, bounds, owners,
                 work.profile, out[i])


@njit(cache=True)
def one_spot(image, p, left, top, nx, ny, place, shape, limit, fit, x0, y0, readout_variance, bounds, owners, profile,
             out):
    """Summation and profile fit of one spot on its box; see `integrate` for `out`."""
    sxx, sxy, syy = shape[0] + 1.0 / 12.0, shape[1], shape[2] + 1.0 / 12.0
    determinant = sxx * syy - sxy * sxy
    a, b, c = syy / determinant, -sxy / determinant, sxx / determinant
    intensity, weight_sum, profile_sum = 0.0, 0.0, 0.0
    total, share, claimed, m, largest, noise, chi2 = 0.0, 0.0, 0.0, 0.0, -np.inf, 0.0, 0.0
    first_x, last_x = max(left, 0), min(left + nx, bounds[p, 1])
    first_y, last_y = max(top, 0), min(top + ny, bounds[p, 0])
    for step in range(4):
        upper, lower, side = 0.0, 0.0, 0.0
        positive = max(intensity, 0.0)
        for y in range(first_y, last_y):
            dy = y + 0.5 - place[1]
            for x in range(first_x, last_x):
                dx = x + 0.5 - place[0]
                v = image[p, y, x]
                if a * dx * dx + 2.0 * b * dx * dy + c * dy * dy > limit * limit or np.isnan(v):
                    continue
                level = fit[0] + fit[1] * (x - x0) + fit[2] * (y - y0)
                shape_here = profile[y - top, x - left]
                above = v - level
                w = 1.0 / (max(level, 0.01) + positive * shape_here + readout_variance)
                upper += w * shape_here * above
                lower += w * shape_here * shape_here
                side += w * shape_here
                if step == 0:
                    total += above
                    share += shape_here
                    m += 1.0
                    noise += max(level, 0.0) + readout_variance
                    largest = max(largest, above)
                    if owners[p, y, x] > 1:
                        claimed += shape_here
                elif step == 3:
                    chi2 += w * (above - intensity * shape_here) ** 2
        if lower > 0.0 and step < 3:
            intensity = upper / lower
        weight_sum, profile_sum = lower, side
    if weight_sum <= 0.0 or not np.isfinite(fit[3]):
        for k in range(10):
            out[k] = np.nan
        return
    leak = profile_sum / weight_sum
    out[0] = intensity
    out[1] = np.sqrt(1.0 / weight_sum + leak * leak * fit[3])
    out[2] = total / share
    out[3] = np.sqrt(max(total, 0.0) + noise + m * m * fit[3]) / share
    out[4], out[5] = fit[0], np.sqrt(fit[3])
    out[6], out[7], out[8], out[9] = largest, share, chi2 / max(m - 1.0, 1.0), claimed
