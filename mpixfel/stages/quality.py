"""What the intensities of a lattice say of it: how far it diffracts, how strongly, and whether it is there at all."""
import numpy as np

from mpixfel.kernels import table
from mpixfel.model.tables import Flag
from mpixfel.stages.quantiles import middle

SHELLS = 10
LIMIT = 1.0             # signal to noise at which the resolution limit stands
PRESENT = 5.0           # significance that the summed signal of a lattice must have
ENOUGH = 5.0            # standard errors beyond which a single reflection tells no more
EXPECTED, SEEN = 3.0, 2.0   # sigmas that a reflection is expected to stand high, and at which it is seen


def judge(lattices, reflections, expected, min_integrated):
    """Quality and counts of lattices, without those that their spots do not bear out.

    expected : (n,) photons that each of the reflections shows in the mean, by the model
    Returns (LATTICE table, REFLECTION table, indices of the lattices kept).
    """
    kept, tables, indices = [], [], []
    ends = np.searchsorted(reflections["lattice"], np.arange(len(lattices) + 1))
    for i, row in enumerate(lattices):
        own = reflections[ends[i]:ends[i + 1]]
        if len(own) < min_integrated or significance(own) < PRESENT:
            continue
        row = row.copy()
        row["resolution_limit"] = resolution_limit(own)
        row["seen_fraction"] = table.seen_fraction(own, expected[ends[i]:ends[i + 1]], EXPECTED, SEEN)
        row["n_predicted"] = row["n_integrated"] = row["n_reflections"] = len(own)
        row["first_reflection"] = sum(map(len, tables))
        own["lattice"] = len(kept)
        kept.append(row)
        indices.append(i)
        tables.append(own)
    out = np.array(kept, lattices.dtype) if kept else lattices[:0]
    if len(tables) == 1:
        return out, tables[0], indices
    return out, np.concatenate(tables) if tables else reflections[:0], indices


def significance(own):
    """How many standard errors the signal of a lattice stands above nothing.

    Intensities are weighted by their partialities over the variance that they would have without any signal, and none
    counts for more than `ENOUGH` of its own errors: a lattice is not borne out by a few chance coincidences.
    """
    # How much a saturated spot holds is not known well, that it is there is.
    usual = np.inf
    if (own["flags"] & Flag.saturated).any():
        variance = np.empty(len(own))
        table.fill_variances(own, variance)
        usual = middle(variance)
    return table.significance(own, ENOUGH, Flag.saturated, usual)


def resolution_limit(own):
    """Resolution (1/angstrom) at which the mean signal to noise of well-excited reflections falls to `LIMIT`.

    They are sorted by resolution and split into up to `SHELLS` equal parts of at least 10.
    """
    resolution = own["resolution"]
    excited = np.flatnonzero(own["partiality"] > 0.3)
    if len(excited) < 10:
        return float(resolution.max())
    order = excited[np.argsort(resolution[excited])]
    ratio = own["intensity"][order].astype(float) / own["sigma"][order]
    parts = max(1, min(SHELLS, len(order) // 10))
    sizes = np.full(parts, len(order) // parts)
    sizes[:len(order) % parts] += 1
    first = np.cumsum(sizes) - sizes
    low = np.flatnonzero(np.add.reduceat(ratio, first) / sizes < LIMIT)
    return float(resolution[order[first[low[0]] if len(low) else -1]])
