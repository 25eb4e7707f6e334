"""What a run expects of every shot before it has seen it: cells, beam, distance, and how far each may be off."""
from typing import NamedTuple

import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.stages.strain import strains

LEAST_STRAIN = 1e-5          # no cell is taken as better known than that
LEAST_SHIFT_PIXELS = 0.02
CELL_SIGMA = 0.003           # what holds before the run has learnt its own, relative
BEAM_SHIFT_SIGMA_PIXELS = 2.0
DISTANCE_SIGMA = 0.005
N_BEAM = 3                   # shift x, shift y, distance: the last geometrical parameters


class Form(NamedTuple):
    """One cell of the run as refinement wants it."""

    cell: UnitCell
    strains: np.ndarray      # (n, 3, 3) in the crystal's frame
    to_cell: np.ndarray      # (6, n), see `strain.Strains`
    sigma: np.ndarray        # (n,) expected spread of each strain
    weight: np.ndarray       # (3 + n,) of the restraints on three rotations (none) and on the strains
    centring: int            # ASCII


class Restraints(NamedTuple):
    """Cells and beam of a run."""

    forms: tuple
    beam_sigma: np.ndarray       # (3,) of the shift x and y in m, and of the relative distance
    beam_weight: np.ndarray      # (3,) of the restraints on them
    shift_m: np.ndarray          # (2,) shift that shots' geometries already have
    distance_scale: float        # likewise
    cell_sigma: float            # for lattices that are none of the forms
    pixel_m: float


def restraints(context, cell_sigma=CELL_SIGMA, shift_sigma_pixels=BEAM_SHIFT_SIGMA_PIXELS, distance_sigma=DISTANCE_SIGMA):
    """`Restraints` as far as the run knows them; the options hold until it has learnt."""
    learnt, pixel = context.learnt, context.detector.pixel_size_m()
    shift = np.array(learnt.beam_shift_sigma_m, float)
    shift = np.where(np.isfinite(shift), np.maximum(shift, LEAST_SHIFT_PIXELS * pixel), shift_sigma_pixels * pixel)
    if learnt.n_lattices:
        distance_sigma = min(distance_sigma, float(learnt.extra.get("distance_sigma", 0.0)))
    spreads = learnt.cell_sigma or (None,) * len(context.best_cells)
    forms = tuple(form_of(cell, cell_sigma, spread) for cell, spread in zip(context.best_cells, spreads))
    beam_sigma = np.array([*shift, max(distance_sigma, 1e-9)])
    return Restraints(forms, beam_sigma, beam_sigma ** -2.0, np.array(learnt.beam_shift_m, float), learnt.distance_scale,
                      cell_sigma, pixel)


def form_of(cell, cell_sigma, spread=None):
    """`Form` of a cell; `spread` (6,) is the learnt spread of its constants."""
    basis, to_cell = strains(cell)
    sigma = np.full(len(basis), cell_sigma)
    if spread is not None:
        weight = to_cell / np.sum(to_cell ** 2, axis=0)
        sigma = np.maximum(np.abs(weight).T @ np.asarray(spread, float), LEAST_STRAIN)
    return Form(cell, basis, to_cell, sigma, np.concatenate([np.zeros(3), sigma ** -2.0]), ord(cell.centring))
