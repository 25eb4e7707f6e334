"""Indexing: which lattices do these spots belong to?"""
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.kernels import fit
from mpixfel.kernels.geometry import scattering_vectors
from mpixfel.kernels.match import spot_table
from mpixfel.kernels.vectors import cell_of
from mpixfel.model.crystal import UnitCell
from mpixfel.model.event import Reason, Skip
from mpixfel.model.experiment import Beam, Context, Detector, Panel, Shot
from mpixfel.model.tables import LATTICE
from mpixfel.stages import acceptance, lattices, search
from mpixfel.stages.cells import CLUSTERS, MOST_PATTERNS, cluster_table, find_cells, pattern
from mpixfel.stages.check import check_options
from mpixfel.stages.forms import lattice_axes, make_form
from mpixfel.stages.interface import option
from mpixfel.stages.spread import FWHM, known_spread
from mpixfel.units import photon_energy_ev

STAGE = "indexing"
FEWEST_SPOTS = 5
NULL_SPOTS, NULL_FINENESS, NULL_REPEATS, OTHER_SPOTS = (6, 30), (6.0, 7.5), 12, 120


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
    nulls: tuple
    cell_sigmas: tuple      # relative, of each form
    grids: search.Grids
    work: tuple
    radius: float           # of lattice points, 1/angstrom, one standard deviation
    mosaicity: float        # radians
    shift_sigma_m: float
    shift_m: np.ndarray     # (2,) shift that the shot's geometry already holds


@dataclass(frozen=True)
class StagedIndexer:
    """Indexing of a known cell: scan along its shortest axes, turn about them, fit, and weigh against chance."""

    max_lattices: int = option(5, "lattices looked for in one event", low=1, high=50)
    false_positive_rate: float = option(0.001, "chance that an event of random spots gets a lattice", low=1e-12, high=0.5)
    cell_tolerance: float = option(0.02, "largest relative error of the given cell's axes", low=0.0, high=0.1)
    beam_tolerance_px: float = option(3.0, "largest error of the beam centre", "pixels", low=0.0, high=100.0)
    cells: str = option("main", "where no cell was given: use the main one of those that the first hits share, or all",
                        choices=("main", "all"))
    point_radius: float = option(0.0015, "size of lattice points until the run has learnt it, one standard deviation",
                                 "1/angstrom", low=0.0, high=0.1)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Reduced cells, grids, and what chance reaches for each of them."""
        learnt, pixel = context.learnt, context.detector.pixel_size_m()
        if not context.best_cells:
            return Unknown(self.beam_tolerance_px, pixel, self.point_radius, context.rehearsal)
        shift = max(self.beam_tolerance_px, 0.2) / 2 * pixel
        if learnt.n_lattices >= 5 and np.all(np.isfinite(learnt.beam_shift_sigma_m)):
            shift = max(2 * max(learnt.beam_shift_sigma_m), 0.2 * pixel)
        radius, mosaicity = self._spread(context)
        sigmas = tuple(self._cell_sigma(i, learnt) for i in range(len(context.best_cells)))
        # Chance is weighed with what a pixel's shift is at 0.1 m; distances of 0.05 to 0.5 m make no difference to it.
        made = [_form_and_null(*pair, shift / 0.1, radius, mosaicity, context.beam.bandwidth_fwhm or 0.0)
                for pair in zip(context.best_cells, sigmas)]
        return Prepared(tuple(m[0] for m in made), tuple(m[1] for m in made), sigmas, search.Grids(), fit.new_work(),
                        radius, mosaicity, shift, np.array(learnt.beam_shift_m))

    def _spread(self, context):
        """Radius of lattice points (1/angstrom) and mosaicity (radians), as standard deviations."""
        learnt = context.learnt
        if not (np.isfinite(learnt.half_mosaicity_deg) and np.isfinite(learnt.domain_size_angstrom)):
            return self.point_radius, 0.0
        spread = known_spread(context)
        # Learnt from bright crystals: half as much again leaves room for others.
        return 1.5 * np.sqrt(spread[0]) + 1e-4, 1.5 * np.sqrt(spread[1])

    def _cell_sigma(self, i, learnt):
        if i < len(learnt.cell_sigma) and learnt.n_lattices >= 5:
            cell = np.array(learnt.cells[i].parameters[:3])
            return max(0.0015, 2 * float(np.max(np.array(learnt.cell_sigma[i][:3]) / cell)))
        return max(0.0015, self.cell_tolerance / 2)

    def __call__(self, spots, shot, prepared, rng):
        """-> LATTICE table, best first | Skip. `rng` is not used: the search has no chance in it."""
        n = len(spots.q)
        if n < FEWEST_SPOTS:
            return Skip(STAGE, Reason.too_few_peaks, f"{n} spots, at least {FEWEST_SPOTS} are needed", {"n_spots": n})
        if isinstance(prepared, Unknown):
            return Skip(STAGE, Reason.no_cell_found, "no cell is known", {"n_spots": n, **prepared.kept(spots, shot)})
        distance = float(np.mean(np.abs(shot.geometry.origin[:, 2])))
        table = spot_table(spots.q, spots.sigma_q, shot.wavelength_angstrom, prepared.radius, prepared.mosaicity,
                           shot.bandwidth_fwhm / FWHM)
        known = tuple(search.knowledge(form.precision, prepared.shift_sigma_m / distance, shot.wavelength_angstrom, sigma)
                      for form, sigma in zip(prepared.forms, prepared.cell_sigmas))
        job = lattices.Job(table, n, prepared.forms, known, prepared.nulls, self.false_positive_rate,
                           shot.wavelength_angstrom, prepared.grids, prepared.work)
        found, numbers = lattices.find(job, self.max_lattices, FEWEST_SPOTS)
        if not found:
            return _skip(numbers)
        return np.concatenate([_row(prepared, one, distance) for one in found])

    def find_cells(self, skips, context):
        """`context.learnt` with the cells that the patterns of `skips` (of `Skip`, in order) share; None where none."""
        patterns = [skip.numbers["pattern"] for skip in skips if "pattern" in skip.numbers][:MOST_PATTERNS]
        clusters = find_cells(patterns)
        if not clusters:
            return None
        used = clusters if self.cells == "all" else clusters[:1]
        return replace(context.learnt, cells=tuple(c.cell for c in used), extra={
            **context.learnt.extra, CLUSTERS: cluster_table(clusters, len(patterns))})


class Unknown(NamedTuple):
    """What `StagedIndexer` needs where no cell is known: patterns are only kept, for the run to find cells in."""

    beam_tolerance_px: float
    pixel_m: float
    point_radius: float
    rehearsal: bool

    def kept(self, spots, shot):
        """{"pattern": ...} while the run learns."""
        if not self.rehearsal:
            return {}
        return {"pattern": pattern(spots, shot, self.beam_tolerance_px, self.pixel_m, self.point_radius)}


def _skip(numbers):
    if "preferred_a" in numbers:
        return Skip(STAGE, Reason.cell_mismatch, "the spots prefer another cell, of reduced axes "
                    + " ".join(f"{numbers[f'preferred_{k}']:.1f}" for k in "abc"), numbers)
    if numbers["best_possible"] < numbers["bound"]:
        return Skip(STAGE, Reason.too_few_spots_for_cell,
                    f"{numbers['n_spots']} spots could not be told from chance with this cell", numbers)
    return Skip(STAGE, Reason.no_cell_found, "the best match is within what chance reaches", numbers)


def _row(prepared, one, distance):
    form, row = prepared.forms[one.form], np.zeros(1, LATTICE)
    axes, cell = lattice_axes(form, one.fit.rotation, one.fit.free[2:]), np.empty(6)
    cell_of(axes, cell)
    row["reciprocal_axes"], row["cell"] = axes, cell
    row["centring"], row["space_group"] = form.cell.centring.encode(), form.cell.space_group.encode()
    row["form"], row["n_indexed"], row["score"] = one.form, int(np.sum(one.fit.member > 0.5)), one.score
    row["beam_shift"], row["distance_scale"] = one.fit.free[:2] * distance - prepared.shift_m, 1.0
    return row


@lru_cache(maxsize=64)
def _form_and_null(cell, cell_sigma, shift_sigma, radius, mosaicity, bandwidth_fwhm, wavelength=1.3):
    """(`Form`, `Null`) of a cell; remembered, for a run prepares several times."""
    form, grids, work = make_form(cell, cell_sigma), search.Grids(), fit.new_work()
    known = search.knowledge(form.precision, shift_sigma, wavelength, cell_sigma)
    reach = min(max(8 / form.scans[0].length, 0.2), 1.0)

    def best_of_both(table):
        """What an event's search reaches: it is quick, then thorough, and the better counts."""
        tried = (search.search(table, form, known, grids, work, effort) for effort in (search.QUICK, search.THOROUGH))
        return max((found.log_odds for found in tried if found), default=0.0)

    def best_odds(n, fineness, i):
        rng = np.random.default_rng([n, i])
        q = acceptance.on_ewald_sphere(reach * np.sqrt(rng.uniform(0.01, 1, n)), wavelength, rng)
        table = spot_table(q, reach * 0.9 / np.exp(fineness), wavelength, radius, mosaicity, bandwidth_fwhm / FWHM)
        return best_of_both(table)

    def other_odds(i):
        rng = np.random.default_rng(i)
        q = acceptance.of_a_lattice(OTHER_SPOTS, form.volume, reach, wavelength, radius, rng)
        if len(q) < FEWEST_SPOTS:
            return FEWEST_SPOTS, 0.0
        table = spot_table(q, reach * 0.9 / np.exp(np.mean(NULL_FINENESS)), wavelength, radius, mosaicity,
                           bandwidth_fwhm / FWHM)
        return len(q), best_of_both(table)

    return form, acceptance.measure(best_odds, NULL_SPOTS, NULL_FINENESS, NULL_REPEATS, other_odds)


def index_spots(q, cell, wavelength=None, sigma=4e-4, bandwidth_fwhm=0.0, shift_sigma=8e-4, **options):
    """Lattices of known cells among scattering vectors, for other programs.

    Parameters
    ----------
    q : (n, 3) array
        1/angstrom, without 2 pi; laboratory frame, +z along the beam, so that spots lie on the Ewald sphere
        |q + z / wavelength| = 1 / wavelength.
    cell : UnitCell or sequence of them
        As known, or expected: `cell_tolerance` (an option) says how well.
    wavelength : float, optional
        Angstrom; by default what makes the spots lie on the Ewald sphere.
    sigma : float or (n,) array
        Expected error of the spots' positions, 1/angstrom.
    bandwidth_fwhm : float
        Relative.
    shift_sigma : float
        How far, as one standard deviation, all spots may be shifted by an error of the beam centre, 1/angstrom.
    **options
        Of `StagedIndexer`: max_lattices, false_positive_rate, cell_tolerance, ...

    Returns
    -------
    LATTICE table, best first, or Skip
        Rows have reciprocal_axes (rows a*, b*, c*, conventional right-handed setting of the cell given), cell, form
        (which of the cells), n_indexed, score (log10 of the odds against chance), beam_shift (radians). A `Skip` says
        why there is none.

    Examples
    --------
    >>> found = mpixfel.index_spots(q, UnitCell(79.1, 79.1, 38.0, 90, 90, 90))
    >>> hkl = np.rint(q @ np.linalg.inv(found["reciprocal_axes"][0]))
    """
    q = np.ascontiguousarray(q, float).reshape(-1, 3)
    given = (cell,) if isinstance(cell, UnitCell) else tuple(cell)
    if wavelength is None:
        wavelength = float(np.median(-2 * q[:, 2] / np.maximum(np.sum(q * q, axis=1), 1e-12))) if len(q) else 1.0
    if not wavelength > 0:
        raise MpixfelError("spots do not lie on an Ewald sphere about +z", "index_spots", "give the wavelength")
    # At a distance of 1 m shifts are angles.
    panel = Panel("none", (0.0, 0.0, 0.0), (1e-3, 0.0, 0.0), (0.0, 1e-3, 0.0), (1, 1), adu_per_photon=1.0)
    context = Context(Detector((panel,)), Beam(bandwidth_fwhm), given)
    stage = StagedIndexer(**{"beam_tolerance_px": 2 * shift_sigma * wavelength / 1e-3, **options})
    shot = Shot(context.detector.geometry(1.0), photon_energy_ev(wavelength), bandwidth_fwhm, 1.0, np.ones(1))
    sigma = np.broadcast_to(np.asarray(sigma, float), len(q)).copy()
    return stage(Spots(q, np.ones(len(q)), sigma), shot, stage.prepare(context), None)
