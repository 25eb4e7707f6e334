"""Ranks that die under an MPI that survives it: the others do their events, and the result is the same."""
import os
import shutil
import subprocess
import sys

import pytest
from engine_fakes import fake_job
from run_contents import assert_same
from test_run import PROGRAM

from mpixfel.io.run_file import open_output
from mpixfel.parallel.survive import somebody_died
from mpixfel.pipeline import process

HUNG = (124, 137)   # what `timeout` makes of a command that it ended


@pytest.fixture(scope="module")
def survives():
    """Skips where mpirun knows no ULFM."""
    tried = subprocess.run(["mpirun", "--with-ft", "ulfm", "-n", "1", "true"], capture_output=True)
    if tried.returncode:
        pytest.skip("this mpirun has no --with-ft ulfm")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run directory of a job of 240 events that nothing disturbs, by one rank."""
    from mpi4py import MPI
    output = tmp_path_factory.mktemp("reference") / "out"
    open_output(output)
    assert process(fake_job(output, 240), MPI.COMM_SELF) == 0
    return output


def run(output, *arguments, ranks=4):
    command = ["mpirun", "--with-ft", "ulfm", "-n", str(ranks), sys.executable, str(PROGRAM), str(output), "--events", "240",
               "--seconds", "0.003", "--flush", "2", "--flush-events", "60", *map(str, arguments)]
    environment = {**os.environ, "MPIXFEL_FAKE_MARKS": str(output.parent)}
    done = subprocess.run(["timeout", "-k", "5", "60", *command], capture_output=True, text=True, env=environment)
    if done.returncode not in HUNG:
        return done
    # Open MPI's recovery itself hangs once in some fifty deaths (it warns that its MPI-IO is not tested for them): such
    # a death says nothing of this program, another one does.
    shutil.rmtree(output.parent)
    output.parent.mkdir()
    return subprocess.run(["timeout", "-k", "5", "60", *command], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("stage, rank, call", [
    ("reading", 1, 20), ("computing", 2, 20), ("computing", 0, 15), ("collective write", 1, 40), ("collective write", 0, 40),
    ("rename", 0, 4), ("totals", 0, 1), ("run.h5", 0, 0)])
def test_when_a_rank_dies_the_others_end_the_run(tmp_path, survives, reference, stage, rank, call):
    done = run(tmp_path / "out", "--kill", stage, rank, call)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 ranks died" in done.stderr
    assert_same(tmp_path / "out" / "run.h5", reference / "run.h5")
    assert (tmp_path / "out" / "seen.txt").read_text() == (reference / "seen.txt").read_text()


def test_a_single_survivor_ends_the_run(tmp_path, survives, reference):
    done = run(tmp_path / "out", "--mishap", 50, "kill-once SIGKILL", "--mishap", 120, "kill-once SIGKILL", ranks=3)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 ranks died" in done.stderr
    assert_same(tmp_path / "out" / "run.h5", reference / "run.h5")


def test_a_rank_that_hangs_when_another_dies_ends_the_job_which_can_be_resumed(tmp_path, survives, reference):
    # While rank 0 sleeps over its first event both others ask: one gets 2, the other 3.
    done = run(tmp_path / "out", "--seconds-to-meet", 3, "--mishap", 0, "hang 2", "--mishap", 2, "kill-once SIGKILL",
               "--mishap", 3, "hang 120", ranks=3)
    assert done.returncode not in (0, *HUNG), done.stderr
    assert "do not come together" in done.stderr and "--resume" in done.stderr
    done = run(tmp_path / "out", "--resume", ranks=3)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "out" / "run.h5", reference / "run.h5")


@pytest.mark.mpi
def test_nobody_is_thought_dead_who_lives():
    from mpi4py import MPI
    assert not somebody_died(MPI.COMM_WORLD, ValueError("a defect"))
