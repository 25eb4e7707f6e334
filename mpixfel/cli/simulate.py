"""`mpixfel simulate`: makes a run with known truth."""
import sys
import time

from mpixfel.simulate import SimulateOptions, simulate
from mpixfel.simulate.options import option_fields


def add_arguments(parser):
    """One flag for each field of `SimulateOptions`; the help comes from there."""
    parser.description = "Make a run with known truth: images, geometry, cell, run.cfg and truth.h5 in one folder."
    for f in option_fields():
        meta = f.metadata
        flag = "--" + f.name.replace("_", "-")
        help_text = meta["help"] + (f" [{meta['unit']}]" if meta["unit"] else "") + f" (default: {_shown(f.default)})"
        if f.type is bool:
            parser.add_argument(flag, choices=("true", "false"), nargs="?", const="true", help=help_text)
        elif f.type is tuple:
            parser.add_argument(flag, nargs="+", type=type(f.default[0]), metavar="X", help=help_text)
        else:
            parser.add_argument(flag, type=f.type, choices=tuple(meta["choices"]) or None,
                                metavar=None if meta["choices"] else f.type.__name__.upper(), help=help_text)
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def _shown(default):
    return " ".join(map(str, default)) if isinstance(default, tuple) else default if default != "" else "none"


def run(args):
    """Simulate; returns the exit code."""
    given = {}
    for f in option_fields():
        value = getattr(args, f.name)
        if value is not None:
            given[f.name] = value == "true" if f.type is bool else tuple(value) if f.type is tuple else value
    options = SimulateOptions.of(given.pop("kind", "lysozyme"), **given)
    start = time.perf_counter()
    show = sys.stderr.isatty() and not args.quiet
    folder = simulate(options, _progress(options.frames) if show else None)
    if not args.quiet:
        print(f"{options.frames} frames of {options.kind} in {folder}/: {options.stem}.h5, {options.stem}.geom, "
              f"{options.stem}.cell, run.cfg, truth.h5 ({time.perf_counter() - start:.1f} s)")
    return 0


def _progress(total):
    def line(done):
        print(f"\rframe {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    return line
