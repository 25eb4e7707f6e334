"""Shells of equal reciprocal volume: rings of many spots, and the resolution where spots fall off (method 2).

Zhang et al., J. Appl. Cryst. 39 (2006) 112; shell n reaches from limit / n^(1/3) to limit / (n + 1)^(1/3).
"""
import numpy as np

LEAST_BIN = 25          # spots in the first shell, at least
RING_RATIO = 2.0        # a ring holds so many times what its neighbours hold
EMPTY_SHELLS = 10       # so many poor shells in a row end the search


def shells(resolution, first_limit, view):
    """Population (n,), covered share (n,) and outer limit (n,) of the shells that hold spots of `resolution` (m,)."""
    n = int((first_limit / resolution.min()) ** 3) + 1
    limit = first_limit / np.arange(1, n + 1) ** (1 / 3)
    shell = np.clip(np.ceil((first_limit / resolution) ** 3 - 1e-9).astype(int) - 1, 0, n - 1)
    return np.bincount(shell, minlength=n), covered(view.radius_mm(limit), view), limit


def covered(radius, view):
    """Share of circles around the beam that a square detector holds whose corners lie `view.corner` away."""
    half = view.corner / np.sqrt(2)
    ratio = np.clip(half / np.maximum(radius, 1e-9), 0, 1)
    return np.where(radius <= half, 1.0, np.maximum(1 - 4 * np.arccos(ratio) / np.pi, 0.01))


def first_shell_count(n_spots):
    """How many spots the first shell is to hold."""
    return max(LEAST_BIN, n_spots // 20)


def spot_rings(resolution, keep, view):
    """(n,) bool: spots in rings of three shells that hold twice what the six around them hold, made ever finer."""
    found = np.zeros(len(resolution), bool)
    ordered = np.sort(resolution[keep])[::-1]
    if len(ordered) < first_shell_count(len(ordered)):
        return found
    target = ordered[first_shell_count(len(ordered)) - 1]
    while True:
        population, share, limit = shells(ordered, target, view)
        adjusted = population / share
        rings = crowded_shells(adjusted) if len(adjusted) >= 10 else []
        finer = target * 2.0 ** (1 / 3)
        if adjusted.max() < RING_RATIO or ordered[0] <= finer or len(adjusted) >= 0.25 * len(ordered):
            break
        target = finer
    for x in rings:
        found |= (resolution < limit[x - 2]) & (resolution > limit[x + 1])
    return found


def crowded_shells(adjusted):
    """Centres of triples of shells that hold twice what the six shells around them hold, beyond counting error."""
    out, n = [], len(adjusted)
    for x in range(2, n - 1):
        first = min(max(x - 4, 0), n - 9)
        signal = adjusted[x - 1:x + 2].sum()
        background = adjusted[first:first + 9].sum() - signal
        if signal > 6 and (signal - np.sqrt(signal)) / 3 > RING_RATIO * (background + np.sqrt(max(background, 0))) / 6:
            out.append(x)
    return out


def method2_limit(resolution, keep, view, options):
    """Resolution (angstrom) of the last shell that holds enough of the spots in the low shells; 0 if there are few."""
    ordered = np.sort(resolution[keep])[::-1]
    target = first_shell_count(len(ordered))
    if len(ordered) < target:
        return 0.0
    population, share, limit = shells(ordered, ordered[target - 1], view)
    ratio = 100.0 / options.method2_cutoff_percentage
    enough = target / ratio
    if len(population) > 2 and population[1] > max(2 * enough, LEAST_BIN):
        enough = population[1] / ratio
    rich = np.flatnonzero(population > enough)
    last = int(rich[-1]) if len(rich) else 0
    last = before_gap(population, enough if enough <= 20 else 20 + enough // 5, last)
    if options.force_method2_resolution_limit:
        beyond = np.flatnonzero(limit < options.force_method2_resolution_limit)
        last = max(last, int(beyond[0])) if len(beyond) else last
    while share[last] < 1 and last + 1 < len(population) and population[last + 1] / share[last + 1] > enough:
        last += 1
    return float(max(limit[last], options.res_outer or 0.0))


def before_gap(population, enough, last):
    """The last rich shell up to `last` that is not beyond ten poor ones in a row."""
    poor = 0
    best = 0
    for x in range(last + 1):
        poor = 0 if population[x] > enough else poor + 1
        if population[x] > enough:
            best = x
        if poor == EMPTY_SHELLS:
            break
    return best
