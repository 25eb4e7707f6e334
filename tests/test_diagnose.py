"""The diagnosis of runs that have a known error: what is said first must be what was done to them."""
import json

import numpy as np
import pytest

from diagnosed_runs import DISTANCE, PIXEL, SIDE, WAVELENGTH, geometry_text, make_run
import mpixfel
import report_runs
from mpixfel.cli.main import main
from mpixfel.io.assemble import told_in_words
from mpixfel.io.results import Results
from mpixfel.io.run_file import story
from mpixfel.model.crystal import UnitCell
from mpixfel.model.event import EventId, Reason, Record
from mpixfel.report import unexplained
from mpixfel.report.advice import advise, diagnose
from mpixfel.simulate.spots import simulate_spots

LYSOZYME = UnitCell(79.3, 79.3, 37.8, 90, 90, 90, "tetragonal", "P", "c")
OTHER = UnitCell(60.2, 75.5, 100.3, 90, 104.5, 90, "monoclinic", "P", "b")


def patterns(cell, n=12, spots=60, **options):
    """(m, 3) scattering vectors of n shots."""
    return [simulate_spots(cell, spots, [7, k], pixel_m=PIXEL, distance_m=DISTANCE, wavelength_angstrom=WAVELENGTH,
                           **options).q for k in range(n)]


def on_ring(d, n, rng):
    """(n, 3) scattering vectors of spacing d at random azimuths."""
    angle, s = rng.uniform(0, 2 * np.pi, n), 1 / d * (1 + rng.normal(0, 0.003, n))
    z = -0.5 * WAVELENGTH * s ** 2
    r = np.sqrt(s ** 2 - z ** 2)
    return np.column_stack([r * np.cos(angle), r * np.sin(angle), z])


def test_a_run_without_error_gets_no_serious_advice(tmp_path):
    found = diagnose(Results(make_run(tmp_path / "run", patterns(LYSOZYME), [LYSOZYME])), always=True)
    assert found["indexed"] == 12 and all(f.likelihood < 0.35 for f in found["findings"])
    assert np.hypot(*found["beam_map"]["best_px"]) < 1 and found["scale_scan"]["best"] == pytest.approx(1, abs=0.002)


def test_a_beam_centre_that_is_off_is_told_with_its_size(tmp_path):
    """The panels are put 9 and -6 pixels beside the truth, so the pattern lies there, too."""
    run = make_run(tmp_path / "run", patterns(LYSOZYME), [LYSOZYME], geometry_text((9.0, -6.0)))
    first = advise(Results(run))[0]
    assert first.title == "The beam centre is off"
    np.testing.assert_allclose(first.numbers["shift_px"], (9.0, -6.0), atol=0.8)
    assert "-9" in first.text and "corner_x" in first.text


def test_a_distance_that_is_off_is_told_with_its_size(tmp_path):
    run = make_run(tmp_path / "run", patterns(LYSOZYME), [LYSOZYME], distance=0.96 * DISTANCE)
    first = advise(Results(run))[0]
    assert first.title.startswith("Distance, wavelength or cell are off")
    assert first.numbers["scale"] == pytest.approx(1 / 0.96, abs=0.003)


def test_a_wrong_cell_is_told_with_the_right_one(tmp_path):
    run = make_run(tmp_path / "run", patterns(OTHER), [LYSOZYME])
    first = advise(Results(run))[0]
    assert first.title == "Another cell" and first.numbers["lattice_type"] == "monoclinic"
    np.testing.assert_allclose(first.numbers["cell"], OTHER.parameters, rtol=0.005)


def test_an_axis_given_twice_as_long_is_told(tmp_path):
    doubled = UnitCell(79.3, 79.3, 75.6, 90, 90, 90, "tetragonal", "P", "c")
    found = advise(Results(make_run(tmp_path / "run", patterns(LYSOZYME), [doubled])))
    first = found[0]
    assert first.title in ("The cell is too large", "Another cell")
    if first.title == "Another cell":
        np.testing.assert_allclose(first.numbers["cell"], LYSOZYME.parameters, rtol=0.005)
        assert "2 times smaller" in first.text
    else:
        assert "axis c halved" in first.text


def test_an_axis_given_half_as_long_is_told(tmp_path):
    """Half of the spots are explained: those with even l of the true cell."""
    halved = UnitCell(79.3, 79.3, 18.9, 90, 90, 90, "tetragonal", "P", "c")
    first = advise(Results(make_run(tmp_path / "run", patterns(LYSOZYME, spots=100), [halved])))[0]
    assert first.title in ("The cell is too small", "Another cell")
    assert "axis c doubled" in first.text or "2 times as large" in first.text


def test_ice_is_told(tmp_path):
    rng = np.random.default_rng(1)
    made = [np.concatenate([q, on_ring(3.662, 12, rng), on_ring(3.895, 8, rng)]) for q in patterns(LYSOZYME)]
    found = advise(Results(make_run(tmp_path / "run", made, [LYSOZYME])))
    ice = next(f for f in found if f.title == "Ice")
    assert {3.895, 3.662} <= set(ice.numbers["rings_angstrom"]) and ice.numbers["on_rings"] > 150


def test_random_peaks_are_not_ice(tmp_path):
    made = patterns(LYSOZYME, foreign_fraction=0.5, spots=120)
    assert "Ice" not in [f.title for f in advise(Results(make_run(tmp_path / "run", made, [LYSOZYME])))]


def test_hot_pixels_are_told_with_their_place(tmp_path):
    ray = np.array([(200.5 - SIDE / 2) * PIXEL, (333.5 - SIDE / 2) * PIXEL, DISTANCE])
    hot = (ray / np.linalg.norm(ray) - [0, 0, 1]) / WAVELENGTH
    found = advise(Results(make_run(tmp_path / "run", [np.vstack([q, hot]) for q in patterns(LYSOZYME)], [LYSOZYME])))
    places = next(f for f in found if f.title.startswith("Peaks at the same places"))
    assert places.numbers["places"] == 1 and "panel 0 ss 333 fs 200 (12 of 12 hits)" in places.text


def test_a_panel_that_stands_elsewhere_is_told(tmp_path):
    """The second strip is put 12 pixels to the side."""
    wrong = geometry_text().replace(f"p1/corner_x = {-SIDE / 2}", f"p1/corner_x = {-SIDE / 2 + 12}")
    found = advise(Results(make_run(tmp_path / "run", patterns(LYSOZYME), [LYSOZYME], wrong)))
    assert next(f for f in found if f.title.startswith("Panels")).numbers["panels"] == ["p1"]


def test_peaks_are_counted_by_resolution_and_by_panel(tmp_path):
    results = Results(make_run(tmp_path / "run", patterns(LYSOZYME), [LYSOZYME]))
    found = diagnose(results)["distributions"]
    assert sum(found["shells"]["peaks"]) <= found["peaks"] == sum(found["panels"]["peaks"]) == results.events["n_peaks"].sum()
    assert found["explained"] == sum(found["panels"]["explained"]) == np.sum(results.column("peaks", "lattice") >= 0)


def test_the_free_width_beside_a_ring_is_less_than_all_where_rings_crowd():
    assert unexplained._free_width(1.719) == pytest.approx(5 * unexplained.ICE_WIDTH)
    assert unexplained._free_width(1.916) < 4 * unexplained.ICE_WIDTH


def test_a_run_of_misses_is_told_to_look_at_the_hit_finder(tmp_path):
    run = make_run(tmp_path / "run", [], [LYSOZYME])
    assert advise(Results(run)) == []


def test_the_command_prints_the_advice_and_gives_it_to_scripts(tmp_path, capsys):
    run = make_run(tmp_path / "run", patterns(OTHER, 6), [LYSOZYME])
    assert main(["diagnose", str(run)]) == 0
    told = capsys.readouterr().out
    assert "1. Another cell" in told and "beam centre: score" in told and "by resolution" in told and "p3" in told
    assert main(["diagnose", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["title"] == "Another cell" and found["without_lattice"] == 6


def test_an_event_without_lattice_is_told_with_the_numbers_behind_its_reason():
    """Of spots that follow no lattice: peaks used, best match, bound."""
    skip = mpixfel.index_spots(patterns(LYSOZYME, 1, 12, foreign_fraction=1.0)[0], LYSOZYME, WAVELENGTH, shift_sigma=5e-4)
    assert {"n_spots", "n_matched", "log_odds", "bound", "best_possible"} <= set(skip.numbers)
    told = told_in_words(json.dumps(story(Record(EventId(0, 0, "x"), skip=skip))))
    assert skip.detail in told and f"bound {skip.numbers['bound']:g}" in told and "n_matched" in told


def test_a_pattern_that_prefers_another_cell_says_which():
    skip = mpixfel.index_spots(simulate_spots(OTHER, 150, 3, foreign_fraction=0.0).q, LYSOZYME, WAVELENGTH, shift_sigma=5e-4)
    assert skip.reason is Reason.cell_mismatch
    told = told_in_words(json.dumps(story(Record(EventId(0, 0, "x"), skip=skip))))
    axes = [float(told.split(f"preferred_{k} ")[1].split(",")[0]) for k in "abc"]
    np.testing.assert_allclose(axes, OTHER.parameters[:3], rtol=0.02)


def test_peaks_of_several_events_are_those_of_each(tmp_path):
    results = Results(report_runs.make_run(tmp_path / "run", 60))
    rows = np.flatnonzero(results.events["n_peaks"] > 0)[::7]
    for row, peaks in zip(rows, results.peaks_of(rows)):
        np.testing.assert_array_equal(peaks, results.peaks(row))
