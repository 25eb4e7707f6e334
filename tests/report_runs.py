"""Run directories with drawn tables and known numbers, made without images: for tests of what people look at.

As a program it makes a large one:  python tests/report_runs.py OUT 100000
"""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from mpixfel.io import segments  # noqa: E402
from mpixfel.io.assemble import assemble  # noqa: E402
from mpixfel.io.geometry import parse_geometry  # noqa: E402
from mpixfel.model import tables  # noqa: E402
from mpixfel.model.crystal import UnitCell  # noqa: E402
from mpixfel.model.event import Outcome, Reason  # noqa: E402
from mpixfel.model.experiment import Context, Learnt  # noqa: E402
from mpixfel.model.statistics import count_tables  # noqa: E402
from mpixfel.report import statistics  # noqa: E402

INSTANCES = ("", "mod_hitfind:hitfind", "mod_hitfind:index")
CELL = (79.0, 79.0, 38.0, 90.0, 90.0, 90.0)
ENERGY_EV, CLEN_M, PIXEL_M = 9500.0, 0.1, 1e-4


class Alone:
    """A communicator of one rank."""

    rank, size = 0, 1
    bcast = allreduce = staticmethod(lambda value, *a, **k: value)
    gather = allgather = staticmethod(lambda value, *a, **k: [value])
    exscan = barrier = staticmethod(lambda *a, **k: None)


def geometry_text(panels_x=2, panels_y=2, side=64):
    """A detector of square panels with gaps, x to the left looking along the beam."""
    head = [f"photon_energy = {ENERGY_EV:g} eV", f"clen = {CLEN_M}", f"res = {1 / PIXEL_M:g}", "adu_per_photon = 1",
            "data = /data", "dim0 = %", "dim1 = ss", "dim2 = fs"]
    width, height = panels_x * (side + 4), panels_y * (side + 4)
    for j in range(panels_y):
        for i in range(panels_x):
            p, at = f"p{j}{i}", (j * panels_x + i) * side
            head += [f"{p}/fs = -x", f"{p}/ss = -y", f"{p}/corner_x = {width / 2 - i * (side + 4)}",
                     f"{p}/corner_y = {height / 2 - j * (side + 4)}", f"{p}/min_fs = 0", f"{p}/max_fs = {side - 1}",
                     f"{p}/min_ss = {at}", f"{p}/max_ss = {at + side - 1}"]
    return "\n".join(head) + "\n"


def draw_events(n, rng):
    """Half misses, a tenth hits without lattice, the rest indexed, with times and ranks."""
    events = np.zeros(n, segments.SEGMENT_EVENT)
    kind = rng.choice([Outcome.miss, Outcome.hit, Outcome.indexed], n, p=[0.5, 0.1, 0.4])
    events["outcome"], events["index"], events["position"] = kind, np.arange(n), np.arange(n)
    events["reason"] = np.select([kind == Outcome.miss, kind == Outcome.hit],
                                 [Reason.too_few_peaks, Reason.no_cell_found])
    events["stopped_by"] = np.select([kind == Outcome.miss, kind == Outcome.hit], [1, 2])
    events["timestamp"] = 1_700_000_000_000_000_000 + 10_000_000 * np.arange(n)
    events["photon_energy"], events["distance"] = ENERGY_EV + rng.normal(0, 5, n), CLEN_M
    events["n_peaks"] = np.where(kind == Outcome.miss, rng.integers(0, 4, n), rng.integers(15, 120, n))
    events["n_lattices"] = kind == Outcome.indexed
    events["first_peak"] = np.cumsum(events["n_peaks"]) - events["n_peaks"]
    events["first_lattice"] = np.cumsum(events["n_lattices"]) - events["n_lattices"]
    events["rank"] = np.arange(n) % 64
    for k, stage in enumerate(("read", "calibrate", "hitfind", "index", "refine", "integrate")):
        events[f"time_{stage}"] = rng.gamma(4, 0.001 * (k + 1), n)
    return events


def draw_tables(n, shape, rng, reflections_each=20):
    """(events, peaks, lattices, reflections) that refer to each other; residuals of 0.2 pixels in fs and ss."""
    events = draw_events(n, rng)
    n_peaks, n_lattices = int(events["n_peaks"].sum()), int(events["n_lattices"].sum())
    peaks, lattices = np.zeros(n_peaks, tables.PEAK), np.zeros(n_lattices, tables.LATTICE)
    peaks["panel"] = rng.integers(0, len(shape), n_peaks)
    peaks["fs"], peaks["ss"] = (rng.uniform(0, shape[0, k], n_peaks) for k in (1, 0))
    peaks["resolution"], peaks["lattice"] = rng.uniform(0.05, 0.4, n_peaks), -1
    lattices["event"] = np.flatnonzero(events["n_lattices"])
    lattices["cell"] = np.array(CELL) + rng.normal(0, 1, (n_lattices, 6)) * [0.05, 0.05, 0.02, 0, 0, 0]
    for name, mean, sigma in (("rmsd", 0.25, 0.03), ("half_mosaicity", 0.05, 0.005), ("domain_size", 1500, 100),
                              ("bandwidth", 0.002, 1e-4), ("resolution_limit", 0.45, 0.03), ("b_factor", 25, 3),
                              ("distance_scale", 1.0002, 1e-4)):
        lattices[name] = rng.normal(mean, sigma, n_lattices)
    lattices["beam_shift"] = rng.normal([3e-6, -2e-6], 2e-6, (n_lattices, 2))
    lattices["n_indexed"], lattices["n_integrated"] = 12, reflections_each
    lattices["n_reflections"] = reflections_each
    lattices["first_reflection"] = reflections_each * np.arange(n_lattices)
    reflections = np.zeros(n_lattices * reflections_each, tables.REFLECTION)
    reflections["lattice"] = np.repeat(np.arange(n_lattices), reflections_each)
    reflections["hkl"][:, 0] = np.tile(np.arange(reflections_each), n_lattices)
    reflections["intensity"], reflections["sigma"] = rng.exponential(50, len(reflections)), 5.0
    reflections["resolution"] = rng.uniform(0.05, 0.45, len(reflections))
    indexed = (events["first_peak"][lattices["event"]][:, None] + np.arange(12)).ravel()
    mine = (np.arange(n_lattices)[:, None] * reflections_each + np.arange(12)).ravel()
    peaks["lattice"][indexed], peaks["hkl"][indexed] = reflections["lattice"][mine], reflections["hkl"][mine]
    reflections["flags"][mine] = tables.Flag.indexed_peak
    for name, shift in (("fs", -0.2), ("ss", -0.2)):
        reflections[name][mine] = peaks[name][indexed] + shift
    reflections["panel"][mine] = peaks["panel"][indexed]
    return events, peaks, lattices, reflections


def make_run(folder, n=200, geometry=None, finished=True, seed=0, options=None):
    """Write a run directory of `n` events; returns its path. `finished`: with run.h5."""
    folder, rng = Path(folder), np.random.default_rng(seed)
    for name in ("segments", "log"):
        (folder / name).mkdir(parents=True)
    text = geometry or geometry_text()
    detector = parse_geometry(text, "").detector
    shape = np.array([p.shape for p in detector.panels])
    events, peaks, lattices, reflections = draw_tables(n, shape, rng)
    texts = [f"run.h5 //{i}".encode() + b"\0" for i in range(n)]
    events["n_text"] = [len(t) for t in texts]
    events["first_text"] = np.cumsum(events["n_text"]) - events["n_text"]
    counts = count_tables(events, peaks, lattices, reflections, shape)
    segments.write_segment(folder, 0, segments.Piece(events, peaks, lattices, reflections,
                                                     np.frombuffer(b"".join(texts), np.uint8),
                                                     counts), Alone(), segments.Storage(collective=False))
    (folder / "job.json").write_text(json.dumps({"n_events": n, "paths": ["/nowhere/run.h5"], "geometry": text,
                                                 "cells": [],
                                                 "options": {"hitfinding.min_peaks": 4, **(options or {})}}))
    (folder / "status.json").write_text(json.dumps({
        "state": "done" if finished else "running", "total": n, "done": n, "hits": int((events["outcome"] > 0).sum()),
        "indexed": len(lattices), "failed": 0, "events_per_second": 100.0, "seconds_left": 0, "started": 1.7e9,
        "updated": 1.7e9 + n / 100, "n_ranks": 64, "host": "somewhere"}))
    if finished:
        cell = UnitCell(*CELL, lattice_type="tetragonal")
        conclude(folder, n, Context(detector, None, (cell,), learnt=Learnt(cells=(cell,))), text, rng)
    return folder


def conclude(folder, n, context, text, rng):
    """run.h5 with statistics and a powder pattern."""
    stack = context.detector.stack_shape
    mean = rng.poisson(200, stack).astype(float)
    made = lambda events, lattices, counts, places: {
        **statistics.statistics(events, lattices, counts, INSTANCES),
        **statistics.powder(places, mean, mean.astype(np.float32) / 50, 100, stack)}
    resolved = {"mpixfel": {"source": {"value": ["/nowhere/run.h5"], "origin": "run.cfg:2"}},
                "hitfinding": {"min_peaks": {"value": 4, "origin": "default"}}}
    groups = {"config": {"resolved": json.dumps(resolved), "argv": ["-c", "run.cfg"], "n_ranks": 64},
              "sources": {"path": ["/nowhere/run.h5"]}}
    assemble(folder, INSTANCES, context, text, groups, made, n)


if __name__ == "__main__":
    make_run(sys.argv[1], int(sys.argv[2]), geometry_text(4, 4, 1024))
