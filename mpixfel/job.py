"""What a run works on: settings made real. Rank 0 looks, the others are told."""
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from mpixfel import registry
from mpixfel.config.settings import Settings
from mpixfel.config.target_cell import target_cells
from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.io import metrology
from mpixfel.io.cell import read_cell
from mpixfel.io.darks import load_constants
from mpixfel.io.geometry import read_geometry, write_geometry
from mpixfel.io.sources import open_growing, open_source
from mpixfel.model.experiment import Context
from mpixfel.model.sensor import sensor_of
from mpixfel.parallel.shared import share


@dataclass(frozen=True)
class Job:
    """Settings with what they name: geometry, cells, source. Can be pickled; each rank opens its own files.

    The calibration constants are not pickled: `shared_context` has them, once on each node.
    """

    settings: Settings
    geometry: object
    cells: tuple
    source: object
    # (calibration stage, Constants), the run's own first; empty: to be read when asked for
    constants: list = field(default_factory=list)

    @property
    def output(self):
        return Path(self.settings.run.output)

    @property
    def grows(self):
        """Whether further events may come while the run runs, or did in an earlier start of it."""
        return hasattr(self.source, "look")

    def __getstate__(self):
        return {**self.__dict__, "constants": []}

    def context(self):
        """What the stages know before anything is learnt."""
        run, constants = self.settings.run, self.constants or _constants(self.settings, self.geometry.detector)
        return Context(self.geometry.detector, self.geometry.beam, self.cells, self.source.static_mask(),
                       self.source.saturation_adu(), seed=run.seed, constants=constants[0][1],
                       own_constants=tuple(constants[1:]), sensor=sensor_of(run.sensor_thickness_um, run.sensor_material))

    def chain(self):
        """The configured module instances, in order."""
        return tuple(registry.load("modules", spec.name)(spec.full_name, spec.options, self.settings.seen_by(spec))
                     for spec in self.settings.modules)

    def instances(self):
        """Names that `/events/stopped_by` numbers; 0 stands for none."""
        return ("", *(spec.full_name for spec in self.settings.modules))


def open_job(settings):
    """The `Job` of settings. Raises `MpixfelError`, for all that is wrong with geometry and cells in one go."""
    run, errors = settings.run, []
    geometry = _collect(errors, read_geometry, run.geometry)
    geometry = geometry and run.calib_dir and _collect(errors, by_metrology, geometry, run) or geometry
    cells = [_collect(errors, read_cell, path) for path in run.cell]
    cells = cells or _collect(errors, target_cells, run) or ()
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    source = _source(settings, geometry)
    if run.detz_offset is not None and not len(source):
        raise MpixfelError("detz_offset needs the first event's camera length, and there is no event yet", "mpixfel.follow",
                           "start when the first event is there")
    if run.detz_offset is not None and geometry.layout.clen.path and source.event(0).clen_m <= 0:
        geometry = by_encoder(geometry, 1e-3 * run.detz_offset)
    return Job(settings, geometry, tuple(cells), source, _constants(settings, geometry.detector))


def _source(settings, geometry):
    run, before = settings.run, followed_before(settings)
    if run.follow or before:
        source = open_growing(run.source, geometry, run.source_format, before or ((), ()))
        news = source.look()
        if news is not None:
            source.take(news)
        return source
    return open_source(run.source, geometry, None if run.event_range == slice(None) else run.event_range, run.source_format)


def followed_before(settings):
    """(paths, runs of events) that an earlier start of a resumed run took while they came; None for other runs."""
    try:
        known = json.loads(Path(settings.run.output, "job.json").read_text(encoding="utf-8")) if settings.resume else {}
        return (known["paths"], known["arrivals"]) if "arrivals" in known else None
    except (OSError, ValueError):
        return None   # `refuse_other_job` tells of it


def shared_context(job, comm):
    """`job.context()` on every rank; its masks, darks and gains stand once in the memory of each node."""
    def look():
        context = job.context()
        arrays = context.arrays()
        return context.with_arrays(dict.fromkeys(arrays)), arrays

    context, arrays = share(comm, look)
    job.constants.clear()       # one copy is enough, on rank 0, too
    return context.with_arrays(arrays)


def by_metrology(geometry, run):
    """The `Geometry` with its panels where `calib_dir` and the corrections to it say."""
    detector = metrology.placed(geometry.detector, metrology.of_run(run), run.calib_angles == "measured")
    text = write_geometry(detector, geometry.beam, None, None, geometry.layout)
    return replace(geometry, detector=detector, text=f"; panels placed by {run.calib_dir}\n{text}")


def by_encoder(geometry, offset_m):
    """The `Geometry` with its panels, on the mean, `offset_m` behind the place where the encoder's zero would be."""
    panels = geometry.detector.panels
    dz = offset_m - geometry.detector.distance_m(0.0)
    detector = replace(geometry.detector, panels=tuple(
        replace(p, origin_m=(*p.origin_m[:2], p.origin_m[2] + dz)) for p in panels))
    text = write_geometry(detector, geometry.beam, None, None, geometry.layout)
    return replace(geometry, detector=detector, text=f"; detz_offset = {1e3 * offset_m:g} mm\n{text}")


def _constants(settings, detector):
    """(calibration, Constants) of each calibration in use: read once, here, for all ranks."""
    first = settings.stage("calibration")
    others = {settings.seen_by(spec).stage("calibration") for spec in settings.modules} - {first}
    return [(stage, load_constants(stage, detector)) for stage in (first, *sorted(others, key=repr))]


def _collect(errors, function, *arguments):
    try:
        return function(*arguments)
    except MpixfelError as error:
        errors += getattr(error, "errors", (error,))


def copy_inputs(job):
    """Copy configuration and geometry, as given, into the output; what was resolved as JSON."""
    for name, text in job.settings.texts.items():
        (job.output / os.path.basename(name)).write_text(text, encoding="utf-8")
    if job.geometry.text:
        (job.output / os.path.basename(job.geometry.path or "detector.geom")).write_text(job.geometry.text, encoding="utf-8")
    write_identity(job)


def write_identity(job):
    """Replace `job.json`. Raises OSError."""
    path = job.output / "job.json"
    temporary = path.with_suffix(".json.part")
    text = json.dumps({**identity(job), "started_in": os.getcwd()}, indent=1)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def identity(job):
    """What must be the same for a resumed run to be the same run."""
    resolved = job.settings.resolved()
    values = {f"{section}.{key}": item["value"] for section, rows in resolved.items() for key, item in rows.items()}
    for key in FREE:
        values.pop(f"mpixfel.{key}", None)
    arrivals = {"arrivals": job.source.runs} if job.grows else {}
    return {"n_events": len(job.source), "paths": list(job.source.paths), **arrivals,
            "options": json.loads(json.dumps(values, default=str)), "geometry": job.geometry.text,
            "cells": [list(map(float, c.parameters)) for c in job.cells],
            "cell_types": [[c.lattice_type, c.centring, c.unique_axis, c.space_group] for c in job.cells]}


# Options that may change when a run goes on: they change where and how, not what is found.
FREE = ("output", "source", "geometry", "cell", "chunk", "flush_interval_s", "flush_events", "flush_bytes", "write_alignment",
        "write_hints", "max_failures", "event_timeout_s", "pack", "follow", "follow_timeout_s", "report", "event_lines",
        "log_format")


def refuse_other_job(job):
    """Raise `MpixfelError` if the output belongs to a run of other events or options."""
    path = job.output / "job.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise MpixfelError(f"cannot be read: {error}", str(path), "--overwrite starts the run anew") from None
    now = json.loads(json.dumps(identity(job)))
    changed = [f"{k} was {before['options'].get(k)!r}, is {v!r}" for k, v in now["options"].items()
               if before["options"].get(k) != v]
    fixed = ("geometry", "cells") if "arrivals" in before else ("n_events", "paths", "geometry", "cells")
    changed += [f"{k} differ" for k in fixed if before.get(k) != now[k]]
    if changed:
        raise MpixfelError("the output is of another run: " + "; ".join(changed[:4]), str(job.output),
                           "give the same configuration, or choose another output")


def geometry_text(job):
    """The CrystFEL text of the geometry."""
    return job.geometry.text or write_geometry(job.geometry.detector, job.geometry.beam, 0.0, 0.0)
