"""The state of a run, from its directory alone."""
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from mpixfel.errors import MpixfelError
from mpixfel.model import tables
from mpixfel.model.event import Outcome, Reason
from mpixfel.report import status
from mpixfel.report.progress import Progress


def events():
    rows = np.zeros(10, tables.EVENT)
    rows["outcome"] = [Outcome.miss] * 4 + [Outcome.hit] + [Outcome.indexed] * 5
    rows["reason"][:4], rows["reason"][4] = Reason.too_few_peaks, Reason.no_cell_found
    rows["rank"] = [0, 1] * 5
    rows["time_read"], rows["time_index"] = 0.001, [0.002, 0.004] * 5
    return rows


def test_reasons_are_counted_most_frequent_first():
    assert status.reasons(events()) == [("too few peaks", 4), ("no cell found", 1)]


def test_rates_along_the_run_are_shares_of_events():
    found = status.along(events(), n_blocks=2)
    assert found == {"hits": [pytest.approx(0.2), pytest.approx(1.0)], "indexed": [0.0, pytest.approx(1.0)]}


def test_the_time_of_a_rank_is_that_spent_on_its_events():
    assert status.ranks(events()) == [{"rank": 0, "events": 5, "ms_an_event": pytest.approx(3.0)},
                                      {"rank": 1, "events": 5, "ms_an_event": pytest.approx(5.0)}]


def test_sparks_span_nothing_to_all():
    assert status.spark([0, 0.5, 1], 10) == "▁▅█" and len(status.spark([0.3] * 500, 60)) == 60


@pytest.mark.parametrize("n, text", [(12, "12 B"), (1234567, "1.23 MB"), (5e12, "5 TB")])
def test_sizes_are_told_in_the_unit_that_suits(n, text):
    assert status.size_text(n) == text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(MpixfelError, match="no run is here"):
        status.state_of(tmp_path)


def running_job(folder, **changes):
    (folder / "segments").mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"options": {}, "paths": [], "geometry": "", "cells": []}))
    state = {"state": "running", "total": 100, "done": 25, "hits": 10, "indexed": 5, "failed": 1,
             "events_per_second": 12.5, "seconds_left": 6, "n_ranks": 4, "updated": 1000.0, **changes}
    (folder / "status.json").write_text(json.dumps(state))


def test_a_run_that_goes_on_is_told_from_one_that_has_fallen_silent(tmp_path):
    running_job(tmp_path / "a")
    assert status.state_of(tmp_path / "a", now=1010.0)["state"] == "running"
    assert status.state_of(tmp_path / "a", now=1500.0)["state"] == "silent"
    assert status.state_of(tmp_path / "a", now=1100.0)["state"] == "running"


def test_a_run_that_learns_says_what_and_has_more_time_between_words(tmp_path):
    running_job(tmp_path / "a", done=0, hits=0, indexed=0)
    Progress(tmp_path / "a", 100, n_ranks=4, quiet=True).learning("round 1 of 2: 32 events, 9 of 50 lattices")
    updated = json.loads((tmp_path / "a" / "status.json").read_text())["updated"]
    state = status.state_of(tmp_path / "a", now=updated + 500)
    assert state["state"] == "learning" and "9 of 50 lattices" in state["learning"]
    running = {**state, "state": "running", "learning": "", "done": 50, "run": "r/" + 90 * "x"}
    lines = status.one_line_each([state, running], 80)
    assert "9 of 50 lattices" in lines[0] and max(map(len, lines)) <= 80
    assert lines[0].index("learning") == lines[1].index("running")
    assert status.state_of(tmp_path / "a", now=updated + 1000)["state"] == "silent"
    console = Console(width=80, file=io.StringIO())
    console.print(status.page(state, 80))
    assert "\nround 1 of 2: 32 events, 9 of 50 lattices" in console.file.getvalue()


@pytest.mark.parametrize("columns", [80, 200])
def test_pages_and_lines_fit_the_terminal(tmp_path, columns):
    running_job(tmp_path / ("long" * 20))
    command = [sys.executable, "-m", "mpixfel.cli.main", "status", str(tmp_path / ("long" * 20))]
    for arguments in (command, [*command, command[-1]]):
        done = subprocess.run(arguments, capture_output=True, text=True,
                              env={"COLUMNS": str(columns), "PATH": "/usr/bin"})
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= columns
        assert "25" in done.stdout


def test_watching_waits_for_a_run_that_has_not_begun_and_ends_with_it(tmp_path):
    command = [sys.executable, "-m", "mpixfel.cli.main", "status", "--watch", "--interval", "0.2", str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        with pytest.raises(subprocess.TimeoutExpired):
            watching.wait(1.5)
        running_job(tmp_path / "a", state="done", done=100)
        told = watching.communicate(timeout=60)[0]
    assert watching.returncode == 0 and "100 of 100" in told


def test_json_is_for_scripts(tmp_path):
    running_job(tmp_path / "a")
    done = subprocess.run([sys.executable, "-m", "mpixfel.cli.main", "status", "--json", str(tmp_path / "a")],
                          capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (found["done"], found["total"], found["hits"]) == (25, 100, 10)
