"""Refinement of the lattices of one shot against its peaks."""
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import refine
from mpixfel.kernels.residuals import fill_points, match_peaks, typical_errors
from mpixfel.kernels.spots import Spread
from mpixfel.kernels.vectors import cell_of
from mpixfel.model.crystal import UnitCell, cell_parameters
from mpixfel.model.event import Reason, Skip
from mpixfel.model.experiment import Detector
from mpixfel.model.symmetry import same_lattice
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.restraints import N_BEAM, Form, Restraints, form_of, restraints
from mpixfel.stages.spread import DOMAIN_VARIANCE, known_spread
from mpixfel.stages.strain import orientation, own_axes

ROUNDS = (2.5, 1.6, 1.2, 1.0)   # how much wider than at the end excitation errors may be, round by round
STEPS = (2, 2, 2, 12)           # of the fit in each round: indices are assigned anew after it
BLOCKS = (1000.0, 2000.0, 3000.0, 3000.0)   # angstrom: and never narrower than blocks of such a size would make them
PLACES = (6.0, 3.0, 1.5, 1.0)   # and places: the first lattice may be off by a pixel or so
STEADY = 5                      # imagined peaks that fit as expected
WORST_PLACE_PIXELS = 0.5        # peaks farther out than a few of these are not a lattice's, whatever its residuals say
SLANT = 0.2                     # share of an excitation error by which a spot may stand aside
MIN_RELATIVE = 0.02             # a centroid is never trusted beyond this share of the spot's width
UNKNOWN_RELATIVE = 0.3          # share of it that an unknown error counts as


class Prepared(NamedTuple):
    """What `Refinement` needs beside the event."""

    restraints: Restraints
    spread: Spread
    detector: Detector


class Fit(NamedTuple):
    """One refined lattice."""

    source: int           # row of the candidate
    form: Form
    axes: np.ndarray
    state: np.ndarray
    covariance: np.ndarray
    hkl: np.ndarray
    own: np.ndarray
    rms: float
    errors: "Errors"
    converged: bool
    reference: np.ndarray | None = None   # unstrained axes in the fit's orientation,
    strains: np.ndarray | None = None     # and the form's strains


class Errors(NamedTuple):
    """What a lattice's own residuals say of their size: they start as expected, and end where the peaks are."""

    widen: float = 1.0     # factor on the variance of the excitation error
    floor: float = 0.0     # error of a place that no signal reduces, 1/angstrom


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Fit orientation, cell, shift of the pattern and, while the run learns, the distance to the peaks of a shot."""

    min_indexed: int = option(4, "fewest peaks that a lattice must explain", low=3)
    tolerance: float = option(3.0, "peaks are taken in up to this many expected errors from their reflection", low=1)
    position_floor_pixels: float = option(0.12, "error of a peak's place that no signal reduces", "pixels", low=0.001)
    cell_sigma: float = option(0.003, "how far a shot's cell may be from the given one before the run has learnt its "
                               "spread, relative", low=1e-6, high=0.2)
    beam_shift_sigma_pixels: float = option(2.0, "how far the beam may be from the given centre before the run has "
                                            "learnt it", "pixels", low=0)
    distance_sigma: float = option(0.005, "how far the distance may be from the given one, relative; 0 never refines it",
                                   low=0, high=0.1)
    max_rmsd_pixels: float = option(4.0, "lattices whose peaks lie farther from their reflections are rejected",
                                    "pixels", low=0.1)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Cells, restraints and the model of the crystal, as far as the run knows them."""
        known = restraints(context, self.cell_sigma, self.beam_shift_sigma_pixels, self.distance_sigma)
        spread = known_spread(context)
        spread = spread._replace(domain=max(spread.domain, DOMAIN_VARIANCE / BLOCKS[-1] ** 2))
        return Prepared(known, spread, context.detector)

    def __call__(self, lattices, peaks, shot, prepared):
        """-> (LATTICE table, PEAK table with `lattice` and `hkl`) | Skip"""
        job = _Shot(self, peaks, shot, prepared)
        fits, reasons = [], []
        for i, row in enumerate(lattices):
            fit = self._alone(job, i, row, prepared)
            (fits if isinstance(fit, Fit) else reasons).append(fit)
        fits, merged = _without_duplicates(fits)
        reasons += [Reason.duplicate_lattice] * merged
        if len(fits) > 1:
            fits = self._together(job, fits)
        good = [fit for fit in fits if self._reason(fit, prepared, job) is Reason.none]
        reasons += [r for r in (self._reason(fit, prepared, job) for fit in fits) if r is not Reason.none]
        if not good:
            return Skip("refinement", reasons[0] if reasons else Reason.too_few_indexed,
                        f"{len(lattices)} candidates refused")
        return _tables(good, lattices, peaks, prepared, job)

    def _alone(self, job, i, row, prepared):
        """Refine one candidate as if no other lattice were there: a `Fit`, or the reason why not."""
        form = row_form(row, prepared.restraints)
        fit = Fit(i, form, row["reciprocal_axes"], None, None, None, None, 0.0, Errors(1.0, job.floor), True)
        for wide, far, block, steps in zip(ROUNDS, PLACES, BLOCKS, STEPS):
            hkl, matched, _ = job.match(fit, self.tolerance * wide, far, DOMAIN_VARIANCE / block ** 2)
            if matched.sum() < self.min_indexed:
                return Reason.too_few_indexed
            fit = job.fit(fit, hkl, matched, steps)
            if not fit.converged:
                return Reason.refinement_diverged
            if steps != STEPS[-1]:
                fit = job.judged(fit)
        return fit

    def _together(self, job, fits):
        """Give each peak to the lattice that explains it best and refine them all again, twice."""
        for _ in range(2):
            fits = [job.judged(f) for f in fits]
            matches = [job.match(f, self.tolerance, 1.0) for f in fits]
            distance2 = np.array([np.where(m[1], m[2], np.inf) for m in matches])
            winner = np.where(np.isfinite(distance2.min(axis=0)), distance2.argmin(axis=0), -1)
            fits = [job.fit(f, m[0], winner == i) for i, (f, m) in enumerate(zip(fits, matches))
                    if np.sum(winner == i) >= self.min_indexed]
        return fits

    def _reason(self, fit, prepared, job):
        if not fit.converged or not np.all(np.isfinite(fit.axes)):
            return Reason.refinement_diverged
        if fit.own.sum() < self.min_indexed:
            return Reason.too_few_indexed
        if fit.rms > self.max_rmsd_pixels * job.pixel_q:
            return Reason.refinement_diverged
        return Reason.none


class _Shot:
    """The peaks of one shot in the units of the kernels, and the fit of one lattice to some of them."""

    def __init__(self, options, peaks, shot, prepared):
        geometry = shot.geometry
        self.options, self.prepared = options, prepared
        self.k0 = 1.0 / shot.wavelength_angstrom
        self.points, self.relative = np.empty((len(peaks), 3)), np.empty(len(peaks))
        fill_points(peaks, geometry, MIN_RELATIVE, UNKNOWN_RELATIVE, self.points, self.relative)
        self.distance_m = prepared.detector.distance_m(shot.clen_m)
        self.pixel_q = self.k0 * prepared.restraints.pixel_m / self.distance_m
        self.spread = prepared.spread
        self.floor = options.position_floor_pixels * self.pixel_q

    def beam(self, fit):
        """(3,) shift of the pattern, m, and relative change of the distance found by a fit."""
        n = refine.N_ROTATION + len(fit.form.strains)
        return np.zeros(N_BEAM) if fit.state is None else fit.state[n:n + N_BEAM]

    def match(self, fit, tolerance, far, least=0.0):
        """(hkl (n, 3), matched (n,), squared distance over its expected square (n,)) of all peaks in one lattice.

        A peak's distance from a lattice point is an excitation error, along its ray, and an error of place, across it.
        """
        n = len(self.points)
        hkl, matched, distance2 = np.empty((n, 3)), np.empty(n, bool), np.empty(n)
        match_peaks(np.ascontiguousarray(fit.axes), fit.form.centring, self.points, self.beam(fit), self.distance_m, self.k0,
                    self.spread, self.relative, (fit.errors.widen, fit.errors.floor, least, far, SLANT), tolerance, hkl,
                    matched, distance2)
        return hkl, matched, distance2

    def fit(self, before, hkl, use, steps=STEPS[-1]):
        """Refine from an earlier fit, or what stands for one, with fixed indices; a `Fit`."""
        p, form = self.prepared, before.form
        n = refine.N_ROTATION + len(form.strains) + N_BEAM
        if before.reference is None:
            turn = orientation(before.axes, form.cell)
            reference = np.ascontiguousarray(own_axes(form.cell)[1] @ turn.T)
            lab = np.ascontiguousarray(turn @ form.strains @ turn.T)
            state = np.zeros(n)
        else:
            reference, lab, state = before.reference.copy(), before.strains.copy(), before.state.copy()
        precision = np.concatenate([form.weight, p.restraints.beam_weight])
        axes, covariance = np.empty((3, 3)), np.empty((n, n))
        converged, _, _, rms = refine.descend(
            reference, lab, hkl, use, self.points, self.relative, before.errors.floor, self.k0, self.spread,
            before.errors.widen, self.distance_m, precision, np.zeros(n), state, axes, covariance, steps)
        return Fit(before.source, form, axes, state, covariance, hkl, use, rms, before.errors, converged, reference, lab)

    def judged(self, fit):
        """The fit with the errors that its residuals ask for, where it has converged."""
        return fit._replace(errors=self.errors(fit)) if fit.converged else fit

    def errors(self, fit):
        """`Errors` that the residuals of a fit ask for: medians, steadied by a few imagined peaks as expected."""
        n, error2, across2, place2 = typical_errors(fit.axes, fit.hkl, fit.own, self.points, self.beam(fit),
                                                    self.distance_m, self.k0, self.spread, self.relative)
        # Medians of chi square with one and with two degrees of freedom: 0.455 and 1.386.
        widen = (error2 / 0.455 * n + STEADY) / (n + STEADY)
        place = across2 / 1.386 - place2
        floor = math.sqrt((max(place, self.floor ** 2) * n + STEADY * self.floor ** 2) / (n + STEADY))
        return Errors(min(max(widen, 0.05), 20.0), min(floor, WORST_PLACE_PIXELS * self.pixel_q))


def _without_duplicates(fits):
    """(fits without those that an earlier or better one repeats, how many went)."""
    kept = []
    for fit in sorted(fits, key=lambda f: -f.own.sum()):
        if not any(same_lattice(fit.axes, other.axes) for other in kept):
            kept.append(fit)
    return kept, len(fits) - len(kept)


def row_form(row, known):
    """`Form` of a LATTICE row: the run's, or the row's own cell, triclinic, where the run has none."""
    if 0 <= row["form"] < len(known.forms):
        return known.forms[row["form"]]
    cell = UnitCell(*cell_parameters(row["reciprocal_axes"]), centring=row["centring"].decode() or "P")
    return form_of(cell, known.cell_sigma)


def record_fit(row, form, axes, state, covariance, known):
    """Write axes, cell, shift and distance of a fit, with errors, into a LATTICE row; `state` as in `kernels.refine`."""
    n, cell = refine.N_ROTATION + len(form.strains), np.empty(6)
    sigma = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    strain_covariance = covariance[refine.N_ROTATION:n, refine.N_ROTATION:n]
    cell_of(axes, cell)
    row["reciprocal_axes"], row["cell"] = axes, cell
    row["cell_sigma"] = np.sqrt(np.maximum(((form.to_cell @ strain_covariance) * form.to_cell).sum(axis=1), 0.0))
    row["orientation_sigma"] = np.degrees(sigma[:refine.N_ROTATION])
    row["beam_shift"] = state[n:n + 2] - known.shift_m
    row["beam_shift_sigma"] = sigma[n:n + 2]
    row["distance_scale"] = known.distance_scale * (1.0 + state[n + 2])
    row["distance_scale_sigma"] = sigma[n + 2]
    row["centring"] = chr(form.centring).encode()


def _tables(fits, lattices, peaks, prepared, job):
    """The LATTICE and PEAK tables of accepted fits."""
    out = np.zeros(len(fits), lattices.dtype)
    peaks = peaks.copy()
    peaks["lattice"], peaks["hkl"] = -1, 0
    for i, fit in enumerate(fits):
        out[i] = lattices[fit.source]
        record_fit(out[i], fit.form, fit.axes, fit.state, fit.covariance, prepared.restraints)
        out[i]["n_indexed"] = fit.own.sum()
        out[i]["rmsd"] = fit.rms / job.pixel_q
        peaks["lattice"][fit.own] = i
        peaks["hkl"][fit.own] = fit.hkl[fit.own]
    return out, peaks
