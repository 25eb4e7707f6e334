"""The cells of a run, where none was given: what its first hits have in common.

Each pattern suggests a cell. Those that suggest the same form a cluster, and the best of each cluster is tried on all
patterns as if it were known, which sees far more than the pattern that suggested it: the cell that explains most wins,
is averaged over its patterns, and gets the highest symmetry that its errors allow. Patterns that it does not explain
may suggest another crystal form.
"""
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import fit
from mpixfel.kernels.match import SHIFT, Q, spot_table
from mpixfel.model.bravais import conventional_cell, parameters
from mpixfel.model.crystal import UnitCell
from mpixfel.stages import search
from mpixfel.stages.forms import make_form
from mpixfel.stages.periods import candidate_cell, centred, far_better
from mpixfel.stages.spread import FWHM

CLUSTERS = "clusters"      # in `Learnt.extra`
MOST_PATTERNS = 100        # that are looked at
MOST_SUGGESTIONS = 40      # patterns that may suggest a cell
MOST_CLUSTERS_TRIED = 6
FEWEST_PATTERNS = 3        # that a cell must explain
LEAST_SHARE = 0.05         # of the patterns, for a second form
SURE_ODDS = 40.0           # log odds that no search reaches by chance
SIMILAR = 0.03             # relative: cells of one cluster
GIVEN_ERROR = 0.01         # of a suggested cell, one standard deviation
SYMMETRY_TOLERANCE = (0.006, 0.012)   # errors of the geometry bend all cells of a run alike
DOUBTFUL_CYCLES = 0.18     # of the longest axis: beyond, the beam centre is searched
PATTERNS_SHIFTED = 5


class Cluster(NamedTuple):
    """A cell that several patterns share."""

    cell: UnitCell
    spread: np.ndarray      # (6,) from pattern to pattern, angstrom and degrees, of the conventional cell's parameters
    patterns: tuple         # indices of those that it explains
    log_odds: float         # sum over patterns


def cluster_table(clusters, n_patterns):
    """Clusters as plain arrays by name, one row each, for `Learnt.extra`; `n_patterns` were looked at."""
    texts = lambda name: np.array([getattr(c.cell, name).encode() for c in clusters], "S16")
    return {"parameters": np.array([c.cell.parameters for c in clusters]).reshape(-1, 6),
            "spread": np.array([c.spread for c in clusters]).reshape(-1, 6),
            "patterns": np.array([len(c.patterns) for c in clusters]), "n_patterns": np.array(n_patterns),
            **{name: texts(name) for name in ("lattice_type", "centring", "unique_axis")}}


def cells_of_table(table):
    """[(UnitCell, spread (6,), patterns), ...] of what `cluster_table` made."""
    kinds = zip(*([text.decode() for text in table[name]] for name in ("lattice_type", "centring", "unique_axis")))
    return [(UnitCell(*map(float, parameters), *kind), spread, int(n)) for parameters, kind, spread, n in
            zip(table["parameters"], kinds, table["spread"], table["patterns"])]


@dataclass(frozen=True, eq=False)
class Pattern:
    """One event's spots and what the search needs to know of its beam."""

    table: np.ndarray       # see kernels.match
    n: int
    wavelength: float       # angstrom
    shift_sigma: float      # radians


def pattern(spots, shot, beam_tolerance_px=3.0, pixel_m=75e-6, radius=0.0015):
    """`Pattern` of `Spots` (stages.indexing) and a `Shot`."""
    distance = float(np.mean(np.abs(shot.geometry.origin[:, 2])))
    table = spot_table(spots.q, spots.sigma_q, shot.wavelength_angstrom, radius, 0.0, shot.bandwidth_fwhm / FWHM)
    return Pattern(table, len(spots.q), shot.wavelength_angstrom, beam_tolerance_px / 2 * pixel_m / distance)


def find_cells(patterns):
    """Clusters of the cells that `patterns` share, most telling first; empty where they share none.

    Depends on the patterns and their order alone.
    """
    patterns, work = list(patterns)[:MOST_PATTERNS], fit.new_work()
    clusters = _clusters(patterns, work)
    if patterns and (not clusters or _long(clusters[0].cell, patterns[0])):
        centre = better_centre(patterns, work)
        moved = [shifted(p, *centre) for p in patterns]
        clusters = max(clusters, _clusters(moved, work), key=lambda found: sum(c.log_odds for c in found))
    return clusters


def _long(cell, one):
    """Whether an axis is so long that the beam centre's error could change indices by one."""
    return max(cell.parameters[:3]) * one.shift_sigma / one.wavelength > DOUBTFUL_CYCLES


def _clusters(patterns, work):
    suggested, left, clusters = suggestions(patterns, work), set(range(len(patterns))), []
    while len(left) >= FEWEST_PATTERNS:
        best = _best_cluster(patterns, sorted(left), [s for s in suggested if s[1] in left], work)
        if best is None or len(best.patterns) < max(FEWEST_PATTERNS, LEAST_SHARE * len(patterns)):
            break
        clusters.append(best)
        left -= set(best.patterns)
    return tuple(sorted(clusters, key=lambda c: -c.log_odds))


def shifted(one, x, y):
    """The `Pattern` with its spots moved by (x, y) radians against a shift of the beam."""
    table = one.table.copy()
    table[Q:Q + 3] -= x * table[SHIFT:SHIFT + 3] + y * table[SHIFT + 3:SHIFT + 6]
    return replace(one, table=table)


def better_centre(patterns, work):
    """(x, y) radians: the shift of all patterns at which single patterns suggest the best cells."""
    chosen = sorted(patterns, key=lambda p: -min(p.n, 300))[:PATTERNS_SHIFTED]
    angles = np.arange(6) * np.pi / 3
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    tried = np.concatenate([np.zeros((1, 2)), ring, np.sqrt(3) * ring @ [[np.sqrt(0.75), 0.5], [-0.5, np.sqrt(0.75)]]])
    tried *= patterns[0].shift_sigma
    odds = [sum(c.log_odds for c in (candidate_cell(s.table, s.wavelength, s.shift_sigma, work)
                                     for s in (shifted(p, *shift) for p in chosen)) if c) for shift in tried]
    return tried[int(np.argmax(odds))]


def suggestions(patterns, work):
    """[(Candidate, index of its pattern), ...] of the patterns with most spots, best odds for each spot first."""
    order = sorted(range(len(patterns)), key=lambda i: (-min(patterns[i].n, 150), i))[:MOST_SUGGESTIONS]
    found = [(candidate_cell(p.table, p.wavelength, p.shift_sigma, work), i) for i, p in ((i, patterns[i]) for i in order)]
    found = [(c, i) for c, i in found if c is not None and c.log_odds > SURE_ODDS]
    return sorted(found, key=lambda pair: (-pair[0].log_odds * pair[0].n_matched / pair[0].n_spots, pair[1]))


def _best_cluster(patterns, left, suggested, work):
    """The `Cluster` of the suggestion that explains most of the patterns `left`, or None."""
    groups, own = [], {i: candidate.log_odds for candidate, i in suggested}

    def explained(metric, cell_error):
        """Patterns that the cell explains, but those that are explained far better by one of their own."""
        fits = indexed(patterns, left, metric, cell_error, work)
        return {i: f for i, f in fits.items() if not far_better(own.get(i, 0.0), f[0].log_odds)}

    for candidate, _ in suggested:
        metric = candidate.axes @ candidate.axes.T
        for group in groups:
            if _similar(metric, group[0]):
                group.append(metric)
                break
        else:
            groups.append([metric])
    groups.sort(key=lambda g: -len(g))
    best, best_odds = None, 0.0
    for metric in (g[0] for g in groups[:MOST_CLUSTERS_TRIED]):
        fits = explained(metric, GIVEN_ERROR)
        odds = sum(f.log_odds for f, _ in fits.values())
        if odds > best_odds:
            best, best_odds = fits, odds
    if best is None or len(best) < FEWEST_PATTERNS:
        return None
    for _ in range(2):
        metric, _ = _mean_metric(best)
        again = explained(metric, 0.4 * GIVEN_ERROR)
        best = again if len(again) >= len(best) else best
    return _cluster(best)


def _similar(one, other):
    """Whether two metrics of reduced cells agree; lengths and angles of a reduced cell may trade places, lengths less."""
    a, b = np.sqrt(np.diag(one)), np.sqrt(np.diag(other))
    volume = np.sqrt(np.linalg.det(one) / np.linalg.det(other))
    return bool(np.all(np.abs(a / b - 1) < SIMILAR) and abs(volume - 1) < 2 * SIMILAR)


def indexed(patterns, left, metric, cell_error, work):
    """{index: (Fit, Form)} of the patterns among `left` that the cell of a primitive metric explains."""
    form = make_form(UnitCell(*parameters(metric)), cell_error, forbidden=cell_error)
    grids, out = search.Grids(), {}
    for i in left:
        p = patterns[i]
        found = search.search(p.table, form, search.knowledge(form.precision, p.shift_sigma, p.wavelength, cell_error),
                              grids, work, SEARCH)
        if found and found.log_odds > SURE_ODDS:
            out[i] = found, form
    return out


SEARCH = replace(search.QUICK, scanned=2, coarse=32, pair_spots=12)


def _mean_metric(fits):
    """(metric (3, 3), metrics (n, 3, 3)) of the primitive cell over patterns, made finer where all indices allow it."""
    axes = np.array([form.real_axes(f.rotation, f.free[2:]) for f, form in fits.values()])
    weights = np.array([f.member.sum() for f, _ in fits.values()])
    finer = centred(np.concatenate([f.indices[f.member > 0.5] for f, _ in fits.values()]), 0.99)
    if finer is not None:
        axes = finer @ axes
    metrics = axes @ np.swapaxes(axes, 1, 2)
    middle = np.median(metrics, axis=0)
    off = np.max(np.abs(metrics - middle), axis=(1, 2)) / np.max(np.abs(middle))
    good = off <= 3 * np.median(off) + 1e-9
    return np.average(metrics[good], axis=0, weights=weights[good]), metrics


def _cluster(fits):
    """`Cluster` of the patterns that a cell explains: its mean, the symmetry that its errors allow, its spread."""
    metric, metrics = _mean_metric(fits)
    axes = np.linalg.cholesky(metric)
    lengths = np.sqrt(np.einsum("nii->ni", metrics))
    error = 1.4826 * np.median(np.abs(lengths / np.median(lengths, axis=0) - 1)) / np.sqrt(len(metrics))
    cell = conventional_cell(axes, float(np.clip(4 * error, *SYMMETRY_TOLERANCE)))
    relative = 1.4826 * np.median(np.abs(lengths / np.median(lengths, axis=0) - 1))
    spread = np.array([*(relative * np.array(cell.parameters[:3])), *np.full(3, np.degrees(relative))])
    return Cluster(cell, spread, tuple(sorted(fits)), float(sum(f.log_odds for f, _ in fits.values())))
