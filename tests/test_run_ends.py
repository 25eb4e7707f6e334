"""Runs that end before their events do: by signals, kills, full disks. What is written stays, and a resumed run is whole.

MPIXFEL_KILLS sets how many random moments are tried (5; 50 takes some minutes).
"""
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from engine_fakes import fake_job
from run_contents import assert_same, contents
from source_files import frames, geometry, write
from test_sources_errors import damage
from test_run import PROGRAM, comm, folder, run_program  # noqa: F401  (fixtures)

from mpixfel.errors import MpixfelError
from mpixfel.io.run_file import open_output
from mpixfel.io.sources import open_source
from mpixfel.model.event import Outcome, Reason
from mpixfel.parallel.collect import on_root
from mpixfel.pipeline import process

KILLS = int(os.environ.get("MPIXFEL_KILLS", "5"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run file of a job of 240 events that nothing disturbs, by one rank."""
    from mpi4py import MPI
    output = tmp_path_factory.mktemp("reference") / "out"
    open_output(output)
    assert process(fake_job(output, 240), MPI.COMM_SELF) == 0
    return output / "run.h5"


def start(output, *arguments, ranks=2, **more):
    """`engine_fakes.py` under mpirun in a process group of its own."""
    command = ["mpirun", "-n", str(ranks), sys.executable, str(PROGRAM), str(output), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ), text=True,
                            start_new_session=True, **more)


def ranks_of(job, output):
    """Process ids of the ranks of a started job."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
        except OSError:
            continue
        if str(PROGRAM) in words[1:2] and str(output) in words:
            found.append(int(pid))
    return sorted(found)


def until(condition, seconds=60.0):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it never came")


def kill_all(job, output):
    """SIGKILL for mpirun and all ranks, as a machine that loses power."""
    for pid in [job.pid, *ranks_of(job, output)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    job.communicate(timeout=60)
    # Open MPI 5 keeps its session in a folder named after mpirun's process: killed, it leaves it behind, and the next
    # mpirun that is given this number fails or hangs.
    shutil.rmtree(Path(tempfile.gettempdir(), f"ompi.{job.pid}"), ignore_errors=True)


def done(output):
    try:
        return json.loads((output / "status.json").read_text())["done"]
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_a_signal_to_mpirun_ends_the_run_in_order(tmp_path, reference, name):
    output = tmp_path / "out"
    job = start(output, "--events", 240, "--seconds", 0.05)
    until(lambda: done(output) > 0)
    job.send_signal(getattr(signal, name))
    job.communicate(timeout=60)
    assert job.returncode == 3
    assert json.loads((output / "status.json").read_text())["state"] == "ended early"
    assert 0 < len(contents(output / "run.h5")["events/index"]) < 240
    assert run_program(output, "--events", 240, "--resume", ranks=3).returncode == 0
    assert_same(output / "run.h5", reference)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_ends_the_run_in_order(tmp_path, rank):
    output = tmp_path / "out"
    job = start(output, "--events", 240, "--seconds", 0.05)
    until(lambda: done(output) > 0)
    os.kill(ranks_of(job, output)[rank], signal.SIGTERM)
    job.communicate(timeout=60)
    assert job.returncode == 3
    assert 0 < len(contents(output / "run.h5")["events/index"]) < 240


def test_a_run_that_is_killed_at_any_moment_goes_on_and_ends_as_if_nothing_had_been(tmp_path, reference):
    """One moment in ten is counted from the start, the others from the first event on: a start takes longer than the run."""
    for number, moment in enumerate(random.Random(0).choices(range(2500), k=KILLS)):
        output = tmp_path / f"kill-{number}"
        job = start(output, "--events", 240, "--seconds", 0.02, "--flush", 0.1, ranks=3)
        if number % 10:
            until((output / "status.json").exists)
        time.sleep(moment / 1000)
        kill_all(job, output)
        kept = sum(len(positions(p)) for p in (output / "segments").glob("*.h5"))
        finished = run_program(output, "--events", 240, "--resume", ranks=2)
        assert finished.returncode == 0, f"killed at {moment} ms: {finished.stderr}"
        assert_same(output / "run.h5", reference)
        assert not list(output.rglob("*.part"))
        print(f"kill {number} at {moment} ms: {kept} of 240 events were on disk")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stage, call", [("reading", 20), ("computing", 20), ("collective write", 40), ("rename", 3),
                                         ("totals", 1), ("run.h5", 0)])
def test_a_rank_that_dies_ends_the_job_at_once_and_nothing_written_is_lost(tmp_path, reference, stage, call, rank):
    if rank and stage in ("rename", "totals", "run.h5"):
        pytest.skip("rank 0 alone does this")
    output = tmp_path / "out"
    died = run_program(output, "--events", 240, "--flush-events", 30, "--seconds", 0.002, "--kill", stage, rank, call)
    assert died.returncode not in (0, 124), died.stderr
    kept = sum(len(positions(p)) for p in (output / "segments").glob("*.h5"))
    finished = run_program(output, "--events", 240, "--resume", "--flush-events", 30, ranks=2)
    assert finished.returncode == 0, finished.stderr
    assert_same(output / "run.h5", reference)
    assert kept == 0 or stage != "run.h5" or kept == 240


def positions(path):
    from mpixfel.io.segments import read_positions
    return read_positions(path)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_write_that_fails_ends_the_run_with_a_clear_error_and_keeps_what_is_written(tmp_path, reference, ranks):
    output = tmp_path / "out"
    died = run_program(output, "--events", 240, "--seconds", 0.002, "--flush-events", 40, "--mishap", 150, "full 20000",
                       ranks=ranks, limit=20)
    assert (died.returncode == 2 and "cannot be written" in died.stderr) or "Timeout" in died.stderr, died.stderr
    assert "pipeline.py" not in died.stderr   # h5py may tell of objects that it cannot close; mpixfel's own way is not told
    assert sum(len(positions(p)) for p in (output / "segments").glob("*.h5")) >= 40
    finished = run_program(output, "--events", 240, "--resume")
    assert finished.returncode == 0
    assert_same(output / "run.h5", reference)


@pytest.mark.mpi
def test_a_disk_without_room_is_found_out_before_a_segment_is_begun(folder, comm, monkeypatch):
    on_root(comm, open_output, folder / "out")
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=3, f_frsize=statvfs(path).f_frsize))
    with pytest.raises(MpixfelError, match="the disk is full"):
        process(fake_job(folder / "out", 30), comm)
    monkeypatch.undo()
    assert list((folder / "out" / "segments").iterdir()) == []
    assert process(fake_job(folder / "out", 30), comm) == 0


def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    with pytest.raises(MpixfelError, match="cannot write the output"):
        open_output(blocked / "out")
    if os.geteuid():
        locked = tmp_path / "locked"
        locked.mkdir()
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(MpixfelError, match="cannot write the output"):
            open_output(locked / "out")


def test_a_damaged_segment_is_named(tmp_path):
    from mpi4py import MPI
    output = tmp_path / "out"
    open_output(output)
    process(fake_job(output, 20), MPI.COMM_SELF)
    segment = output / "segments" / "00000.h5"
    segment.write_bytes(segment.read_bytes()[:2000])
    with pytest.raises(MpixfelError, match="00000.h5"):
        process(fake_job(output, 20), MPI.COMM_SELF)


def over_files(output, paths):
    """A fake job over files of 6 x 8 pixels."""
    return replace(fake_job(output, 0), source=open_source([str(path) for path in paths], geometry()))


@pytest.mark.mpi
def test_a_file_that_vanishes_ends_the_run_and_nothing_written_is_lost(folder, comm):
    paths = [folder / "a.h5", folder / "b.h5"]
    on_root(comm, lambda: [write(path, data=frames(20)) and None for path in paths])
    job = over_files(folder / "out", paths)
    on_root(comm, open_output, folder / "out")
    comm.Barrier()
    on_root(comm, lambda: paths[1].rename(folder / "away") and None)
    with pytest.raises(MpixfelError, match="b.h5: the file has vanished"):
        process(job, comm)
    on_root(comm, lambda: (folder / "away").rename(paths[1]) and None)
    if comm.rank == 0:
        kept = np.concatenate([positions(p) for p in (folder / "out" / "segments").glob("*.h5")])
        assert len(kept) and kept.max() < 20 and len(set(kept)) == len(kept)
    assert process(over_files(folder / "out", paths), comm) == 0
    on_root(comm, open_output, folder / "whole")
    assert process(over_files(folder / "whole", paths), comm) == 0
    if comm.rank == 0:
        assert_same(folder / "out" / "run.h5", folder / "whole" / "run.h5")


def test_a_chunk_that_cannot_be_read_fails_its_event_alone(tmp_path):
    from mpi4py import MPI
    path = write(tmp_path / "a.h5", data=(frames(5), {"chunks": (1, 6, 8), "compression": "gzip"}))
    damage(path, 2, (0, b"\xff" * 12))
    open_output(tmp_path / "out")
    assert process(over_files(tmp_path / "out", [path]), MPI.COMM_SELF) == 0
    found = contents(tmp_path / "out" / "run.h5")
    assert np.flatnonzero(found["events/outcome"] == Outcome.failed).tolist() == [2]
    assert found["events/reason"][2] == Reason.bad_data and b"a.h5 //2" in found["events/message"][2]


def test_events_are_never_done_twice(tmp_path):
    from mpi4py import MPI
    output = tmp_path / "out"
    open_output(output)
    for n_bad in (15, 0):
        process(fake_job(output, 20, mishaps=dict.fromkeys(range(20 - n_bad, 20), "bad"), max_failures=2), MPI.COMM_SELF)
    index = np.concatenate([positions(p) for p in (output / "segments").glob("*.h5")])
    assert sorted(index) == list(range(20))
