"""All lattices of one event: found one after the other, then held against each other."""
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.match import Q2, VARIANCE, subset
from mpixfel.model.symmetry import changes_onto, rotation_onto, same_lattice
from mpixfel.stages import search
from mpixfel.stages.acceptance import best_possible
from mpixfel.stages.forms import lattice_axes
from mpixfel.stages.periods import candidate_cell, centred, far_better
from mpixfel.stages.quantiles import middle

SAME_DEGREES = 1.0
SAME_AXES = 0.02        # relative difference of axes, and of angles in radians, up to which a pattern's own cell is a given one
FURTHER = 0.1           # of the rate of false lattices is allowed to lattices after the first: they must not add to it much
WORTH_ASKING = 15       # spots from which a pattern may have a cell of its own
NEARLY = 0.8            # of the bound: what a quick search for one more lattice must reach to be worth a thorough one
# Spots left over that make that effort worth while anyhow: so many, this share of all where several lattices are there,
# and this where one is found, for one crystal among many false peaks is more common than several that explain so little.
WORTH_EFFORT, FOREIGN, FEW_EXPLAINED = 12, 0.25, 0.6
# See `convincing`: of the odds that are possible; times the bound; of what an explained spot should add; of the spots.
NEARLY_ALL, FAR_BEYOND, AS_EXPECTED, NOT_ALL = 0.8, 2.0, 0.9, 0.85
PLANES = np.array([(h, k, l) for h in range(3) for k in range(-2, 3) for l in range(-2, 3)
                   if (h, k, l) > (0, 0, 0) and np.gcd.reduce((h, k, l)) == 1], float).T


@dataclass(frozen=True, eq=False)
class Job:
    """One event's spots, the cells, and the rate at which chance may be believed."""

    table: np.ndarray       # see kernels.match
    n: int                  # spots in it
    forms: tuple
    known: tuple            # `search.Knowledge` of each form
    nulls: tuple            # `acceptance.Null` of each form
    rate: float
    wavelength: float       # angstrom
    grids: search.Grids
    work: tuple


class Found(NamedTuple):
    """A lattice that chance does not explain."""

    form: int
    fit: search.Fit         # member and indices are of all the event's spots
    score: float            # log10 of the odds against chance


def find(job, most, fewest):
    """([Found, ...] best first, numbers behind the last decision); at most `most`, each of at least `fewest` spots."""
    left, found, numbers = np.arange(job.n), [], None
    while len(found) < most and len(left) >= fewest:
        worth = not found or len(left) >= max(WORTH_EFFORT, (FOREIGN if len(found) > 1 else FEW_EXPLAINED) * job.n)
        best, numbers = best_lattice(job, left, fewest, found[0] if found else None, worth)
        if best is not None and not found:
            best = held_against_own_cell(job, best, fewest, numbers)
        if best is None:
            break
        mine = best.fit.member > 0.5
        found.append(_onto_all(job, best))
        left = left[~mine]
    return compete(job, found, fewest), numbers


def best_lattice(job, left, fewest, first, worth):
    """(Found | None, numbers): the best lattice of the spots `left`, if chance does not reach it; first: `Found` of the
    event, or None; worth: of a thorough search even if a quick one does not come near."""
    table, best, numbers = subset(job.table, left), None, None
    fineness, rate = fineness_and_rate(job, table, len(left))
    rate *= 1.0 if first is None else FURTHER
    for i, (form, known, null) in enumerate(zip(job.forms, job.known, job.nulls)):
        bound = null.bound(len(left), fineness, rate)
        fit = _search(job, i, table, bound, first, worth)
        odds, matched = (fit.log_odds, int(np.sum(fit.member > 0.5))) if fit else (0.0, 0)
        if numbers is None or odds - bound > numbers["log_odds"] - numbers["bound"]:
            numbers = {"n_spots": len(left), "n_matched": matched, "log_odds": odds, "bound": bound,
                       "bound_of_others": null.bound_of_others(len(left), fineness, rate),
                       "best_possible": best_possible(table, len(left), form.volume)}
            if odds > bound and matched >= fewest:
                best = Found(i, fit, null.log10_odds(odds, len(left), fineness))
    return best, numbers


def _search(job, i, table, bound, first, worth):
    """`search.Fit` of form i to a spot table, or None: quick, and thorough where that may find more."""
    form, known, start, effort = job.forms[i], job.known[i], None, search.QUICK
    if first is not None:
        effort = search.ONE_MORE
        start = np.concatenate([first.fit.free[:2], first.fit.free[2:] if first.form == i else np.zeros(6)])
    fit = search.search(table, form, known, job.grids, job.work, effort, start)
    odds = fit.log_odds if fit else 0.0
    if not worth and odds < NEARLY * bound:
        return fit
    if odds > bound:
        if convincing(fit, table, form, known, bound):
            return fit
        if not known.settled:
            fit = search.polished(fit, table, form, known, job.work)
            if convincing(fit, table, form, known, bound):
                return fit
    again = search.search(table, form, known, job.grids, job.work, search.THOROUGH, start)
    return max((f for f in (fit, again) if f), key=lambda f: f.log_odds, default=None)


def held_against_own_cell(job, best, fewest, numbers):
    """The `best` lattice of all spots, or a better one, or None.

    Where another lattice might reach the best one's odds, the pattern is asked for a cell of its own. If that is one of
    those given, it shows where the lattice stands; if it is another one, and far better, there is none, and `numbers`
    says which the pattern prefers.
    """
    odds = best.fit.log_odds
    if odds > numbers["bound_of_others"] or job.n < WORTH_ASKING:
        return best
    free = candidate_cell(job.table, job.wavelength, 1 / np.sqrt(job.known[0].precision[0, 0]), job.work)
    if free is None or not far_better(free.log_odds, odds):
        return best
    given = given_cell(job, free.axes, fewest)
    if given is not None and given.fit.log_odds > odds:
        numbers["log_odds"], numbers["n_matched"] = given.fit.log_odds, int(np.sum(given.fit.member > 0.5))
        return given
    numbers.update({f"preferred_{k}": float(x) for k, x in zip("abc", np.linalg.norm(free.axes, axis=1).round(2))})
    numbers["preferred_log_odds"] = free.log_odds
    return None


def given_cell(job, axes, fewest):
    """The best `Found` of the given cells that reduced axes (3, 3), angstrom, found without them, are one of; or None."""
    best, (fineness, rate) = None, fineness_and_rate(job, job.table, job.n)
    for i, (form, known, null) in enumerate(zip(job.forms, job.known, job.nulls)):
        changes = changes_onto(axes, form.axes, SAME_AXES)
        if len(changes):
            rough = [search.judge(job.table, job.n, form, known, rotation_onto(change @ axes, form.axes), np.zeros(8), job.work)
                     for change in changes]
            fit = search.polished(max(rough, key=lambda one: one.log_odds), job.table, form, known, job.work)
            if fit.log_odds > null.bound(job.n, fineness, rate) and np.sum(fit.member > 0.5) >= fewest:
                best = max(filter(None, (best, Found(i, fit, null.log10_odds(fit.log_odds, job.n, fineness)))),
                           key=lambda found: found.fit.log_odds)
    return best


def fineness_and_rate(job, table, n):
    """What chance depends on, see `acceptance.Null`, for a table of n spots; the rate of false lattices of each form."""
    q80, sigma = middle(table[Q2, :n], 0.8), middle(table[VARIANCE + 2, :n], 0.5)
    return 0.5 * np.log(q80 / sigma), job.rate / len(job.forms)


def convincing(fit, table, form, known, bound):
    """Whether a fit that beats chance may also be the best there is.

    A wrong orientation that shares a plane of the lattice with the right one explains the plane's spots, near the
    beam, better than chance does; so does one whose indices are off by one where cell or beam centre are, or a cell
    that is strained as far as it may be. A fit is believed if it explains nearly all spots, far from the beam as well
    as near; else it must be far better than chance, and explain its own spots as well as can be expected. Even then
    they must not lie in one plane or on a coarser lattice, unless those far from the beam are explained, too: foreign
    spots need not lie where the lattice's do.
    """
    member = fit.member
    n, most = len(member), best_possible(table, len(member), form.volume)
    mine = member[np.argsort(table[Q2, :n], kind="stable")]
    near, far = mine[:n // 2], mine[n // 2:]
    even = np.add.reduce(far) / len(far) > 0.5 * np.add.reduce(near) / len(near)
    if even and fit.log_odds >= NEARLY_ALL * most:
        return True
    share = min(max(float(np.add.reduce(member)) / n, 1e-3), 1 - 1e-3)
    expected = share * most + n * (share * math.log(share) + (1 - share) * math.log(1 - share))
    if fit.log_odds < max(FAR_BEYOND * bound, AS_EXPECTED * expected):
        return False
    indices = fit.indices[member > 0.5]
    return (even and known.settled
            or fit.log_odds * off_plane(indices) > FAR_BEYOND * bound and centred(indices, NOT_ALL) is None)


def off_plane(indices):
    """Share of indices (n, 3) that do not lie in the plane, through the origin, that holds most of them."""
    return 1.0 - float(np.max(np.mean(indices.astype(float) @ PLANES == 0, axis=0)))


def _onto_all(job, found):
    """The same lattice judged on all the event's spots."""
    fit = found.fit
    return found._replace(fit=search.judge(job.table, job.n, job.forms[found.form], job.known[found.form], fit.rotation,
                                           fit.free, job.work))


def compete(job, found, fewest):
    """Lattices that stand on their own spots, best first: repeated ones merged, those that live on others' dropped."""
    kept = []
    for one in sorted(found, key=lambda f: -f.fit.log_odds):
        if not any(duplicate(job, one, other) for other in kept):
            kept.append(one)
    while len(kept) > 1:
        owner = np.argmax([one.fit.member for one in kept], axis=0)
        own = [np.sum((one.fit.member > 0.5) & (owner == i)) for i, one in enumerate(kept)]
        weak = int(np.argmin(own))
        if own[weak] >= max(fewest, 0.2 * np.sum(kept[weak].fit.member > 0.5)):
            break
        kept.pop(weak)
    return kept


def duplicate(job, one, other):
    """Whether two lattices are one, up to a change of basis, within a degree."""
    if one.form != other.form:
        return False
    a, b = (lattice_axes(job.forms[f.form], f.fit.rotation, f.fit.free[2:]) for f in (one, other))
    return same_lattice(a, b, SAME_DEGREES)
