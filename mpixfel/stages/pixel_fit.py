"""The final fit of a lattice: to the pixels around all its predicted spots, through what was measured of them."""
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.refine import N_ROTATION
from mpixfel.kernels.signals import (N_INTENSITY, Signals, Trust, descend_signals, fill_signals, scaled,
                                     signals_room)
from mpixfel.kernels.spots import Spread, excited_all
from mpixfel.stages.refinement import record_fit, row_form
from mpixfel.stages.relief import Relief, Tally, known_relief, known_shape, known_tally
from mpixfel.stages.restraints import N_BEAM
from mpixfel.stages.spread import known_spread, width_prior
from mpixfel.stages.strain import amounts, orientation, own_axes, turned_degrees

PLACE_FLOOR_PIXELS = 0.06     # error of a place that no signal reduces: mosaic blocks are not infinitely many
WIDTH_FLOOR = 0.1             # likewise of the variance of a spot's shape, relative
WIDTH_FLOOR_PIXELS2 = 0.02    # and absolute: no pixel knows its own edges better
MAX_OFFSET_PIXELS = 1.0       # a spot farther from its prediction is another's, or noise
FEWEST_PLACES = 8             # so many tell how well places fit altogether
MUCH_CHI2 = 1.5               # reduced chi square of the places from which their errors are taken as underestimated
FARTHEST_SIGMAS = 5.0         # errors of the orientation that the pixels may turn a lattice by
LOG_SCALE_SIGMA = 0.7         # how far the scale may be from its first estimate: without signal it would run away
FROZEN = 1e24
WHOLE = 0.8                   # share of a spot that must lie on good pixels
CLEAN = 0.05                  # share of a spot that others may claim
FALL_OFF = 20.0               # angstrom^2, fall-off of intensities exp(-B / (2 d^2)) before a run has said its own
FALL_OFF_SIGMA = 20.0


class Expected(NamedTuple):
    """What the run expects of the crystals and intensities of a shot."""

    spread: Spread
    width_sigma: np.ndarray    # (3,) how far the logarithms of domain size, mosaicity and bandwidth may be from it
    fall_off: float            # angstrom^2
    fall_off_sigma: float
    relief: Relief
    tally: Tally
    shape: float               # of the Weibull distribution of intensities about their means: 1 is Wilson's


def expected_of(context):
    """`Expected` as far as the run knows it."""
    fall_off, sigma = context.learnt.extra.get("fall_off", (FALL_OFF, FALL_OFF_SIGMA))
    return Expected(known_spread(context), width_prior(context), float(fall_off), float(sigma), known_relief(context),
                    known_tally(context), known_shape(context))


class Model(NamedTuple):
    """What the fit of one lattice knows beside its LATTICE row."""

    spread: Spread
    log_scale: float = 0.0
    fall_off: float = FALL_OFF
    fall_off_sigma: float = np.nan
    width_sigma: tuple = (np.nan, np.nan, np.nan)   # of the logarithms of domain size, mosaicity, bandwidth


def signals_of(rows, spots, shot, restraints, relief, distance_m):
    """(`Signals`, k0) of one lattice's predictions and measurements (NamedTuples of arrays, cut to that lattice)."""
    k0, geometry = 1.0 / shot.wavelength_angstrom, shot.geometry
    pixel = k0 * restraints.pixel_m / distance_m
    trust = Trust(WHOLE, CLEAN, MAX_OFFSET_PIXELS, PLACE_FLOOR_PIXELS * pixel, WIDTH_FLOOR, WIDTH_FLOOR_PIXELS2 * pixel ** 2)
    out = signals_room(len(rows.panel))
    n = fill_signals(rows, spots, relief(rows.resolution, rows.excitation / rows.width), geometry.origin, geometry.fs_axis,
                     geometry.ss_axis, trust, out)
    return Signals(*(column[:n] for column in out)), k0


def fit_pixels(row, model, rows, spots, shot, restraints, expected, distance_m, steps=10):
    """(LATTICE row, `Model`, indices (m, 3) of the spots whose own places had a say) after the fit, or None where it does
    not converge.

    `expected` restrains domain size, mosaicity, bandwidth and fall-off to the run's.
    """
    form = row_form(row, restraints)
    signals, k0 = signals_of(rows, spots, shot, restraints, expected.relief, distance_m)
    if len(signals.hkl) < 10:
        return None
    turn = orientation(row["reciprocal_axes"], form.cell)
    reference = np.ascontiguousarray(own_axes(form.cell)[1] @ turn.T)
    lab = np.ascontiguousarray(turn @ form.strains @ turn.T)
    n_strain = len(lab)
    n_geometry = N_ROTATION + n_strain + N_BEAM
    state, centre = np.zeros(n_geometry + N_INTENSITY), np.zeros(n_geometry + N_INTENSITY)
    state[N_ROTATION:N_ROTATION + n_strain] = amounts(row["reciprocal_axes"], reference, lab)
    state[n_geometry - N_BEAM:n_geometry] = [*(row["beam_shift"] + restraints.shift_m),
                                             row["distance_scale"] / restraints.distance_scale - 1.0]
    state[n_geometry] = centre[n_geometry] = _log_scale(signals, row["reciprocal_axes"], k0, expected.spread,
                                                        model.fall_off)
    state[n_geometry + 1], centre[n_geometry + 1] = model.fall_off, expected.fall_off
    state[-3:] = _factors(model.spread, expected.spread)
    precision = np.concatenate([form.weight, restraints.beam_weight,
                                [LOG_SCALE_SIGMA ** -2.0, expected.fall_off_sigma ** -2.0], expected.width_sigma ** -2.0])
    begin = (reference.copy(), lab.copy(), state.copy())
    axes, covariance = np.empty((3, 3)), np.empty((len(state), len(state)))
    fit = lambda reference, lab, state: descend_signals(reference, lab, signals, k0, expected.spread, distance_m, precision,
                                                        centre, state, axes, covariance, steps)
    converged, chi2, count = fit(reference, lab, state)
    if converged and count >= FEWEST_PLACES and chi2 > MUCH_CHI2 * 2 * count:
        # Panels that do not stand where the geometry says: places are worth that much less.
        signals.point_error[:] *= np.sqrt(chi2 / (2 * count))
        converged, chi2, count = fit(reference, lab, state)
    if not converged or turned_degrees(axes, row["reciprocal_axes"]) > FARTHEST_SIGMAS * np.linalg.norm(row["orientation_sigma"]):
        # The signals have no say in where the lattice stands; they may still say how strong it is.
        reference, lab, state = begin
        precision[:n_geometry], centre[:n_geometry] = FROZEN, state[:n_geometry]
        converged, _, _ = fit(reference, lab, state)
        if not converged:
            return None
        sigma = np.sqrt(np.maximum(np.diag(covariance)[n_geometry + 1:], 0.0))
        return row, model_of(state, n_geometry, expected, sigma), signals.hkl[:0]
    row = row.copy()
    record_fit(row, form, axes, state, covariance, restraints)
    sigma = np.sqrt(np.maximum(np.diag(covariance)[n_geometry + 1:], 0.0))
    return row, model_of(state, n_geometry, expected, sigma), signals.hkl[np.isfinite(signals.point_error[:, 0])]


def model_of(state, n_geometry, expected, sigma):
    """`Model` of a fit's state; `sigma` (4,) errors of fall-off, domain size, mosaicity and bandwidth."""
    return Model(Spread(*scaled(expected.spread, *np.exp(state[-3:]))), state[n_geometry], state[n_geometry + 1], sigma[0],
                 tuple(sigma[1:]))


def _log_scale(signals, axes, k0, spread, fall_off):
    """Logarithm of the scale that makes expected and measured intensities agree in the mean.

    Weighted by what is expected, not by the errors measured: strong spots have large ones because they are strong.
    """
    q = signals.hkl @ axes
    density = signals.relief * np.exp(-0.5 * fall_off * np.sum(q * q, axis=1)) * excited_all(q, k0, spread)
    seen = np.sum(density * signals.intensity)
    noise = np.sqrt(np.sum((density * signals.sigma) ** 2))
    return float(np.log(max(seen, noise) / np.sum(density ** 2)))


def _factors(spread, reference):
    """(3,) logarithms of domain size, mosaicity and bandwidth of one `Spread` over those of another."""
    ratio = lambda a, b: 0.5 * np.log(a / b) if a > 0 and b > 0 else 0.0
    return (-ratio(spread.domain, reference.domain), ratio(spread.mosaic, reference.mosaic),
            ratio(spread.bandwidth, reference.bandwidth))
