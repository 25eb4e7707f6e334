"""How long refinement, prediction and integration take on one core, and a whole hit by stage: the least of some runs.

Frames are simulated (lysozyme, one flat panel of 4.4 megapixels); what a run learns is learnt from them first.
"""
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpixfel import pipeline, rounds
from mpixfel.cli.stopwatch import least_seconds
from mpixfel.config.resolve import load_stages, resolve
from mpixfel.job import open_job
from mpixfel.model.event import Skip
from mpixfel.parallel.world import world
from mpixfel.simulate import SimulateOptions, simulate
from mpixfel.stages.indexing import spots_from_peaks
from mpixfel.stages.integration import LEAST_PHOTONS, OneShot
from mpixfel.stages.pixel_fit import Model

SIZE, DISTANCE_MM, CRYSTAL_UM = 2098, 120.0, 4.0     # 4.4 megapixels, some 600 reflections
SPOTS = 100
STAGES = ("read", "calibrate", "hitfind", "index", "refine", "integrate")
GOALS = {"refine, 100 spots": 0.2, "whole hit": 12.0, "prediction": 0.5, "prediction and measurement": 1.0}


def add_arguments(parser):
    """What is measured."""
    parser.add_argument("--frames", metavar="N", type=int, default=8, help="simulated hits (default: 8)")
    parser.add_argument("--repeat", metavar="N", type=int, default=7,
                        help="times each is run; the least counts (default: 7)")
    parser.add_argument("--data", metavar="DIR", default="", help="where the frames are kept (default: nowhere)")
    parser.add_argument("--json", metavar="FILE", default="", help="write the figures there, too")


def run(args):
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        data = simulate(SimulateOptions.of("lysozyme", output=args.data or folder, frames=args.frames, size=SIZE,
                                           distance_mm=DISTANCE_MM, crystal_um=CRYSTAL_UM, blank_fraction=0.0))
        figures = Bench(data, folder, args.repeat).figures()
    for title, rows in figures.items():
        print(title)
        for name, value in rows.items():
            goal = f"   goal {GOALS[name]:g}" if name in GOALS else ""
            print(f"    {name:<44}{value:10.3f}{goal}")
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


class Bench:
    """The frames of a folder, with what a run has learnt from them."""

    def __init__(self, data, output, repeat):
        load_stages()
        given = {"source": data / "lysozyme.h5", "geometry": data / "lysozyme.geom", "cell": data / "lysozyme.cell",
                 "output": Path(output, "out")}
        self.job = open_job(resolve((), [("mpixfel", k, f'"{v}"', f"--{k}") for k, v in given.items()], "."))
        self.repeat = repeat
        self.chain = self.job.chain()

    def figures(self):
        """{title: {name: number}}"""
        with self.job.source:
            attempt = lambda i, chain, context: pipeline.attempt(i, self.job, chain, context)
            learnt = rounds.learn_from_first(self.job, self.chain, self.job.context(), world(), attempt)
            self.context = self.job.context().wiser(learnt)
            rounds.begin(self.chain, self.context)
            whole = self.whole_hits()
            self.shots = [shot for shot in map(self.prepared, range(len(self.job.source))) if shot is not None]
            return {"ms of a whole hit": whole, "ms of a lattice": self.lattices(),
                    "us of a reflection": self.reflections()}

    def whole_hits(self):
        """Mean over hits of the least time of each stage, ms; and what is integrated."""
        best, n_reflections = {}, []
        for _ in range(self.repeat):
            n_reflections = []
            for i in range(len(self.job.source)):
                record = pipeline.attempt(i, self.job, self.chain, self.context)
                if not len(record.lattices):
                    continue
                n_reflections.append(len(record.reflections))
                for stage in STAGES:
                    before = best.setdefault(stage, {}).get(i, np.inf)
                    best[stage][i] = min(before, record.seconds.get(stage, 0.0))
        means = {stage: 1e3 * float(np.mean(list(best[stage].values()))) for stage in STAGES}
        return {**means, "whole hit": sum(means.values()), "reflections of a hit": float(np.mean(n_reflections)),
                "hits": float(len(n_reflections))}

    def prepared(self, i):
        """(image, shot, candidates, peaks) of an event, or None where nothing is indexed."""
        stages = self.chain[-1]
        event = self.job.source.event(i)
        shot = self.context.shot(event)
        image = stages.calibration(event, shot, stages.prepared_calibration)
        peaks = stages.finder(image, shot, stages.prepared_finder)
        index, ready = stages.crystal_stages["indexing"], stages.prepared["indexing"]
        found = index(spots_from_peaks(peaks, shot), shot, ready, self.context.rng(event.id))
        return None if isinstance(found, Skip) else (replace(image, photons=image.photons.copy()), shot, found, peaks)

    def lattices(self):
        """ms of the stages that begin with a lattice."""
        stages, total = self.chain[-1], {}
        refinement, ready = stages.crystal_stages["refinement"], stages.prepared["refinement"]
        integration, buffers = stages.crystal_stages["integration"], stages.prepared["integration"]
        without = type(integration)(refine="none")
        n_peaks = []
        for image, shot, found, peaks in self.shots:
            few = peaks[:SPOTS]
            n_peaks.append(len(few))
            refined = refinement(found, few, shot, ready)
            if isinstance(refined, Skip):
                continue
            whole = refinement(found, peaks, shot, ready)
            add = lambda name, function: total.setdefault(name, []).append(least_seconds(function, self.repeat))
            add("refine, 100 spots", lambda: refinement(found, few, shot, ready))
            add("refine, all spots", lambda: refinement(found, peaks, shot, ready))
            add("integrate", lambda: integration(image, shot, whole[0].copy(), whole[1].copy(), buffers))
            add("integrate, refine = none", lambda: without(image, shot, whole[0].copy(), whole[1].copy(), buffers))
        return {**{name: 1e3 * float(np.mean(values)) for name, values in total.items()},
                "spots taken of 100": float(np.mean(n_peaks))}

    def reflections(self):
        """us of a reflection: finding it, and measuring it once all are found."""
        stages, total, n = self.chain[-1], {"prediction": 0.0, "measurement": 0.0}, 0
        stage, buffers = stages.crystal_stages["integration"], stages.prepared["integration"]
        for image, shot, found, peaks in self.shots:
            lattices, peaks = stages.crystal_stages["refinement"](found, peaks, shot, stages.prepared["refinement"])
            one = OneShot(stage, image, shot, peaks, buffers)
            crystals = [(row, Model(buffers.expected.spread, fall_off=buffers.expected.fall_off)) for row in lattices]
            seen = one.measure(crystals, (stage.fit_partiality, 0.0), None)
            crystals = [one.fit(i, row, model, seen, True) for i, (row, model) in enumerate(crystals)]
            least_wanted = (stage.min_partiality, LEAST_PHOTONS)
            n += len(one.measure(crystals, least_wanted, seen).lattice)
            predicting = least_seconds(lambda: [one.predict(i, *c, least_wanted) for i, c in enumerate(crystals)], self.repeat)
            total["prediction"] += predicting
            total["measurement"] += least_seconds(lambda: one.measure(crystals, least_wanted, seen), self.repeat) - predicting
        rows = {name: 1e6 * seconds / max(n, 1) for name, seconds in total.items()}
        return {**rows, "prediction and measurement": sum(rows.values())}
