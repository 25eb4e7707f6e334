"""Measure how many requests for work rank 0 serves in a second, over numbers of ranks that have nothing to do with what they
get, and up to how many ranks that is little of its time."""
import json
import os
import subprocess
import sys
import time

import numpy as np

from mpixfel.cli.bench_scaling import numbers_of_ranks
from mpixfel.errors import MpixfelError

COUNTERS = 50


def add_arguments(parser):
    """Numbers of ranks and of requests."""
    parser.add_argument("--ranks", metavar="N,N,...", default="2,4,8,16", help="numbers of ranks (default: 2,4,8,16)")
    parser.add_argument("--requests", metavar="N", type=int, default=20000, help="requests in each measurement (default: 20000)")
    parser.add_argument("--event-ms", metavar="MS", type=float, default=10.0, help="how long an event takes (default: 10)")
    parser.add_argument("--launch", metavar="COMMAND", default=os.environ.get("MPIXFEL_LAUNCH", "mpirun"),
                        help="what starts ranks; -n N follows (default: mpirun)")
    parser.add_argument("--here", action="store_true", help="measure on the ranks of this program itself; print JSON")


def run(args):
    """Measure, fit, tell."""
    if args.here:
        measure(args.requests)
        return 0
    ranks = numbers_of_ranks(args.ranks)
    if ranks[0] < 2 or len(ranks) < 2 or args.requests < 1:
        raise MpixfelError("a model needs requests of different numbers of ranks from 2 on", "--ranks", "write 2,4,8")
    rows = [started(args, n) for n in ranks]
    print(f"{'ranks':>7}{'requests/s':>12}{'rank 0 busy':>13}{'an event at a worker':>22}")
    for row in rows:
        print(f"{row['n_ranks']:7d}{args.requests / row['seconds']:12.0f}{row['master_s'] / row['seconds']:13.1%}"
              f"{1e6 * row['worker_s'] / args.requests:19.1f} us")
    print("\n".join(told(*model(rows, args.requests), args.event_ms)))
    return 0


def started(args, n_ranks):
    """The figures of one measurement, as a program of its own."""
    words = [*args.launch.split(), "-n", str(n_ranks), sys.executable, "-m", "mpixfel.cli.main", "bench", "schedule", "--here",
             "--requests", str(args.requests)]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise MpixfelError(f"{n_ranks} ranks failed: {done.stderr.strip()[:300]}", " ".join(words), "try that command by itself")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(requests):
    """Ask for one event after the other, on all ranks; rank 0 prints what it took."""
    from mpixfel.parallel.schedule import DONE, Schedule
    from mpixfel.parallel.world import meet, world
    comm, tally = world(), np.zeros(COUNTERS, np.int64)
    schedule = Schedule(comm, np.arange(requests), tally, largest=1, working_master=False)
    meet(comm)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in schedule:
        tally[DONE] += 1
    cpu = time.process_time() - cpu
    seconds, spent = comm.allreduce(time.perf_counter() - began) / comm.size, comm.gather(cpu)
    if comm.rank == 0:
        print(json.dumps({"n_ranks": comm.size, "seconds": seconds, "master_s": spent[0], "worker_s": sum(spent[1:])}))


def model(rows, requests):
    """(s of rank 0 for a request, its share of time while it waits for them): fitted to master_s = a requests + b seconds."""
    a = np.array([[requests, row["seconds"]] for row in rows], float)
    (request_s, idle), *_ = np.linalg.lstsq(a, np.array([row["master_s"] for row in rows]), rcond=None)
    return max(float(request_s), 1e-9), max(float(idle), 0.0)


def told(request_s, idle, event_ms):
    """Lines: what the model says of many ranks."""
    from mpixfel.parallel.schedule import MASTER_SECONDS_PER_REQUEST, MASTER_SHARE, SECONDS_IN_RANGE
    most = MASTER_SHARE / request_s
    longest = 10000 * MASTER_SECONDS_PER_REQUEST / MASTER_SHARE
    return ["", f"a request takes {1e6 * request_s:.1f} us of rank 0, waiting for them {idle:.1%} of its time: it serves "
            f"{1 / request_s:.0f} a second, and {most:.0f} in {MASTER_SHARE:.0%} of its time",
            f"with events of {event_ms:g} ms asked for one by one that is enough for {most * event_ms / 1000:.0f} ranks, with "
            f"ranges of {SECONDS_IN_RANGE:g} s, as they are handed out, for {most * SECONDS_IN_RANGE:.0f}",
            f"more ranks get longer ranges, so that the share stays what it is: 10000 ranks such of {longest:.0f} s"]
