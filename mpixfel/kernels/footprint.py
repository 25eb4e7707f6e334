"""Which pixels belong to spots, what spots shine on them, and the background between them."""
import numpy as np
from numba import njit

from mpixfel.kernels.profiles import belongs, fill_profile, foreground

FEW = 40            # background pixels below which the box is widened


@njit(cache=True)
def mark(rows, intensity, n, limit, radius, bounds, owners):
    """Count in owners (P, SS, FS) uint8 how many of n spots claim each pixel; see `profiles.foreground`."""
    for i in range(n):
        visit(rows, i, intensity[i], limit, radius, bounds, owners, True)


@njit(cache=True)
def unmark(rows, intensity, n, limit, radius, bounds, owners):
    """Undo `mark`."""
    for i in range(n):
        visit(rows, i, intensity[i], limit, radius, bounds, owners, False)


@njit(cache=True)
def visit(rows, i, intensity, limit, radius, bounds, owners, add):
    fore = foreground(rows.shape[i], rows.tail[i], intensity, limit, radius)
    p, x0, y0 = rows.panel[i], int(rows.place[i, 0]), int(rows.place[i, 1])
    for y in range(max(y0 - fore.high, 0), min(y0 + fore.high + 1, bounds[p, 0])):
        for x in range(max(x0 - fore.wide, 0), min(x0 + fore.wide + 1, bounds[p, 1])):
            if belongs(x + 0.5 - rows.place[i, 0], y + 0.5 - rows.place[i, 1], fore):
                owners[p, y, x] = min(owners[p, y, x] + 1, 255) if add else 0


@njit(cache=True)
def shine(rows, intensity, n, limit, radius, bounds, work, light):
    """Add to light (P, SS, FS) float32 the photons that n spots of given intensities put on each pixel."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape[i], rows.tail[i], intensity[i], limit, radius)
            p, left, top = rows.panel[i], int(rows.place[i, 0]) - fore.wide, int(rows.place[i, 1]) - fore.high
            nx, ny = 2 * fore.wide + 1, 2 * fore.high + 1
            fill_profile(rows.place[i, 0] - left, rows.place[i, 1] - top, rows.shape[i], rows.tail[i], fore.far2, nx, ny,
                         work)
            for y in range(max(top, 0), min(top + ny, bounds[p, 0])):
                for x in range(max(left, 0), min(left + nx, bounds[p, 1])):
                    light[p, y, x] += intensity[i] * work.profile[y - top, x - left]


@njit(cache=True)
def darken(rows, intensity, n, limit, radius, bounds, light):
    """Undo `shine`: zero the boxes that it touched."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape[i], rows.tail[i], intensity[i], limit, radius)
            p, left, top = rows.panel[i], int(rows.place[i, 0]) - fore.wide, int(rows.place[i, 1]) - fore.high
            light[p, max(top, 0):top + 2 * fore.high + 1, max(left, 0):left + 2 * fore.wide + 1] = 0.0


@njit(cache=True)
def plane(image, light, p, x0, y0, radius, bounds, owners, result):
    """Background plane about pixel (x0, y0) from the pixels of a box that no spot claims, the spots' light taken off.

    Fills result: value at the centre of (x0, y0), slopes along fs and ss, variance of the value, number of pixels.
    Counts above a bound that a Poisson count passes about once in 10^4 are left out, in three rounds. Where spots leave
    few pixels the box is widened once.
    """
    for _ in range(2):
        if moments(image, light, p, x0, y0, radius, bounds, owners, result) >= FEW:
            break
        radius = (3 * radius) // 2


@njit(cache=True)
def moments(image, light, p, x0, y0, radius, bounds, owners, result):
    """What `plane` does for one box; returns the number of pixels."""
    first_x, last_x = max(x0 - radius, 0), min(x0 + radius + 1, bounds[p, 1])
    first_y, last_y = max(y0 - radius, 0), min(y0 + radius + 1, bounds[p, 0])
    mean, bound, count = 0.0, np.inf, 0
    for _ in range(3):
        total, count = 0.0, 0
        for y in range(first_y, last_y):
            for x in range(first_x, last_x):
                v = image[p, y, x] - light[p, y, x]
                if owners[p, y, x] == 0 and v < bound:
                    total += v
                    count += 1
        if count < 10:
            result[0], result[1], result[2], result[3], result[4] = 0.0, 0.0, 0.0, np.inf, count
            return count
        mean = total / count
        bound = mean + 3.8 * np.sqrt(max(mean, 0.05)) + 2.0
    n, sx, sy, sxx, sxy, syy, sv, svx, svy, svv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(first_y, last_y):
        for x in range(first_x, last_x):
            v = image[p, y, x] - light[p, y, x]
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
    result[0], result[1], result[2], result[3], result[4] = mean, 0.0, 0.0, variance / n, n
    if n >= FEW // 2 and determinant > 1.0:
        gx, gy = svx / n - mean * mx, svy / n - mean * my
        slope_x, slope_y = (cyy * gx - cxy * gy) / determinant, (cxx * gy - cxy * gx) / determinant
        leverage = (cyy * mx * mx - 2.0 * cxy * mx * my + cxx * my * my) / determinant
        result[0], result[1], result[2] = mean - slope_x * mx - slope_y * my, slope_x, slope_y
        result[3] = variance / n * (1.0 + leverage)
    return count
