"""Whether the cell is wrong: another one, a half or a multiple of it, or one that is off."""
import numpy as np
from scipy.stats import poisson

from mpixfel.model.event import Reason
from mpixfel.model.symmetry import primitive_basis, reduce_basis
from mpixfel.report.findings import Finding
from mpixfel.stages.cells import find_cells
from mpixfel.stages.periods import centred

SAME_AXES = 0.03           # relative: reduced cells that are called the same
FEWEST_INDICES = 60        # that a half cell is seen by
HALF_WIDTH = 0.1           # in index space, of what counts as at a half or a third
WORDS = {2: "halved", 3: "divided by three"}
FRACTIONS = {2: "half", 3: "third"}


def shared_cells(evidence):
    """[Cluster] of the cells that hits without lattice share, by the given geometry."""
    looks = evidence.worth_a_survey(unindexed_only=True)
    return list(find_cells([look.pattern() for look in looks])) if len(looks) >= 3 else []


def told(cell):
    """A cell in words."""
    numbers = " ".join(f"{x:.2f}" for x in cell.parameters)
    return f"{numbers} ({cell.lattice_type} {cell.centring})"


def same(one, other):
    """Whether two cells are one, whatever their setting."""
    a, b = (np.sort(np.linalg.norm(reduce_basis(primitive_basis(c)), axis=1)) for c in (one, other))
    volumes = [abs(np.linalg.det(primitive_basis(c))) for c in (one, other)]
    return bool(np.all(np.abs(a / b - 1) < SAME_AXES) and abs(volumes[0] / volumes[1] - 1) < 2 * SAME_AXES)


def findings(evidence, clusters):
    """`Finding`s about the cell; clusters: of `shared_cells`."""
    found = [*_other_cells(evidence, clusters), *_axes_off(evidence), *_too_large(evidence), *_too_small(evidence),
             *_by_reason(evidence)]
    return [f for f in found if f]


def _other_cells(evidence, clusters):
    looked = len(evidence.worth_a_survey(unindexed_only=True))
    for cluster in clusters:
        share = len(cluster.patterns) / looked
        numbers = {"cell": list(cluster.cell.parameters), "lattice_type": cluster.cell.lattice_type,
                   "centring": cluster.cell.centring, "patterns": len(cluster.patterns), "looked_at": looked}
        known = [c for c in evidence.cells if same(c, cluster.cell)]
        if known:
            yield Finding("Hits that were not indexed have the run's own cell",
                          f"{len(cluster.patterns)} of {looked} of them are explained by {told(cluster.cell)}. So it "
                          "is not the cell: look at the beam centre, the distance, and at what the reasons of these "
                          "events say.",
                          numbers, 0.3 * share)
            continue
        relation = _relation(evidence.cells, cluster.cell)
        given = f" The run's cell is {told(evidence.cells[0])}." if evidence.cells else ""
        yield Finding("Another cell" if evidence.cells else "A cell was found afterwards",
                      f"{len(cluster.patterns)} of {looked} hits without lattice share the cell "
                      f"{told(cluster.cell)}{relation}.{given} Give it as the cell (mpixfel cell writes it), or beside "
                      "the first where it is a second form.",
                      {**numbers, "relation": relation.strip(", ")},
                      float(np.clip(0.35 + 0.6 * share, 0, 0.97) * np.clip(0.5 + evidence.share_unindexed, 0, 1)))


def _relation(cells, other):
    """How a cell is related to a known one, in words."""
    volume = abs(np.linalg.det(primitive_basis(other)))
    for cell in cells:
        ratio = volume / abs(np.linalg.det(primitive_basis(cell)))
        for n in (2, 3, 4):
            if abs(ratio / n - 1) < 0.04:
                return f", {n} times as large as the run's"
            if abs(ratio * n - 1) < 0.04:
                return f", {n} times smaller than the run's"
    return ""


def _axes_off(evidence):
    lattices = evidence.results.lattices
    for k, cell in enumerate(evidence.results.given_cells):
        mine = lattices["cell"][lattices["form"] == k] if len(lattices) else []
        if len(mine) < 5:
            continue
        ratio = np.median(mine[:, :3], axis=0) / np.array(cell.parameters[:3]) - 1
        if np.max(np.abs(ratio)) < 0.003 or np.ptp(ratio) < 0.3 * np.max(np.abs(ratio)):
            continue     # all axes off by one factor: that is said of the distance
        refined = np.median(mine, axis=0)
        yield Finding("The cell's axes are off",
                      f"The lattices' axes differ from the given ones by "
                      f"{', '.join(f'{100 * r:+.2f} %' for r in ratio)}. Put "
                      f"{' '.join(f'{x:.2f}' for x in refined)} in the cell file.",
                      {"relative": ratio.tolist(), "cell": refined.tolist()},
                      float(np.clip(10 * np.max(np.abs(ratio)), 0.1, 0.4)))


def _indices(evidence, form):
    """(n, 3) primitive indices of explained peaks of a form, and the matrix that conventional indices take to them."""
    change = np.rint(2 * 3 * primitive_basis(form) @ np.linalg.inv(form.direct_axes())) / 6
    number = evidence.cells.index(form)
    rows = []
    for look in evidence.looks:
        mine = look.peaks["lattice"] >= 0
        if mine.any():
            right = look.lattices["form"][look.peaks["lattice"][mine]] == number
            rows.append(look.peaks["hkl"][mine][right])
    return (np.concatenate(rows) if rows else np.zeros((0, 3))) @ change.T, change


def _too_large(evidence):
    """Forms of which the indices of explained peaks use but a part: a sparser lattice would do."""
    for form in evidence.cells:
        indices, change = _indices(evidence, form)
        if len(indices) < FEWEST_INDICES:
            continue
        finer = centred(np.rint(indices).astype(int), 0.97)
        if finer is None:
            continue
        vector = next(row for row in finer if np.any(row % 1)) @ change
        p = round(1 / np.min(np.abs(vector[vector != 0]))) if np.any(vector) else 2
        p = 3 if abs(vector * 3 - np.rint(vector * 3)).max() < 0.01 and p % 3 == 0 else 2
        along = np.flatnonzero(np.abs(vector) > 0.01)
        what = (f"axis {'abc'[along[0]]} {WORDS[p]}" if len(along) == 1 else
                "a centring by " + " ".join(f"{x:.2f}" for x in vector))
        yield Finding("The cell is too large",
                      f"97 % of {len(indices)} indexed peaks of {told(form)} have indices that a smaller cell "
                      f"explains, too: {what}. Chance is left {p} times as many places as need be; give the smaller "
                      "cell.",
                      {"vector": vector.tolist(), "indices": len(indices)}, 0.6)


def _too_small(evidence):
    """Forms whose unexplained peaks lie half-way, or a third of the way, between lattice points."""
    for number, form in enumerate(evidence.cells):
        change = primitive_basis(form) @ np.linalg.inv(form.direct_axes())
        rows = []
        for look in evidence.looks:
            if len(look.lattices) == 1 and look.lattices["form"][0] == number:
                left = look.peaks["lattice"] < 0
                hkl = look.spots.q[left] @ np.linalg.inv(look.lattices["reciprocal_axes"][0])
                rows.append(hkl @ change.T)
        indices = np.concatenate(rows) if rows else np.zeros((0, 3))
        if len(indices) < 20:
            continue
        best = max((_at_fraction(indices, n) for n in (2, 3)), key=lambda found: found[0] - found[1])
        count, expected, point, n = best
        if count < 10 or count < 0.1 * len(indices) or poisson.sf(count - 1, expected + 0.5) > 1e-9:
            continue
        conventional = point @ np.linalg.inv(change).T
        along = np.flatnonzero(np.abs(conventional) > 0.01)
        axis = f"axis {'abc'[along[0]]} {'doubled' if n == 2 else 'made three times as long'}" if len(along) == 1 else \
            f"a cell {n} times as large"
        yield Finding("The cell is too small",
                      f"{count} of {len(indices)} unexplained peaks of indexed patterns lie at "
                      f"{' '.join(f'{x:.2f}' for x in conventional)} from lattice points of {told(form)}; "
                      f"{expected:.0f} would by chance. Try {axis}.",
                      {"count": count, "expected": expected, "point": conventional.tolist(),
                       "unexplained": len(indices)},
                      float(np.clip(0.4 + count / len(indices), 0, 0.9)))


def _at_fraction(indices, n):
    """(peaks there, expected by chance, the point, n): of the points with coordinates of multiples of 1/n the
    fullest."""
    grid = np.array([p for p in np.ndindex(n, n, n) if any(p)]) / n
    off = indices[:, None] - grid
    near = np.all(np.abs(off - np.rint(off)) < HALF_WIDTH, axis=2).sum(axis=0)
    k = int(np.argmax(near))
    if n == 3:
        # A point and its opposite belong to the same, larger cell.
        pairs = near + near[[int(np.flatnonzero(np.all(np.abs((-g) % 1 - grid) < 1e-9, axis=1))[0]) for g in grid]]
        k = int(np.argmax(pairs))
        return int(pairs[k]), len(indices) * 2 * (2 * HALF_WIDTH) ** 3, grid[k], n
    return int(near[k]), len(indices) * (2 * HALF_WIDTH) ** 3, grid[k], n


def _by_reason(evidence):
    """What the reasons themselves say."""
    events, n = evidence.results.events, int(np.sum(evidence.unindexed))
    if n < 3:
        return
    count = lambda *reasons: int(np.isin(events["reason"][evidence.unindexed], reasons).sum())
    few = count(Reason.too_few_spots_for_cell, Reason.too_few_peaks)
    if few >= 0.25 * n:
        typical = float(np.median(events["n_peaks"][evidence.unindexed]))
        yield Finding("Too few spots",
                      f"{few} of {n} hits without lattice hold too few spots to tell this cell from chance (median of "
                      f"those not indexed: {typical:.0f} peaks). Let the hit finder find weaker spots (see mpixfel "
                      f"tune), or ask more peaks of a hit: then they are misses.",
                      {"events": few, "of": n, "median_peaks": typical},
                      0.2 + 0.4 * few / n)
    refused = count(Reason.refinement_diverged, Reason.too_few_indexed, Reason.wrong_lattice)
    if refused >= 0.25 * n:
        yield Finding("Lattices were found and refused in refinement",
                      f"{refused} of {n} hits without lattice had one that refinement refused. The cell's symmetry or "
                      f"centring may be wrong, or panels stand elsewhere than the geometry says.",
                      {"events": refused, "of": n},
                      0.15 + 0.3 * refused / n)
