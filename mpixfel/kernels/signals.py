"""Least squares of one lattice against all its measured spots, strong and weak, seen and unseen.

The mean intensity of reflections of a resolution falls off with the excitation error as the model of the spread says.
Single reflections scatter about that mean m by their structure factors (Wilson: exponentially) and by the noise of their
measurement. The derivative of the logarithm of the likelihood by log m is J / m - 1, where J is what is likely of the
reflection's photons after its measurement (Louis, J. R. Stat. Soc. B 44 (1982) 226, eq. 3.1). Its information is taken as
m^2 / (m^2 + sigma^2), as of a distribution of that mean and variance (Wedderburn, Biometrika 61 (1974) 439). Sigma is the
noise that m photons have, not that of those counted: or else reflections that by chance show few would weigh more. So
reflections say where the Ewald sphere lies even where no single one can be seen. Spots that stand out also say where they
are and how wide.

Parameters, in this order: three rotations (rad), strains, shift x and y of the pattern (m), relative change of the
distance; then the logarithm of the scale, the fall-off B of exp(-B / (2 d^2)) (angstrom^2), and the logarithms of the
factors on domain size, mosaicity and bandwidth.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.likely import LEAST_EXPECTED, likely_photons, variance_of_none
from mpixfel.kernels.refine import (MAX_PARAMETERS, N_ROTATION, STUDENT, cholesky_solve, invert, residual_rows, strained,
                                    turn, turn_tensor)
from mpixfel.kernels.spots import Spread, ellipse, excited

N_INTENSITY = 5      # scale, fall-off, domain, mosaicity, bandwidth
FAR, FAR_FALL = 0.5, 10.0   # longest steps, of logarithms and of the fall-off (angstrom^2)
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


class Trust(NamedTuple):
    """How far measured places and widths are believed."""

    share: float             # least of a spot on good pixels
    claimed: float           # most of it on pixels of other spots
    offset: float            # pixels from its prediction beyond which a spot is another's, or noise
    place: float             # error of a place that no signal reduces, 1/angstrom
    width: float             # likewise of a variance, relative,
    width2: float            # and absolute, 1/angstrom^2


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_signals(rows, spots, relief, origin, fs_axis, ss_axis, trust, out):
    """Fill `Signals` from `Predictions` and the `Spots` measured of them; returns how many can be used.

    relief (n,): factors on the expected intensities; origin, fs_axis, ss_axis (P, 3) m: of the panels.
    """
    m = 0
    for i in range(rows.panel.size):
        value, sigma = spots.intensity[i], spots.sigma[i]
        if not (np.isfinite(value) and spots.share[i] > trust.share and spots.claimed[i] < trust.claimed):
            continue
        x, y, p = spots.offset[i, 0], spots.offset[i, 1], rows.panel[i]
        fs = rows.place[i, 0] + min(max(x, -trust.offset), trust.offset)
        ss = rows.place[i, 1] + min(max(y, -trust.offset), trust.offset)
        for k in range(3):
            out.hkl[m, k] = rows.hkl[i, k]
            out.point[m, k] = origin[p, k] + fs * fs_axis[p, k] + ss * ss_axis[p, k]
        out.intensity[m], out.sigma[m], out.relief[m] = value, sigma, relief[i]
        placed = recentred(spots, i, trust.offset)
        # Information goes with the square of the intensity, of which a faint spot's noise makes too much.
        true = max(1.0 - (sigma / value) * (sigma / value), 0.0)
        wide = placed and spots.width_information[i, 0] > 0.0 and spots.width_information[i, 1] > 0.0
        frame = (rows.frame[i, 0], rows.frame[i, 1], rows.frame[i, 2], rows.frame[i, 3])
        determinant = frame[0] * frame[3] - frame[1] * frame[2]
        for axis in range(2):
            fx, fy = (frame[0], frame[1]) if axis == 0 else (frame[2], frame[3])
            known = (spots.information[i, 0] * fx * fx + 2.0 * spots.information[i, 1] * fx * fy
                     + spots.information[i, 2] * fy * fy)
            out.point_error[m, axis] = np.sqrt(1.0 / (true * known) + trust.place * trust.place) if placed else np.inf
            # A step in pixels, as steps along r and t.
            dx, dy = (frame[3], -frame[2]) if axis == 0 else (-frame[1], frame[0])
            variance = (rows.shape[i, 0] * dx * dx + 2.0 * rows.shape[i, 1] * dx * dy
                        + rows.shape[i, 2] * dy * dy) / (determinant * determinant)
            out.width[m, axis] = variance + spots.widening[i, axis]
            out.width_error[m, axis] = np.sqrt(1.0 / spots.width_information[i, axis] + (trust.width * variance) ** 2
                                               + trust.width2 ** 2) if wide else np.inf
        m += 1
    return m


@njit(cache=True, error_model="numpy", inline="always")
def recentred(spots, i, farthest):
    """Whether the centre of spot i was found anew, and not too far (pixels) from where it was predicted."""
    x, y = spots.offset[i, 0], spots.offset[i, 1]
    return spots.information[i, 0] > 0.0 and x * x + y * y < farthest * farthest


def signals_room(n):
    """`Signals` with room for n."""
    return Signals(np.empty((n, 3)), np.empty(n), np.empty(n), np.empty(n), np.empty((n, 3)), np.empty((n, 2)),
                   np.empty((n, 2)), np.empty((n, 2)))


@njit(cache=True, error_model="numpy", inline="always")
def scaled(spread, domain, mosaic, bandwidth):
    """A `Spread` with domain size, mosaicity and bandwidth multiplied."""
    return Spread(spread.domain / (domain * domain), spread.mosaic * mosaic * mosaic,
                  spread.bandwidth * bandwidth * bandwidth, spread.flat * bandwidth, spread.divergence, spread.tail / domain, spread.knee / domain)


@njit(cache=True, error_model="numpy")
def signal_equations(axes, strains, offset, spread, scale, fall, signals, k0, distance_m, n_geometry, normal, gradient,
                     residual, rows, row):
    """Fill normal and gradient; returns (chi square of places, number of places)."""
    n = normal.shape[0]
    normal[:] = 0.0
    gradient[:] = 0.0
    chi2, count = 0.0, 0
    q, point = np.empty(3), np.empty(3)
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
        mean = max(scale * np.exp(-0.5 * fall * s2) * density * signals.relief[i], LEAST_EXPECTED)
        # Derivatives of the logarithm of the mean; the geometry acts through the excitation error alone.
        slope = -(1.0 - share) * error / nn - share * 2.0 * error / radius2
        if spread.flat > 0.0:
            small = STEP * np.sqrt(nn)
            slope = np.log(excited(error + small, nn, qn, spread)[0] / density) / small
        for a in range(n_geometry):
            row[a] = slope * rows[2, a]
        row[n_geometry], row[n_geometry + 1] = 1.0, -0.5 * s2
        if spread.flat > 0.0:
            by_flat_spreads(q, k0, spread, density, rr, tt, n_geometry, row, rows)
        else:
            by_spreads(q, k0, spread, error, nn, share, n_geometry, row, rows)
        noise = np.sqrt(variance_of_none(signals.intensity[i], signals.sigma[i]) + mean)
        seen = min(signals.intensity[i], BRIGHTEST * mean + 3.0 * noise)
        weight = mean * mean / (mean * mean + noise * noise)
        pull = likely_photons(seen, noise, mean) / mean - 1.0
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
    return chi2, count


@njit(cache=True, _nrt=False, error_model="numpy")
def by_spreads(q, k0, spread, error, nn, share, n_geometry, row, rows):
    """Derivatives by the logarithms of domain size, mosaicity and bandwidth of a Gaussian spectrum: of the logarithm of
    the mean intensity into row[n_geometry + 2:], of the variances along r and t into rows[0] and rows[1].

    See `spots.ellipse` and `spots.excited`; nn is the variance of the excitation error, share that of the tail.
    """
    kz, s2 = k0 + q[2], q[0] * q[0] + q[1] * q[1] + q[2] * q[2]
    flat2 = q[0] * q[0] + q[1] * q[1]
    k = np.sqrt(flat2 + kz * kz)
    qn, qr = k - k0 * kz / k, k0 * np.sqrt(flat2) / k
    nr = (spread.bandwidth - spread.mosaic) * qn * qr + spread.divergence * k0 * k0 * kz * (qr / k0) / k
    knee2 = spread.knee * spread.knee
    radius2 = knee2 + nn - spread.domain
    weight = min(spread.tail / np.sqrt(radius2), 0.8)
    free = 1.0 if weight < 0.8 else 0.0
    for b in range(3):
        if b == 0:
            by_nn = by_rr = by_tt = -2.0 * spread.domain
            by_nr, by_radius2, by_weight = 0.0, -2.0 * knee2, -free
        elif b == 1:
            by_nn, by_rr = 2.0 * spread.mosaic * (s2 - qn * qn), 2.0 * spread.mosaic * (s2 - qr * qr)
            by_tt, by_nr, by_radius2, by_weight = 2.0 * spread.mosaic * s2, -2.0 * spread.mosaic * qn * qr, by_nn, 0.0
        else:
            by_nn, by_rr = 2.0 * spread.bandwidth * qn * qn, 2.0 * spread.bandwidth * qr * qr
            by_tt, by_nr, by_radius2, by_weight = 0.0, 2.0 * spread.bandwidth * qn * qr, by_nn, 0.0
        by_weight -= free * 0.5 * by_radius2 / radius2
        core = 0.5 * by_nn * (error * error / nn - 1.0) / nn - weight * by_weight / (1.0 - weight)
        tail = by_weight + by_radius2 * (0.5 / radius2 - 1.0 / (error * error + radius2))
        row[n_geometry + 2 + b] = (1.0 - share) * core + share * tail
        rows[0, n_geometry + b] = by_rr - (2.0 * nr * by_nr - nr * nr * by_nn / nn) / nn
        rows[1, n_geometry + b] = by_tt


@njit(cache=True, _nrt=False, error_model="numpy")
def by_flat_spreads(q, k0, spread, density, rr, tt, n_geometry, row, rows):
    """As `by_spreads`, by small steps, where the spectrum is a top hat; density, rr and tt without a step."""
    qn = (q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) / (2.0 * k0)
    for b in range(3):
        wider = scaled(spread, 1.0 + STEP * (b == 0), 1.0 + STEP * (b == 1), 1.0 + STEP * (b == 2))
        e, v, _, r, t = ellipse(q[0], q[1], q[2], k0, wider)
        row[n_geometry + 2 + b] = np.log(excited(e, v, qn, wider)[0] / density) / STEP
        rows[0, n_geometry + b], rows[1, n_geometry + b] = (r - rr) / STEP, (t - tt) / STEP


@njit(cache=True, error_model="numpy")
def descend_signals(reference, strains, signals, k0, spread, distance_m, precision, centre, state, axes, covariance, steps):
    """Fisher scoring on one lattice; returns (converged, chi square of places, their number).

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
    chi2, count, done = 0.0, 0, False
    for step in range(steps):
        strained(reference, strains, state[N_ROTATION:N_ROTATION + n_strain], axes)
        for a in range(3):
            offset[a] = state[n_geometry - 3 + a]
        now = scaled(spread, np.exp(state[n - 3]), np.exp(state[n - 2]), np.exp(state[n - 1]))
        chi2, count = signal_equations(axes, strains, offset, now, np.exp(state[n_geometry]), state[n_geometry + 1], signals,
                                       k0, distance_m, n_geometry, normal, gradient, residual, rows, row)
        for a in range(n):
            normal[a, a] += precision[a]
            gradient[a] += precision[a] * (centre[a] - state[a])
        covariance[:] = normal
        if done:
            break
        if not cholesky_solve(normal, gradient, n):
            return False, chi2, count
        largest = 0.0
        for a in range(n):
            largest = max(largest, abs(gradient[a]) * np.sqrt(covariance[a, a]))
        for a in range(n - N_INTENSITY, n):
            most = FAR_FALL if a == n_geometry + 1 else FAR
            gradient[a] = min(max(gradient[a], -most), most)
        turn(reference, gradient[:N_ROTATION])
        for k in range(n_strain):
            turn_tensor(strains[k], gradient)
        for a in range(N_ROTATION, n):
            state[a] += gradient[a]
        done = largest < 1e-2
    strained(reference, strains, state[N_ROTATION:N_ROTATION + n_strain], axes)
    return invert(covariance, normal), chi2, count
