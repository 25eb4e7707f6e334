"""Which reflections of a lattice a still excites, and where they appear."""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.geometry import find_panel, slope_on_panel
from mpixfel.kernels.known import key, row_of
from mpixfel.kernels.refine import allowed
from mpixfel.kernels.spots import ellipse, excited, partiality, tangents, wide_part


REACHES = 33       # points over q^2 at which it is known how far from the sphere reflections can be seen


class Predictions(NamedTuple):
    """Room for reflections, one row each; how many are filled is told by `predict`."""

    hkl: np.ndarray          # (n, 3) int16
    panel: np.ndarray        # (n,) int16
    place: np.ndarray        # (n, 2) fs, ss of the spot's centre, pixels
    shape: np.ndarray        # (n, 3) covariance of the spot's core: fs fs, fs ss, ss ss, pixels^2
    tail: np.ndarray         # (n, 6) share of the spot in its tail; offset of the tail's centre, fs and ss, pixels; its
                             # squared radii fs fs, fs ss, ss ss, pixels^2
    frame: np.ndarray        # (n, 4) d fs, d ss of a step along r, then along t, pixels * angstrom
    excitation: np.ndarray   # (n,) excitation error, 1/angstrom, positive outside the sphere
    width: np.ndarray        # (n,) its standard deviation in the model
    partiality: np.ndarray   # (n,)
    expected: np.ndarray     # (n,) photons that reflections of this resolution and excitation error show in the mean
    resolution: np.ndarray   # (n,) 1/d, 1/angstrom


LINES = ("shape", "tail", "frame")   # what `outline` fills; `predict` fills the others


def room(n):
    """`Predictions` with room for n reflections."""
    return Predictions(np.empty((n, 3), np.int16), np.empty(n, np.int16), np.empty((n, 2)), np.empty((n, 3)),
                       np.empty((n, 6)), np.empty((n, 4)), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n))


@njit(cache=True, error_model="numpy")
def predict(axes, centring, k0, spread, strength, least, q_max, shape, inverse, out):
    """Fill `out`, but for `LINES`, with the reflections that the model excites enough; returns how many there are.

    A count beyond the room means that the rest was left out.

    Parameters
    ----------
    axes : (3, 3) rows a*, b*, c*, 1/angstrom
    strength : (logarithm of the scale, fall-off B in angstrom^2): reflections show
        exp(log scale - B / (2 d^2)) x excited density photons in the mean (`kernels.spots.excited`)
    least : (partiality, mean photons): least that a reflection must have of both; 0 asks nothing
    shape, inverse : of the panels (`geometry.panel_inverses`)
    out : Predictions

    For each pair of two indices, only those of the third are visited whose points lie within q_max and in the shell about
    the Ewald sphere that the widest spot could reach: quadratic equations in that index.
    """
    reaches = farthest(k0, spread, strength, least, q_max)
    reach, per_q2 = reaches.max(), (REACHES - 1) / (q_max * q_max)
    n, capacity, last = 0, out.hkl.shape[0], 0
    spans = index_limits(axes, q_max)
    # The innermost index is that of the longest axis: the fewest lines through the shell.
    third = 2 if spans[2] >= max(spans[0], spans[1]) else (1 if spans[1] >= spans[0] else 0)
    first, second = (third + 1) % 3, (third + 2) % 3
    cx, cy, cz = axes[third, 0], axes[third, 1], axes[third, 2]
    cc = cx * cx + cy * cy + cz * cz
    index = np.zeros(3, np.int64)
    q2_max = q_max * q_max
    outer, inner = (k0 + reach) ** 2, max(k0 - reach, 0.0) ** 2
    for index[first] in range(-spans[first], spans[first] + 1):
        for index[second] in range(-spans[second], spans[second] + 1):
            ax = axes[first, 0] * index[first] + axes[second, 0] * index[second]
            ay = axes[first, 1] * index[first] + axes[second, 1] * index[second]
            az = axes[first, 2] * index[first] + axes[second, 2] * index[second]
            along = (ax * cx + ay * cy + az * cz) / cc
            beyond = q2_max - (ax * ax + ay * ay + az * az) + along * along * cc
            if beyond < 0.0:
                continue
            half = np.sqrt(beyond / cc)
            bb = ax * cx + ay * cy + (az + k0) * cz
            aa = ax * ax + ay * ay + (az + k0) * (az + k0)
            root = bb * bb - cc * (aa - outer)
            if root <= 0.0:
                continue
            root = np.sqrt(root)
            hole = bb * bb - cc * (aa - inner)
            hole = np.sqrt(hole) if hole > 0.0 else -1.0
            l = int(np.ceil(max((-bb - root) / cc, -along - half)))
            stop = int(np.floor(min((-bb + root) / cc, half - along)))
            skip_from, skip_to = (-bb - hole) / cc, (-bb + hole) / cc
            while l <= stop:
                if hole > 0.0 and skip_from < l < skip_to:
                    l = int(np.ceil(skip_to))
                    continue
                index[third] = l
                qx, qy, qz = ax + l * cx, ay + l * cy, az + l * cz
                q2 = qx * qx + qy * qy + qz * qz
                if 1e-12 < q2 <= q2_max and allowed(index[0], index[1], index[2], centring) and near(q2, qz, k0, reaches, per_q2):
                    error, nn, shift, _, _ = ellipse(qx, qy, qz, k0, spread)
                    qn = q2 / (2.0 * k0)
                    density = excited(error, nn, qn, spread)[0]
                    mean = np.exp(strength[0] - 0.5 * strength[1] * q2) * density
                    share = density / excited(0.0, nn, qn, spread)[0]
                    if share >= least[0] and mean >= least[1]:
                        nx, ny, nz, rx, ry, rz, _, _, _ = tangents(qx, qy, qz, k0)
                        p, fs, ss = find_panel(shape, inverse, k0 * nx + shift * rx, k0 * ny + shift * ry,
                                               k0 * nz + shift * rz, last)
                        if p >= 0:
                            last = p
                            if n < capacity:
                                out.hkl[n, 0], out.hkl[n, 1], out.hkl[n, 2] = index[0], index[1], index[2]
                                out.panel[n] = p
                                out.place[n, 0], out.place[n, 1] = fs, ss
                                out.excitation[n] = error
                                out.width[n] = np.sqrt(nn)
                                out.partiality[n], out.expected[n] = share, mean
                                out.resolution[n] = np.sqrt(q2)
                            n += 1
                l += 1
    return n


@njit(cache=True, _nrt=False, error_model="numpy")
def select(rows, n, least, known, number):
    """Move those of n reflections to the front that are expected to show `least` photons or are `known`, without `LINES`.

    known : Known; number : of the lattice. Returns how many there are.
    """
    count = 0
    for i in range(n):
        if rows.expected[i] < least and row_of(key(number, rows.hkl[i, 0], rows.hkl[i, 1], rows.hkl[i, 2]), known) < 0:
            continue
        for k in range(3):
            rows.hkl[count, k] = rows.hkl[i, k]
        rows.panel[count], rows.place[count, 0], rows.place[count, 1] = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
        rows.excitation[count], rows.width[count] = rows.excitation[i], rows.width[i]
        rows.partiality[count], rows.expected[count] = rows.partiality[i], rows.expected[i]
        rows.resolution[count] = rows.resolution[i]
        count += 1
    return count


@njit(cache=True, _nrt=False, error_model="numpy")
def outline(axes, k0, spread, inverse, n, out):
    """Fill `LINES` of the first n of `Predictions`: how far and where to each spot is drawn out on its panel."""
    for i in range(n):
        h, k, l, p, fs, ss = out.hkl[i, 0], out.hkl[i, 1], out.hkl[i, 2], out.panel[i], out.place[i, 0], out.place[i, 1]
        qx = h * axes[0, 0] + k * axes[1, 0] + l * axes[2, 0]
        qy = h * axes[0, 1] + k * axes[1, 1] + l * axes[2, 1]
        qz = h * axes[0, 2] + k * axes[1, 2] + l * axes[2, 2]
        error, nn, shift, rr, tt = ellipse(qx, qy, qz, k0, spread)
        nx, ny, nz, rx, ry, rz, tx, ty, tz = tangents(qx, qy, qz, k0)
        x, y, z = k0 * nx + shift * rx, k0 * ny + shift * ry, k0 * nz + shift * rz
        fr, sr = slope_on_panel(inverse, p, fs, ss, x, y, z, rx, ry, rz)
        ft, st = slope_on_panel(inverse, p, fs, ss, x, y, z, tx, ty, tz)
        out.frame[i, 0], out.frame[i, 1], out.frame[i, 2], out.frame[i, 3] = fr, sr, ft, st
        out.shape[i, 0] = fr * fr * rr + ft * ft * tt
        out.shape[i, 1] = fr * sr * rr + ft * st * tt
        out.shape[i, 2] = sr * sr * rr + st * st * tt
        _, out.tail[i, 0], _ = excited(error, nn, (qx * qx + qy * qy + qz * qz) / (2.0 * k0), spread)
        offset, along, across = wide_part(error, nn, qx, qy, qz, k0, spread)
        offset -= shift
        out.tail[i, 1], out.tail[i, 2] = offset * fr, offset * sr
        out.tail[i, 3] = fr * fr * along + ft * ft * across
        out.tail[i, 4] = fr * sr * along + ft * st * across
        out.tail[i, 5] = sr * sr * along + st * st * across


@njit(cache=True, error_model="numpy")
def index_limits(axes, q_max):
    """Largest |h|, |k| and |l| of points within q_max: a direct axis times q_max, each."""
    volume = 0.0
    out = np.empty(3, np.int64)
    for i in range(3):
        u, v = axes[(i + 1) % 3], axes[(i + 2) % 3]
        x, y, z = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        volume = abs(axes[i, 0] * x + axes[i, 1] * y + axes[i, 2] * z)
        out[i] = int(np.sqrt(x * x + y * y + z * z) / volume * q_max)
    return out


@njit(cache=True, error_model="numpy", inline="always")
def mean_photons(error, variance, qn, spread, strength, q2):
    """What reflections at an excitation error show in the mean, photons."""
    return np.exp(strength[0] - 0.5 * strength[1] * q2) * excited(error, variance, qn, spread)[0]


@njit(cache=True, error_model="numpy", inline="always")
def near(q2, qz, k0, reaches, per_q2):
    """Whether a point may be excited enough, by the larger of the reaches about its |q|; cheap, before what is exact."""
    # |k0 z + q| - k0 is (q^2 + 2 k0 qz) / (2 k0 + error): the error in the denominator is allowed for by a hundredth.
    error = abs(q2 + 2.0 * k0 * qz) / (2.0 * k0)
    step = int(q2 * per_q2)
    return error <= 1.01 * max(reaches[step], reaches[min(step + 1, REACHES - 1)])


@njit(cache=True, error_model="numpy")
def farthest(k0, spread, strength, least, q_max):
    """(REACHES,) greatest excitation errors (1/angstrom) at which reflections can be excited enough, evenly over q^2."""
    out = np.empty(REACHES)
    for i in range(REACHES):
        q2 = max(i, 0.05) / (REACHES - 1) * q_max * q_max
        qn = q2 / (2.0 * k0)
        nn = spread.domain + spread.mosaic * q2 + spread.bandwidth * qn * qn + spread.divergence * q2
        high = 0.5 * np.sqrt(nn)
        while (partiality(high, nn, qn, spread) >= least[0] and high < 0.1 * k0
               and mean_photons(high, nn, qn, spread, strength, q2) >= least[1]):
            high *= 1.1
        out[i] = high
    return out
