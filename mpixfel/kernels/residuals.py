"""How far peaks lie from the reflections of a lattice: which belong to it, and how large their errors are."""
import numpy as np
from numba import njit

from mpixfel.kernels.geometry import point_on_panel
from mpixfel.kernels.refine import assign
from mpixfel.kernels.spots import ellipse


@njit(cache=True, error_model="numpy", inline="always")
def ray_of(point, beam, distance_m):
    """Unit vector to a point (3,) m of a pattern with shift x, y (m) and relative change of distance `beam` (3,)."""
    x, y, z = point[0] - beam[0], point[1] - beam[1], point[2] + beam[2] * distance_m
    r = 1.0 / np.sqrt(x * x + y * y + z * z)
    return x * r, y * r, z * r


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_points(peaks, geometry, least, unknown, points, relative):
    """Fill points (n, 3), m, with where PEAK rows lie, and relative (n,) with their errors of place in widths of their spots:
    those of their intensities, `least` to 1, or `unknown`."""
    for i in range(peaks.size):
        peak = peaks[i]
        x, y, z = point_on_panel(geometry, peak["panel"], peak["fs"], peak["ss"])
        points[i, 0], points[i, 1], points[i, 2] = x, y, z
        error = peak["sigma"] / peak["intensity"]
        relative[i] = min(max(error, least), 1.0) if 0.0 < error < np.inf else unknown


@njit(cache=True, error_model="numpy")
def match_peaks(axes, centring, points, beam, distance_m, k0, spread, relative, errors, tolerance, hkl, matched, distance2):
    """Fill hkl (n, 3), matched (n,) and distance2 (n,), the squared distances over their expected squares.

    A peak's distance from a lattice point is an excitation error, along its ray, and an error of place, across it.

    Parameters
    ----------
    axes : (3, 3) rows a*, b*, c*, 1/angstrom; centring : ASCII code
    points : (n, 3) laboratory, m; beam : (3,) see `ray_of`
    relative : (n,) error of each peak's place in widths of its spot
    errors : factor on the variance of excitation errors; error of a place (1/angstrom); least variance of excitation
        errors (1/angstrom^2); how much wider places may be; share of an excitation error by which a spot may stand aside
    """
    widen, floor, least, far, slant = errors
    n = points.shape[0]
    rays, q, limit = np.empty((n, 3)), np.empty((n, 3)), np.empty(n)
    along2, across2 = np.empty(n), np.empty(n)
    for i in range(n):
        rays[i, 0], rays[i, 1], rays[i, 2] = ray_of(points[i], beam, distance_m)
        q[i, 0], q[i, 1], q[i, 2] = k0 * rays[i, 0], k0 * rays[i, 1], k0 * (rays[i, 2] - 1.0)
        _, nn, _, rr, tt = ellipse(q[i, 0], q[i, 1], q[i, 2], k0, spread)
        along2[i] = max(widen * nn, least)
        across2[i] = far * far * (2.0 * floor * floor + relative[i] * relative[i] * (rr + tt) + slant * slant * along2[i])
        limit[i] = tolerance * np.sqrt(along2[i] + across2[i])
    assign(axes, q, centring, limit, hkl, matched)
    for i in range(n):
        along, square = 0.0, 0.0
        for a in range(3):
            apart = hkl[i, 0] * axes[0, a] + hkl[i, 1] * axes[1, a] + hkl[i, 2] * axes[2, a] - q[i, a]
            along += apart * rays[i, a]
            square += apart * apart
        distance2[i] = along * along / along2[i] + (square - along * along) / across2[i]
        matched[i] = matched[i] and distance2[i] < tolerance * tolerance


@njit(cache=True, error_model="numpy")
def typical_errors(axes, hkl, use, points, beam, distance_m, k0, spread, relative):
    """(number of peaks in use, medians over them): squared excitation error over its variance; squared error of place,
    1/angstrom^2; what the peaks' own errors let that be, mean of two directions.

    A spot drawn aside by its excitation error is where it should be.
    """
    n = 0
    error2, across2, place2 = np.empty(use.size), np.empty(use.size), np.empty(use.size)
    q = np.empty(3)
    for i in range(use.size):
        if not use[i]:
            continue
        ray = ray_of(points[i], beam, distance_m)
        for a in range(3):
            q[a] = hkl[i, 0] * axes[0, a] + hkl[i, 1] * axes[1, a] + hkl[i, 2] * axes[2, a]
        error, nn, shift, rr, tt = ellipse(q[0], q[1], q[2], k0, spread)
        x, y, z = q[0] - k0 * ray[0], q[1] - k0 * ray[1], q[2] - k0 * (ray[2] - 1.0)
        along = x * ray[0] + y * ray[1] + z * ray[2]
        across = np.sqrt(max(x * x + y * y + z * z - along * along, 0.0))
        error2[n] = error * error / nn
        across2[n] = min(across, abs(across - abs(shift))) ** 2
        place2[n] = relative[i] * relative[i] * (rr + tt) / 2.0
        n += 1
    return n, np.median(error2[:n]), np.median(across2[:n]), np.median(place2[:n])
