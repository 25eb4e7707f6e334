"""All lattices of one event: found one after the other, then held against each other."""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.match import Q2, VARIANCE, subset
from mpixfel.model.symmetry import same_lattice
from mpixfel.stages import search
from mpixfel.stages.acceptance import best_possible
from mpixfel.stages.forms import lattice_axes
from mpixfel.stages.periods import candidate_cell, far_better

SAME_DEGREES = 1.0
WORTH_ASKING = 15       # spots from which a pattern may have a cell of its own
WORTH_EFFORT = 12       # spots left over that justify a thorough search for one more lattice


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
        thorough = not found or len(left) >= max(WORTH_EFFORT, 0.15 * job.n)
        best, numbers = best_lattice(job, left, fewest, thorough)
        if best is None or not found and better_cell(job, best, numbers):
            break
        mine = best.fit.member > 0.5
        found.append(_onto_all(job, best))
        left = left[~mine]
    return compete(job, found, fewest), numbers


def best_lattice(job, left, fewest, thorough):
    """(Found | None, numbers): the best lattice of the spots `left`, if chance does not reach it."""
    table, best, numbers = subset(job.table, left), None, None
    q80 = float(np.sqrt(np.quantile(job.table[Q2, left], 0.8)))
    fineness = np.log(q80 / np.sqrt(np.median(job.table[VARIANCE + 2, left])))
    for i, (form, known, null) in enumerate(zip(job.forms, job.known, job.nulls)):
        bound = null.bound(len(left), fineness, job.rate / len(job.forms))
        fit = search.search(table, form, known, job.grids, job.work)
        if thorough and not (fit and fit.log_odds > bound and convincing(fit, table, form, known)):
            again = search.search(table, form, known, job.grids, job.work, search.THOROUGH)
            fit = max((f for f in (fit, again) if f), key=lambda f: f.log_odds, default=None)
        odds, matched = (fit.log_odds, int(np.sum(fit.member > 0.5))) if fit else (0.0, 0)
        if numbers is None or odds - bound > numbers["log_odds"] - numbers["bound"]:
            numbers = {"n_spots": len(left), "n_matched": matched, "log_odds": odds, "bound": bound,
                       "bound_of_others": null.bound_of_others(len(left), fineness, job.rate / len(job.forms)),
                       "best_possible": best_possible(table, len(left), form.volume)}
            if odds > bound and matched >= fewest:
                best = Found(i, fit, null.log10_odds(odds, len(left), fineness))
    return best, numbers


def better_cell(job, best, numbers):
    """Whether a pattern whose odds another lattice might reach prefers a cell of its own; `numbers` says which."""
    if best.fit.log_odds > numbers["bound_of_others"] or job.n < WORTH_ASKING:
        return False
    free = candidate_cell(job.table, job.wavelength, 1 / np.sqrt(job.known[0].precision[0, 0]), job.work)
    if free is None or not far_better(free.log_odds, best.fit.log_odds):
        return False
    numbers.update({f"preferred_{k}": float(x) for k, x in zip("abc", np.linalg.norm(free.axes, axis=1).round(2))})
    numbers["preferred_log_odds"] = free.log_odds
    return True


def convincing(fit, table, form, known):
    """Whether a fit that beats chance may also be the best there is.

    A wrong orientation that shares a plane of the lattice with the right one explains the plane's spots, near the
    beam, better than chance does; so does one whose indices are off by one where cell or beam centre are, or a cell
    that is strained as far as it may be.
    """
    member = fit.member
    if not known.settled and fit.log_odds < 0.8 * best_possible(table, len(member), form.volume):
        return False
    order = np.argsort(table[Q2, :len(member)], kind="stable")
    half = len(member) // 2
    return member[order[half:]].mean() > 0.5 * member[order[:half]].mean()


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
