"""The cell of one pattern, where none is known."""
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import fit, periods
from mpixfel.kernels.match import Q2, WEIGHT, subset
from mpixfel.kernels.vectors import keep_best
from mpixfel.model.symmetry import reduce_basis
from mpixfel.stages.acceptance import best_possible
from mpixfel.stages.forms import plain_form
from mpixfel.stages.search import columns, judge, knowledge, schedule, spread

SCAN_SPOTS = 48
CYCLES = 0.3            # of the highest order between neighbours on the grid
GRID_POINTS = 150_000
BETTER, BETTER_BY = 1.5, 20.0   # times the log odds, and more, of a cell that is another one
# Shares of the spots' resolution, a scan for each; the second group where the first does not explain the spots.
REACHES = (0.35, 0.6), (0.2, 1.0, 0.12)
ENOUGH = 0.6            # of what the odds would be if all spots were explained
LEAST_AXIS, LEAST_VOLUME = 3.5, 60.0    # angstrom, angstrom^3
VECTORS_KEPT, VECTORS_COMBINED, TRIPLES_FITTED = 96, 20, 6
REFINE_LIMIT = 0.25
STRAIN = 0.05           # how far a combination of rough vectors may be off


class Candidate(NamedTuple):
    """A cell that one pattern suggests."""

    log_odds: float
    axes: np.ndarray        # (3, 3) rows: reduced real axes, laboratory frame, angstrom
    n_matched: int
    n_spots: int


def candidate_cell(spots, wavelength, shift_sigma, work):
    """The best `Candidate` of a spot table (see `kernels.match`), or None.

    shift_sigma: standard deviation of the pattern's shift, radians.
    """
    n = int(spots[WEIGHT].sum())
    if n < 6:
        return None
    ascending = subset(spots, np.argsort(spots[Q2, :n], kind="stable"))
    norm, rough, best = np.sqrt(ascending[Q2, :n]), np.zeros((0, 3)), None
    for reaches in REACHES:
        for share in reaches:
            within = int(np.searchsorted(norm, share * norm[-1] * 1.0001))
            if within >= min(n, 8):
                rough = np.concatenate([rough, scan(ascending, within, wavelength)])
        best = max(filter(None, (best, combined(rough, ascending, n, wavelength, shift_sigma, work))),
                   key=lambda one: one.log_odds, default=None)
        if best and best.log_odds > ENOUGH * best_possible(ascending, n, abs(np.linalg.det(best.axes))):
            break
    return best._replace(axes=reduce_basis(best.axes)) if best else None


def combined(rough, spots, n, wavelength, shift_sigma, work):
    """The best `Candidate` that rough vectors (k, 3) span, or None; spots: table of n spots, ascending |q|."""
    vectors = lattice_vectors(rough, spots, n)
    if len(vectors) < 3:
        return None
    found = [fitted(axes, spots, n, wavelength, shift_sigma, work)
             for axes in combinations(vectors, subset(spots, spread(n, 64)))]
    return max(filter(None, found), key=lambda one: one.log_odds, default=None)


def far_better(own, given):
    """Whether a pattern has a cell of its own, by the log odds of that and of a given one."""
    return own >= BETTER * given + BETTER_BY


def lattice_vectors(rough, spots, n):
    """(k, 3) refined vectors, best first: spots is a table of n spots, ascending |q|."""
    if not len(rough):
        return rough
    q = columns(spots, np.arange(n))
    steps = np.minimum(q.shape[1], np.array([16, 24, 32, 56, 80, 128, 200, 320]))
    refined = np.empty_like(rough)
    periods.refine_vectors(rough, q, np.unique(steps), np.float32(REFINE_LIMIT), refined)
    odds = np.empty(len(refined))
    periods.vector_odds(refined, subset(spots, spread(n, 128)), odds)
    order = np.argsort(-odds, kind="stable")
    refined, odds = refined[order], odds[order]
    products = refined @ refined.T
    size2 = np.diag(products)
    # A vector and its opposite are one.
    near = size2[:, None] + size2 - 2 * np.abs(products) <= (0.02 ** 2) * size2[:, None]
    kept = []
    for i in np.flatnonzero((odds > 0) & (size2 > LEAST_AXIS ** 2)):
        if not near[i, kept].any():
            kept.append(i)
            if len(kept) == VECTORS_COMBINED:
                break
    return refined[kept].reshape(-1, 3)


def scan(spots, n, wavelength):
    """(k, 3) vectors at which spots of a table (ascending |q|, the first n) have high scores."""
    q = columns(spots, spread(n, SCAN_SPOTS))
    reach = float(np.sqrt(spots[Q2, n - 1]))
    step = CYCLES / reach
    step_z = 2 * CYCLES / (wavelength * reach ** 2)
    radius = (GRID_POINTS * step ** 2 * step_z / (2 * np.pi / 3)) ** (1 / 3)
    side, layers = 2 * int(radius / step) + 1, int(radius / step_z) + 1
    out = np.empty((layers, side, side), np.float32)
    periods.scan_ball(radius, max(LEAST_AXIS, 0.7 / reach), step, step_z, q, np.empty((2, 32), np.float32), out)
    index, best = np.empty(VECTORS_KEPT, np.int64), np.empty(VECTORS_KEPT, np.float32)
    kept = keep_best(out.ravel(), 4, index, best)
    k, j, i = np.unravel_index(index[:kept][best[:kept] > 0], out.shape)
    return np.column_stack([(i - side // 2) * step, (j - side // 2) * step, k * step_z])


def combinations(vectors, spots):
    """Bases (3, 3) of the best few lattices that three of the vectors span."""
    room = len(vectors) * (len(vectors) - 1) * (len(vectors) - 2) // 6
    triples, scores = np.empty((room, 3), np.int64), np.empty(room)
    n = periods.triple_odds(vectors, spots, LEAST_VOLUME, 0.7, 0.004, triples, scores, np.empty((2, 3, 3)))
    kept, volumes = [], []
    for t in np.argsort(-scores[:n], kind="stable")[:20 * TRIPLES_FITTED]:
        if len(kept) == TRIPLES_FITTED:
            break
        axes = vectors[triples[t]]
        volume = abs(np.linalg.det(axes))
        # The same lattice comes in many bases, of the same volume and odds.
        if not any(abs(volume / v - 1) < 0.02 and abs(scores[t] - s) < 0.02 * abs(s) for v, s in volumes):
            kept.append(axes)
            volumes.append((volume, scores[t]))
    return kept


def fitted(axes, spots, n, wavelength, shift_sigma, work):
    """`Candidate` of real axes (3, 3), fitted to a table of n spots and made primitive; None where the fit fails."""
    for _ in range(4):
        form = plain_form(axes, STRAIN)
        known = knowledge(form.precision, shift_sigma, wavelength, STRAIN)
        rotation, free, score = np.eye(3)[None].copy(), np.zeros((1, 8)), np.empty(1)
        fit.fit_many(spots, form.reciprocal, known.precision, schedule(0.0, 0.006, 5, 3), fit.N_PARAMETERS, rotation,
                     free, score, work)
        if not np.isfinite(score[0]):
            return None
        found = judge(spots, n, form, known, rotation[0], free[0], work)
        axes = form.real_axes(rotation[0], free[0, 2:])
        finer = centred(found.indices[found.member > 0.5])
        if finer is None:
            break
        axes = finer @ axes
    return Candidate(found.log_odds, axes, int(np.sum(found.member > 0.5)), n)


# Rows: u with which (u . h) mod 2, and mod 3, is tested.
_CLASSES = {p: np.array([(i, j, k) for i in range(p) for j in range(p) for k in range(p)
                         if (i, j, k) != (0, 0, 0) and ([x for x in (i, j, k) if x][0] == 1)]) for p in (2, 3)}


def centred(indices, share=0.97):
    """(3, 3) basis of a finer real lattice that indices (n, 3) allow, or None: all have (u . h) divisible by 2 or 3."""
    if len(indices) < 8:
        return None
    for p, classes in _CLASSES.items():
        good = np.mean((indices @ classes.T) % p == 0, axis=0)
        best = int(np.argmax(good))
        if good[best] >= share:
            basis = np.eye(3)
            basis[int(np.flatnonzero(classes[best])[0])] = classes[best] / p
            return basis
    return None
