"""What the intensities of a lattice say of it: how far it diffracts, how strongly, and whether it is there at all."""
import numpy as np

from mpixfel.model.tables import Flag

SHELLS = 10
LIMIT = 1.0             # signal to noise at which the resolution limit stands
PRESENT = 5.0           # significance that the summed signal of a lattice must have
ENOUGH = 5.0            # standard errors beyond which a single reflection tells no more


def judge(lattices, reflections, min_integrated):
    """Quality and counts of lattices, without those that their spots do not bear out.

    Returns (LATTICE table, REFLECTION table, indices of the lattices kept).
    """
    kept, tables, indices = [], [], []
    for i, row in enumerate(lattices):
        own = reflections[reflections["lattice"] == i]
        if len(own) < min_integrated or significance(own) < PRESENT:
            continue
        row = row.copy()
        row["resolution_limit"] = resolution_limit(own)
        row["seen_fraction"] = seen_fraction(own, row["overall_scale"], row["b_factor"])
        row["n_predicted"] = row["n_integrated"] = row["n_reflections"] = len(own)
        row["first_reflection"] = sum(map(len, tables))
        own["lattice"] = len(kept)
        kept.append(row)
        indices.append(i)
        tables.append(own)
    out = np.array(kept, lattices.dtype) if kept else lattices[:0]
    return out, np.concatenate(tables) if tables else reflections[:0], indices


def significance(own):
    """How many standard errors the signal of a lattice stands above nothing.

    Intensities are weighted by their partialities over the variance that they would have without any signal, and none
    counts for more than `ENOUGH` of its own errors: a lattice is not borne out by a few chance coincidences.
    """
    intensity, p = own["intensity"].astype(float), own["partiality"].astype(float)
    variance = np.maximum(own["sigma"].astype(float) ** 2 - np.maximum(intensity, 0.0), 0.25)
    # How much a saturated spot holds is not known well, that it is there is.
    cut = (own["flags"] & Flag.saturated) > 0
    variance[cut] = np.minimum(variance[cut], np.median(variance))
    z = np.minimum(intensity / np.sqrt(variance), ENOUGH)
    weight = p / np.sqrt(variance)
    return float(np.sum(weight * z) / np.sqrt(np.sum(weight ** 2)))


def shells(own):
    """Indices that sort a table by resolution, split into up to `SHELLS` equal parts of at least 10."""
    order = np.argsort(own["resolution"])
    return np.array_split(order, max(1, min(SHELLS, len(own) // 10)))


def resolution_limit(own):
    """Resolution (1/angstrom) at which the mean signal to noise of well-excited reflections falls to `LIMIT`."""
    excited = own[own["partiality"] > 0.3]
    if len(excited) < 10:
        return float(own["resolution"].max())
    limit = 0.0
    for part in shells(excited):
        if np.mean(excited["intensity"][part] / excited["sigma"][part]) < LIMIT:
            return float(max(limit, excited["resolution"][part].min()))
        limit = excited["resolution"][part].max()
    return float(limit)


def seen_fraction(own, scale, b):
    """Share of the reflections expected to stand five sigma high that stand at least two sigma high."""
    expected = scale * np.exp(-b * own["resolution"].astype(float) ** 2 / 2) * own["partiality"]
    strong = expected > 5 * own["sigma"]
    return float(np.mean(own["intensity"][strong] > 2 * own["sigma"][strong])) if strong.any() else np.nan
