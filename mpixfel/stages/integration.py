"""Prediction and integration of all lattices of one shot."""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import integrate as kernel
from mpixfel.kernels.geometry import panel_inverses, scattering_vectors
from mpixfel.kernels.predict import Predictions, predict, room
from mpixfel.kernels.spots import Spread
from mpixfel.model.event import Reason, Skip
from mpixfel.model.tables import REFLECTION, Flag
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.quality import judge
from mpixfel.stages.spread import describe, known_spread

ROOM = 4096            # reflections of one lattice to begin with; grows where it does not suffice


class Prepared:
    """Buffers of one rank, and what the run knows."""

    def __init__(self, context):
        self.spread = known_spread(context)
        self.shift_m = np.array(context.learnt.beam_shift_m, float)
        self.distance_scale = context.learnt.distance_scale
        self.beam = context.beam
        self.owners = np.zeros(context.detector.stack_shape, np.uint8)
        self.work = kernel.work()
        self.predictions = room(ROOM)
        self.corners = [np.array([[0, 0], [fs, 0], [0, ss], [fs, ss]], float)
                        for ss, fs in (p.shape for p in context.detector.panels)]


class Predicted(NamedTuple):
    """The predictions of all lattices of a shot, end to end."""

    lattice: np.ndarray
    rows: Predictions


@dataclass(frozen=True, kw_only=True)
class ProfileIntegrator:
    """Predict the reflections that a shot excites and measure them by summation and by profile fit."""

    min_partiality: float = option(0.02, "reflections that the model excites less are not predicted", low=1e-4, high=0.9)
    foreground: float = option(3.5, "extent of a spot, in standard deviations of its shape", low=1.5, high=8)
    background_radius_pixels: int = option(9, "half width of the box that the background is taken from", "pixels",
                                           low=4, high=40)
    min_share: float = option(0.6, "reflections with less of their spot on good pixels are dropped", low=0.05, high=1)
    min_integrated: int = option(5, "fewest reflections that a lattice must give", low=1)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Buffers, and the model of the crystal as far as the run knows it."""
        return Prepared(context)

    def __call__(self, image, shot, lattices, peaks, prepared):
        """-> (LATTICE table, REFLECTION table sorted by lattice) | Skip"""
        predicted = self._predict(lattices, shot, prepared)
        values = self._measure(image, predicted, shot, prepared)
        reflections = self._table(values, predicted, image, shot, peaks, lattices, prepared)
        lattices, reflections = judge(lattices, reflections, prepared.spread, self.min_integrated)
        if not len(lattices):
            return Skip("integration", Reason.wrong_lattice, "no signal where the lattices predict it")
        domain, mosaicity, bandwidth = describe(prepared.spread)
        lattices["domain_size"], lattices["half_mosaicity"], lattices["bandwidth"] = domain, mosaicity, bandwidth
        lattices["domain_size_sigma"] = lattices["half_mosaicity_sigma"] = np.nan
        return lattices, reflections

    def _predict(self, lattices, shot, prepared):
        """`Predicted` of all lattices."""
        k0 = 1.0 / shot.wavelength_angstrom
        q_max = largest_q(shot, prepared.corners)
        lattice, parts = [], []
        for i, row in enumerate(lattices):
            inverse = panel_inverses(lattice_geometry(row, shot, prepared))
            axes = np.ascontiguousarray(row["reciprocal_axes"])
            centring = ord(row["centring"].decode() or "P")
            arguments = (axes, centring, k0, prepared.spread, self.min_partiality, q_max, shot.geometry.shape, inverse)
            n = predict(*arguments, prepared.predictions)
            if n > len(prepared.predictions.hkl):
                prepared.predictions = room(n + n // 4)
                predict(*arguments, prepared.predictions)
            parts.append([column[:n].copy() for column in prepared.predictions])
            lattice.append(np.full(n, i))
        return Predicted(np.concatenate(lattice), Predictions(*map(np.concatenate, zip(*parts))))

    def _measure(self, image, predicted, shot, prepared):
        """(n, 10) columns of `kernels.integrate.integrate`."""
        rows, bounds = predicted.rows, shot.geometry.shape
        n = len(rows.hkl)
        out = np.empty((n, 10))
        readout = image.readout_sigma
        variance = float(np.nanmean(np.square(readout))) if np.any(np.isfinite(readout)) else 0.0
        kernel.mark(rows.panel, rows.place, rows.shape, n, self.foreground, bounds, prepared.owners)
        kernel.integrate(image.photons, rows.panel, rows.place, rows.shape, rows.tail, n, bounds, prepared.owners,
                         self.background_radius_pixels, self.foreground, variance, prepared.work, out)
        kernel.unmark(rows.panel, rows.place, rows.shape, n, self.foreground, bounds, prepared.owners)
        return out

    def _table(self, values, predicted, image, shot, peaks, lattices, prepared):
        """REFLECTION table of what was measured well enough."""
        rows = predicted.rows
        good = np.isfinite(values[:, 0]) & (values[:, 7] >= self.min_share) & (values[:, 1] > 0)
        out = np.zeros(good.sum(), REFLECTION)
        for name, column in (("intensity", 0), ("sigma", 1), ("intensity_sum", 2), ("sigma_sum", 3), ("background", 4),
                             ("background_sigma", 5), ("peak", 6)):
            out[name] = values[good, column]
        out["lattice"] = predicted.lattice[good]
        out["hkl"], out["panel"] = rows.hkl[good], rows.panel[good]
        out["fs"], out["ss"] = rows.place[good].T
        out["partiality"], out["excitation_error"] = rows.partiality[good], rows.excitation[good]
        out["resolution"] = rows.resolution[good]
        out["correction"] = polarisation_factor(out, shot, prepared.beam)
        out["flags"] = self._flags(out, values[good], rows.shape[good], image, shot, peaks)
        return out

    def _flags(self, table, values, shape, image, shot, peaks):
        flags = np.full(len(table), Flag.profile_fitted, np.uint16)
        flags[values[:, 9] > 0.05] |= Flag.overlap
        # Edges and bad pixels both take from the share of the spot; the box tells which it was.
        extent = 2.0 * np.sqrt(shape[:, [0, 2]] + 1.0 / 12.0)
        size = shot.geometry.shape[table["panel"]]
        edge = ((table["fs"] < extent[:, 0]) | (table["fs"] > size[:, 1] - extent[:, 0])
                | (table["ss"] < extent[:, 1]) | (table["ss"] > size[:, 0] - extent[:, 1]))
        flags[edge] |= Flag.edge
        flags[~edge & (values[:, 7] < 0.9 * np.median(values[:, 7]))] |= Flag.masked
        flags[near_saturation(table, image)] |= Flag.saturated
        explained = peaks[peaks["lattice"] >= 0]
        found = {(p["lattice"], *p["hkl"].tolist()) for p in explained}
        flags[[(r["lattice"], *r["hkl"].tolist()) in found for r in table]] |= Flag.indexed_peak
        return flags


def lattice_geometry(row, shot, prepared):
    """The shot's geometry moved by what its lattice's refinement found beyond what the run had learnt.

    A shift of the pattern is a shift of the panels the other way.
    """
    x, y = row["beam_shift"] + prepared.shift_m
    return shot.geometry.shifted(-x, -y, shot.clen_m * (row["distance_scale"] - prepared.distance_scale))


def largest_q(shot, corners):
    """Length of the scattering vector at the farthest corner of the detector, 1/angstrom."""
    panel = np.repeat(np.arange(len(corners)), 4)
    fs, ss = np.concatenate(corners).T
    return float(np.linalg.norm(scattering_vectors(shot.geometry, panel, fs, ss, shot.wavelength_angstrom), axis=1).max())


def near_saturation(table, image, distance=2.5):
    """(n,) bool: spots with a saturated pixel closer than `distance` pixels to their centre."""
    near = np.zeros(len(table), bool)
    if len(image.saturated):
        panel, ss, fs = np.unravel_index(image.saturated, image.photons.shape)
        for i in range(0, len(panel)):
            near |= ((table["panel"] == panel[i]) & (np.abs(table["fs"] - fs[i] - 0.5) < distance)
                     & (np.abs(table["ss"] - ss[i] - 0.5) < distance))
    return near


def polarisation_factor(table, shot, beam):
    """(n,) 1 over the polarisation factor (Kahn et al., J. Appl. Cryst. 15 (1982) 330).

    All photons of a spot are counted, whatever angle its pixels fill, and a still has no Lorentz factor: both are 1.
    """
    q = scattering_vectors(shot.geometry, table["panel"], table["fs"], table["ss"], 1.0)
    q[:, 2] += 1.0
    electric = np.asarray(beam.polarisation_axis, float)
    electric = electric / np.linalg.norm(electric)
    magnetic = np.cross([0.0, 0.0, 1.0], electric)
    share = beam.polarisation_fraction
    return 1.0 / np.maximum(share * (1 - (q @ electric) ** 2) + (1 - share) * (1 - (q @ magnetic) ** 2), 1e-3)
