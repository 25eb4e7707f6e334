"""mpixfel tune: try settings, distance and beam centre on a sample of events; under mpirun, on all ranks."""
import json
from dataclasses import asdict
from pathlib import Path

from mpixfel.errors import MpixfelError

HELP = "try settings on a sample of events"


def add_arguments(parser):
    """Arguments of `mpixfel tune`."""
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="configuration (run.cfg)")
    parser.add_argument("--set", metavar="SECTION.KEY=VALUE", action="append", default=[],
                        help="any option of any section")
    parser.add_argument("--events", metavar="N", type=int, default=60, help="events of the sample (default 60)")
    parser.add_argument("-o", "--output", metavar="DIR", default="tuned",
                        help="for tuned.cfg and the table (default tuned)")
    for name in ("source", "geometry", "cell"):
        parser.set_defaults(**{name: None})


def run(args):
    """Try, tell, write; returns the exit code."""
    from mpixfel.parallel.collect import on_root
    from mpixfel.parallel.world import world

    if args.events < 1:
        raise MpixfelError(f"{args.events} is no sample", "--events", "give 1 or more")
    comm = world()
    job = on_root(comm, job_of, args)
    from mpixfel.tuning import tune
    with job.source:
        tell = lambda text: comm.rank or print(text, flush=True)
        tell(head())
        scores, best = tune(job, comm, args.events, lambda score: tell(row(score)))
        on_root(comm, finish, job, scores, best, Path(args.output))
    return 0


def job_of(args):
    """The `Job` of the configuration."""
    from mpixfel.cli.main import read_settings
    from mpixfel.job import open_job

    args.resume = args.overwrite = False
    args.verbose, args.quiet = 0, 1
    events, output, args.events, args.output = args.events, args.output, None, None
    try:
        return open_job(read_settings(args, ("tune",)))
    finally:
        args.events, args.output = events, output


def head():
    return f"{'':<32}{'hits':>6}{'indexed':>9}{'lattices':>10}{'peaks':>8}{'rmsd px':>9}"


def row(score):
    """One trial in one line."""
    return (f"{score.trial.name:<32.32}{score.hits:>6}{score.indexed:>9}{score.lattices:>10}{score.peaks_indexed:>8}"
            f"{score.rmsd_pixels:>9.3f}")


def finish(job, scores, best, folder):
    """Write tuned.cfg, tuned.geom and tune.json, and say what is best."""
    from mpixfel.io.geometry import write_geometry
    from mpixfel.tuning import changed, configuration

    folder.mkdir(parents=True, exist_ok=True)
    geometry = None
    if best.trial.shift_m != (0.0, 0.0) or best.trial.distance_scale != 1.0:
        geometry = folder / "tuned.geom"
        better = changed(job, best.trial).geometry
        geometry.write_text(write_geometry(better.detector, better.beam, None, None, better.layout), encoding="utf-8")
    (folder / "tuned.cfg").write_text(configuration(job, best.trial, geometry, folder / "out"), encoding="utf-8")
    rows = [{**asdict(s), "trial": {**asdict(s.trial), "options": {".".join(k): v for k, v in s.trial.options.items()}}}
            for s in scores]
    (folder / "tune.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    changes = [f"{'.'.join(k)} = {v}" for k, v in best.trial.options.items()]
    changes += ["geometry = " + str(geometry)] if geometry else []
    print(f"\nbest: {best.indexed} of {best.events} events indexed with "
          + (", ".join(changes) or "the settings as given"))
    print(f"written: {folder / 'tuned.cfg'}")
