"""Prediction and integration of all lattices of one shot."""
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy.special import gamma

from mpixfel.kernels import footprint
from mpixfel.kernels.geometry import panel_inverses, scattering_vectors
from mpixfel.kernels.integrate import Spots, measure, spots
from mpixfel.kernels.known import known
from mpixfel.kernels.levels import UNBOUND, levels
from mpixfel.kernels.likely import fill_likely, fill_likely_of
from mpixfel.kernels.predict import Predictions, outline, predict, room, select
from mpixfel.kernels.profiles import work
from mpixfel.kernels.table import relieve
from mpixfel.model.event import Reason, Skip
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.pixel_fit import Model, expected_of, fit_pixels
from mpixfel.stages.pixels import EXCESS
from mpixfel.stages.quality import judge
from mpixfel.stages.reflections import keys, reflection_table
from mpixfel.stages.relief import density_at_origin
from mpixfel.stages.restraints import restraints
from mpixfel.stages.spread import describe

ROOM = 4096            # reflections of one lattice to begin with; grows where it does not suffice
LEAST_PHOTONS = 0.1    # reflections that show less in the mean are not considered
EVIDENT = 6.0          # signal to noise of a reflection that is there whatever was expected of it
SETTLING = 2           # more measurements of spots that share pixels: faint ones among bright ones need them
BRIGHT = 2.0           # signal to noise from which a spot's place and width are measured


class Prepared:
    """Buffers of one rank, and what the run knows."""

    def __init__(self, context):
        self.detector, self.beam = context.detector, context.beam
        self.restraints, self.taught = restraints(context), context.learnt.n_lattices > 0
        self.expected = expected_of(context)
        self.excess_variance = float(context.learnt.extra.get(EXCESS, 0.0))
        stack = context.detector.stack_shape
        self.claims, self.light = footprint.claims(stack), np.zeros(stack, np.float32)
        self.work, self.levels, self.stamp = work(), levels(stack), 0
        self.predictions = room(ROOM)
        self.corners = [np.array([[0, 0], [fs, 0], [0, ss], [fs, ss]], float)
                        for ss, fs in (p.shape for p in context.detector.panels)]

    def next_stamp(self):
        """A number never given before: backgrounds of another image or pass do not count, nor do their bounds."""
        self.stamp += 1
        self.levels.bound[0] = UNBOUND
        return self.stamp


@dataclass(frozen=True, kw_only=True)
class ProfileIntegrator:
    """Predict the reflections that a shot excites and measure them by summation and by profile fit."""

    refine: str = option("pixels", "last fit of each lattice before it is integrated: pixels (to all its predicted spots, "
                         "seen or not) or none", choices=("pixels", "none"))
    completeness: float = option(0.995, "share of the reflections of more than `worthwhile_photons` that is to be "
                                 "integrated: the more, the more empty ones come along", low=0.5, high=1)
    worthwhile_photons: float = option(10.0, "reflections of fewer photons need not be found", "photons", low=1, high=1e6)
    min_partiality: float = option(0.002, "reflections that the model excites less are never integrated", low=1e-5, high=1)
    fit_partiality: float = option(0.05, "reflections that the model excites more take part in the fit", low=1e-3, high=1)
    foreground: float = option(3.5, "extent of a spot, in standard deviations of its shape", low=1.5, high=8)
    max_radius_pixels: float = option(7.0, "light farther from a spot's centre is not counted as the spot's, unless the "
                                      "spot is drawn out farther", "pixels", low=2, high=18)
    min_share: float = option(0.6, "reflections with less of their foreground's light on good pixels are dropped", low=0.05, high=1)
    min_integrated: int = option(5, "fewest reflections that a lattice must give", low=1)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Buffers, and the model of the crystal as far as the run knows it."""
        return Prepared(context)

    def __call__(self, image, shot, lattices, peaks, prepared):
        """-> (LATTICE table, REFLECTION table sorted by lattice) | Skip

        Peaks of a lattice that turns out to be wrong lose their mark: `peaks` is changed in place.
        """
        job = OneShot(self, image, shot, peaks, prepared)
        crystals = [(row, Model(prepared.expected.spread, fall_off=prepared.expected.fall_off)) for row in lattices]
        seen = None
        # A run that knows its crystals needs one fit to the pixels; before that, the second one begins much nearer.
        for _ in range(1 if prepared.taught else 2):
            seen = job.measure(crystals, (self.fit_partiality, 0.0), seen)
            crystals = [job.fit(i, row, model, seen, self.refine == "pixels") for i, (row, model) in enumerate(crystals)]
        with blanked(image.photons, image.saturated):
            seen = job.measure(crystals, (self.min_partiality, LEAST_PHOTONS), seen)
        rows = np.array([row for row, _ in crystals], lattices.dtype)
        _describe(rows, [model for _, model in crystals])
        table, expected = reflection_table(seen, image, shot, peaks, prepared.beam, prepared.expected.tally, self.min_share,
                                           np.concatenate([np.zeros(0, np.int64), *job.recentred.values()]))
        rows, table, kept = judge(rows, table, expected, self.min_integrated)
        _relabel(peaks, kept)
        if not len(rows):
            return Skip("integration", Reason.wrong_lattice, "no signal where the lattices predict it")
        return rows, table


@contextmanager
def blanked(photons, pixels):
    """Within it the pixels (flat indices) are NaN: a saturated pixel tells less of a spot than those around it."""
    at = np.unravel_index(pixels, photons.shape)
    values = photons[at]
    photons[at] = np.nan
    try:
        yield
    finally:
        photons[at] = values


class Seen:
    """Predictions of all lattices of a shot, end to end, and what was measured of them."""

    def __init__(self, lattice, rows, measured):
        self.lattice, self.rows, self.measured = lattice, rows, measured

    def of(self, i):
        """(`Predictions`, `Spots`) of lattice i."""
        own = slice(*np.searchsorted(self.lattice, (i, i + 1)))
        return Predictions(*(c[own] for c in self.rows)), Spots(*(c[own] for c in self.measured))

    def evident(self):
        """Keys of the reflections that stand out so far that no expectation is needed to believe in them."""
        out = self.measured.intensity > EVIDENT * self.measured.sigma
        return keys(self.lattice[out], self.rows.hkl[out])


class OneShot:
    """One image with its buffers."""

    def __init__(self, options, image, shot, peaks, prepared):
        self.options, self.image, self.shot, self.prepared = options, image, shot, prepared
        found = peaks[peaks["lattice"] >= 0]
        self.evident = keys(found["lattice"], found["hkl"])
        self.recentred = {}    # of each lattice, `keys` of the reflections whose own places had a say in its last fit
        self.k0 = 1.0 / shot.wavelength_angstrom
        self.distance_m = prepared.detector.distance_m(shot.clen_m)
        self.q_max = largest_q(shot, prepared.corners)
        readout = np.square(image.readout_sigma)
        self.readout_variance = float(np.nanmean(readout)) if np.any(np.isfinite(readout)) else prepared.excess_variance

    def fit(self, i, row, model, seen, refine):
        """(LATTICE row, `Model`) of lattice i after the fit; as before where it fails."""
        p = self.prepared
        fitted = fit_pixels(row, model, *seen.of(i), self.shot, p.restraints, p.expected, self.distance_m)
        if fitted is None:
            return row, model
        if not refine:
            return row, fitted[1]
        self.recentred[i] = keys(np.full(len(fitted[2]), i), fitted[2])
        return fitted[:2]

    def predict(self, i, row, model, least):
        """`Predictions` of lattice i, copied from the buffer."""
        p = self.prepared
        inverse, axes = panel_inverses(self.lattice_geometry(row)), np.ascontiguousarray(row["reciprocal_axes"])
        arguments = (axes, ord(row["centring"].decode() or "P"), self.k0, model.spread, (model.log_scale, model.fall_off),
                     least, self.q_max, self.shot.geometry.shape, inverse)
        n = predict(*arguments, p.predictions)
        if n > len(p.predictions.hkl):
            p.predictions = room(n + n // 4)
            predict(*arguments, p.predictions)
        found = p.predictions
        relieve(found, n, *p.expected.relief)
        if least[1] > 0.0:
            n = select(found, n, self.least_expected(found.expected[:n]), known(self.evident), i)
        rows = Predictions(*(column[:n].copy() for column in found))
        outline(axes, self.k0, model.spread, inverse, n, rows)
        return rows

    def least_expected(self, expected):
        """Mean photons above which the wanted share of all worthwhile reflections is expected.

        Intensities about a mean that itself is only known roughly scatter more widely than Wilson's exponential: they
        are taken as Weibull distributed, as widely as the run has found them.
        """
        falling, shape = np.sort(expected)[::-1], self.prepared.expected.shape
        ratio = gamma(1.0 + 1.0 / shape) * self.options.worthwhile_photons / np.maximum(falling, 1e-3)
        worthwhile = np.cumsum(np.exp(-ratio ** shape))
        if not len(falling) or worthwhile[-1] <= 0.0:
            return 0.0
        return falling[np.searchsorted(worthwhile, self.options.completeness * worthwhile[-1])]

    def lattice_geometry(self, row):
        """The shot's geometry moved by what its lattice's refinement found beyond what the run had learnt.

        A shift of the pattern is a shift of the panels the other way.
        """
        known = self.prepared.restraints
        x, y = row["beam_shift"] + known.shift_m
        return self.shot.geometry.shifted(-x, -y, self.distance_m * (row["distance_scale"] / known.distance_scale - 1.0))

    def measure(self, crystals, least, before):
        """`Seen` of all lattices; the light of spots seen `before` is taken off their neighbours.

        Those that are to show some photons are integrated, the others are for the fit, which looks at places and widths.
        """
        last = least[1] > 0.0
        parts = [self.predict(i, row, model, least) for i, (row, model) in enumerate(crystals)]
        lattice = np.repeat(np.arange(len(parts)), [len(part.hkl) for part in parts])
        rows = parts[0] if len(parts) == 1 else Predictions(*map(np.concatenate, zip(*parts)))
        prior = np.zeros(len(lattice)) if before is None else shining(lattice, rows, before)
        out = self.measure_given(rows, prior, last)
        seen = Seen(lattice, rows, out)
        if not last:
            self.evident = np.concatenate([self.evident, seen.evident()])
        return seen

    def measure_given(self, rows, prior, last):
        """`Spots` measured without the light of the others, `prior` (n,) photons each.

        Those that share pixels are measured again, if this is the `last` time, without the light that was found of the
        others the time before.
        """
        p, bounds, n = self.prepared, self.shot.geometry.shape, len(prior)
        extent, lit, out = (self.options.foreground, self.options.max_radius_pixels), np.zeros(n, bool), spots(n)
        twice = footprint.mark(rows, prior, n, *extent, bounds, p.claims)
        if twice:
            footprint.crowded(rows, prior, n, *extent, bounds, p.claims, lit)
        which, wide, stamp = np.arange(n), prior, p.next_stamp()
        for turn in range(1 + SETTLING * (last and twice)):
            if turn:
                which, prior = np.flatnonzero(lit), np.empty(n)
                fill_likely(out.intensity, out.sigma, rows.expected, prior)
            if twice:
                shining_on = np.where(lit, prior, 0.0)
                footprint.shine(rows, shining_on, wide, n, *extent, bounds, p.work, p.light)
            measure(self.image.photons, p.light, rows, which, wide, prior, lit, bounds, p.claims, p.levels, stamp, *extent,
                    self.readout_variance, np.inf if last else BRIGHT, p.work, out)
            if twice:
                footprint.darken(rows, shining_on, wide, n, *extent, bounds, p.light)
        footprint.clear(p.claims, twice)
        return out


def largest_q(shot, corners):
    """Length of the scattering vector at the farthest corner of the detector, 1/angstrom."""
    panel = np.repeat(np.arange(len(corners)), 4)
    fs, ss = np.concatenate(corners).T
    return float(np.linalg.norm(scattering_vectors(shot.geometry, panel, fs, ss, shot.wavelength_angstrom), axis=1).max())


def shining(lattice, rows, before):
    """(n,) photons that reflections have in all likelihood, see `likely.likely_photons`, from what was measured before."""
    out = np.empty(len(lattice))
    fill_likely_of(known(keys(before.lattice, before.rows.hkl)), before.measured.intensity, before.measured.sigma, lattice,
                   rows.hkl, rows.expected, out)
    return out


def _describe(rows, models):
    """Write the model of the crystal, with its errors, into the LATTICE rows."""
    for row, model in zip(rows, models):
        row["domain_size"], row["half_mosaicity"], row["bandwidth"] = describe(model.spread)
        for name, sigma in zip(("domain_size", "half_mosaicity", "bandwidth"), model.width_sigma):
            row[f"{name}_sigma"] = row[name] * sigma
        row["profile_radius"] = np.sqrt(model.spread.domain)
        row["overall_scale"] = np.exp(model.log_scale) * density_at_origin(model.spread)
        row["b_factor"], row["b_factor_sigma"] = model.fall_off, model.fall_off_sigma


def _relabel(peaks, kept):
    """Marks of peaks follow their lattices; those of lattices that went are taken away."""
    where = np.full(max(kept, default=-1) + 1 + int(peaks["lattice"].max(initial=-1)) + 1, -1)
    where[kept] = np.arange(len(kept))
    own = peaks["lattice"] >= 0
    peaks["lattice"][own] = where[peaks["lattice"][own]]
    peaks["hkl"][peaks["lattice"] < 0] = 0
