"""The cells of a run: refined ones, those that its first hits shared, those that hits without lattice share."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.report.cell_doubts import shared_cells, told
from mpixfel.report.evidence import gather
from mpixfel.report.statistics import robust_mean
from mpixfel.stages.cells import CLUSTERS, cells_of_table

REFINED, FIRST_HITS, UNINDEXED = "refined lattices", "found in the first hits", "hits without lattice"


class CellRow(NamedTuple):
    """One cell of a run."""

    cell: UnitCell
    spread: np.ndarray      # (6,) angstrom and degrees, from shot to shot
    count: int              # lattices, or patterns, that have it
    of: int                 # that were looked at
    source: str             # `REFINED`, `FIRST_HITS` or `UNINDEXED`


def cell_rows(results, search=False):
    """[CellRow] of `io.results.Results`, in the order of the sources, each with the largest first.

    `search`: hits without lattice are looked at, too; takes seconds.
    """
    rows, table = refined(results), results.learnt.extra.get(CLUSTERS)
    if table:
        rows += [CellRow(cell, spread, n, int(table["n_patterns"]), FIRST_HITS)
                 for cell, spread, n in cells_of_table(table)]
    if search or not rows:
        evidence = gather(results)
        looked = len(evidence.worth_a_survey(unindexed_only=True))
        rows += [CellRow(c.cell, c.spread, len(c.patterns), looked, UNINDEXED) for c in shared_cells(evidence)]
    return rows


def refined(results):
    """[CellRow] of the forms that have lattices: means over these."""
    lattices, forms, rows = results.lattices, results.learnt.cells or results.given_cells, []
    for k in np.unique(lattices["form"]):
        mine = lattices["cell"][lattices["form"] == k]
        mean, spread = robust_mean(mine)
        kind = forms[k] if 0 <= k < len(forms) else UnitCell(*mean)
        cell = replace(kind, **dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), map(float, mean))), name="")
        rows.append(CellRow(cell, spread, len(mine), len(lattices), REFINED))
    return sorted(rows, key=lambda row: -row.count)


def clusters_line(learnt):
    """What the first hits of a run without a given cell shared, in one line; "" where cells were given."""
    table = learnt.extra.get(CLUSTERS)
    if not table:
        return ""
    return f"cells in the first {int(table['n_patterns'])} hits: " + "; ".join(
        f"{told(cell)} in {n}" for cell, _, n in cells_of_table(table))
