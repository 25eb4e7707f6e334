"""Search for one lattice of a known cell among spots: axis, turn about it, fit."""
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import fit, lattice, pairs
from mpixfel.kernels.match import Q, Q2, SHIFT, WEIGHT, subset
from mpixfel.kernels.vectors import keep_best, keep_distinct
from mpixfel.stages.quantiles import middle

TRIM_CYCLES = np.array([0.25, 0.15, 0.08], np.float32)
SCAN_SPOTS = 64
COARSE_SPOTS = 64
SCAN_BLOCK = 16       # consecutive directions lie on a ring about the beam, far from each other
MIN_AXES = 6
TURN_SPOTS = 64
TURNS_KEPT = 2
NEAR_CYCLES = 0.05    # of the longest axis: what the shift may still be off where another lattice has told it
# Where to start the shift of the pattern, in standard deviations: the middle and a hexagon.
UNITY = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
SHIFTS = np.vstack([np.zeros((1, 2)), 1.2 * np.column_stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)])])


class Fit(NamedTuple):
    """One lattice found: primitive cell, crystal's frame to laboratory."""

    log_odds: float
    rotation: np.ndarray    # (3, 3)
    free: np.ndarray        # (8,) shift (radians), strain
    member: np.ndarray      # (n,) probability that the spot belongs to it
    indices: np.ndarray     # (n, 3) of the primitive cell


@dataclass(frozen=True)
class Effort:
    """How far the search goes."""

    scanned: int = 1            # axes of the cell that are looked for, shortest first
    scan: float = 0.4e6         # directions times spots
    refined: int = 100          # of the best directions
    cycles: float = 0.16        # error of the cell times the order of the axis up to which spots are scanned
    axes: int = 30              # directions about which the cell is turned
    coarse: int = 16            # turns fitted to spots of low resolution
    least_turns: int = 5        # that are, even where others stand out
    rounds: int = 5             # of that fit
    starts: bool = False        # tried for shift and cell, where these are known too badly to be found on the way
    fine: int = 3               # of these, fitted to all spots
    pair_spots: int = 8         # up to how many spots pairs are tried
    pair_budget: float = 3e5    # comparisons


QUICK = Effort()
ONE_MORE = replace(QUICK, pair_spots=0)     # where a lattice is found: few spots left over are hardly another's
THOROUGH = Effort(scanned=2, scan=6e6, refined=200, cycles=0.4, axes=60, coarse=48, least_turns=144, rounds=8, starts=True, fine=6,
                  pair_spots=40, pair_budget=1.5e6)


@dataclass(frozen=True)
class Knowledge:
    """How well cell and beam are known: standard deviations."""

    precision: np.ndarray   # (8, 8) prior of shift (radians) and strain
    shift_q: float          # 1/angstrom, what the shift makes of q
    cell: float             # relative

    @property
    def settled(self):
        """Whether a run has learnt them."""
        return self.cell < 0.006


def knowledge(form_precision, shift_sigma, wavelength, cell_sigma):
    """`Knowledge` from the strain's (6, 6) precision, the shift's standard deviation (radians) and the cell's."""
    precision = np.zeros((8, 8))
    precision[0, 0] = precision[1, 1] = shift_sigma ** -2
    precision[2:, 2:] = form_precision
    return Knowledge(precision, shift_sigma / wavelength, cell_sigma)


class Grids:
    """Direction grids and turn tables, kept by size."""

    def __init__(self):
        self._directions, self._turns = {}, {}

    def directions(self, n):
        """At least n directions on half the sphere: (3, N) float32 and a buffer (N,) for their scores."""
        size = int(1024 * 2 ** (np.ceil(2 * max(0.0, np.log2(n / 1024))) / 2))
        if size not in self._directions:
            self._directions[size] = fibonacci_hemisphere(size), np.empty(size, np.float32)
        return self._directions[size]

    def turns(self, n, order):
        """Cosines, sines and a buffer for at least n turns over 2 pi / order."""
        n = 16 * int(np.ceil(n / 16))
        if (n, order) not in self._turns:
            angle = 2 * np.pi / order * np.arange(n) / n
            self._turns[n, order] = (np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32),
                                     np.empty(n, np.float32))
        return self._turns[n, order]


def fibonacci_hemisphere(n):
    """(3, n) float32 unit vectors, evenly spread over half the sphere (Swinbank and Purser, Computers and Geosciences
    32 (2006) 442)."""
    i = np.arange(n) + 0.5
    z = i / n
    angle = np.pi * (1 + 5 ** 0.5) * i
    r = np.sqrt(1 - z * z)
    return np.ascontiguousarray([r * np.cos(angle), r * np.sin(angle), z], dtype=np.float32)


def spread(n, room):
    """At most `room` of n indices: the first half of the room as they come, the rest evenly over what follows."""
    if n <= room:
        return np.arange(n)
    half = room // 2
    return np.concatenate([np.arange(half), half + np.arange(room - half) * (n - 1 - half) // (room - half - 1)])


def columns(spots, keep):
    """(3, m) float32 q of some spots, zeros at the end, m a multiple of 16."""
    out = np.zeros((3, 16 * ((len(keep) + 15) // 16)), np.float32)
    out[:, :len(keep)] = spots[Q:Q + 3, keep]
    return out


def scan_spots(norm, length, orders, budget):
    """(indices of the spots to scan, number of directions for them): as far out as the budget allows.

    norm (n,) ascending |q|; length angstrom; orders of it, at most; budget of directions times spots. A direction is
    off by at most half of 0.22 cycles at the 80th percentile.
    """
    for n in range(len(norm), 11, -max(1, len(norm) // 32)):
        directions = 2 * np.pi / 2.6 * (length * norm[int(0.8 * (n - 1))] / 0.22) ** 2
        if directions * min(n, SCAN_SPOTS) <= budget and length * norm[n - 1] <= orders:
            return spread(n, SCAN_SPOTS), directions
    n = min(len(norm), 12)
    return np.arange(n), min(2 * np.pi / 2.6 * (length * norm[int(0.8 * (n - 1))] / 0.22) ** 2, budget / n)


def scan(spots, n, form, axis, scales, cell_sigma, grids, effort):
    """(rotations (k, 3, 3), strains (k, 6), scores (k,)) from a scan along one axis of the cell and turns about it.

    spots: table of n spots, ascending |q|; axis: `ScanAxis`; scales to try for the other axes; cell_sigma: relative
    error of the cell.
    """
    norm = np.sqrt(spots[Q2, :n])
    axes, order = scan_axis(spots, norm, axis, cell_sigma, grids, effort)
    # Spots whose index about the longest axis is lost in the error of the cell would only add noise.
    n = max(min(n, 16), np.searchsorted(norm, 0.2 / (form.longest * cell_sigma)))
    keep = spread(n, TURN_SPOTS)
    q = np.ascontiguousarray(spots[Q:Q + 3, keep], np.float32)
    reach = norm[keep[int(0.8 * len(keep))]]
    cosines, sines, work = grids.turns(2 * np.pi * form.longest * reach / 0.25 / axis.order, axis.order)
    rows = len(order) * len(axis.signs) * TURNS_KEPT
    scores, rotations = np.empty((len(scales), rows)), np.empty((len(scales), rows, 3, 3))
    lengths, strains = np.empty(rows), np.empty((len(scales), rows, 6))
    for i, scale in enumerate(scales):
        lattice.turns_about_axes(axes, order, axis.signs, axis.reference, scale, q, 0.15, cosines, sines, work,
                                 TURNS_KEPT, scores[i], rotations[i], lengths)
        along = np.clip(axis.length / lengths - 1, -2.5 * cell_sigma, 2.5 * cell_sigma)
        strains[i] = (1 / scale - 1) * (UNITY - axis.stretch) + along[:, None] * axis.stretch
    return rotations.reshape(-1, 3, 3), strains.reshape(-1, 6), scores.ravel()


def scan_axis(spots, norm, axis, cell_sigma, grids, effort):
    """(axes (k, 3), indices of the best): directions along which `axis` fits; norm (n,) ascending |q|."""
    keep, n_directions = scan_spots(norm, axis.length, effort.cycles / cell_sigma, effort.scan)
    low = columns(spots, keep)
    directions, scores = grids.directions(n_directions)
    expected = np.empty(32, np.float32)
    lattice.expected_scores(axis.length, low, expected)
    lattice.scan_directions(directions, axis.length, low, expected, scores)
    index, best = np.empty(effort.refined, np.int64), np.empty(effort.refined, np.float32)
    kept = keep_best(scores, SCAN_BLOCK, index, best)
    axes, scores = np.empty((kept, 3)), np.empty(kept)
    padding = low.shape[1] - len(keep)
    found = lattice.refine_axes(index[:kept], directions, axis.length, low, 2 * cell_sigma + 0.01, TRIM_CYCLES,
                                padding + 4, axes, scores)
    order = np.argsort(-scores[:found], kind="stable")[:effort.axes]
    if found > MIN_AXES:
        # Where some stand out, the rest need not be turned about.
        order = order[scores[order] >= min(0.5 * (scores[order[0]] + middle(scores[:found])), scores[order[MIN_AXES]])]
    return axes, order


def from_pairs(spots, n, form, known, effort, room=64):
    """Rotations (k, 3, 3) that pairs of spots allow, best first; spots: table of n spots, ascending |q|."""
    used = min(n, effort.pair_spots // 2 + 4)
    norm = np.sqrt(spots[Q2, :used])
    i, j = np.triu_indices(used, 1)
    # Candidates for a spot grow as q^2, so cheap pairs come first.
    order = np.argsort(norm[i] * norm[j], kind="stable")
    chosen = np.ascontiguousarray(np.column_stack([j, i])[order])
    rotations, scores = np.empty((room, 3, 3)), np.empty(room)
    wide = min(known.shift_q, 0.15 / form.longest)
    found = pairs.pair_rotations(spots, chosen, form.points, form.lengths, form.unique, form.reciprocal,
                                 known.shift_q, known.cell, wide, 0.01 + known.cell, effort.pair_budget,
                                 rotations, scores, np.empty((5, 3, 3)))
    return rotations[np.argsort(-scores[:found], kind="stable")]


def hypotheses(spots, n, form, known, scales, grids, effort):
    """(rotations (k, 3, 3), strains (k, 6)) worth a fit; `scales` of the cell are tried."""
    rotations, strains = [], []
    if n >= 5:
        scans = [scan(spots, n, form, axis, scales, known.cell, grids, effort)
                 for axis in form.scans[:effort.scanned]]
        turned, strained, scores = (np.concatenate(part) for part in zip(*scans))
        best = np.argsort(-scores, kind="stable")[:effort.coarse * len(scales)]
        if len(best) > effort.least_turns:
            # Where some stand out, the rest need not be fitted.
            usual = np.partition(scores, len(scores) // 2)[len(scores) // 2]
            least = min(0.5 * (scores[best[0]] + usual), scores[best[effort.least_turns]])
            best = best[scores[best] >= least]
        rotations.append(turned[best])
        strains.append(strained[best])
    if n <= effort.pair_spots:
        rotations.append(from_pairs(spots, n, form, known, effort))
        strains.append(np.zeros((len(rotations[-1]), 6)))
    return np.concatenate(rotations), np.concatenate(strains)


def schedule(wide, wide_q, rounds, final):
    """(rounds + final, 2) widening of the errors, falling by 0.6 a round and then none."""
    fall = np.concatenate([0.6 ** np.arange(rounds), np.zeros(final)])
    return np.outer(fall, [wide, wide_q])


def search(spots, form, known, grids, work, effort=QUICK, start=None):
    """The best `Fit` of one lattice to a spot table, or None where nothing could be tried.

    start (8,): shift and strain of another lattice of the same event, which this one shares nearly.
    """
    n = int(spots[WEIGHT].sum())
    if n < 4:
        return None
    order = np.argsort(spots[Q2, :n], kind="stable")
    ascending = subset(spots, order)
    rotations, frees, near = _starts(ascending, n, form, known, grids, effort, start)
    if not len(rotations):
        return None
    rotations, frees = _coarse(ascending, n, form, near, rotations, frees, effort, work)
    scores = np.empty(len(rotations))
    fit.fit_many(ascending, form.reciprocal, known.precision, schedule(0.3 * _wide(form, near), 0.003, 4, 3),
                 fit.N_PARAMETERS, rotations, frees, scores, work)
    return _in_order(ascending, order, form, known, rotations, frees, scores, work)


def polished(found, spots, form, known, work):
    """The better of a `Fit` and those from other shifts and scales of the cell about its orientation: where indices are
    off by one because beam or cell are, the orientation is nearly right."""
    n = int(spots[WEIGHT].sum())
    order = np.argsort(spots[Q2, :n], kind="stable")
    ascending = subset(spots, order)
    scales = 1.5 * known.cell * np.repeat([-1.0, 0.0, 1.0], len(SHIFTS))
    frees = np.column_stack([np.tile(SHIFTS / np.sqrt(known.precision[0, 0]), (3, 1)), scales[:, None] * UNITY])
    rotations, scores = np.repeat(found.rotation[None], len(frees), axis=0), np.empty(len(frees))
    plan = schedule(_wide(form, known), 0.003 + known.cell, 4, 1)
    fit.fit_many(subset(ascending, spread(n, COARSE_SPOTS)), form.reciprocal, known.precision, plan, fit.N_PARAMETERS,
                 rotations, frees, scores, work)
    best = np.argsort(-scores, kind="stable")[:3]
    rotations, frees, scores = rotations[best], frees[best], scores[best]
    fit.fit_many(ascending, form.reciprocal, known.precision, schedule(0.3 * _wide(form, known), 0.003, 2, 3),
                 fit.N_PARAMETERS, rotations, frees, scores, work)
    again = _in_order(ascending, order, form, known, rotations, frees, scores, work)
    return max(found, again, key=lambda one: one.log_odds)


def _in_order(ascending, order, form, known, rotations, frees, scores, work):
    """The best `Fit`, spots as they stood before they were put in ascending order."""
    n, k = len(order), int(np.argmax(scores))
    found = judge(ascending, n, form, known, rotations[k], frees[k], work)
    back = np.empty(n, np.int64)
    back[order] = np.arange(n)
    return found._replace(member=found.member[back], indices=found.indices[back])


def judge(spots, n, form, known, rotation, free, work):
    """`Fit` of a lattice to a table of n spots as it stands."""
    member, indices = np.empty(n), np.empty((n, 3), np.int64)
    odds = fit.judge(spots, form.reciprocal, known.precision, rotation, free, work, member, indices)
    return Fit(float(odds), rotation, free, member, indices)


def _wide(form, known):
    return min(known.shift_q, 0.15 / form.longest)


def distinct(rotations, scores, most):
    """Indices of the best rotations, at most `most`, best first: see `keep_distinct`."""
    kept = np.empty(most, np.int64)
    return kept[:keep_distinct(rotations, scores, np.argsort(-scores, kind="stable"), kept)]


def _starts(spots, n, form, known, grids, effort, start):
    """(rotations (k, 3, 3), frees (k, 8), `Knowledge` of beam and cell) to begin fits with."""
    if start is not None:
        near = replace(known, shift_q=min(known.shift_q, NEAR_CYCLES / form.longest))
        moved = spots.copy()
        moved[Q:Q + 3] -= start[0] * spots[SHIFT:SHIFT + 3] + start[1] * spots[SHIFT + 3:SHIFT + 6]
        scale = 1 / (1 + start[2:5].mean())
        rotations, _ = hypotheses(moved, n, form, near, (scale,), grids, effort)
        return rotations, np.tile(start, (len(rotations), 1)), near
    unsure = effort.starts and not known.settled
    scales = (1.0, 1 - 1.5 * known.cell, 1 + 1.5 * known.cell) if unsure else (1.0,)
    rotations, strains = hypotheses(spots, n, form, known, scales, grids, effort)
    frees = np.column_stack([np.zeros((len(rotations), 2)), strains])
    if effort.starts and known.shift_q * form.longest > 0.1:
        shifts = np.tile(SHIFTS / np.sqrt(known.precision[0, 0]), (len(rotations), 1))
        rotations, frees = np.repeat(rotations, len(SHIFTS), axis=0), np.repeat(frees, len(SHIFTS), axis=0)
        frees[:, :2] = shifts
    return rotations, frees, known


def _coarse(spots, n, form, known, rotations, frees, effort, work):
    """The best few (rotations, frees) by a fit to some of the spots, settings like them included."""
    some = subset(spots, spread(n, COARSE_SPOTS))
    reach = np.sqrt(spots[Q2, int(0.8 * n)])
    plan = schedule(_wide(form, known), 0.15 / (form.longest * reach) + 1.5 * known.cell, effort.rounds, 1)
    # Most hypotheses are out of the race after a few rounds.
    for rows, keep in ((plan[:3], max(2 * effort.fine, len(rotations) // 4)), (plan[3:], effort.fine)):
        scores = np.empty(len(rotations))
        fit.fit_many(some, form.reciprocal, known.precision, rows, fit.N_PARAMETERS, rotations, frees, scores, work)
        best = distinct(rotations, scores, keep)
        rotations, frees, scores = rotations[best], frees[best], scores[best]
    if len(form.alternatives):
        others = np.ascontiguousarray((rotations[:, None] @ form.alternatives[None]).reshape(-1, 3, 3))
        other_frees, other_scores = np.repeat(frees, len(form.alternatives), axis=0), np.empty(len(others))
        fit.fit_many(some, form.reciprocal, known.precision, plan[2:], fit.N_PARAMETERS, others, other_frees,
                     other_scores, work)
        rotations, frees = np.concatenate([rotations, others]), np.concatenate([frees, other_frees])
        best = np.argsort(-np.concatenate([scores, other_scores]), kind="stable")[:effort.fine]
        rotations, frees = rotations[best], frees[best]
    return rotations, frees
