"""mpixfel view: pictures of events, of a run or straight from raw data."""
from pathlib import Path

import numpy as np

from mpixfel.errors import MpixfelError

HELP = "pictures of images with peaks and predictions"


def add_arguments(parser):
    """Arguments of `mpixfel view`."""
    parser.add_argument("path", help="run directory, or image file (then with -g)")
    parser.add_argument("-g", "--geometry", help="geometry, to look at raw data without a run")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--event", type=int, nargs="+", metavar="I", help="events by their position in the run")
    which.add_argument("--best", type=int, metavar="N", help="events with the most indexed peaks")
    which.add_argument("--random", type=int, metavar="N", help="events at random (the same each time)")
    which.add_argument("--unindexed", type=int, metavar="N", help="hits without a lattice, most peaks first")
    which.add_argument("--hits", type=int, metavar="N", help="first hits")
    which.add_argument("--misses", type=int, metavar="N", help="misses, most peaks first")
    which.add_argument("--sum", action="store_true", help="sum of all selected images")
    which.add_argument("--max", action="store_true", help="maximum of all selected images")
    which.add_argument("--powder", action="store_true", help="the run's powder patterns: mean, maximum, peaks")
    parser.add_argument("--radial", action="store_true", help="radial profiles of what is selected, not pictures")
    parser.add_argument("--mask", action="store_true", help="show bad pixels in orange")
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
    from mpixfel.report.camera import camera_of, position_of

    results = Results(args.path)
    folder = Path(args.output or results.folder / "pictures")
    if args.powder:
        return view_powder(results, folder, args)
    chosen = choose(results, args)
    if not len(chosen):
        raise MpixfelError("there is no event of that kind", str(results.folder),
                           "mpixfel status tells how many there are")
    with results.open_source() as source:
        camera = camera_of(results, source)
        rows = {position_of(results, source, row): row for row in chosen}
        if args.radial:
            return view_profiles(folder, camera, list(rows))
        if args.sum or args.max:
            return view_combined(folder, camera, list(rows), args)
        for position, row in rows.items():
            image, shot = camera(position)
            picture(folder / f"event-{position:06d}.png", image.photons, shot, args, camera.context,
                    title=f"event {position}   {results.told(row)[0]}   {outcome_words(results, row)}",
                    peaks=results.peaks(row), reflections=results.reflections(row), lattices=results.lattices_of(row))
    return 0


def view_raw(args):
    """Pictures straight from data and a geometry, with the peaks that the default finder sees."""
    from mpixfel.io.geometry import read_geometry
    from mpixfel.io.sources import open_source
    from mpixfel.model.experiment import Context
    from mpixfel.report.camera import Camera
    from mpixfel.stages.robust import RobustFinder

    geometry = read_geometry(args.geometry)
    folder = Path(args.output or ".")
    with open_source((args.path,), geometry) as source:
        context = Context(geometry.detector, geometry.beam, (), source.static_mask(), source.saturation_adu())
        camera, positions = Camera(source, context, {}), raw_positions(args, len(source))
        if args.radial:
            return view_profiles(folder, camera, positions)
        if args.sum or args.max or args.powder:
            return view_combined(folder, camera, positions, args)
        finder = RobustFinder()
        prepared = finder.prepare(context)
        for position in positions:
            image, shot = camera(position)
            peaks = finder(image, shot, prepared)
            picture(folder / f"event-{position:06d}.png", image.photons, shot, args, context, peaks=peaks,
                    title=f"event {position}   {source.event_id(position).name}   {len(peaks)} peaks")
    return 0


def raw_positions(args, total):
    """Positions in the source that are asked for, where there is no run that knows hits from misses."""
    if args.best or args.unindexed or args.misses or args.hits:
        raise MpixfelError("raw data has neither hits nor lattices", "mpixfel view -g",
                           "give a run directory, or --event, --random, --sum or --max")
    for position in args.event or ():
        check_position(position, total, args.path)
    if args.random:
        return np.sort(np.random.default_rng(0).choice(total, min(args.random, total), replace=False)).tolist()
    return args.event or list(range(total if args.sum or args.max or args.powder else min(1, total)))


def view_powder(results, folder, args):
    """The powder patterns that the run has kept: three pictures, or their radial profiles."""
    from mpixfel.report.digest import stats_of, typical_shot
    from mpixfel.report.images import contrast
    from mpixfel.report.radial import profile

    patterns, shot = stats_of(results).get("powder"), typical_shot(results)
    if shot is None or not patterns or not patterns["n_images"]:
        raise MpixfelError("the run has no powder pattern yet", str(results.folder),
                           "wait for its first segment, or use --sum")
    n = int(patterns["n_images"])
    stacks = {"mean": (f"mean of {n} images", patterns["sum"] / n), "max": (f"maximum of {n} images", patterns["max"])}
    if args.radial:
        inverse_d, means = profile(shot, **{name: stack for name, (_, stack) in stacks.items()})
        return save_profiles(folder / "powder-radial.png", inverse_d, {stacks[k][0]: m for k, m in means.items()},
                             "powder patterns")
    for name, (title, stack) in stacks.items():
        picture(folder / f"powder-{name}.png", stack, shot, args, results.geometry, title=title)
    if "peaks" in patterns:
        peaks = np.where(np.isfinite(patterns["max"]), patterns["peaks"], np.nan)
        picture(folder / "powder-peaks.png", peaks, shot, args, results.geometry, title="peaks of all events",
                limits=(0.0, max(1.0, contrast(peaks, 1.0, 99.95)[1] / 2)))
    return 0


def view_profiles(folder, camera, positions):
    """Radial profiles of images, one line each."""
    from mpixfel.report.radial import profile

    found = {}
    for position in positions:
        image, shot = camera(position)
        inverse_d, means = profile(shot, image=image.photons)
        found[f"event {position}"] = means["image"]
    if not found:
        raise MpixfelError("there is no image", "", "choose events that are there")
    return save_profiles(folder / "radial.png", inverse_d, found, "radial profiles")


def save_profiles(path, inverse_d, lines, title):
    """Write the profiles as one picture and say where."""
    from mpixfel.report.images import save_profile_picture

    path.parent.mkdir(parents=True, exist_ok=True)
    save_profile_picture(path, inverse_d, lines, title)
    print(path)
    return 0


def choose(results, args):
    """Rows of /events that are asked for."""
    events, hits = results.events, results.events["outcome"]
    if args.event is not None:
        for row in args.event:
            check_position(row, len(events), str(results.folder))
        return args.event
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


def view_combined(folder, camera, positions, args):
    """Write the sum or the maximum of images, at the geometry of the first."""
    total, shot = None, None
    for position in positions:
        image, this = camera(position)
        shot = shot or this
        photons = image.photons.astype(np.float64)
        total = photons if total is None else np.fmax(total, photons) if args.max else total + photons
    if total is None:
        raise MpixfelError("there is no image to combine", "", "choose events that are there")
    name = "max" if args.max else "sum"
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


def picture(path, image, shot, args, owner, title="", peaks=None, reflections=None, lattices=None, limits=None):
    """Write one PNG and say where. `owner` has the detector."""
    from mpixfel.report.images import contrast, save_event_picture

    path.parent.mkdir(parents=True, exist_ok=True)
    if args.max_photons and limits is None:
        limits = (contrast(image)[0], args.max_photons)
    cell_axes = lattices["reciprocal_axes"] if args.axes and lattices is not None and len(lattices) else None
    save_event_picture(path, image, shot, peaks, reflections, title, limits=limits, cell_axes=cell_axes,
                       show_mask=args.mask,
                       names=owner.detector.names if args.names else ())
    print(path)
