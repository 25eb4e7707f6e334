"""What `/stats` holds: the numbers of the summary, rates along the run, histograms, maps."""
import numpy as np

from mpixfel.io.run_file import STAGES
from mpixfel.model.event import Outcome, Reason
from mpixfel.model.statistics import FIXED, N_SHELLS, SHELL_WIDTH

BLOCKS = 200          # rates along the run: at most so many blocks of events
CELL_BINS = 100
CELL_NAMES = ("a", "b", "c", "alpha", "beta", "gamma")


def key_figures(events, lattices, instances):
    """The numbers of the summary: {name: number or array}.

    Parameters
    ----------
    events : EVENT (n,)
    lattices : LATTICE (m,)
    instances : sequence of str
        Names that `stopped_by` numbers.
    """
    outcomes = np.bincount(events["outcome"], minlength=len(Outcome)).astype(np.int64)
    reasons = np.zeros((len(instances), len(Outcome), 1 + max(Reason)), np.int64)
    np.add.at(reasons, (events["stopped_by"], events["outcome"], events["reason"]), 1)
    hits = int(outcomes[Outcome.hit] + outcomes[Outcome.indexed])
    forms = np.unique(lattices["form"])
    cells = [robust_mean(lattices["cell"][lattices["form"] == form]) for form in forms]
    return {
        "events_by_outcome": outcomes, "events_by_reason": reasons, "hit_rate": hits / max(1, len(events)),
        "indexing_rate": outcomes[Outcome.indexed] / max(1, hits), "n_lattices": len(lattices),
        "n_reflections": int(lattices["n_reflections"].sum()), "cell_form": forms,
        "cell_mean": np.array([c[0] for c in cells]).reshape(-1, 6),
        "cell_spread": np.array([c[1] for c in cells]).reshape(-1, 6),
        "cell_count": np.array([(lattices["form"] == form).sum() for form in forms], np.int64),
        "time_by_stage": np.array([events[f"time_{s}"].sum(dtype=float) for s in STAGES]),
    }


MEANING = {
    "events_by_outcome": ("", "events that ended so, in the order of the enum of /events/outcome"),
    "events_by_reason": ("", "events by (stopped_by, outcome, reason)"),
    "hit_rate": ("", "share of hits"), "indexing_rate": ("", "share of hits that were indexed"),
    "n_lattices": ("", "number of lattices"), "n_reflections": ("", "number of reflections"),
    "cell_form": ("", "row in /cells of each row of cell_mean"),
    "cell_mean": ("angstrom, degrees", "mean cell by form, outliers left out"),
    "cell_spread": ("angstrom, degrees", "standard deviation of the cells, outliers left out"),
    "cell_count": ("", "lattices by form"),
    "time_by_stage": ("s", "time by stage, summed over events: " + ", ".join(STAGES)),
}


def robust_mean(values):
    """(mean, standard deviation) of each column, of rows within five robust deviations of the median."""
    median = np.median(values, axis=0)
    deviation = 1.4826 * np.median(np.abs(values - median), axis=0)
    near = np.all(np.abs(values - median) <= np.maximum(5 * deviation, 1e-3 * np.abs(median) + 1e-9), axis=1)
    kept = values[near] if near.any() else values
    return kept.mean(axis=0), kept.std(axis=0)


def statistics(events, lattices, counts, instances):
    """All of `/stats` that comes from tables: {name: (value, unit, meaning)}, groups as dicts."""
    figures = key_figures(events, lattices, instances)
    return {**{name: (value, *MEANING[name]) for name, value in figures.items()},
            "outcome_names": ([o.name for o in Outcome], "", "names of outcomes"),
            "reason_names": ([Reason(k).name for k in range(1 + max(Reason))], "", "names of reasons"),
            "instance_names": ([name or "none" for name in instances], "", "names of module instances"),
            "blocks": blocks(events), "cells": cell_histograms(lattices), "ranks": by_rank(events),
            **(shells(counts) if counts else {}), **(residuals(counts) if counts else {})}


def blocks(events):
    """Hits and indexed events along the run."""
    size = max(1, -(-len(events) // BLOCKS))
    first = np.arange(0, len(events), size)
    hit = np.isin(events["outcome"], (Outcome.hit, Outcome.indexed)).astype(np.int64)
    indexed = (events["outcome"] == Outcome.indexed).astype(np.int64)
    total = lambda values: np.add.reduceat(values, first) if len(first) else np.zeros(0, np.int64)
    return {"first_event": (first, "", "first row in /events of each block"),
            "n_events": (total(np.ones(len(events), np.int64)), "", "events in the block"),
            "hits": (total(hit), "", "hits in the block"),
            "indexed": (total(indexed), "", "indexed events in the block")}


def by_rank(events):
    """Events and time by rank and stage."""
    ranks = np.unique(events["rank"])
    times = np.array([[events[f"time_{s}"][events["rank"] == r].sum(dtype=float) for s in STAGES] for r in ranks])
    return {"rank": (ranks, "", "MPI rank"),
            "n_events": (np.array([(events["rank"] == r).sum() for r in ranks], np.int64), "", "events that it did"),
            "seconds": (times.reshape(-1, len(STAGES)), "s", "time by stage: " + ", ".join(STAGES))}


def cell_histograms(lattices):
    """Histograms of a, b, c, alpha, beta, gamma by form: {form_k: {edges, counts}}."""
    out = {}
    for form in np.unique(lattices["form"]):
        cells = lattices["cell"][lattices["form"] == form]
        mean, spread = robust_mean(cells)
        half = np.maximum(5 * spread, 1e-3 * mean)
        edges = np.linspace(mean - half, mean + half, CELL_BINS + 1, axis=1)
        counts = [np.histogram(cells[:, k], edges[k])[0] for k in range(6)]
        out[f"form_{form}"] = {"edges": (edges, "angstrom, degrees", "bin edges of " + ", ".join(CELL_NAMES)),
                               "counts": (np.array(counts, np.int64), "", "lattices in each bin")}
    return out


def shells(counts):
    """Histograms by resolution."""
    reflections = counts["reflections_by_shell"]
    with np.errstate(invalid="ignore"):
        snr = counts["snr_by_shell"] / FIXED / np.where(reflections, reflections, np.nan)
    return {"shells": {
        "edges": (np.arange(N_SHELLS + 1) * SHELL_WIDTH, "1/angstrom",
                  "bin edges of 1/d; the last bin holds all beyond"),
        "peaks": (counts["peaks_by_shell"], "", "peaks in each shell"),
        "lattices": (counts["lattices_by_resolution_limit"], "", "lattices by resolution limit"),
        "reflections": (reflections, "", "reflections in each shell"),
        "mean_snr": (snr, "", "mean of intensity over sigma in each shell")}}


def residuals(counts):
    """Peaks minus predictions by place on the panels: (P, B, B) maps, cells in (ss, fs) order."""
    n = counts["residual_count"]
    with np.errstate(invalid="ignore"):
        each = np.where(n, n, np.nan)
        mean_fs, mean_ss = counts["residual_fs"] / FIXED / each, counts["residual_ss"] / FIXED / each
        rms = np.sqrt(counts["residual_square"] / FIXED ** 2 / each)
    where = "observed minus predicted place, by panel and cell of a grid over the panel (ss, fs)"
    return {"residuals": {"count": (n, "", "indexed peaks"), "mean_fs": (mean_fs, "pixels", "mean in fs: " + where),
                          "mean_ss": (mean_ss, "pixels", "mean in ss: " + where),
                          "rms": (rms, "pixels", "root mean square length: " + where)}}


def powder(peak_places, total, largest, n_images, shape):
    """Powder patterns as panel stacks; `peaks` counts peaks by the pixel that they stand in."""
    n_panels, n_ss, n_fs = shape
    counts = np.zeros(n_panels * n_ss * n_fs, np.int64)
    for panel, fs, ss in peak_places:
        column, row = fs.astype(np.int64), ss.astype(np.int64)
        inside = (panel >= 0) & (panel < n_panels) & (row >= 0) & (row < n_ss) & (column >= 0) & (column < n_fs)
        place = (panel[inside].astype(np.int64) * n_ss + row[inside]) * n_fs + column[inside]
        counts += np.bincount(place, minlength=counts.size)
    return {"powder": {"sum": (total, "photons", "sum of images spread over the run, to 1/16 photon each"),
                       "max": (largest, "photons", "maximum of these images"),
                       "n_images": (n_images, "", "number of these images"),
                       "peaks": (counts.reshape(shape).astype(np.int32), "", "peaks of all events by pixel")}}
