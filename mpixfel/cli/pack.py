"""`mpixfel pack`: joins the segments of a complete run to one file, sorted by event."""
from pathlib import Path

from mpixfel.io.pack import pack


def add_arguments(parser):
    """The output directory."""
    parser.description = ("Join the segments of a complete run to one file: run.h5 then holds everything, sorted by "
                          "event, and the segments are deleted.")
    parser.add_argument("output", metavar="OUT", help="output directory of a run")


def run(args):
    """Pack; returns the exit code."""
    pack(args.output)
    path = Path(args.output, "run.h5")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
