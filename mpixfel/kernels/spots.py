"""Where a reflection of a still appears, how it is drawn out, and how much of it is excited: one Gaussian model.

The density of a reciprocal-lattice point, seen through a beam of some spectrum and divergence, is taken as a normal
distribution about q with covariance

    S = domain I + mosaic (q^2 I - q q^T) + bandwidth q q^T + divergence k0^2 (I - z z^T)

The detector cuts it along the Ewald sphere. Its marginal along the sphere's normal says how much is excited, its
conditional in the sphere's plane where the spot lies and what shape it has. With n the direction of k = k0 z + q, r the
direction of increasing scattering angle and t = n x r, S has no element n-t nor r-t, so a spot is an ellipse along r
and t. (The ingredients are those of Nave, Acta Cryst. D54 (1998) 848; the conditional form is that of Parkhurst et al.,
Acta Cryst. D79 (2023) 1123, with the spectrum added.)

A crystal block has sharp faces, so its transform falls off as 1/q^4 (Porod), not as a Gaussian: a reflection far off the
sphere is weak but not gone, and its spot is as wide as it is far. A share of the density is therefore a squared
Lorentzian, tail a / pi^2 / (q^2 + a^2)^2, whose cut by a plane at distance e holds tail / pi / (e^2 + a^2) and has the
same form with e^2 + a^2 in place of a^2. For a ball of diameter D, whose transform is known, Gaussian and Lorentzian
with the numbers of `stages.spread` follow the true cut within 15 % from its top down to a thousandth.
"""
import math
from typing import NamedTuple

import numpy as np
from numba import njit


class Spread(NamedTuple):
    """Variances of the Gaussian core, and the two numbers of the tail."""

    domain: float        # 1/angstrom^2, isotropic: the core of the block's transform
    mosaic: float        # rad^2, about each axis
    bandwidth: float     # of dlambda / lambda, whatever its distribution
    flat: float          # half width of dlambda / lambda where the spectrum is a top hat; 0: it is Gaussian
    divergence: float    # rad^2, in each of two directions
    tail: float          # 1/angstrom: weight of the squared Lorentzian times its radius
    knee: float          # 1/angstrom: that radius, before the other spreads widen it


@njit(cache=True, error_model="numpy", inline="always")
def ellipse(qx, qy, qz, k0, spread):
    """(excitation error, its variance, shift along r, variance along r, variance along t), 1/angstrom or its square.

    The excitation error is |k0 z + q| - k0: positive outside the sphere. The shift is that of the spot's centre from
    the foot of the normal through q.
    """
    kz = k0 + qz
    q2 = qx * qx + qy * qy + qz * qz
    k = np.sqrt(qx * qx + qy * qy + kz * kz)
    error = (q2 + 2.0 * k0 * qz) / (k + k0)
    cosine = kz / k
    sine = np.sqrt(qx * qx + qy * qy) / k
    qn = k - k0 * cosine
    qr = k0 * sine
    div = spread.divergence * k0 * k0
    nn = spread.domain + spread.mosaic * (q2 - qn * qn) + spread.bandwidth * qn * qn + div * sine * sine
    nr = (spread.bandwidth - spread.mosaic) * qn * qr + div * cosine * sine
    rr = spread.domain + spread.mosaic * (q2 - qr * qr) + spread.bandwidth * qr * qr + div * cosine * cosine
    tt = spread.domain + spread.mosaic * q2 + div
    half = spread.flat * qn
    if half * half < 0.01 * (nn - spread.bandwidth * qn * qn):
        return error, nn, -error * nr / nn, rr - nr * nr / nn, tt
    # A top hat: the wavelength that meets the reflection is known but for what the crystal adds (`offset`), and cannot
    # lie beyond the band.
    own = nn - spread.bandwidth * qn * qn
    lean = (nr - spread.bandwidth * qn * qr) / own
    offset, variance = truncated(error - half, error + half, own)
    steep = qr / qn - lean
    rr = rr - spread.bandwidth * qr * qr - lean * lean * own + variance * steep * steep
    return error, nn, -(error - offset) / qn * qr - offset * lean, rr, tt


@njit(cache=True, error_model="numpy", inline="always")
def truncated(low, high, variance):
    """(mean, variance) of a normal distribution about 0 that is cut to what lies between low and high."""
    sigma = np.sqrt(variance)
    a, b = low / sigma, high / sigma
    if a > 5.0 or b < -5.0:
        # So far out it falls off exponentially from the nearer end.
        edge = a if a > 5.0 else b
        return (edge + 1.0 / edge) * sigma, variance / (edge * edge)
    pa, pb = np.exp(-0.5 * a * a) / np.sqrt(2.0 * np.pi), np.exp(-0.5 * b * b) / np.sqrt(2.0 * np.pi)
    inside = 0.5 * (math.erf(b / np.sqrt(2.0)) - math.erf(a / np.sqrt(2.0)))
    mean = (pa - pb) / inside
    return mean * sigma, variance * max(1.0 + (a * pa - b * pb) / inside - mean * mean, 1e-3)


@njit(cache=True, error_model="numpy", inline="always")
def tangents(qx, qy, qz, k0):
    """(n, r, t) as nine numbers: the unit vectors of the module's description."""
    kz = k0 + qz
    k = 1.0 / np.sqrt(qx * qx + qy * qy + kz * kz)
    nx, ny, nz = qx * k, qy * k, kz * k
    s = np.sqrt(nx * nx + ny * ny)
    cx, cy = (nx / s, ny / s) if s > 1e-12 else (1.0, 0.0)
    return nx, ny, nz, cx * nz, cy * nz, -s, -cy, cx, 0.0


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_ellipses(q, k0, spread, out):
    """Fill out (5, n) with what `ellipse` gives for q (n, 3)."""
    for i in range(q.shape[0]):
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = ellipse(q[i, 0], q[i, 1], q[i, 2], k0, spread)


def ellipses(q, k0, spread):
    """(5, n): excitation error, its variance, shift along r, variances along r and t, of q (n, 3) 1/angstrom."""
    out = np.empty((5, len(q)))
    fill_ellipses(np.ascontiguousarray(q, dtype=np.float64), k0, spread, out)
    return out


@njit(cache=True, error_model="numpy", inline="always")
def excited(error, variance, qn, spread):
    """(density along the normal, share of it in the tail, squared radius of the tail in the plane).

    `error` and `variance` are those of `ellipse`, qn is q^2 / (2 k0); densities are per 1/angstrom, the radius squared
    1/angstrom^2. The spreads beside the domain's own widen the tail's knee and, its far end being fixed, take weight
    from it.
    """
    half = spread.flat * qn
    own = max(variance - spread.bandwidth * qn * qn, spread.domain)
    if half * half < 0.01 * own:
        half, own = 0.0, variance
    radius2 = spread.knee * spread.knee + own - spread.domain
    radius = np.sqrt(radius2)
    weight = min(spread.tail / radius, 0.8)
    if half > 0.0:
        scale = 1.0 / np.sqrt(2.0 * own)
        core = (1.0 - weight) * 0.25 / half * (math.erf((error + half) * scale) - math.erf((error - half) * scale))
        tail = weight * 0.5 / half / np.pi * (np.arctan((error + half) / radius) - np.arctan((error - half) / radius))
        beyond = max(abs(error) - half, 0.0)
        return core + tail, tail / (core + tail), beyond * beyond + radius2
    core = (1.0 - weight) * np.exp(-0.5 * error * error / variance) / np.sqrt(2.0 * np.pi * variance)
    tail = weight * radius / np.pi / (error * error + radius2)
    return core + tail, tail / (core + tail), error * error + radius2


@njit(cache=True, _nrt=False, error_model="numpy")
def wide_part(error, variance, qx, qy, qz, k0, spread):
    """(shift along r, squared radius along r, along t) of a spot's tail, 1/angstrom or its square.

    Seen through a Gaussian spectrum it is round, about the foot of the normal. Through a top hat, each wavelength shows
    its own cut, at its own place along r and the wider the farther from the lattice point: half of them, by weight, lie
    between the quartiles of a Cauchy distribution that ends where the band does.
    """
    kz = k0 + qz
    k = np.sqrt(qx * qx + qy * qy + kz * kz)
    qn, sine, cosine = k - k0 * kz / k, np.sqrt(qx * qx + qy * qy) / k, kz / k
    qr = k0 * sine
    half = spread.flat * qn
    own = max(variance - spread.bandwidth * qn * qn, spread.domain)
    if half * half < 0.01 * own:
        radius2 = spread.knee * spread.knee + variance - spread.domain + error * error
        return 0.0, radius2, radius2
    lean = (-spread.mosaic * qn * qr + spread.divergence * k0 * k0 * cosine * sine) / own
    steep = qr / qn - lean
    radius2 = spread.knee * spread.knee + own - spread.domain
    radius = np.sqrt(radius2)
    first, last = np.arctan((error - half) / radius), np.arctan((error + half) / radius)
    low = radius * np.tan(0.75 * first + 0.25 * last)
    middle = radius * np.tan(0.5 * first + 0.5 * last)
    high = radius * np.tan(0.25 * first + 0.75 * last)
    across = radius2 + middle * middle
    return -(error - middle) / qn * qr - middle * lean, across + (0.5 * (high - low) * steep) ** 2, across


@njit(cache=True, error_model="numpy", inline="always")
def partiality(error, variance, qn, spread):
    """Share of what a reflection would show on the sphere itself that it shows at this excitation error."""
    return excited(error, variance, qn, spread)[0] / excited(0.0, variance, qn, spread)[0]


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_excited(q, k0, spread, out):
    """Fill out (n,) with the excited density at q (n, 3)."""
    for i in range(q.shape[0]):
        error, variance, _, _, _ = ellipse(q[i, 0], q[i, 1], q[i, 2], k0, spread)
        qn = (q[i, 0] ** 2 + q[i, 1] ** 2 + q[i, 2] ** 2) / (2.0 * k0)
        out[i] = excited(error, variance, qn, spread)[0]


def excited_all(q, k0, spread):
    """(n,) density along the sphere's normal at q (n, 3), angstrom: what the mean intensity is proportional to."""
    out = np.empty(len(q))
    fill_excited(np.ascontiguousarray(q, dtype=np.float64), k0, spread, out)
    return out
