"""Where a reflection of a still appears, how it is drawn out, and how much of it is excited: one Gaussian model.

The density of a reciprocal-lattice point, seen through a beam of some spectrum and divergence, is taken as a normal
distribution about q with covariance

    S = domain I + mosaic (q^2 I - q q^T) + bandwidth q q^T + divergence k0^2 (I - z z^T)

The detector cuts it along the Ewald sphere. Its marginal along the sphere's normal says how much is excited, its
conditional in the sphere's plane where the spot lies and what shape it has. With n the direction of k = k0 z + q, r the
direction of increasing scattering angle and t = n x r, S has no element n-t nor r-t, so a spot is an ellipse along r
and t. (The ingredients are those of Nave, Acta Cryst. D54 (1998) 848; the conditional form is that of Parkhurst et al.,
Acta Cryst. D79 (2023) 1123, with the spectrum added.)
"""
from typing import NamedTuple

import numpy as np
from numba import njit


class Spread(NamedTuple):
    """Variances of the Gaussian model."""

    domain: float        # 1/angstrom^2, isotropic
    mosaic: float        # rad^2, about each axis
    bandwidth: float     # of dlambda / lambda
    divergence: float    # rad^2, in each of two directions


@njit(cache=True, inline="always")
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
    return error, nn, -error * nr / nn, rr - nr * nr / nn, tt


@njit(cache=True, inline="always")
def tangents(qx, qy, qz, k0):
    """(n, r, t) as nine numbers: the unit vectors of the module's description."""
    kz = k0 + qz
    k = 1.0 / np.sqrt(qx * qx + qy * qy + kz * kz)
    nx, ny, nz = qx * k, qy * k, kz * k
    s = np.sqrt(nx * nx + ny * ny)
    cx, cy = (nx / s, ny / s) if s > 1e-12 else (1.0, 0.0)
    return nx, ny, nz, cx * nz, cy * nz, -s, -cy, cx, 0.0


@njit(cache=True)
def fill_ellipses(q, k0, spread, out):
    """Fill out (5, n) with what `ellipse` gives for q (n, 3)."""
    for i in range(q.shape[0]):
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = ellipse(q[i, 0], q[i, 1], q[i, 2], k0, spread)


def ellipses(q, k0, spread):
    """(5, n): excitation error, its variance, shift along r, variances along r and t, of q (n, 3) 1/angstrom."""
    out = np.empty((5, len(q)))
    fill_ellipses(np.ascontiguousarray(q, dtype=np.float64), k0, spread, out)
    return out
