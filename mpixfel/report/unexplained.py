"""Peaks that no lattice explains: at which resolution, on which panels, at which places."""
import numpy as np
from scipy.stats import norm, poisson

from mpixfel.report.findings import Finding

# Spacings of hexagonal ice, angstrom (Rowe et al., J. Phys. Chem. 1 (1933); a = 4.497, c = 7.324).
ICE = (3.895, 3.662, 3.438, 2.667, 2.249, 2.068, 1.947, 1.916, 1.882, 1.719)
ICE_WIDTH = 0.012          # relative half-width of a ring
SHELLS = 20
FEWEST = 30                # unexplained peaks that say something
SURE = 1e-6                # probability that a suspicion is chance, at most
SAME_PLACE = 0.25          # of the hits with a peak at the same pixel


def peaks_of(evidence):
    """(peaks, look of each): all peaks of the sample."""
    looks = evidence.looks
    peaks = np.concatenate([look.peaks for look in looks]) if looks else None
    return peaks, np.repeat(np.arange(len(looks)), [len(look.peaks) for look in looks])


def distributions(evidence):
    """{"shells", "panels"}: peaks and those explained, by resolution and by panel; {} without peaks."""
    peaks, _ = peaks_of(evidence)
    if peaks is None or not len(peaks):
        return {}
    explained, s = peaks["lattice"] >= 0, peaks["resolution"]
    edges = np.linspace(0, float(np.percentile(s, 99.5)) * 1.0001 + 1e-9, SHELLS + 1)
    count = lambda which: np.histogram(s[which], edges)[0].tolist()
    n_panels = len(evidence.results.geometry.detector.panels)
    names = list(evidence.results.geometry.detector.names)
    return {"events": len(evidence.looks), "peaks": len(peaks), "explained": int(explained.sum()),
            "shells": {"inverse_d": ((edges[1:] + edges[:-1]) / 2).tolist(), "peaks": count(s >= 0),
                       "explained": count(explained)},
            "panels": {"name": names, "peaks": np.bincount(peaks["panel"], minlength=n_panels).tolist(),
                       "explained": np.bincount(peaks["panel"][explained], minlength=n_panels).tolist()}}


def findings(evidence):
    """`Finding`s from where unexplained peaks lie."""
    peaks, look = peaks_of(evidence)
    if peaks is None or not len(peaks):
        return []
    found = [hot_places(peaks, look, len(evidence.looks)), ice(peaks), panels(evidence, peaks, look),
             *resolution(evidence, peaks, look)]
    return [f for f in found if f]


def hot_places(peaks, look, n_looks):
    """Places where many events have a peak: hot pixels, or scattering from the beam line."""
    if n_looks < 8:
        return None
    place = np.column_stack([peaks["panel"], peaks["ss"].astype(int), peaks["fs"].astype(int)])
    unique = np.unique(np.column_stack([place, look]), axis=0)
    places, events = np.unique(unique[:, :3], axis=0, return_counts=True)
    hot = events >= max(4, SAME_PLACE * n_looks)
    if not hot.any():
        return None
    share = float(events[hot].sum() / len(peaks))
    first = ", ".join(f"panel {p} ss {s} fs {f} ({n} of {n_looks} hits)"
                      for (p, s, f), n in sorted(zip(places[hot].tolist(), events[hot].tolist()),
                                                 key=lambda x: -x[1])[:4])
    return Finding("Peaks at the same places again and again",
                   f"{hot.sum()} places have a peak in many of the hits: {first}. These are hot pixels or scattering "
                   f"from the beam line, {100 * share:.0f} % of all peaks. Mask them: bad regions in the geometry, or "
                   "a mask file.",
                   {"places": int(hot.sum()), "share_of_peaks": share}, min(0.9, 0.15 + 3 * share))


def ice(peaks):
    """Unexplained peaks on the rings of ice against those beside them."""
    s = peaks["resolution"][peaks["lattice"] < 0].astype(float)
    s = s[s > 0]
    if len(s) < FEWEST:
        return None
    on, beside, rings = 0, 0.0, []
    for d in ICE:
        off = np.abs(s * d - 1)
        inside = int(np.sum(off < ICE_WIDTH))
        # Other rings must not count as what is beside this one.
        around = (off > 1.5 * ICE_WIDTH) & (off < 4 * ICE_WIDTH) & ~np.any(
            np.abs(s[:, None] * np.array(ICE) - 1) < 1.5 * ICE_WIDTH, axis=1)
        width = _free_width(d)
        expected = around.sum() * 2 * ICE_WIDTH / width if width > 0 else 0.0
        on, beside = on + inside, beside + expected
        if inside >= 5 and poisson.sf(inside - 1, max(expected, 0.5)) < 1e-4:
            rings.append(d)
    share = on / len(s)
    if not rings or poisson.sf(on - 1, max(beside, 1.0)) > SURE or on < 1.5 * beside:
        return None
    return Finding("Ice",
                   f"{100 * share:.0f} % of the unexplained peaks lie on rings of ice "
                   f"({', '.join(f'{d:.2f}' for d in rings)} angstrom), where "
                   f"{beside:.0f} were to be expected and {on} are. Mask the rings, or keep the hit "
                   "finder from counting them; ice patterns are hits that hold no crystal of yours.",
                   {"on_rings": on, "expected": beside, "rings_angstrom": rings, "share_of_unexplained": share},
                   min(0.9, 0.2 + share))


def _free_width(d):
    """Relative width beside a ring that no other ring takes."""
    grid = np.concatenate([np.linspace(-4, -1.5, 200), np.linspace(1.5, 4, 200)]) * ICE_WIDTH
    taken = np.min(np.abs((1 + grid)[:, None] / d * np.array(ICE) - 1), axis=1) < 1.5 * ICE_WIDTH
    return float(np.mean(~taken) * 5 * ICE_WIDTH)


def panels(evidence, peaks, look):
    """Panels on which lattices explain less than on the others."""
    indexed = np.array([len(one.lattices) > 0 for one in evidence.looks])[look]
    mine = peaks[indexed]
    if len(np.unique(mine["panel"])) < 3 or len(mine) < 100:
        return None
    # Far out fewer are explained: each panel is held against what its peaks' resolutions let expect.
    explained = mine["lattice"] >= 0
    order = np.argsort(mine["resolution"], kind="stable")
    usual = np.empty(len(mine))
    for block in np.array_split(order, max(1, len(order) // 200)):
        usual[block] = explained[block].mean()
    n = np.bincount(mine["panel"])
    has, should = np.bincount(mine["panel"], explained), np.bincount(mine["panel"], usual)
    sigma = np.sqrt(np.bincount(mine["panel"], usual * (1 - usual)) + 1)
    z = (has - should) / sigma
    bad = np.flatnonzero((n >= 15) & (z < norm.ppf(SURE / len(n))) & (has < 0.6 * should))
    if not len(bad):
        return None
    names = evidence.results.geometry.detector.names
    told = ", ".join(f"{names[p]} ({int(has[p])} of {n[p]}, {should[p]:.0f} expected)"
                     for p in bad[np.argsort(z[bad])][:6])
    share = float(n[bad].sum() / n.sum())
    return Finding("Panels whose peaks do not fit",
                   f"On {len(bad)} of {len(n)} panels lattices explain far fewer peaks than elsewhere: {told}. Either "
                   "they stand elsewhere than the geometry says (refine the geometry), or they hold false peaks (mask "
                   "them).",
                   {"panels": [names[p] for p in bad], "explained": has[bad].tolist(), "expected": should[bad].tolist(),
                    "peaks": n[bad].tolist()}, min(0.8, 0.2 + share))


def resolution(evidence, peaks, look):
    """Whether the explained share falls off with resolution, and whether much of indexed patterns is left over."""
    indexed = np.array([len(one.lattices) > 0 for one in evidence.looks])[look]
    mine, explained = peaks[indexed], peaks["lattice"][indexed] >= 0
    if len(mine) < 100:
        return
    order = np.argsort(mine["resolution"], kind="stable")
    half = len(order) // 2
    low, high = explained[order[:half]].mean(), explained[order[half:]].mean()
    if low > 0.6 and high < 0.5 * low:
        yield Finding("High-resolution peaks are not explained",
                      f"Of indexed patterns' peaks, {100 * low:.0f} % of the inner and {100 * high:.0f} % of the outer "
                      "half are explained. Errors that grow with the angle do this: the distance, the photon energy, "
                      "tilted or turned panels, the cell; or the outer peaks are noise (raise the hit finder's "
                      "threshold).",
                      {"explained_inner": float(low), "explained_outer": float(high)}, 0.4)
    most = int(evidence.results.options("indexing").get("max_lattices", 5)) if evidence.results.job else 5
    left = np.array([np.sum(one.peaks["lattice"] < 0) for one in evidence.looks if len(one.lattices)])
    full = np.array([len(one.lattices) >= most for one in evidence.looks if len(one.lattices)])
    crowded = full & (left >= 15)
    if crowded.sum() >= max(2, 0.1 * len(full)):
        yield Finding("More lattices than are looked for",
                      f"{int(crowded.sum())} of {len(full)} indexed patterns hold {most} lattices and 15 or more "
                      f"unexplained peaks. Raise indexing.max_lattices (now {most}).",
                      {"events": int(crowded.sum()), "indexed": len(full), "max_lattices": most},
                      0.3 + 0.5 * float(crowded.mean()))
    elif len(left) >= 10 and np.median(left) > 0.5 * np.median([len(x.peaks)
                                                                for x in evidence.looks if len(x.lattices)]):
        yield Finding("Half of the peaks of indexed patterns are left over",
                      f"Of a typical indexed pattern's peaks {np.median(left):.0f} are explained by no lattice. They "
                      "are false peaks (raise the hit finder's threshold), second crystals too weak to be found, or "
                      "the spots of a cell that the given one does not describe.",
                      {"left_over": float(np.median(left))}, 0.3)
