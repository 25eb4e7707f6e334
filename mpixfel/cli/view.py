"""mpixfel view: pictures of events, of a run or straight from raw data."""
from dataclasses import fields
from pathlib import Path

import numpy as np

from mpixfel.errors import MpixfelError

HELP = "pictures of images with peaks and predictions"


def add_arguments(parser):
    """Arguments of `mpixfel view`."""
    parser.add_argument("path", help="run directory, or image file (then with -g)")
    parser.add_argument("-g", "--geometry", help="geometry, to look at raw data without a run")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--event", type=int, help="one event, by its position in the run")
    which.add_argument("--best", type=int, metavar="N", help="events with the most indexed peaks")
    which.add_argument("--random", type=int, metavar="N", help="events at random (the same each time)")
    which.add_argument("--unindexed", type=int, metavar="N", help="hits without a lattice, most peaks first")
    which.add_argument("--hits", type=int, metavar="N", help="first hits")
    which.add_argument("--misses", type=int, metavar="N", help="misses, most peaks first")
    which.add_argument("--sum", action="store_true", help="sum of all selected images")
    which.add_argument("--max", action="store_true", help="maximum of all selected images")
    parser.add_argument("--names", action="store_true", help="write panel names")
    parser.add_argument("--axes", action="store_true", help="draw the reciprocal axes of the lattices")
    parser.add_argument("--max-photons", type=float, help="contrast: photons shown black")
    parser.add_argument("-o", "--output", help="folder of the pictures (default: RUN/pictures, or here)")


def run(args):
    """Write the pictures; returns the exit code."""
    return view_raw(args) if args.geometry else view_run(args)


def view_run(args):
    """Pictures of events of a run."""
    from mpixfel.io.results import Results

    results = Results(args.path)
    chosen = choose(results, args)
    folder = Path(args.output or results.folder / "pictures")
    with results.open_source() as source:
        context = results.context(source)
        camera = Camera(context, results.options("calibration"))
        if args.sum or args.max:
            chosen = [position_of(results, source, row) for row in chosen]
            return view_combined(folder, camera, source, chosen, args)
        for row in chosen:
            position = position_of(results, source, row)
            event = source.event(position)
            image, shot = camera(event)
            outcome = outcome_words(results, row)
            picture(folder / f"event-{position:06d}.png", image.photons, shot, args, context,
                    title=f"event {position}   {event.id.name}   {outcome}", peaks=results.peaks(row),
                    reflections=results.reflections(row), lattices=results.lattices_of(row))
    return 0


def view_raw(args):
    """Pictures straight from data and a geometry, with the peaks that the default finder sees."""
    from mpixfel.io.geometry import read_geometry
    from mpixfel.io.sources import open_source
    from mpixfel.model.experiment import Context
    from mpixfel.stages.robust import RobustFinder

    geometry = read_geometry(args.geometry)
    folder = Path(args.output or ".")
    with open_source((args.path,), geometry) as source:
        context = Context(geometry.detector, geometry.beam, (), source.static_mask(), source.saturation_adu())
        camera = Camera(context, {})
        if args.sum or args.max:
            return view_combined(folder, camera, source, range(len(source)), args)
        finder = RobustFinder()
        prepared = finder.prepare(context)
        for position in [args.event] if args.event is not None else range(min(len(source), args.hits or 1)):
            check_position(position, len(source), args.path)
            event = source.event(position)
            image, shot = camera(event)
            peaks = finder(image, shot, prepared)
            picture(folder / f"event-{position:06d}.png", image.photons, shot, args, context, peaks=peaks,
                    title=f"event {position}   {event.id.name}   {len(peaks)} peaks")
    return 0


def choose(results, args):
    """Rows of /events that are asked for."""
    events, hits = results.events, results.events["outcome"]
    if args.event is not None:
        check_position(args.event, len(events), str(results.folder))
        return [args.event]
    most_peaks = lambda rows: rows[np.argsort(-events["n_peaks"][rows], kind="stable")]
    indexed = np.flatnonzero(hits == 2)
    if args.best:
        count = np.array([results.lattices_of(r)["n_indexed"].sum() for r in indexed])
        return indexed[np.argsort(-count, kind="stable")][:args.best]
    if args.random:
        return np.sort(np.random.default_rng(0).choice(len(events), min(args.random, len(events)), replace=False))
    if args.unindexed:
        return most_peaks(np.flatnonzero(hits == 1))[:args.unindexed]
    if args.misses:
        return most_peaks(np.flatnonzero(hits == 0))[:args.misses]
    if args.hits:
        return np.flatnonzero((hits == 1) | (hits == 2))[:args.hits]
    if args.sum or args.max:
        return np.flatnonzero((hits == 1) | (hits == 2))
    return (indexed if len(indexed) else np.arange(len(events)))[:1]


def check_position(position, total, where):
    """Raise `MpixfelError` for an event that is not there."""
    if not 0 <= position < total:
        raise MpixfelError(f"there is no event {position}", where, f"events are counted from 0 to {total - 1}")


def position_of(results, source, row):
    """The position in the source of a row of /events; they differ while a run goes on."""
    if "position" in (results.events.dtype.names or ()):
        return int(results.events["position"][row])
    return int(row) if len(results.events) == len(source) else locate(results.events[row], source)


def locate(event, source):
    """The position of an event in a source, by file and index."""
    for i in range(len(source)):
        ident = source.event_id(i)
        if (ident.source, ident.index) == (event["source"], event["index"]):
            return i
    raise MpixfelError(f"event {event['index']} of file {event['source']} is not in the source any more", "", "")


class Camera:
    """Calibrated images as the run had them: called with an event, returns (Image, Shot)."""

    def __init__(self, context, options):
        from mpixfel.stages.calibration import Calibration

        self.context = context
        known = {f.name for f in fields(Calibration)}
        self.stage = Calibration(**{name: value for name, value in options.items() if name in known})
        self.prepared = self.stage.prepare(context)

    def __call__(self, event):
        shot = self.context.shot(event)
        return self.stage(event, shot, self.prepared), shot


def view_combined(folder, camera, source, positions, args):
    """Write the sum or the maximum of images, at the geometry of the first."""
    total, shot = None, None
    for position in positions:
        image, this = camera(source.event(int(position)))
        shot = shot or this
        photons = image.photons.astype(np.float64)
        total = photons if total is None else total + photons if args.sum else np.fmax(total, photons)
    if total is None:
        raise MpixfelError("there is no image to combine", "", "choose events that are there")
    name = "sum" if args.sum else "max"
    picture(folder / f"{name}.png", total, shot, args, camera.context, title=f"{name} of {len(positions)} images")
    return 0


def outcome_words(results, row):
    """How the event ended, in a few words."""
    from mpixfel.model.event import Outcome, Reason

    event = results.events[row]
    words = Outcome(event["outcome"]).name
    if event["reason"]:
        words += ": " + Reason(event["reason"]).name.replace("_", " ")
    return words


def picture(path, image, shot, args, context, title="", peaks=None, reflections=None, lattices=None):
    """Write one PNG and say where."""
    from mpixfel.report.images import contrast, save_event_picture

    path.parent.mkdir(parents=True, exist_ok=True)
    limits = (contrast(image)[0], args.max_photons) if args.max_photons else None
    cell_axes = lattices["reciprocal_axes"] if args.axes and lattices is not None and len(lattices) else None
    save_event_picture(path, image, shot, peaks, reflections, title, limits=limits, cell_axes=cell_axes,
                       names=context.detector.names if args.names else ())
    print(path)
