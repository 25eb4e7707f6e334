"""What a report tells of a run, as plain numbers: `report.json`, and what figures, page and PDF are made from.

Only tables and sums are read: neither images nor reflections, so that a run of any length takes seconds.
"""
from types import SimpleNamespace

import numpy as np

from mpixfel import __version__
from mpixfel.errors import MpixfelError
from mpixfel.io.run_file import STAGES
from mpixfel.model.event import Outcome, Reason
from mpixfel.model.experiment import Context
from mpixfel.report import radial
from mpixfel.report.statistics import CELL_NAMES, robust_mean, statistics
from mpixfel.report.status import state_of, stopped_by_names

POINTS = 3000         # most points of a scatter plot
BINS = 50
RANKS_SHOWN = 256
EVENTS_A_BLOCK = 10    # fewest events of a rate along the run
FEWEST_OF_SHELL = 5
SPREAD = {"half_mosaicity": ("half mosaic spread", "°"), "domain_size": ("mosaic block size", "Å"),
          "bandwidth": ("bandwidth (FWHM)", "%"), "rmsd": ("peaks to predictions, r.m.s.", "px"),
          "resolution_limit": ("resolution limit, 1/d", "1/Å"), "b_factor": ("Wilson-like B", "Å²"),
          "n_indexed": ("peaks indexed", ""), "n_integrated": ("reflections integrated", "")}


def digest(results):
    """{section: numbers} of a run, finished or not, ready for JSON.

    Parameters
    ----------
    results : io.results.Results
    """
    events, lattices = results.events, results.lattices
    stats = stats_of(results)
    return {
        "program": {"name": "mpixfel", "version": __version__, "report_format": 1},
        "run": run_facts(results), "summary": summary(results, stats), "along": along(events),
        "cells": cells(lattices, results), "spots": spots(events), "shells": shells(stats.get("shells")),
        "crystals": {name: histogram(lattices[name] * (100 if name == "bandwidth" else 1), *words)
                     for name, words in SPREAD.items()},
        "beam": beam(lattices), "residuals": residuals(results, stats), "powder": powder_profiles(results, stats),
        "time": times(events, stats), "configuration": configuration(results),
    }


def stats_of(results):
    """`/stats`, of the run file or made from what is on disk."""
    if results.stored_stats is not None:
        return results.stored_stats
    instances = results.instances or stopped_by_names(results.events)
    stats = values_of(statistics(results.events, results.lattices, results.counts, instances))
    so_far = results.powder_so_far(results.geometry.detector.stack_shape)
    return {**stats, **({"powder": so_far} if so_far else {})}


def values_of(members):
    """Members as they are written to the run file, without units and meanings."""
    return {name: values_of(value) if isinstance(value, dict) else value[0] for name, value in members.items()}


def plain(value):
    """NumPy values as lists and numbers; what is not finite as None."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    array = np.asarray(value)
    if array.dtype.kind == "f":
        flat = [float(f"{x:.6g}") if np.isfinite(x) else None for x in array.ravel().tolist()]
        return flat[0] if array.ndim == 0 else np.array(flat, object).reshape(array.shape).tolist()
    return array.tolist()


def run_facts(results):
    """Where, when, by whom."""
    state = state_of(results)
    return {name: state.get(name) for name in ("run", "state", "total", "done", "started", "updated", "n_ranks", "host",
                                               "events_per_second", "warnings", "bytes")} | {
        "sources": [str(p) for p in results.job.get("paths", ())],
        "command": " ".join(["mpixfel", *results.config.get("argv", ())])}


def summary(results, stats):
    """The table of the end, and an event for each reason."""
    events = results.events
    outcomes = np.bincount(events["outcome"], minlength=len(Outcome))
    hits = int(outcomes[Outcome.hit] + outcomes[Outcome.indexed])
    names = stats["instance_names"]
    rows = []
    found, first, count = np.unique(events[["outcome", "stopped_by", "reason"]], return_index=True, return_counts=True)
    for kind, row, n in sorted(zip(found, first, count), key=lambda item: -item[2]):
        if kind["reason"]:
            row = typical(events, kind, row)
            name, message = results.told(row)
            rows.append({"outcome": Outcome(kind["outcome"]).name, "instance": str(names[kind["stopped_by"]]),
                         "reason": Reason(kind["reason"]).name.replace("_", " "), "events": int(n),
                         "sample_row": int(row), "sample_name": str(name), "sample_message": str(message)[:2000]})
    return {"events": len(events), "outcomes": {o.name: int(n) for o, n in zip(Outcome, outcomes)}, "hits": hits,
            "hit_rate": hits / len(events) if len(events) else None,
            "indexing_rate": int(outcomes[Outcome.indexed]) / hits if hits else None,
            "lattices": len(results.lattices), "reflections": int(results.lattices["n_reflections"].sum()),
            "reasons": rows}


def typical(events, kind, first):
    """A row that shows the reason well: of failures the first, otherwise the one with the most peaks."""
    if kind["outcome"] == Outcome.failed:
        return int(first)
    mine = np.flatnonzero((events["outcome"] == kind["outcome"]) & (events["reason"] == kind["reason"])
                          & (events["stopped_by"] == kind["stopped_by"]))
    return int(mine[events["n_peaks"][mine].argmax()])


def along(events):
    """Hit and indexing rate along the run, in blocks, against time where events have one."""
    blocks = np.array_split(np.arange(len(events)), max(1, min(200, len(events) // EVENTS_A_BLOCK)))
    share = lambda *outcomes: [plain(np.isin(events["outcome"][b], outcomes).mean()) if len(b) else None
                               for b in blocks]
    out = {"events": [float(b.mean()) if len(b) else 0.0 for b in blocks], "n": [len(b) for b in blocks],
           "hit_rate": share(Outcome.hit, Outcome.indexed), "indexed_rate": share(Outcome.indexed)}
    stamps = events["timestamp"]
    if len(stamps) and (stamps > 0).all() and np.ptp(stamps) > 0:
        out["seconds"] = [plain((stamps[b] - stamps.min()).mean() / 1e9) for b in blocks]
    return out


def bins(n):
    """How many bins show the shape of n values, not their scatter."""
    return int(np.clip(np.ceil(2 * np.sqrt(n)), 8, BINS))


def histogram(values, title="", unit=""):
    """{"edges", "counts", "median", ...} of what is finite, between robust limits; those beyond are counted."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    if not len(good):
        return {"title": title, "unit": unit, "n": 0}
    low, mid, high = np.percentile(good, (1, 50, 99))
    margin = max(0.15 * (high - low), 1e-3 * abs(mid), 1e-12)
    low, high = max(good.min() - 0.2 * margin, low - margin), min(good.max() + 0.2 * margin, high + margin)
    counts, edges = np.histogram(good, bins(len(good)), (low, high))
    return {"title": title, "unit": unit, "n": len(good), "edges": plain(edges), "counts": counts.tolist(),
            "median": plain(mid), "outside": int(len(good) - counts.sum())}


def cells(lattices, results):
    """Of each crystal form: cells' means, spreads, histograms with the fit, and points for scatter plots."""
    known = results.learnt.cells
    out = []
    for form in np.unique(lattices["form"]):
        mine = lattices["cell"][lattices["form"] == form]
        mean, spread = robust_mean(mine)
        half = np.maximum(5 * spread, 1e-4 * mean)
        shown = [np.histogram(mine[:, k], bins(len(mine)), (mean[k] - half[k], mean[k] + half[k])) for k in range(6)]
        given = known[form] if 0 <= form < len(known) else None
        out.append({"form": int(form), "lattices": len(mine), "names": CELL_NAMES, "mean": plain(mean),
                    "spread": plain(spread), "fixed": [bool(s < 1e-6 * m) for s, m in zip(spread, mean)],
                    "counts": [c.tolist() for c, _ in shown], "edges": [plain(e) for _, e in shown],
                    "points": [plain(column) for column in sampled(mine).T],
                    "lattice_type": given.lattice_type if given else "",
                    "space_group": given.space_group if given else "",
                    "centring": given.centring if given else ""})
    return out


def sampled(rows):
    """At most `POINTS` rows, spread evenly."""
    return rows[:: max(1, -(-len(rows) // POINTS))]


def shells(found):
    """Histograms by resolution; means of a few reflections are left out."""
    if not found:
        return None
    few = np.asarray(found["reflections"]) < FEWEST_OF_SHELL
    return plain({**found, "mean_snr": np.where(few, np.nan, found["mean_snr"])})


def spots(events):
    """Peaks an event, by outcome; the last bin holds all beyond."""
    top = float(np.percentile(events["n_peaks"], 99.5)) if len(events) else 0
    edges = np.linspace(0, max(10.0, top), BINS + 1)
    count = lambda o: np.histogram(np.minimum(events["n_peaks"][events["outcome"] == o], edges[-1]), edges)[0].tolist()
    return {"edges": plain(edges), **{o.name: count(o) for o in (Outcome.miss, Outcome.hit, Outcome.indexed)}}


def beam(lattices):
    """Shifts of the pattern and of the distance from lattice to lattice."""
    shift, scale = lattices["beam_shift"] * 1e6, (lattices["distance_scale"] - 1) * 100
    if not len(lattices):
        return {"n": 0}
    some = sampled(np.column_stack([lattices["event"], shift, scale]))
    return {"n": len(lattices), "shift_um": {"x": plain(some[:, 1]), "y": plain(some[:, 2])},
            "event": plain(some[:, 0]),
            "mean_um": plain(np.median(shift, axis=0)), "spread_um": plain(robust_mean(shift)[1]),
            "distance_percent": histogram(scale, "distance, refined minus given", "%")}


def typical_shot(results):
    """The `Shot` of an event with the run's median energy and distance, and what the run learnt."""
    events, detector = results.events, results.geometry.detector
    median = lambda name: float(np.nanmedian(events[name])) if len(events) else float("nan")
    energy, distance = median("photon_energy"), median("distance")
    if not np.isfinite(energy + distance):
        return None
    event = SimpleNamespace(clen_m=distance - detector.distance_m(0.0), photon_energy_ev=energy, shift_m=(0.0, 0.0))
    return Context(detector, results.geometry.beam, learnt=results.learnt, sensor=results.sensor).shot(event)


def residuals(results, stats):
    """Peaks minus predictions: arrows by place on the detector, and means by radius. Laboratory axes, pixels."""
    shot, maps = typical_shot(results), stats.get("residuals")
    if shot is None or not maps or not np.sum(maps["count"]):
        return None
    geometry, count = shot.geometry, np.asarray(maps["count"])
    panel, i, j = np.nonzero(count)
    side = count.shape[1]
    ss, fs = (i + 0.5) / side * geometry.shape[panel, 0], (j + 0.5) / side * geometry.shape[panel, 1]
    place = geometry.origin[panel] + fs[:, None] * geometry.fs_axis[panel] + ss[:, None] * geometry.ss_axis[panel]
    pixel = np.linalg.norm(geometry.fs_axis[panel], axis=1)
    at = (panel, i, j)
    arrow = (np.asarray(maps["mean_fs"])[at][:, None] * geometry.fs_axis[panel]
             + np.asarray(maps["mean_ss"])[at][:, None] * geometry.ss_axis[panel])[:, :2] / pixel[:, None]
    weight, radius = count[at], np.hypot(place[:, 0], place[:, 1])
    outward = place[:, :2] / np.maximum(radius, 1e-9)[:, None]
    parts = {"radial": (arrow * outward).sum(1),
             "tangential": outward[:, 0] * arrow[:, 1] - outward[:, 1] * arrow[:, 0],
             "rms": np.asarray(maps["rms"])[at]}
    edges = np.linspace(0, radius.max() * 1.0001, 21)
    total, _ = np.histogram(radius, edges, weights=weight)
    with np.errstate(invalid="ignore"):
        by_radius = {name: plain(np.histogram(radius, edges, weights=weight * p)[0] / np.where(total, total, np.nan))
                     for name, p in parts.items()}
    names = np.array(results.geometry.detector.names)
    return {"panel": names[panel].tolist(), "x_mm": plain(1e3 * place[:, 0]), "y_mm": plain(1e3 * place[:, 1]),
            "dx_px": plain(arrow[:, 0]), "dy_px": plain(arrow[:, 1]), "rms_px": plain(parts["rms"]),
            "peaks": weight.tolist(), "by_radius": {"radius_mm": plain(500 * (edges[1:] + edges[:-1])), **by_radius}}


def powder_profiles(results, stats):
    """Radial means of the powder patterns, and the peaks of all events, against 1/d."""
    shot, patterns = typical_shot(results), stats.get("powder")
    if shot is None or not patterns or not patterns["n_images"]:
        return None
    found = radial.profile(shot, sum=patterns["sum"], max=patterns["max"],
                           **({"peaks": patterns["peaks"]} if "peaks" in patterns else {}))
    return {"n_images": int(patterns["n_images"]), "inverse_d": plain(found.inverse_d),
            **{name: plain(values) for name, values in found.means.items()}}


def times(events, stats):
    """Seconds by stage, and milliseconds an event by rank and stage, the slowest rank last."""
    ranks, n = stats["ranks"], len(events)
    per_event = np.asarray(ranks["seconds"]) / np.maximum(np.asarray(ranks["n_events"]), 1)[:, None] * 1e3
    order = np.argsort(per_event.sum(axis=1), kind="stable")
    if len(order) > RANKS_SHOWN:
        order = order[np.linspace(0, len(order) - 1, RANKS_SHOWN).astype(int)]
    total = np.asarray(stats["time_by_stage"], float)
    return {"stages": STAGES, "seconds": plain(total), "ms_an_event": plain(1e3 * total / max(1, n)),
            "ranks": {"rank": np.asarray(ranks["rank"])[order].tolist(),
                      "n": np.asarray(ranks["n_events"])[order].tolist(),
                      "ms_an_event": plain(per_event[order])}}


def configuration(results):
    """{section: {option: {"value", "origin"}}}."""
    import json

    if results.config.get("resolved"):
        return json.loads(results.config["resolved"])
    try:
        options = results.job["options"]
    except MpixfelError:
        return {}
    out = {}
    for key, value in options.items():
        section, _, name = key.rpartition(".") if ":" not in key else key.partition(".")
        out.setdefault(section, {})[name] = {"value": value, "origin": ""}
    return out
