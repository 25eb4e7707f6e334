"""Surveys of a few patterns: how well they are indexed were the beam, the distance or the cell others than given."""
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import fit
from mpixfel.stages import search
from mpixfel.stages.cells import SURE_ODDS, shifted
from mpixfel.stages.forms import make_form
from mpixfel.stages.periods import candidate_cell

CELL_ERROR = 0.004      # of the cells in a survey, one standard deviation, relative
CYCLES = 0.15           # of the longest axis between neighbours in a map of the beam's shift
TYPICAL_AXIS = 80.0     # angstrom, where no cell is known
SIDE, SIDE_UNKNOWN = 11, 7          # points of that map, in x and y
PATTERNS, PATTERNS_UNKNOWN = 8, 4
MOST_ODDS = 300.0       # that one pattern adds to a map: one bright pattern must not decide alone


class Survey(NamedTuple):
    """What patterns are worth under one assumption."""

    odds: np.ndarray        # (n,) log odds of the best lattice of each
    shift: np.ndarray       # (n, 2) radians, the fitted shift of each; NaN without a cell

    @property
    def indexed(self):
        """Patterns that are surely indexed."""
        return int(np.sum(self.odds > SURE_ODDS))

    @property
    def mean_odds(self):
        """Mean log odds."""
        return float(np.mean(self.odds)) if len(self.odds) else 0.0

    @property
    def score(self):
        """Mean log odds, of no pattern more than `MOST_ODDS`."""
        return float(np.mean(np.minimum(self.odds, MOST_ODDS))) if len(self.odds) else 0.0


class ShiftMap(NamedTuple):
    """How well patterns are indexed at shifts of the beam."""

    shift: np.ndarray       # (k,) radians, the same in x and in y
    score: np.ndarray       # (k, k) mean log odds, rows y, columns x
    indexed: np.ndarray     # (k, k) patterns surely indexed
    best_shift: np.ndarray  # (2,) radians x, y, refined
    n_patterns: int

    @property
    def middle(self):
        """Index of no shift."""
        return len(self.shift) // 2, len(self.shift) // 2

    @property
    def best(self):
        """(row, column) of the best score."""
        return np.unravel_index(np.argmax(self.score), self.score.shape)


def survey(patterns, cells, cell_error=CELL_ERROR, shift_sigma=None):
    """`Survey` of patterns (`stages.cells.Pattern`).

    Parameters
    ----------
    cells : sequence of UnitCell
        Empty: each pattern's own best cell.
    cell_error : float
        Relative, one standard deviation.
    shift_sigma : float, optional
        Of the beam, radians; the patterns' own otherwise.
    """
    work, grids = fit.new_work(), search.Grids()
    forms = [_form(cell, cell_error) for cell in cells]
    odds, shift = np.zeros(len(patterns)), np.full((len(patterns), 2), np.nan)
    for i, one in enumerate(patterns):
        sigma = shift_sigma or one.shift_sigma
        if not forms:
            found = candidate_cell(one.table, one.wavelength, sigma, work)
            odds[i] = max(0.0, found.log_odds) if found else 0.0
            continue
        for form in forms:
            known = search.knowledge(form.precision, sigma, one.wavelength, cell_error)
            found = search.search(one.table, form, known, grids, work)
            if found and found.log_odds > odds[i]:
                odds[i], shift[i] = found.log_odds, found.free[:2]
    return Survey(odds, shift)


@lru_cache(maxsize=32)
def _form(cell, cell_error):
    return make_form(cell, cell_error, min(cell_error, 0.002))


def shift_map(patterns, cells):
    """`ShiftMap` about the beam as given; its step is what the cell's longest axis asks for."""
    patterns = list(patterns)[:PATTERNS if cells else PATTERNS_UNKNOWN]
    longest, side = max((max(c.parameters[:3]) for c in cells), default=TYPICAL_AXIS), SIDE if cells else SIDE_UNKNOWN
    step = max(CYCLES / longest * patterns[0].wavelength, 0.3 * patterns[0].shift_sigma)
    shift = step * (np.arange(side) - side // 2)
    made = [[survey([shifted(p, x, y) for p in patterns], cells, shift_sigma=0.6 * step) for x in shift] for y in shift]
    score = np.array([[s.score for s in row] for row in made])
    row, column = np.unravel_index(np.argmax(score), score.shape)
    own = made[row][column].shift[made[row][column].odds > SURE_ODDS]
    rest = np.median(own, axis=0) if len(own) and np.isfinite(own).all() else np.zeros(2)
    return ShiftMap(shift, score, np.array([[s.indexed for s in row] for row in made]),
                    np.array([shift[column], shift[row]]) + rest, len(patterns))
