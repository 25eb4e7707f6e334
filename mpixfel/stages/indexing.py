"""Indexing: which lattices do these spots belong to?"""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import match
from mpixfel.kernels.geometry import scattering_vectors
from mpixfel.model.crystal import cell_parameters
from mpixfel.model.event import Reason, Skip
from mpixfel.model.tables import LATTICE
from mpixfel.stages import acceptance, search
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option

FEWEST_SPOTS = 5


class Spots(NamedTuple):
    """Observed reciprocal vectors of one event.

    q (n, 3) float64 1/angstrom, laboratory frame, +z along the beam; intensity (n,) photons; sigma_q (n,) expected
    error of the position, 1/angstrom.
    """

    q: np.ndarray
    intensity: np.ndarray
    sigma_q: np.ndarray


def spots_from_peaks(peaks, shot, position_sigma_px=0.35):
    """`Spots` of a PEAK table, in its order."""
    geometry, wavelength = shot.geometry, shot.wavelength_angstrom
    q = scattering_vectors(geometry, peaks["panel"], peaks["fs"], peaks["ss"], wavelength)
    pixel = np.linalg.norm(geometry.fs_axis, axis=1)[peaks["panel"]]
    distance = np.abs(geometry.origin[peaks["panel"], 2])
    return Spots(q, peaks["intensity"].astype(float), position_sigma_px * pixel / (distance * wavelength))


class Prepared(NamedTuple):
    """What `StagedIndexer` needs per rank."""

    forms: tuple
    grids: search.Grids
    work: tuple
    shift_sigma_m: float
    shift_m: np.ndarray     # (2,) shift that the shot's geometry already holds
    nulls: tuple


@dataclass(frozen=True)
class StagedIndexer:
    """Indexing of a known cell: scan along its shortest axis, turn about it, fit, and weigh against chance."""

    max_lattices: int = option(5, "lattices looked for in one event", low=1, high=50)
    false_positive_rate: float = option(0.001, "chance that an event of random spots gets a lattice", low=1e-12, high=0.5)
    cell_tolerance: float = option(0.02, "largest relative error of the given cell's axes", low=0.0, high=0.1)
    beam_tolerance_px: float = option(3.0, "largest error of the beam centre", "pixels", low=0.0, high=100.0)
    point_radius: float = option(0.0015, "standard deviation of lattice points normal to the Ewald sphere",
                                 "1/angstrom", low=0.0, high=0.1)
    mosaicity_deg: float = option(0.0, "standard deviation of the mosaic spread, added to the above", "degrees",
                                  low=0.0, high=5.0)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Reduced cells, grids, and what chance reaches for each of them."""
        learnt = context.learnt
        shift = self.beam_tolerance_px / 2 * context.detector.pixel_size_m()
        if learnt.n_lattices >= 5 and np.all(np.isfinite(learnt.beam_shift_sigma_m)):
            shift = max(2 * max(learnt.beam_shift_sigma_m), 0.3 * context.detector.pixel_size_m())
        forms = tuple(search.make_form(cell, self._cell_sigma(i, learnt)) for i, cell in enumerate(context.best_cells))
        prepared = Prepared(forms, search.Grids(), match.new_work(), shift, np.array(learnt.beam_shift_m), ())
        return prepared._replace(nulls=tuple(self._null(form, prepared) for form in forms))

    def _cell_sigma(self, i, learnt):
        if i < len(learnt.cell_sigma) and learnt.n_lattices >= 5:
            cell = learnt.cells[i].parameters
            return max(0.001, 2 * float(np.max(np.array(learnt.cell_sigma[i][:3]) / cell[:3])))
        return max(0.001, self.cell_tolerance / 2)

    def _null(self, form, prepared, wavelength=1.3):
        # A resolution of 8 orders along the shortest axis, or 2.5 angstrom: where such cells are measured.
        reach = min(max(8 / form.shortest, 0.2), 1.0)

        def best_odds(n, i):
            rng = np.random.default_rng([n, i])
            q = acceptance.on_ewald_sphere(reach * np.sqrt(rng.uniform(0.01, 1, n)), wavelength, rng)
            model = search.error_model(q, np.full(n, 0.0003), wavelength, self.point_radius,
                                       np.radians(self.mosaicity_deg), 0.0)
            found = self._search(model, form, prepared.shift_sigma_m / 0.1, wavelength, prepared)
            return found.log_odds if found else -np.inf

        return acceptance.measure(best_odds, (5, 10, 30, 100), 12)

    def _search(self, model, form, shift_sigma, wavelength, prepared):
        tolerance = min(self.cell_tolerance, 1.0)
        return search.search(model, form, shift_sigma, tolerance, prepared.grids, prepared.work)

    def __call__(self, spots, shot, prepared, rng):
        """-> LATTICE table, best first | Skip. `rng` is not used: the search is deterministic."""
        distance = float(np.mean(np.abs(shot.geometry.origin[:, 2])))
        n = len(spots.q)
        if n < FEWEST_SPOTS:
            return Skip("index", Reason.too_few_peaks, f"{n} spots, at least {FEWEST_SPOTS} are needed", {"n_spots": n})
        model = search.error_model(spots.q, spots.sigma_q, shot.wavelength_angstrom, self.point_radius,
                                   np.radians(self.mosaicity_deg), shot.bandwidth_fwhm / 2.3548)
        shift_sigma = prepared.shift_sigma_m / distance
        left, found, numbers = np.arange(n), [], {}
        while len(found) < self.max_lattices and len(left) >= FEWEST_SPOTS:
            best, numbers = self._best(model.subset(left), shift_sigma, shot.wavelength_angstrom, prepared)
            if best is None:
                break
            form, fit, score = best
            mine = fit.member > 0.5
            found.append((form, fit, score, int(mine.sum())))
            left = left[~mine]
        if not found:
            return Skip("index", Reason.no_cell_found, "best match within what chance reaches", numbers)
        return np.concatenate([self._row(prepared, i, f, s, m, distance) for i, f, s, m in found])

    def _best(self, model, shift_sigma, wavelength, prepared):
        """The best form's (index, fit, score) if chance does not reach it, and the numbers behind that."""
        n, best, numbers = len(model.q), None, {}
        for i, form in enumerate(prepared.forms):
            found = self._search(model, form, shift_sigma, wavelength, prepared)
            if found is None:
                continue
            bound = prepared.nulls[i].bound(n, self.false_positive_rate / len(prepared.forms))
            if not numbers or found.log_odds - bound > numbers["log_odds"] - numbers["bound"]:
                numbers = {"n_spots": n, "log_odds": found.log_odds, "bound": bound,
                           "n_matched": int((found.member > 0.5).sum())}
                if found.log_odds > bound and numbers["n_matched"] >= FEWEST_SPOTS:
                    best = i, found, prepared.nulls[i].log10_odds(found.log_odds, n)
        return best, numbers

    def _row(self, prepared, index, fit, score, n_matched, distance):
        form = prepared.forms[index]
        row = np.zeros(1, LATTICE)
        matrix = np.empty((3, 3))
        match.lattice_matrix(fit.rotation, fit.free[2:], form.reciprocal, matrix)
        axes = form.conventional @ np.linalg.inv(matrix)
        row["reciprocal_axes"] = np.linalg.inv(axes).T
        row["cell"] = cell_parameters(row["reciprocal_axes"][0])
        row["centring"], row["space_group"] = form.cell.centring.encode(), form.cell.space_group.encode()
        row["form"], row["n_indexed"], row["score"] = index, n_matched, score
        row["beam_shift"], row["distance_scale"] = fit.free[:2] * distance - prepared.shift_m, 1.0
        return row
