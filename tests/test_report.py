"""The report of a run: what it says is what the tables hold, and the page needs nothing but itself."""
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from report_runs import CELL, make_run
from mpixfel.cli.main import main
from mpixfel.io.results import Results
from mpixfel.model.event import Outcome
from mpixfel.report import write
from mpixfel.report.advice import advise
from mpixfel.report.compare import compare, text
from mpixfel.report.digest import digest, histogram
from mpixfel.report.figures import figures
from mpixfel.report.findings import Finding
from mpixfel.report.write import write_report

BROWSER = shutil.which("chromium")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 400 events whose images are gone."""
    return make_run(tmp_path_factory.mktemp("report") / "run", 400)


@pytest.fixture(scope="module")
def numbers(run):
    return digest(Results(run))


def test_the_summary_counts_what_the_tables_hold(run, numbers):
    events = Results(run).events
    assert numbers["summary"]["events"] == 400
    assert numbers["summary"]["hits"] == (events["outcome"] > 0).sum()
    reasons = {r["reason"]: r["events"] for r in numbers["summary"]["reasons"]}
    assert reasons == {"too few peaks": (events["outcome"] == 0).sum(), "no cell found": (events["outcome"] == 1).sum()}


def test_the_fitted_cell_is_the_one_that_was_drawn(numbers):
    form, = numbers["cells"]
    assert np.allclose(form["mean"], CELL, atol=0.02) and form["fixed"] == [False] * 3 + [True] * 3
    assert form["spread"][0] == pytest.approx(0.05, rel=0.2)


def test_residuals_are_those_that_were_drawn(numbers):
    """Peaks lie 0.2 pixels from their predictions in fs and ss, which point to -x and -y."""
    residuals = numbers["residuals"]
    assert np.allclose(residuals["dx_px"], -0.2, atol=0.01) and np.allclose(residuals["dy_px"], -0.2, atol=0.01)
    assert np.allclose(residuals["rms_px"], 0.2 * 2 ** 0.5, atol=0.01)


def test_a_run_that_goes_on_is_told_like_a_finished_one(run, tmp_path, numbers):
    going = digest(Results(make_run(tmp_path / "going", 400, finished=False)))
    assert going["run"]["state"] in ("running", "silent")
    for section in ("cells", "residuals", "spots", "crystals", "along"):
        assert [f["counts"] for f in going["cells"]] == [f["counts"]
                                                         for f in numbers["cells"]] if section == "cells" else \
            going[section] == numbers[section]


def test_report_files_are_whole_and_the_page_names_no_address(run):
    path = write_report(run)
    page = path.read_text(encoding="utf-8")
    assert json.loads((run / "report.json").read_text())["summary"]["events"] == 400
    assert (run / "report.pdf").read_bytes().startswith(b"%PDF") and not list(run.glob("*.part"))
    own = page[:page.index('<script type="application/json"')]
    assert not re.search(r'(?:src|href)\s*=\s*["\'](?!data:|#)', own)
    assert "default-src 'none'" in page and len(page) < 10_000_000


def test_what_runs_are_called_cannot_write_into_the_page(tmp_path):
    run = make_run(tmp_path / "<img src=x onerror=alert(1)>", 20)
    page = write_report(run, pdf=False).read_text(encoding="utf-8")
    assert "<img src=x" not in page


def test_page_and_numbers_tell_the_diagnosis(run, tmp_path, monkeypatch):
    found = [Finding("The beam is elsewhere", "Move it by 2 < 3 pixels.", {"px": np.float64(2.5), "of": [1, 2]}, 0.75)]
    monkeypatch.setattr(write, "advise", lambda results: found)
    page = write_report(run, tmp_path / "with", pdf=False).read_text(encoding="utf-8")
    told = page[page.index("<h2>Advice"):page.index("<h2>Plots")]
    assert "<b>The beam is elsewhere</b>" in told and "2 &lt; 3 pixels" in told and "0.75" in told
    advice, = json.loads((tmp_path / "with" / "report.json").read_text())["advice"]
    assert advice == {"title": found[0].title, "text": found[0].text, "numbers": {"px": 2.5, "of": [1, 2]},
                      "likelihood": 0.75}
    monkeypatch.setattr(write, "advise", lambda results: [])
    assert "Nothing is wrong that can be seen" in write_report(run, tmp_path / "none",
                                                               pdf=False).read_text(encoding="utf-8")


def test_a_run_of_next_to_nothing_but_hits_gets_no_advice_about_hits(tmp_path):
    run = make_run(tmp_path / "two", 2)
    results = Results(run)
    results.events["outcome"] = Outcome.indexed
    assert not any("hits" in finding.title for finding in advise(results))


@pytest.mark.parametrize("n", [0, 1])
def test_a_run_of_next_to_nothing_has_a_report(tmp_path, n):
    run = make_run(tmp_path / "small", n)
    assert write_report(run).is_file()


def test_histograms_leave_out_what_is_not_finite_and_count_what_lies_beyond():
    found = histogram(np.concatenate([np.linspace(0, 1, 1000), [np.nan, np.inf, 1e9]]))
    assert found["n"] == 1001 and found["outside"] == 1 and sum(found["counts"]) == 1000


def test_figures_hold_numbers_that_json_can_say(numbers):
    made = figures(numbers)
    json.dumps(made, allow_nan=False)
    assert {"rates", "spots", "cell-0", "resolution", "residuals", "beam", "powder",
            "stages"} <= {f["name"] for f in made}


def test_comparing_a_run_with_itself_finds_no_difference(run):
    found = compare(Results(run), Results(run))
    assert found["settings"] == [] and found["events"]["only"] == [[], []]
    assert all(a == b for _, a, b in found["numbers"])


def test_comparing_names_what_one_run_alone_indexed_and_fits_80_columns(run, tmp_path):
    other = make_run(tmp_path / "other", 400, seed=1, options={"hitfinding.min_peaks": 9})
    found = compare(Results(run), Results(other))
    ends = [Results(r).events["outcome"] == 2 for r in (run, other)]
    alone = dict(((a, b), n) for a, b, n in found["events"]["table"])
    assert sum(n for (a, b), n in alone.items() if a == "indexed" and b != "indexed") == (ends[0] & ~ends[1]).sum()
    assert max(map(len, text(found).splitlines()[2:])) <= 80


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_a_browser_draws_all_plots_from_the_file_alone(run, tmp_path):
    page = write_report(run, tmp_path, pdf=False)
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                           "--disable-background-networking", "--disable-component-update", "--disable-sync",
                           f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=20000", "--dump-dom",
                           page.as_uri()],
                          capture_output=True, text=True, timeout=200)
    names = [f["name"] for f in figures(digest(Results(run)))]
    assert f'data-drawn="{len(names)}"' in done.stdout
    assert len(re.findall('<svg class="main-svg"', done.stdout)) >= len(names)


def test_pictures_of_a_kind_that_no_event_is_of_are_refused_in_words(tmp_path, capsys):
    assert main(["view", str(make_run(tmp_path / "none", 0)), "--unindexed", "2"]) == 2
    assert "there is no event of that kind" in capsys.readouterr().err


def test_the_command_prints_where_the_report_is(run, tmp_path):
    done = subprocess.run([sys.executable, "-m", "mpixfel.cli.main", "report", str(run), "-o", str(tmp_path),
                           "--no-pdf"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "report.html"), done.stderr
