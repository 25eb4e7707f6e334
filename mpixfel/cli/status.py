"""mpixfel status: how far runs are, how well they do."""
import json
import shutil
import sys
import time
from pathlib import Path

from mpixfel.errors import MpixfelError

HELP = "how far a run is and how well it does"


def add_arguments(parser):
    """Arguments of `mpixfel status`."""
    parser.add_argument("runs", nargs="+", help="run directories; several give one line each")
    parser.add_argument("--watch", action="store_true", help="go on until the runs have ended or Ctrl-C")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between looks (default 2)")
    parser.add_argument("--json", action="store_true", help="for scripts")


def run(args):
    """Print the state of the runs; returns the exit code."""
    from mpixfel.report.status import state_of

    if args.json:
        states = [state_of(folder) for folder in args.runs]
        print(json.dumps(states if len(states) > 1 else states[0], indent=1))
        return 0
    if args.interval <= 0:
        raise MpixfelError(f"{args.interval} is no time between looks", "--interval", "give seconds above 0")
    return watch(args) if args.watch else show(args.runs)


def show(folders):
    """Print once."""
    from rich.console import Console

    width = shutil.get_terminal_size().columns
    Console(width=width, highlight=False).print(content(folders, width)[0])
    return 0


def content(folders, width):
    """(what to print, whether a run still goes on)."""
    from rich.console import Group
    from rich.text import Text

    from mpixfel.report.status import one_line_each, page, state_of

    states = [state_of(folder) for folder in folders]
    going = any(s["state"] in ("running", "learning", "unknown") for s in states)
    if len(states) == 1:
        return page(states[0], width), going
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in one_line_each(states, width))), going


def watch(args):
    """Print again and again until all runs have ended; one that has not begun, in a queue perhaps, is waited for."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    try:
        with Live(console=console, auto_refresh=False, screen=sys.stdout.isatty()) as live:
            going = True
            while going:
                missing = [folder for folder in args.runs if not begun(folder)]
                what, going = content(args.runs, console.width) if not missing else (
                    Text(f"waiting for a run in {', '.join(missing)} (Ctrl-C ends this)"), True)
                live.update(what, refresh=True)
                time.sleep(args.interval if going else 0)
    except KeyboardInterrupt:
        pass
    return show([folder for folder in args.runs if begun(folder)]) if any(map(begun, args.runs)) else 0


def begun(folder):
    """Whether there is a run in a directory."""
    return any(Path(folder, name).is_file() for name in ("run.h5", "job.json"))
