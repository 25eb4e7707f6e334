"""A job without images: events whose tables are drawn from their own number, for tests of the engine alone.

As a program it runs such a job under mpirun, with mishaps on demand:

    mpirun -n 4 python tests/engine_fakes.py OUT --events 200 --seconds 0.002 --kill-rank 2 --kill-at 57
"""
import argparse
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from mpixfel.config.settings import RunOptions, Settings  # noqa: E402
from mpixfel.errors import BadData, MpixfelError  # noqa: E402
from mpixfel.io import assemble, run_file, segments  # noqa: E402
from mpixfel.io.sources.interface import Source  # noqa: E402
from mpixfel.job import Job  # noqa: E402
from mpixfel.model import tables  # noqa: E402
from mpixfel.model.event import Event, EventId, Outcome, Reason, Skip  # noqa: E402
from mpixfel.model.experiment import Beam, Context, Detector, Panel  # noqa: E402
from mpixfel.modules.interface import Module  # noqa: E402

PANEL = Panel("p0", (-0.05, -0.05, 0.0), (1e-4, 0, 0), (0, 1e-4, 0), (8, 8), adu_per_photon=1.0)


@dataclass
class FakeSource(Source):
    """`n` events without images, each read in `seconds`."""

    n: int
    seconds: float = 0.0
    events_per_chunk: int = 1
    paths: tuple = ("fake.h5",)

    def __len__(self):
        return self.n

    def event_id(self, i):
        return EventId(0, i, f"fake.h5 //{i}", 1_000_000 * i)

    def event(self, i):
        time.sleep(self.seconds)
        return Event(self.event_id(i), (), 9000.0 + i, 0.1)

    def static_mask(self):
        return None


class FakeModule(Module):
    """Draws tables from the event's number; what is in `mishaps` ({position: text}) happens. Sums numbers over events."""

    def __init__(self, name="mod_fake:one", mishaps=None, null=False, folder=None):
        super().__init__(name, None, None)
        self.folder = folder
        self.mishaps, self.null = mishaps or {}, null
        self.seen = np.zeros(3, np.int64)

    def event(self, event, record, context):
        i = event.id.index
        mishap(self.mishaps.get(i, ""), i)
        rng = context.rng(event.id)
        self.seen += [1, i, rng.integers(1000)]
        if self.null or i % 3 == 1:
            return record.but(skip=Skip("fake", Reason.too_few_peaks, f"event {i} has none", {"peaks": float(i)}))
        n_peaks, n_lattices = int(rng.integers(4, 40)), int(rng.integers(0, 4))
        peaks = drawn(rng, tables.PEAK, n_peaks)
        peaks["lattice"] = rng.integers(-1, n_lattices, n_peaks)
        if not n_lattices:
            return record.but(peaks=peaks, outcome=Outcome.hit, skip=Skip("fake", Reason.no_cell_found))
        lattices, counts = drawn(rng, tables.LATTICE, n_lattices), rng.integers(0, 60, n_lattices)
        lattices["n_reflections"], lattices["first_reflection"] = counts, np.cumsum(counts) - counts
        lattices["form"], lattices["centring"], lattices["space_group"] = 0, b"P", b"P 1"
        lattices["cell"] = [50, 60, 70, 90, 90, 90] + rng.normal(0, 0.1, (n_lattices, 6))
        reflections = drawn(rng, tables.REFLECTION, int(counts.sum()))
        reflections["lattice"] = np.repeat(np.arange(n_lattices), counts)
        return record.but(peaks=peaks, lattices=lattices, reflections=reflections, outcome=Outcome.indexed,
                          resolution=0.3, background=1.5)

    def totals(self):
        return {"seen": self.seen}

    def end(self, totals, context):
        if self.folder:
            Path(self.folder, "seen.txt").write_text(" ".join(map(str, totals["seen"])))


def drawn(rng, dtype, n):
    """`n` rows with every column drawn."""
    rows = np.zeros(n, dtype)
    for name in dtype.names:
        column = rows[name]
        if column.dtype.kind in "iu":
            column[...] = rng.integers(0, 8, column.shape)
        elif column.dtype.kind == "f":
            column[...] = rng.normal(1.0, 0.1, column.shape)
    return rows


def mishap(text, position):
    """What goes wrong at a position: the first word says what."""
    what, _, value = text.partition(" ")
    if what == "raise":
        raise RuntimeError(value or "a defect")
    if what == "bad":
        raise BadData("cannot be read", "fake.h5")
    if what == "user":
        raise MpixfelError("something that you can repair", "fake", "repair it")
    if what == "hang":
        time.sleep(float(value))
    if what == "full":   # from now on no file of this process grows beyond so many bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), resource.RLIM_INFINITY))
    if what == "kill-once":   # but not the rank that takes the event over
        mark = Path(os.environ["MPIXFEL_FAKE_MARKS"], text.replace(" ", "-") + str(position))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), getattr(signal, value))
    if what == "kill":
        os.kill(os.getpid(), getattr(signal, value))


@dataclass(frozen=True)
class FakeJob(Job):
    """A `Job` of a fake source and one fake module."""

    mishaps: dict = field(default_factory=dict)
    null: bool = False

    def context(self):
        return Context(Detector((PANEL,)), Beam(), seed=self.settings.run.seed)

    def chain(self):
        return (FakeModule(mishaps=self.mishaps, null=self.null, folder=self.output),)

    def instances(self):
        return ("", "mod_fake:one")


STAGES = {   # where a process can be killed: module and function, called before it does its work
    "reading": (FakeSource, "event"), "computing": (FakeModule, "event"), "collective write": (segments, "write_part"),
    "rename": (segments.os, "replace"), "run.h5": (assemble, "write_virtual"), "totals": (run_file, "write_totals"),
}


def kill_at(stage, call):
    """Let this process die by SIGKILL when a stage begins for the `call`-th time."""
    owner, name = STAGES[stage]
    original, calls = getattr(owner, name), iter(range(call, -1, -1))

    def deadly(*arguments, **named):
        if next(calls, 1) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, deadly)


def fake_job(output, n, seconds=0.0, mishaps=None, null=False, chunk=1, **options):
    """A fake job; `options` are those of `[mpixfel]`."""
    options = {"learn_hits": 0, **options}
    settings = Settings(RunOptions(source=("fake.h5",), geometry="fake.geom", output=str(output), **options), {}, (),
                        verbosity=-1)
    geometry = SimpleNamespace(text="; a fake\n", path="fake.geom", detector=Detector((PANEL,)), beam=Beam())
    return FakeJob(settings, geometry, (), FakeSource(n, seconds, chunk), mishaps=mishaps or {}, null=null)


def main():
    from mpi4py import MPI
    from mpixfel.io.run_file import open_output
    from mpixfel.parallel import survive
    from mpixfel.parallel.collect import on_root
    from mpixfel.pipeline import process
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--flush", type=float, default=0.1)
    parser.add_argument("--flush-events", type=int, default=50000)
    parser.add_argument("--timeout", type=float, default=0.0)
    parser.add_argument("--max-failures", type=int, default=1000)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--null", action="store_true")
    parser.add_argument("--mishap", nargs=2, action="append", default=[], metavar=("POSITION", "WHAT"))
    parser.add_argument("--seconds-to-meet", type=float, default=survive.SECONDS_TO_MEET)
    parser.add_argument("--kill", nargs=3, metavar=("STAGE", "RANK", "CALL"))
    a = parser.parse_args()
    comm, survive.SECONDS_TO_MEET = MPI.COMM_WORLD, a.seconds_to_meet
    if a.kill and comm.rank == int(a.kill[1]):
        kill_at(a.kill[0], int(a.kill[2]))
    job = fake_job(a.output, a.events, a.seconds, {int(i): text for i, text in a.mishap}, a.null,
                   flush_interval_s=max(a.flush, 0.1), flush_events=a.flush_events, event_timeout_s=a.timeout,
                   max_failures=a.max_failures)
    try:
        on_root(comm, open_output, a.output, a.resume)
        return process(job, comm)
    except MpixfelError as error:
        if comm.rank == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
