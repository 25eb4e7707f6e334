"""Least squares of one lattice against all its measured spots, strong and weak, seen and unseen.

The mean intensity of reflections of a resolution falls off with the excitation error as the model of the spread says.
Single reflections scatter about that mean by their structure factors (Wilson: as much as the mean itself) and by the
noise of their measurement. So each measured intensity I with error sigma, expected mean m, has the weight
1 / (m^2 + sigma^2) against m: the exact score of an exponential distribution where the noise is small, and of the noise
where that is large (Wedderburn's quasi-likelihood, Biometrika 61 (1974) 439). It says where the Ewald sphere lies even
where no single spot can be seen. Spots that stand out also say where they are and how wide.

Parameters, in this order: three rotations (rad), strains, shift x and y of the pattern (m), relative change of the
distance; then the logarithm of the scale, the fall-off B of exp(-B / (2 d^2)) (angstrom^2), and the logarithms of the
factors on domain size, mosaicity and bandwidth.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.refine import (MAX_PARAMETERS, N_ROTATION, STUDENT, cholesky_solve, invert, residual_rows, strained,
                                    turn, turn_tensor)
from mpixfel.kernels.spots import Spread, ellipse, excited

N_INTENSITY = 5      # scale, fall-off, domain, mosaicity, bandwidth
STEP = 1e-3          # relative step of numerical derivatives by the spreads
BRIGHTEST = 7.0      # intensities count as at most this many times their mean: the tail of Wilson's distribution


class Signals(NamedTuple):
    """Measured spots of one lattice, one row each; errors are inf where a place or width is not to be used."""

    hkl: np.ndarray          # (n, 3) float64
    intensity: np.ndarray    # (n,) photons
    sigma: np.ndarray        # (n,) photons
    relief: np.ndarray       # (n,) factor on the expected intensity, see `stages.relief`
    point: np.ndarray        # (n, 3) where the spot was found, laboratory, m
    point_error: np.ndarray  # (n, 2) along r and t, 1/angstrom
    width: np.ndarray        # (n, 2) variance along r and t, 1/angstrom^2
    width_error: np.ndarray  # (n, 2) of those


@njit(cache=True, error_model="numpy", inline="always")
def scaled(spread, domain, mosaic, bandwidth):
    """A `Spread` with domain size, mosaicity and bandwidth multiplied."""
    return Spread(spread.domain / (domain * domain), spread.mosaic * mosaic * mosaic,
                  spread.bandwidth * bandwidth * bandwidth, spread.flat * bandwidth, spread.divergence, spread.tail / domain, spread.knee / domain)


@njit(cache=True, error_model="numpy")
def signal_equations(axes, strains, offset, spread, scale, fall, signals, k0, distance_m, n_geometry, normal, gradient,
                     residual, rows, row):
    """Fill normal and gradient; returns (quasi-deviance of intensities, chi square of places, number of places)."""
    n = normal.shape[0]
    normal[:] = 0.0
    gradient[:] = 0.0
    cost, chi2, count = 0.0, 0.0, 0
    q, point = np.empty(3), np.empty(3)
    wider = (scaled(spread, 1.0 + STEP, 1.0, 1.0), scaled(spread, 1.0, 1.0 + STEP, 1.0),
             scaled(spread, 1.0, 1.0, 1.0 + STEP))
    for i in range(signals.hkl.shape[0]):
        h, k, l = signals.hkl[i, 0], signals.hkl[i, 1], signals.hkl[i, 2]
        for a in range(3):
            q[a] = h * axes[0, a] + k * axes[1, a] + l * axes[2, a]
            point[a] = signals.point[i, a] + (-offset[a] if a < 2 else offset[2] * distance_m)
        rr, tt, nn = residual_rows(q, k0, spread, point, strains, distance_m, residual, rows)
        error = -residual[2]
        s2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2]
        qn = s2 / (2.0 * k0)
        density, share, radius2 = excited(error, nn, qn, spread)
        mean = scale * np.exp(-0.5 * fall * s2) * density * signals.relief[i]
        # Derivatives of the logarithm of the mean; the geometry acts through the excitation error alone.
        slope = -(1.0 - share) * error / nn - share * 2.0 * error / radius2
        if spread.flat > 0.0:
            small = STEP * np.sqrt(nn)
            slope = np.log(excited(error + small, nn, qn, spread)[0] / density) / small
        for a in range(n_geometry):
            row[a] = slope * rows[2, a]
        row[n_geometry], row[n_geometry + 1] = 1.0, -0.5 * s2
        for b in range(3):
            e, v, _, r, t = ellipse(q[0], q[1], q[2], k0, wider[b])
            row[n_geometry + 2 + b] = np.log(excited(e, v, qn, wider[b])[0] / density) / STEP
            rows[0, n_geometry + b], rows[1, n_geometry + b] = (r - rr) / STEP, (t - tt) / STEP
        sigma2 = signals.sigma[i] * signals.sigma[i]
        seen = min(signals.intensity[i], BRIGHTEST * mean + 3.0 * signals.sigma[i])
        weight = mean * mean / (mean * mean + sigma2)
        pull = mean * (seen - mean) / (mean * mean + sigma2)
        cost += np.log(mean * mean + sigma2) + (seen - mean) ** 2 / (mean * mean + sigma2)
        for a in range(n):
            gradient[a] += pull * row[a]
            for b in range(a + 1):
                normal[a, b] += weight * row[a] * row[b]
        if signals.point_error[i, 0] < np.inf:
            w0, w1 = signals.point_error[i, 0] ** -2, signals.point_error[i, 1] ** -2
            x = w0 * residual[0] ** 2 + w1 * residual[1] ** 2
            trust = (STUDENT + 2.0) / (STUDENT + x)
            chi2 += x
            count += 1
            for a in range(n_geometry):
                r0, r1 = trust * w0 * rows[0, a], trust * w1 * rows[1, a]
                gradient[a] += r0 * residual[0] + r1 * residual[1]
                for b in range(a + 1):
                    normal[a, b] += r0 * rows[0, b] + r1 * rows[1, b]
        if signals.width_error[i, 0] < np.inf:
            d0, d1 = signals.width[i, 0] - rr, signals.width[i, 1] - tt
            w0, w1 = signals.width_error[i, 0] ** -2, signals.width_error[i, 1] ** -2
            trust = (STUDENT + 2.0) / (STUDENT + w0 * d0 * d0 + w1 * d1 * d1)
            for a in range(3):
                r0, r1 = trust * w0 * rows[0, n_geometry + a], trust * w1 * rows[1, n_geometry + a]
                gradient[n - 3 + a] += r0 * d0 + r1 * d1
                for b in range(a + 1):
                    normal[n - 3 + a, n - 3 + b] += r0 * rows[0, n_geometry + b] + r1 * rows[1, n_geometry + b]
    return cost, chi2, count


@njit(cache=True, error_model="numpy")
def descend_signals(reference, strains, signals, k0, spread, distance_m, precision, centre, state, axes, covariance, steps):
    """Fisher scoring on one lattice; returns (converged, quasi-deviance, chi square of places, their number).

    `state`, `precision`, `centre` (p,): parameters as in the module's description, with those of the intensities
    (log scale, fall-off, logarithms of the factors on domain size, mosaicity, bandwidth) last; the rotations are applied
    to `reference` and left at zero. `axes`, `covariance` are filled as by `refine.descend`.
    """
    n = state.size
    n_strain = strains.shape[0]
    n_geometry = n - N_INTENSITY
    normal, gradient, row = np.empty((n, n)), np.empty(n), np.empty(n)
    residual, rows = np.empty(3), np.empty((3, MAX_PARAMETERS + N_INTENSITY))
    offset = np.zeros(3)
    cost, chi2, count, done = 0.0, 0.0, 0, False
    for step in range(steps):
        strained(reference, strains, state[N_ROTATION:N_ROTATION + n_strain], axes)
        for a in range(3):
            offset[a] = state[n_geometry - 3 + a]
        now = scaled(spread, np.exp(state[n - 3]), np.exp(state[n - 2]), np.exp(state[n - 1]))
        cost, chi2, count = signal_equations(axes, strains, offset, now, np.exp(state[n_geometry]),
                                             state[n_geometry + 1], signals, k0, distance_m, n_geometry, normal,
                                             gradient, residual, rows, row)
        for a in range(n):
            normal[a, a] += precision[a]
            gradient[a] += precision[a] * (centre[a] - state[a])
        covariance[:] = normal
        if done:
            break
        if not cholesky_solve(normal, gradient, n):
            return False, cost, chi2, count
        largest = 0.0
        for a in range(n):
            largest = max(largest, abs(gradient[a]) * np.sqrt(covariance[a, a]))
        for a in range(n - N_INTENSITY, n):
            if a != n_geometry + 1:
                gradient[a] = min(max(gradient[a], -0.5), 0.5)
        turn(reference, gradient[:N_ROTATION])
        for k in range(n_strain):
            turn_tensor(strains[k], gradient)
        for a in range(N_ROTATION, n):
            state[a] += gradient[a]
        done = largest < 1e-2
    strained(reference, strains, state[N_ROTATION:N_ROTATION + n_strain], axes)
    return invert(covariance, normal), cost, chi2, count
