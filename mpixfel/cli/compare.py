"""mpixfel compare: two runs side by side."""
import json
import shutil

HELP = "two runs side by side"


def add_arguments(parser):
    """Arguments of `mpixfel compare`."""
    parser.add_argument("one", metavar="A", help="run directory")
    parser.add_argument("other", metavar="B", help="run directory")
    parser.add_argument("--json", action="store_true", help="for scripts")


def run(args):
    """Print the comparison; returns the exit code."""
    from mpixfel.io.results import Results
    from mpixfel.report.compare import compare, text

    found = compare(Results(args.one), Results(args.other))
    print(json.dumps(found, indent=1, default=str) if args.json
          else text(found, max(60, shutil.get_terminal_size().columns)))
    return 0
