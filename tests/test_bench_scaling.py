"""mpixfel bench scaling: its figures, and the whole of it on a small run."""
import json
import pathlib
import subprocess

import numpy as np
import pytest

from mpixfel.cli.bench_scaling import numbers_of_ranks
from mpixfel.errors import MpixfelError
from mpixfel.model import tables
from mpixfel.report import scaling

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def test_shares_add_up_to_the_whole_time_of_each_rank():
    events = np.zeros(3, tables.EVENT)
    events["rank"] = 0, 1, 1
    events["time_read"] = 1.0, 0.5, 0.5
    events["time_index"] = 2.0, 3.0, 3.0
    parts = scaling.shares(events, 2, 10.0)
    assert parts["read"].tolist() == [0.1, 0.1]
    assert parts["compute"] == pytest.approx([0.2, 0.6])
    assert parts["wait"] == pytest.approx([0.7, 0.3])


def test_a_rank_without_events_waits():
    events = np.zeros(1, tables.EVENT)
    events["time_index"] = 4.0
    assert scaling.shares(events, 3, 4.0)["wait"].tolist() == [0.0, 1.0, 1.0]


def test_efficiency_is_speed_per_rank_against_the_first_row():
    rows = [{"n_ranks": 1, "events": 100, "seconds": 10.0}, {"n_ranks": 4, "events": 100, "seconds": 5.0},
            {"n_ranks": 2, "events": 200, "seconds": 10.0}]
    assert scaling.efficiency(rows).tolist() == [1.0, 0.5, 1.0]


def test_ranks_are_those_asked_for_or_powers_of_two_of_the_job(monkeypatch):
    assert numbers_of_ranks("8,1,2,2") == [1, 2, 8]
    monkeypatch.setenv("SLURM_NTASKS", "12")
    assert numbers_of_ranks("") == [1, 2, 4, 8, 12]
    for wrong in ("0,1", "two"):
        with pytest.raises(MpixfelError):
            numbers_of_ranks(wrong)


def test_a_small_run_is_measured_and_drawn(tmp_path):
    command = [CHECKOUT / "bin" / "mpixfel"]
    subprocess.run([*command, "simulate", "--output", "sim", "--frames", "3", "--size", "256", "-q"], cwd=tmp_path,
                   check=True, timeout=120)
    done = subprocess.run([*command, "bench", "scaling", "-c", "sim/run.cfg", "--ranks", "1,2"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scaling" / "scaling.json").read_text())
    assert [(row["n_ranks"], row["events"]) for row in result["strong"]] == [(1, 3), (2, 3)]
    assert (tmp_path / "scaling" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "scaling" / "first").exists()
