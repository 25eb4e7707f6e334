"""Make the next trial of a run: a folder OUT/rRRRR/TTT with its own copy of the configuration (for the batch scripts).

Prints the trial's folder, and the number of ranks that the configuration asks for (num-cpu) or 0.
"""
import os
from pathlib import Path

from mpixfel.config.paths import fill_in, path_fields
from mpixfel.config.trial import Trial, claim, files_of, next_free, ranks_of, run_folder, write_trial
from mpixfel.errors import MpixfelError

RESULTS = "results"


def add_arguments(parser):
    """Flags with the letters of the old batch script."""
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="configuration (run.cfg)")
    parser.add_argument("-r", "--run", metavar="RUN", type=int, required=True, help="run number")
    parser.add_argument("-i", "--data", metavar="DIR", default="", help="folder of the data")
    parser.add_argument("-o", "--output", metavar="DIR", default=RESULTS, help="folder of all runs' results")
    parser.add_argument("-t", "--trial", metavar="N", type=int, help="trial number (default: the next free)")
    parser.add_argument("-x", "--experiment", metavar="NAME", default=os.environ.get("EXP", ""),
                        help="experiment (default: the variable EXP)")
    parser.add_argument("--dry-run", action="store_true", help="make nothing, print what would be used")


def run(args):
    """Make the trial and print where it is."""
    fields = path_fields(args.run, args.experiment)
    output, data = fill_in(args.output, fields), fill_in(args.data, fields)
    folder = run_folder(output, args.run)
    number = args.trial if args.trial is not None else next_free(folder)
    trial = Trial(folder / f"{number:03d}", args.run, number, args.experiment, data)
    files = files_of(args.config, trial)  # before the folder is made: what is wrong leaves no empty trial
    if args.dry_run:
        if trial.folder.exists():
            raise MpixfelError(f"trial {number} is in use", str(folder), "leave -t out to get the next free")
    else:
        taken = claim(folder, args.trial)
        if taken != number:
            trial = Trial(folder / f"{taken:03d}", args.run, taken, args.experiment, data)
            files = files_of(args.config, trial)
        (Path(trial.folder) / "stdout").mkdir()
        write_trial(files)
    print(f"{trial.folder}\n{ranks_of(args.config) or 0}")
    return 0
