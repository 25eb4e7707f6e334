"""Tuning: which trial wins, and that what is written is what was tried."""
import numpy as np
import pytest

from mpixfel.config.run_cfg import parse_run_cfg
from mpixfel.tuning import Score, Trial, better, moved, written


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


def test_trials_add_up():
    trial = Trial().also("a", shift_m=(1e-4, 0), distance_scale=1.01).also("b", {("robust", "max_pixels"): 9}, (1e-4, 2e-4), 0.5)
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
