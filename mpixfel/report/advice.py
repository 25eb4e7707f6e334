"""Why hits of a run were not indexed: suspicions with their numbers, most likely first."""
import numpy as np

from mpixfel.model.event import Outcome
from mpixfel.report import cell_doubts, setting, unexplained
from mpixfel.report.evidence import gather
from mpixfel.report.findings import Finding
from mpixfel.report.setting import ALL_WELL

FEWEST_HITS = 3


def advise(results):
    """[Finding, ...] of a run, most likely first; empty where nothing is wrong that can be seen.

    Takes a few seconds where many hits were not indexed, for then some are tried with other settings.

    Parameters
    ----------
    results : io.results.Results
    """
    return diagnose(results)["findings"]


def diagnose(results, always=False):
    """What `mpixfel diagnose` tells: {"findings", "hits", "indexed", "distributions", "beam_map", "scale_scan",
    "cells"}.

    `always`: other settings are tried even where nearly all hits were indexed.
    """
    evidence = gather(results)
    events = results.events
    out = {"hits": int(evidence.hits.sum()), "indexed": int(np.sum(events["outcome"] == Outcome.indexed)),
           "without_lattice": int(evidence.unindexed.sum()), "distributions": unexplained.distributions(evidence),
           "beam_map": {}, "scale_scan": {}, "cells": []}
    if out["hits"] < FEWEST_HITS:
        return {**out, "findings": _no_hits(events, out["hits"])}
    clusters = []
    if always or evidence.share_unindexed > ALL_WELL:
        out["beam_map"] = setting.beam_map(evidence)
        best = out["beam_map"].get("best_px", (0.0, 0.0))
        better = bool(out["beam_map"]) and setting.better(out["beam_map"])
        out["scale_scan"] = setting.scale_scan(evidence, best if better else (0.0, 0.0))
        clusters = cell_doubts.shared_cells(evidence)
    out["cells"] = [{"cell": list(c.cell.parameters), "lattice_type": c.cell.lattice_type, "centring": c.cell.centring,
                     "patterns": len(c.patterns)} for c in clusters]
    about_setting = setting.findings(evidence, out["beam_map"], out["scale_scan"])
    # With a wrong beam or distance indices are wrong, too, and what they say of the cell counts less.
    trust = 1 - 0.7 * max((f.likelihood for f in about_setting if "indexed_best" in f.numbers), default=0.0)
    about_cell = [f._replace(likelihood=trust * f.likelihood) for f in cell_doubts.findings(evidence, clusters)]
    found = [*unexplained.findings(evidence), *about_setting, *about_cell]
    if not found and evidence.share_unindexed > 0.5:
        found = [_no_lattices(evidence)]
    return {**out, "findings": sorted(found, key=lambda f: -f.likelihood)}


def _no_hits(events, hits):
    if 2 * hits >= len(events):
        return []                       # a run of next to nothing
    peaks = float(np.median(events["n_peaks"]))
    return [Finding("Hardly any hits",
                    f"{hits} of {len(events)} events are hits; an event has {peaks:.0f} peaks (median). Look at some "
                    "images (mpixfel view); where spots are to be seen, lower the hit finder's thresholds (mpixfel "
                    "tune tries them).",
                    {"hits": hits, "events": len(events), "median_peaks": peaks}, 0.9)]


def _no_lattices(evidence):
    peaks = float(np.median(evidence.results.events["n_peaks"][evidence.unindexed]))
    return Finding("The hits do not look like single lattices",
                   f"Hits without lattice have {peaks:.0f} peaks (median), and neither another beam centre, nor "
                   "distance, nor cell explains them. They may be powder, salt, many crystals at once, or false peaks: "
                   "look at some of them (mpixfel view) and raise the hit finder's threshold where peaks are noise.",
                   {"median_peaks": peaks}, 0.5)
