"""Run directories of simulated spots, indexed with a geometry or a cell that may be wrong: for tests of the diagnosis."""
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mpixfel.io import segments
from mpixfel.io.geometry import parse_geometry
from mpixfel.model import tables
from mpixfel.model.event import Outcome, Skip
from mpixfel.model.experiment import Context
from mpixfel.model.statistics import count_tables
from mpixfel.stages.indexing import StagedIndexer, spots_from_peaks
from mpixfel.units import photon_energy_ev
from report_runs import Alone

WAVELENGTH, DISTANCE, PIXEL, SIDE = 1.3, 0.15, 75e-6, 1400
ENERGY_EV = photon_energy_ev(WAVELENGTH)


def geometry_text(shift_px=(0.0, 0.0), panels=4):
    """A square detector in horizontal strips, fs along x, ss along y; its centre lies `shift_px` off the beam."""
    rows = SIDE // panels
    head = [f"photon_energy = {ENERGY_EV!r} eV", f"clen = {DISTANCE}", f"res = {1 / PIXEL:.6f}", "adu_per_photon = 1",
            "data = /data", "dim0 = %", "dim1 = ss", "dim2 = fs"]
    for p in range(panels):
        head += [f"p{p}/fs = x", f"p{p}/ss = y", f"p{p}/corner_x = {-SIDE / 2 + shift_px[0]}",
                 f"p{p}/corner_y = {-SIDE / 2 + shift_px[1] + p * rows}", f"p{p}/min_fs = 0", f"p{p}/max_fs = {SIDE - 1}",
                 f"p{p}/min_ss = {p * rows}", f"p{p}/max_ss = {(p + 1) * rows - 1}"]
    return "\n".join(head) + "\n"


def peaks_of(q, panels=4):
    """PEAK table of scattering vectors, as the true detector sees them; those beside it are lost."""
    ray = q + [0.0, 0.0, 1 / WAVELENGTH]
    xy = DISTANCE / PIXEL * ray[:, :2] / ray[:, 2:] + SIDE / 2
    xy = xy[np.all((xy > 0) & (xy < SIDE), axis=1)]
    rows, peaks = SIDE // panels, np.zeros(len(xy), tables.PEAK)
    peaks["panel"] = np.minimum(xy[:, 1] // rows, panels - 1)
    peaks["fs"], peaks["ss"], peaks["intensity"], peaks["lattice"] = xy[:, 0], xy[:, 1] - rows * peaks["panel"], 100.0, -1
    return peaks


def make_run(folder, patterns, cells, geometry=None, distance=DISTANCE, options=None):
    """Write the run of `patterns`, (n, 3) scattering vectors each; the true detector stands at `geometry_text()`, `DISTANCE`."""
    folder, text = Path(folder), geometry or geometry_text()
    (folder / "segments").mkdir(parents=True)
    parsed = parse_geometry(text, "")
    context = Context(parsed.detector, parsed.beam, tuple(cells))
    stage, event = StagedIndexer(), SimpleNamespace(clen_m=distance, photon_energy_ev=ENERGY_EV, shift_m=(0.0, 0.0))
    prepared = stage.prepare(context)
    events, peaks, lattices = np.zeros(len(patterns), segments.SEGMENT_EVENT), [], []
    for k, q in enumerate(patterns):
        mine, row, shot = peaks_of(q), events[k], context.shot(event)
        found = stage(spots_from_peaks(mine, shot), shot, prepared, None)
        q = spots_from_peaks(mine, shot).q
        mine["resolution"] = np.linalg.norm(q, axis=1)
        row["index"] = row["position"] = k
        row["photon_energy"], row["distance"] = ENERGY_EV, parsed.detector.distance_m(distance)
        row["outcome"], row["n_peaks"] = Outcome.indexed, len(mine)
        row["first_peak"], row["first_lattice"] = sum(map(len, peaks)), sum(map(len, lattices))
        if isinstance(found, Skip):
            row["outcome"], row["reason"], row["stopped_by"] = Outcome.hit, found.reason, 2
        else:
            explain(mine, q, found, row["first_lattice"], k)
            row["n_lattices"] = len(found)
            lattices.append(found)
        peaks.append(mine)
    peaks, lattices = (np.concatenate([np.zeros(0, t), *p]) for t, p in ((tables.PEAK, peaks), (tables.LATTICE, lattices)))
    reflections = np.zeros(0, tables.REFLECTION)
    counts = count_tables(events, peaks, lattices, reflections, np.array([p.shape for p in parsed.detector.panels]))
    segments.write_segment(folder, 0, segments.Piece(events, peaks, lattices, reflections, np.zeros(0, np.uint8), counts),
                           Alone(), segments.Storage(collective=False))
    (folder / "job.json").write_text(json.dumps({
        "n_events": len(events), "paths": ["/nowhere/run.h5"], "geometry": text, "options": {**(options or {})},
        "cells": [list(c.parameters) for c in cells],
        "cell_types": [[c.lattice_type, c.centring, c.unique_axis, c.space_group] for c in cells]}))
    return folder


def explain(peaks, q, found, first, event):
    """Give peaks to the lattices that explain them to within 0.002 1/angstrom."""
    found["event"] = event
    for k, lattice in enumerate(found):
        axes = lattice["reciprocal_axes"]
        hkl = np.rint(q @ np.linalg.inv(axes))
        near = np.linalg.norm(hkl @ axes - q, axis=1) < 0.002
        peaks["lattice"][near], peaks["hkl"][near] = first + k, hkl[near]
