"""Trying settings on a sample of events: one group of settings after the other, the best of each is kept."""
import os
import time
from dataclasses import dataclass, field, fields, replace

import numpy as np

from mpixfel import rounds
from mpixfel.config.values import is_path, options_of
from mpixfel.model.event import Outcome
from mpixfel.parallel.collect import on_each
from mpixfel.pipeline import attempt

DISTANCE_SCALES = (0.99, 0.995, 1.005, 1.01)
BEAM_STEPS_PIXELS = ((3, 0), (-3, 0), (0, 3), (0, -3))
FEWEST_TO_SHIFT = 3       # lattices whose refined beam shift is worth a trial


@dataclass(frozen=True)
class Trial:
    """What is tried: options by (section, name), a shift of the detector, a factor of its distance."""

    name: str = "as given"
    options: dict = field(default_factory=dict)
    shift_m: tuple = (0.0, 0.0)
    distance_scale: float = 1.0

    def also(self, name, options=(), shift_m=(0.0, 0.0), distance_scale=1.0):
        """This trial with something changed further."""
        return Trial(name, {**self.options, **dict(options)}, tuple(np.add(self.shift_m, shift_m)),
                     self.distance_scale * distance_scale)


@dataclass(frozen=True)
class Score:
    """What became of the sample."""

    trial: Trial
    events: int
    hits: int
    indexed: int
    lattices: int
    peaks_indexed: int
    rmsd_pixels: float
    beam_shift_m: tuple
    distance_scale: float
    ms_an_event: float


def better(score, best):
    """Whether a trial is worth leaving the best so far: clearly more events indexed, or as many and a better geometry.

    Looser tolerances always explain a few peaks more, so settings must earn their place by events.
    """
    moved_only = score.trial.options == best.trial.options
    clearly = max(1, round(0.03 * score.events))
    return score.indexed >= best.indexed + clearly or (
        moved_only and score.indexed >= best.indexed
        and (score.peaks_indexed > best.peaks_indexed or centred(score, best)))


def centred(score, best):
    """Whether lattices lie at least twice as near to where the trial has put the detector, and explain what they
    did."""
    off = lambda s: (np.hypot(*s.beam_shift_m), abs(s.distance_scale - 1))
    pairs = list(zip(off(score), off(best)))
    return (score.peaks_indexed > 0.97 * best.peaks_indexed and all(now <= before for now, before in pairs)
            and any(now < 0.5 * before for now, before in pairs))


def tune(job, comm, n_events, tell=lambda score: None):
    """(scores of all trials, the best of them); collective, the same on every rank.

    The best trial of each group is what the next group starts from.
    """
    positions = rounds.spread(len(job.source))[:n_events] if len(job.source) else np.zeros(0, np.int64)
    scores = [judged(job, comm, Trial(), positions)]
    tell(scores[0])
    best = scores[0]
    for group in (beam_trials, distance_trials, hit_trials, indexing_trials):
        start = best
        for trial in group(job, start):
            scores.append(judged(job, comm, trial, positions))
            tell(scores[-1])
            best = scores[-1] if better(scores[-1], best) else best
    return scores, best


def beam_trials(job, best):
    """Where lattices say the beam is, or where there are none, some pixels around."""
    if best.lattices >= FEWEST_TO_SHIFT:
        pixel = job.geometry.detector.pixel_size_m()
        if np.hypot(*best.beam_shift_m) > 0.1 * pixel or abs(best.distance_scale - 1) > 2e-4:
            # Where the beam is to one side, the detector stands to the other.
            yield best.trial.also("beam and distance as refined", shift_m=tuple(-v for v in best.beam_shift_m),
                                  distance_scale=best.distance_scale)
        return
    pixel = job.geometry.detector.pixel_size_m()
    for x, y in BEAM_STEPS_PIXELS:
        yield best.trial.also(f"beam moved by {x}, {y} px", shift_m=(x * pixel, y * pixel))


def distance_trials(job, best):
    """Other distances, while the given one indexes next to nothing."""
    if best.indexed < 0.5 * best.hits or not best.indexed:
        for scale in DISTANCE_SCALES:
            yield best.trial.also(f"distance x {scale:g}", distance_scale=scale)


def hit_trials(job, best):
    """Other thresholds of a hit and of peaks, and other finders."""
    decision = job.settings.stage("hitfinding")
    for n in sorted({3, 4, 6, 10, 15} - {decision.min_peaks}):
        yield best.trial.also(f"min_peaks {n}", {("hitfinding", "min_peaks"): n})
    if decision.finder == "robust":
        for rate in (0.01, 0.5, 2.0):
            yield best.trial.also(f"false_peaks_per_image {rate:g}", {("robust", "false_peaks_per_image"): rate})
    for finder in sorted({"robust", "peakfinder8"} - {decision.finder}):
        yield best.trial.also(f"finder {finder}", {("hitfinding", "finder"): finder})


def indexing_trials(job, best):
    """Wider tolerances, more and fewer lattices."""
    indexing, refinement = job.settings.stage("indexing"), job.settings.stage("refinement")
    choices = {("indexing", "cell_tolerance"): (0.01, 0.04), ("indexing", "beam_tolerance_px"): (6.0,),
               ("indexing", "max_lattices"): (1, 10), ("refinement", "tolerance"): (2.5, 4.0)}
    known = {("indexing", f.name) for f in fields(indexing)} | {("refinement", f.name) for f in fields(refinement)}
    for (section, name), values in choices.items():
        if (section, name) in known:
            for value in values:
                yield best.trial.also(f"{name} {value:g}", {(section, name): value})


def changed(job, trial):
    """The job with a trial's settings and geometry; the settings hold for module instances with stages of their own,
    too."""
    settings, options = job.settings, trial.options
    modules = tuple(replace(spec, stages=tried(spec.stages, options)) for spec in settings.modules)
    return replace(job, settings=replace(settings, stages=tried(settings.stages, options), modules=modules),
                   geometry=replace(job.geometry, detector=moved(job, trial)))


def tried(stages, options):
    """Stages by section, with the options of a trial in those that are there."""
    stages = dict(stages)
    for (section, name), value in options.items():
        if section in stages:
            stages[section] = replace(stages[section], **{name: value})
    return stages


def moved(job, trial):
    """The detector at the trial's place; the distance is that of the sample's first event."""
    detector = job.geometry.detector
    if trial.shift_m == (0.0, 0.0) and trial.distance_scale == 1.0:
        return detector
    clen = job.source.event(0).clen_m if len(job.source) else 0.0
    x, y, z = *trial.shift_m, (trial.distance_scale - 1) * detector.distance_m(clen)
    return replace(detector, panels=tuple(replace(p, origin_m=tuple(np.add(p.origin_m, (x, y, z)).tolist()))
                                          for p in detector.panels))


def judged(job, comm, trial, positions):
    """The `Score` of a trial; collective."""
    job = changed(job, trial)
    began = time.perf_counter()
    mine = on_each(comm, sample, job, positions[comm.rank::comm.size])
    rows = [row for part in comm.allgather(mine) for row in part]
    spent = comm.allgather(time.perf_counter() - began)
    outcomes = [row[0] for row in rows]
    lattices = np.concatenate([np.zeros((0, 5)), *(row[1] for row in rows)])
    middle = np.median(lattices, axis=0) if len(lattices) else np.full(5, np.nan)
    return Score(trial, len(rows), sum(o in (Outcome.hit, Outcome.indexed) for o in outcomes),
                 sum(o == Outcome.indexed for o in outcomes), len(lattices), int(lattices[:, 0].sum()),
                 float(middle[1]),
                 tuple(map(float, middle[2:4])), float(middle[4]), 1e3 * sum(spent) / max(1, len(rows)))


def sample(job, positions):
    """[(outcome, (n, 5) peaks indexed, rmsd, beam shift x and y, distance scale of the lattices)] of this rank's
    events."""
    chain, context = [m for m in job.chain() if m.learns], job.context()
    rounds.begin(chain, context)
    records = [attempt(int(p), job, chain, context) for p in positions]
    names = ("n_indexed", "rmsd", "beam_shift", "distance_scale")
    columns = lambda table: np.column_stack([table[name] for name in names]).reshape(-1, 5)
    return [(r.outcome, columns(r.lattices)) for r in records]


def configuration(job, trial, geometry_path, output):
    """run.cfg of a job with a trial's settings: what is not default, paths made absolute."""
    classes, specs = option_classes(job.settings), {spec.full_name: spec for spec in job.settings.modules}
    lines = []
    for section, options in job.settings.resolved().items():
        values = {name: item["value"] for name, item in options.items() if item["origin"] != "default"}
        own = specs[section].stages if section in specs else ()
        values |= {name if where == section else f"{where}.{name}": value
                   for (where, name), value in trial.options.items()
                   if where == section or where in own}
        if section == "mpixfel":
            values |= {"output": str(output), **({"geometry": str(geometry_path)} if geometry_path else {})}
        values = {name: absolute(value) if value and names_files(classes, section, name) else value
                  for name, value in values.items() if value is not None}
        if values:
            lines += [f"[{section}]", *(f"{name} = {written(value)}" for name, value in values.items()), ""]
    return "\n".join(lines)


def option_classes(settings):
    """{section: class of its options}."""
    return {"mpixfel": type(settings.run), **{name: type(stage) for name, stage in settings.stages.items()},
            **{spec.full_name: type(spec.options) for spec in settings.modules if spec.options is not None}}


def names_files(classes, section, name):
    """Whether an option holds paths; `stage.option` in a module's section is the stage's."""
    section, name = name.split(".") if "." in name else (section, name)
    known = options_of(classes[section]) if section in classes else {}
    return name in known and is_path(known[name][0]) and not name.endswith("_basename")


def absolute(value):
    return [os.path.abspath(v) for v in value] if isinstance(value, list) else os.path.abspath(value)


def written(value):
    """A value as run.cfg has it."""
    if not isinstance(value, (list, tuple)):
        return str(value)
    return " ".join(f'"{v}"' if " " in str(v) else str(v) for v in value)
