"""Tuning: which trial wins, and that what is written is what was tried."""
from dataclasses import replace

import numpy as np
import pytest

from mpixfel import tuning
from mpixfel.cli.main import main
from mpixfel.config.resolve import resolve
from mpixfel.config.run_cfg import parse_run_cfg, read_run_cfg
from mpixfel.io.geometry import read_geometry
from mpixfel.io.results import Results
from mpixfel.simulate import SimulateOptions, simulate
from mpixfel.tuning import Score, Trial, better, configuration, moved, written


def score(indexed, peaks=100, trial=Trial(), events=100):
    return Score(trial, events, 50, indexed, indexed, peaks, 0.2, (0.0, 0.0), 1.0, 10.0)


def test_settings_must_index_clearly_more_events_to_win():
    looser = Trial("looser", {("refinement", "tolerance"): 4.0})
    assert not better(score(40, 900, looser), score(40, 100))
    assert not better(score(42, 900, looser), score(40, 100))
    assert better(score(43, 50, looser), score(40, 100))


def test_a_place_that_explains_more_peaks_wins_among_equals():
    there = Trial("moved", shift_m=(1e-4, 0.0))
    assert better(score(40, 101, there), score(40, 100)) and not better(score(39, 200, there), score(40, 100))


def test_a_place_where_lattices_are_centred_wins_though_chance_explains_a_peak_less():
    off = replace(score(40, 100), beam_shift_m=(2e-4, 1e-4), distance_scale=0.997)
    there = replace(score(40, 99, Trial("moved", shift_m=(-2e-4, -1e-4))), beam_shift_m=(1e-6, 0.0),
                    distance_scale=0.9999)
    assert better(there, off) and not better(replace(there, peaks_indexed=90), off)
    assert not better(replace(there, distance_scale=1.01), off) and not better(replace(there, indexed=39), off)


def test_trials_add_up():
    trial = Trial().also("a", shift_m=(1e-4, 0), distance_scale=1.01).also("b", {("robust", "max_pixels"): 9},
                                                                           (1e-4, 2e-4), 0.5)
    assert trial.options == {("robust", "max_pixels"): 9} and trial.distance_scale == pytest.approx(0.505)
    assert np.allclose(trial.shift_m, (2e-4, 2e-4))


def test_what_is_written_is_read_back():
    text = f"[mpixfel]\nsource = {written(['a b.h5', 'c.h5'])}\n\n[robust]\nmax_pixels = {written(9)}\n"
    sections = parse_run_cfg(text)
    assert [(s.name, e.key, e.text) for s in sections for e in s.entries] == [
        ("mpixfel", "source", '"a b.h5" c.h5'), ("robust", "max_pixels", "9")]


def test_a_moved_detector_stands_elsewhere_and_farther():
    from types import SimpleNamespace
    from mpixfel.model.experiment import Detector, Panel

    detector = Detector((Panel("p", (0.01, 0.0, 0.002), (-1e-4, 0, 0), (0, -1e-4, 0), (8, 8), 1.0),))

    class Source(list):
        event = list.__getitem__

    job = SimpleNamespace(geometry=SimpleNamespace(detector=detector), source=Source([SimpleNamespace(clen_m=0.098)]))
    there = moved(job, Trial(shift_m=(1e-3, -2e-3), distance_scale=1.01))
    assert np.allclose(there.panels[0].origin_m, (0.011, -0.002, 0.003)) and moved(job, Trial()) is detector


OLD = """[pyana]
source = run.h5
geometry = run.geom
target_cell = 79 79 38 90 90 90
output = out
modules = mod_hitfind:a mod_hitfind:b
[mod_hitfind:a]
distl_min_peaks = 16
distl_flags = permissive
dark_path = dark.h5
dark_stddev = sigma.h5
[mod_hitfind:b]
dispatch = index
integration_dirname = int
integration_basename = int-
"""


def test_a_trial_holds_for_modules_with_settings_of_their_own_and_paths_stay_where_they_were():
    from types import SimpleNamespace

    settings = resolve(parse_run_cfg(OLD, "run.cfg"), (), "/conf", environment={})
    job = SimpleNamespace(settings=settings)
    trial = Trial("fewer", {("hitfinding", "min_peaks"): 6, ("indexing", "max_lattices"): 1})
    text = configuration(job, trial, None, "/new/out")
    again = resolve(parse_run_cfg(text, "tuned.cfg"), (), "/elsewhere", environment={})
    a, b = (again.seen_by(spec) for spec in again.modules)
    assert (a.stage("hitfinding").min_peaks, a.stage("hitfinding").finder,
            b.stage("hitfinding").min_peaks) == (6, "distl", 6)
    assert b.stage("indexing").max_lattices == 1
    assert a.stage("calibration").dark_path == "/conf/dark.h5"
    assert (again.run.source, again.run.output) == (("/conf/run.h5",), "/new/out")
    assert (again.modules[1].options.integration_dirname,
            again.modules[1].options.integration_basename) == ("/conf/int", "int-")


def test_a_run_with_beam_and_distance_amiss_is_tuned_to_where_they_are(tmp_path, capsys, monkeypatch):
    """Simulated: the detector stands where the true geometry says; the configuration names the perturbed one."""
    fewer = lambda trials: lambda job, best: list(trials(job, best))[:1]     # one of each group, for time
    for name in ("hit_trials", "indexing_trials"):
        monkeypatch.setattr(tuning, name, fewer(getattr(tuning, name)))
    simulate(SimulateOptions.of("lysozyme", output=str(tmp_path), name="run", frames=10, size=400, pixel_um=150.0,
                                fluence_ph_per_um2=6e8))
    (tmp_path / "run.cfg").write_text("[mpixfel]\nsource = run.h5\ngeometry = run-perturbed.geom\ncell = "
                                      "run.cell\noutput = out\n")
    assert main(["tune", "-c", str(tmp_path / "run.cfg"), "--events", "6", "-o", str(tmp_path / "tuned")]) == 0
    told = capsys.readouterr().out
    assert "as given" in told and "best: " in told and "tuned.cfg" in told
    truth, given, found = (read_geometry(tmp_path / name).detector
                           for name in ("run.geom", "run-perturbed.geom", "tuned/tuned.geom"))
    place = lambda detector: np.array(detector.panels[0].origin_m)
    before, after = (np.abs(place(d) - place(truth))[:2] / 150e-6 for d in (given, found))
    assert before.max() > 1 and after.max() < 0.2
    sections, _ = read_run_cfg(tmp_path / "tuned" / "tuned.cfg")
    assert ("geometry",
            str(tmp_path / "tuned" / "tuned.geom")) in [(e.key, e.text) for s in sections for e in s.entries]
    assert main(["-q", "-c", str(tmp_path / "tuned" / "tuned.cfg"), "--set", "mpixfel.report=false", "--set",
                 "mpixfel.learn_hits=0"]) == 0
    assert (Results(tmp_path / "tuned" / "out").events["outcome"] == 2).sum() >= 3
