"""Process a run with growing numbers of ranks and show how its speed grows: strong scaling (the same events for all)
and weak scaling (so many events for each rank). Writes scaling.json and scaling.png."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mpixfel.errors import MpixfelError
from mpixfel.report import scaling


def add_arguments(parser):
    """What is run, on how many ranks."""
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="configuration of the run (run.cfg)")
    parser.add_argument("--ranks", metavar="N,N,...", default="", help="numbers of ranks (default: powers of two up to "
                        "the ranks of the batch job, or the cores of this machine)")
    parser.add_argument("--weak", metavar="EVENTS", type=int, default=0,
                        help="events for each rank in weak scaling; 0: none")
    parser.add_argument("--launch", metavar="COMMAND", default=os.environ.get("MPIXFEL_LAUNCH", "mpirun"),
                        help="what starts ranks; -n N follows (default: mpirun)")
    parser.add_argument("--output", metavar="DIR", default="scaling", help="folder of the results (default: scaling)")


def run(args):
    """Run, read, tell."""
    ranks, output = numbers_of_ranks(args.ranks), Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    started, runs = [], {"strong": [(n, None) for n in ranks]}
    if args.weak:
        runs["weak"] = [(n, n * args.weak) for n in ranks]
    # The first run compiles kernels where that is still to be done; it is not counted.
    process(args, max(ranks), output / "first", f"0:{max(ranks)}")
    for kind, sizes in runs.items():
        for n, events in sizes:
            folder = output / f"{kind}-{n:05d}"
            started.append((kind, n, folder, process(args, n, folder, f"0:{events}" if events else None)))
    result = {kind: [] for kind in runs}
    for kind, n, folder, wall_s in started:
        result[kind].append(measured(folder, n, wall_s))
    for rows in result.values():
        for row, value in zip(rows, scaling.efficiency(rows)):
            row["efficiency"] = float(value)
    (output / "scaling.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    scaling.save_picture(output / "scaling.png", result)
    for folder in (output / "first", *(s[2] for s in started)):
        shutil.rmtree(folder)
    print(scaling.table(result) + f"\n{output / 'scaling.json'}\n{output / 'scaling.png'}")
    return 0


def numbers_of_ranks(text):
    """Increasing numbers of ranks from `1,2,4`."""
    if not text:
        most = int(os.environ.get("SLURM_NTASKS") or os.environ.get("LSB_DJOB_NUMPROC") or os.cpu_count() or 1)
        return sorted({*(1 << k for k in range(most.bit_length()) if 1 << k <= most), most})
    try:
        numbers = sorted({int(word) for word in text.split(",")})
    except ValueError:
        numbers = [0]
    if numbers[0] < 1:
        raise MpixfelError(f"{text!r} are no numbers of ranks", "--ranks", "write 1,2,4,8")
    return numbers


def process(args, n_ranks, folder, events):
    """One run as a program of its own; returns its wall time, s. Raises `MpixfelError` if it fails."""
    words = [*args.launch.split(), "-n", str(n_ranks), sys.executable, "-m", "mpixfel.cli.main", "-c", args.config,
             "--output", str(folder), "--quiet"]
    words += ["--events", events] if events else []
    if folder.exists():
        shutil.rmtree(folder)
    began = time.perf_counter()
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).strip().splitlines()[:3])
        raise MpixfelError(f"the run on {n_ranks} ranks failed: {last}", " ".join(words), "try that command by itself")
    return time.perf_counter() - began


def measured(folder, n_ranks, wall_s):
    """Figures of one run out of its files."""
    from mpixfel.io.results import Results  # a parallel h5py starts MPI: not before the last mpirun
    events = Results(folder).events
    status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    if status["n_ranks"] != n_ranks:
        raise MpixfelError(f"asked for {n_ranks} ranks, the run had {status['n_ranks']}", "--launch",
                           "use the mpirun that belongs to this MPI")
    seconds = max(status["updated"] - status["started"], 1e-6)
    parts = scaling.shares(events, n_ranks, seconds)
    return {"n_ranks": n_ranks, "events": len(events), "seconds": seconds, "startup_s": wall_s - seconds,
            "wall_s": wall_s,
            "shares": {name: [float(v) for v in values] for name, values in parts.items()}}
