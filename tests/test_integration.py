"""From an image and its lattices to reflections: against the photons that were put there."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.spatial.transform import Rotation
from scipy.stats import norm
from still import CELL, context, event, rotation, still

from mpixfel.kernels.likely import fill_likely
from mpixfel.kernels.predict import room
from mpixfel.kernels.table import polarisation, seen_fraction
from mpixfel.model.crystal import cell_parameters
from mpixfel.model.event import Image, Reason, Skip
from mpixfel.model.tables import LATTICE, PEAK, REFLECTION, Flag
from mpixfel.stages.integration import OneShot, ProfileIntegrator, shining
from mpixfel.stages.pixels import EXCESS, PixelWatch, conclude_excess, observe_pixels
from mpixfel.stages.reflections import polarised

NO_PEAKS = np.zeros(0, PEAK)


def lattice_rows(axes, degrees=0.0, seed=0):
    """LATTICE rows of (n, 3, 3) axes, turned a little."""
    rng, rows = np.random.default_rng(seed), np.zeros(len(axes), LATTICE)
    for row, own in zip(rows, axes):
        own = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=3)).apply(own)
        row["reciprocal_axes"], row["cell"], row["centring"] = own, cell_parameters(own), b"P"
        row["distance_scale"], row["orientation_sigma"] = 1.0, max(degrees, 0.02)
    return rows


def integrated(shot_truth, degrees=0.0, peaks=NO_PEAKS, image=None, axes=None, **options):
    stage = ProfileIntegrator(**options)
    shot = shot_truth.context.shot(shot_truth.event)
    rows = lattice_rows(shot_truth.axes if axes is None else axes, degrees)
    return stage(image or shot_truth.image, shot, rows, peaks, stage.prepare(shot_truth.context))


def beside_truth(table, truth):
    """(measured, sigma, true photons) of the reflections of a table; true photons are 0 where none were put."""
    given = {tuple(h): p for h, p in zip(truth.hkl.tolist(), truth.photons.tolist())}
    true = np.array([given.get((r["lattice"], *r["hkl"].tolist()), 0.0) for r in table])
    return table["intensity"].astype(float), table["sigma"].astype(float), true


@pytest.fixture(scope="module")
def shots():
    return [still(seed=s, scale=1.2) for s in range(3)]


def test_intensities_are_those_that_fell_there(shots):
    values, errors, true = map(np.concatenate, zip(*(beside_truth(integrated(s, 0.02)[1], s) for s in shots)))
    z = (values - true) / errors
    assert len(values) > 150
    assert np.sum(values * true) / np.sum(true * true) == pytest.approx(1.0, abs=0.03)
    assert abs(np.median(z)) < 0.2 and 0.85 < (np.percentile(z, 84) - np.percentile(z, 16)) / 2 < 1.2


def test_spots_far_off_the_sphere_are_wide_but_lack_no_pixels(shots):
    """Much of their light lies beyond the foreground; that is no bad pixel."""
    for shot in shots:
        table = integrated(shot, 0.02, min_partiality=1e-4, completeness=0.9999)[1]
        inner = table[(np.abs(table["fs"] - 96) < 84) & (np.abs(table["ss"] - 191) < 179)]
        assert inner["partiality"].min() < 0.01 and not np.any(inner["flags"] & Flag.masked)


def test_the_reflections_that_are_there_are_integrated(shots):
    for shot in shots:
        table = integrated(shot, 0.02)[1]
        found = {tuple(h) for h in table["hkl"].tolist()}
        strong = [tuple(h[1:]) for h, p in zip(shot.hkl.tolist(), shot.photons) if p > 10]
        inside = [h for h in strong if h in found]
        assert len(inside) > 0.93 * len(strong)


def degrees_between(one, other):
    u, _, vt = np.linalg.svd(one.T @ np.linalg.inv(other.T))
    return np.degrees(np.linalg.norm(Rotation.from_matrix(u @ vt).as_rotvec()))


def test_the_pixels_turn_a_lattice_to_where_it_is():
    shots = [still(seed=s, scale=4.0, q_max=0.25) for s in range(3)]
    before = [degrees_between(lattice_rows(s.axes, 0.1)[0]["reciprocal_axes"], s.axes[0]) for s in shots]
    after = [degrees_between(integrated(s, 0.1)[0][0]["reciprocal_axes"], s.axes[0]) for s in shots]
    assert np.median(after) < 0.6 * np.median(before)
    left = integrated(shots[0], 0.1, refine="none")[0][0]["reciprocal_axes"]
    assert np.array_equal(left, lattice_rows(shots[0].axes, 0.1)[0]["reciprocal_axes"])


def test_the_tables_hang_together(shots):
    two = still(seed=11, scale=1.2, lattices=2)
    rows, table = integrated(two)
    assert len(rows) == 2 and np.all(np.diff(table["lattice"]) >= 0)
    for i, row in enumerate(rows):
        own = table[row["first_reflection"]:row["first_reflection"] + row["n_reflections"]]
        assert np.all(own["lattice"] == i) and len(own) == row["n_integrated"] == np.sum(table["lattice"] == i)
    assert np.all(np.isfinite(table["intensity"])) and np.all(table["sigma"] > 0)
    assert np.all((table["partiality"] > 0) & (table["partiality"] <= 1.0 + 1e-6))
    q = np.linalg.norm(table["hkl"].astype(float) @ rows[0]["reciprocal_axes"], axis=1)[table["lattice"] == 0]
    assert np.allclose(q, table["resolution"][table["lattice"] == 0], rtol=1e-4)
    assert np.all(rows["domain_size"] > 0) and np.all(rows["half_mosaicity"] > 0) and np.all(rows["bandwidth"] > 0)


def test_a_lattice_that_is_not_there_is_rejected_and_its_peaks_lose_their_mark(shots):
    rng = np.random.default_rng(5)
    wrong = CELL.reciprocal_axes() @ rotation(rng).T
    peaks = np.zeros(6, PEAK)
    peaks["lattice"], peaks["hkl"] = [0, 0, 1, 1, 1, -1], 1
    rows, table = integrated(shots[0], axes=np.array([wrong, shots[0].axes[0]]), peaks=peaks)
    assert len(rows) == 1 and np.allclose(rows[0]["reciprocal_axes"], shots[0].axes[0], atol=2e-4)
    assert list(peaks["lattice"]) == [-1, -1, 0, 0, 0, -1] and np.all(table["lattice"] == 0)


def test_with_no_lattice_left_the_event_ends_there(shots):
    rng = np.random.default_rng(6)
    verdict = integrated(shots[0], axes=(CELL.reciprocal_axes() @ rotation(rng).T)[None])
    assert isinstance(verdict, Skip) and verdict.reason is Reason.wrong_lattice and verdict.stage == "integration"


def test_an_empty_image_is_no_lattice(shots):
    blank = Image(np.random.default_rng(7).poisson(0.6, shots[0].image.photons.shape).astype(np.float32),
                  np.zeros(0, np.int64), 0.0)
    assert isinstance(integrated(shots[0], image=blank), Skip)


def test_saturated_masked_edge_and_indexed_reflections_are_flagged(shots):
    shot = shots[1]
    table = integrated(shot)[1]
    inner = [r for r in table if 12 < r["fs"] < 180 and 12 < r["ss"] < 370 and r["intensity"] > 20]
    hot, holed, marked = inner[0], inner[1], inner[2]
    photons = shot.image.photons.copy()
    place = lambda r: (int(r["panel"]), int(r["ss"]), int(r["fs"]))
    photons[place(hot)] = np.nan
    p, y, x = place(holed)
    photons[p, y, x] = np.nan
    image = Image(photons, np.array([np.ravel_multi_index(place(hot), photons.shape)]), 0.0)
    peaks = np.zeros(1, PEAK)
    peaks["lattice"], peaks["hkl"] = 0, marked["hkl"]
    flags = {tuple(r["hkl"].tolist()): r["flags"] for r in integrated(shot, image=image, peaks=peaks, min_share=0.1)[1]}
    assert flags[tuple(hot["hkl"].tolist())] & Flag.saturated
    assert flags[tuple(holed["hkl"].tolist())] & Flag.masked
    assert flags[tuple(marked["hkl"].tolist())] & Flag.indexed_peak
    assert not flags[tuple(marked["hkl"].tolist())] & (Flag.saturated | Flag.masked)
    near_edge = [r for r in table if min(r["fs"], r["ss"]) < 0.8]
    assert all(r["flags"] & Flag.edge for r in near_edge)


def test_reflections_whose_own_places_moved_the_lattice_are_flagged():
    shot = still(seed=2, scale=4.0, q_max=0.25)
    table = integrated(shot, 0.02)[1]
    moved, ratio = (table["flags"] & Flag.recentred) > 0, table["intensity"] / table["sigma"]
    assert np.mean(moved[ratio > 10]) > 0.8 and not np.any(moved[ratio < 0.5])
    assert not np.any(integrated(shot, 0.02, refine="none")[1]["flags"] & Flag.recentred)


def test_saturated_spots_are_measured_by_their_other_pixels(shots):
    ceiling, ratios = 200.0, []
    for shot in (still(seed=s, scale=2.0) for s in range(3)):
        photons = np.minimum(shot.image.photons, np.float32(ceiling))
        cut = Image(photons, np.flatnonzero(shot.image.photons > ceiling), shot.image.readout_sigma)
        table = integrated(shot, 0.02, image=cut)[1]
        assert np.array_equal(photons, np.minimum(shot.image.photons, np.float32(ceiling)), equal_nan=True)
        values, _, true = beside_truth(table, shot)
        hidden = ((table["flags"] & Flag.saturated) > 0) & (true > 100)
        ratios += list(values[hidden] / true[hidden])
    assert len(ratios) > 10 and np.median(ratios) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("pedestal, noise", [(8.0, 0.0), (0.0, 2.0)])
def test_sigmas_hold_where_pixels_stand_on_a_pedestal_or_are_noisy(shots, pedestal, noise):
    rng, z = np.random.default_rng(4), []
    for shot in shots:
        photons = shot.image.photons + pedestal + noise * rng.normal(size=shot.image.photons.shape)
        image = Image(photons.astype(np.float32), np.zeros(0, np.int64), float("nan"))
        watch = PixelWatch(shot.context)
        learnt = replace(shot.context.learnt, extra={EXCESS: np.array(conclude_excess(observe_pixels(image, watch)))})
        wiser = shot._replace(context=shot.context.wiser(learnt))
        values, errors, true = beside_truth(integrated(wiser, 0.02, image=image)[1], shot)
        z += list((values - true) / errors)
    assert 0.85 < (np.percentile(z, 84) - np.percentile(z, 16)) / 2 < 1.2


def test_each_shot_is_measured_afresh(shots):
    """Buffers are reused from shot to shot; nothing of one may be seen in the next."""
    stage = ProfileIntegrator()
    prepared = stage.prepare(shots[0].context)
    once = integrated(shots[0])[1]
    for shot in (shots[1], shots[0]):
        again = stage(shot.image, shot.context.shot(shot.event), lattice_rows(shot.axes), NO_PEAKS, prepared)[1]
    assert np.array_equal(once, again)
    assert not prepared.claims.one.any() and not prepared.claims.more.any() and not prepared.light.any()


def test_more_completeness_brings_more_reflections(shots):
    few, many = (len(integrated(shots[0], completeness=c)[1]) for c in (0.8, 0.999))
    assert few < many


def test_likely_photons_lie_between_what_was_measured_and_what_is_expected():
    class Column:
        pass
    before, rows = Column(), Column()
    before.lattice, before.rows, before.measured = np.zeros(4, int), Column(), Column()
    before.rows.hkl = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    before.measured.intensity, before.measured.sigma = np.array([100.0, -2.0, 1.0, np.nan]), np.array([10.0, 3.0, 300.0, 1.0])
    rows.hkl, rows.expected = before.rows.hkl[[0, 1, 2, 3]], np.array([50.0, 5.0, 20.0, 5.0])
    likely = shining(np.zeros(4, int), rows, before)
    grid = np.linspace(0, 2000, 400_001)
    for i in range(3):
        weight = np.exp(-grid / rows.expected[i]
                        - 0.5 * ((grid - before.measured.intensity[i]) / before.measured.sigma[i]) ** 2)
        assert likely[i] == pytest.approx(np.sum(grid * weight) / np.sum(weight), rel=5e-3)
    assert likely[3] == 0.0


@pytest.mark.parametrize("intensity, expected", [(3.0, 0.1), (-4.0, 0.09), (0.0, 0.0815), (-30.0, 2.0)])
def test_likely_photons_are_right_where_next_to_nothing_is_expected(intensity, expected):
    """There the mean of the distribution differs from what was expected by little, and that little is what counts."""
    out, x = np.empty(1), np.linspace(0.0, 40.0 * expected, 400_001)
    fill_likely(np.array([intensity]), np.array([2.0]), np.array([expected]), out)
    weight = np.exp(-x / expected - 0.5 * (x ** 2 - 2 * x * intensity) / 4.0)
    assert out[0] == pytest.approx(trapezoid(x * weight, x) / trapezoid(weight, x), rel=5e-5)


def test_strong_reflections_are_those_that_the_model_expects_to_stand_out():
    rows = np.zeros(4, REFLECTION)
    rows["intensity"], rows["sigma"] = [100.0, 0.0, 30.0, 50.0], [10.5, 2.0, 6.0, 7.1]
    assert seen_fraction(rows, np.array([100.0, 100.0, 1.0, 60.0]), 5.0, 2.0) == pytest.approx(2 / 3)
    assert np.isnan(seen_fraction(rows, np.ones(4), 5.0, 2.0))


def test_polarised_light_is_corrected_for_along_its_field_alone():
    shot = context().shot(event())
    centre = shot.geometry.origin[0] / -shot.geometry.fs_axis[0, 0]
    far_along_x, far_along_y = (0.0, centre[1]), (centre[0], 0.0)
    along, across = (1.0 / polarisation(shot.geometry, 0, *place, *polarised(context().beam))
                     for place in (far_along_x, far_along_y))
    two_theta = np.arctan(shot.geometry.origin[0, 0] / 0.06)
    assert along == pytest.approx(np.cos(two_theta) ** 2, abs=1e-3) and across == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("apart", [3.0, 4.0])
def test_a_faint_spot_beside_a_bright_one_is_measured_without_its_light(apart):
    true, place, variance = np.array([600.0, 8.0]), np.array([[80.3, 100.6], [80.3 + apart, 100.6]]), 1.1
    photons = np.full((2, 384, 192), 1.0, np.float32)
    for amount, (x, y) in zip(true, place):
        edges = [norm.cdf((np.arange(n + 1) - c) / np.sqrt(variance)) for n, c in ((384, y), (192, x))]
        photons[0] += amount * np.outer(*map(np.diff, edges))
    rows = room(2)
    rows.hkl[:], rows.panel[:], rows.place[:] = [[1, 0, 0], [2, 0, 0]], 0, place
    rows.shape[:], rows.tail[:], rows.frame[:] = [variance, 0, variance], [0, 0, 0, 9, 0, 9], [1, 0, 0, 1]
    rows.excitation[:], rows.width[:], rows.partiality[:], rows.expected[:], rows.resolution[:] = 0, 1, 1, 50, 0.1
    stage, surroundings = ProfileIntegrator(), context()
    job = OneShot(stage, Image(photons, np.zeros(0, np.int64), 0.0), surroundings.shot(event()), NO_PEAKS,
                  stage.prepare(surroundings))
    job.predict = lambda *_: rows
    alone, together = (job.measure([(None, None)], (0.0, least), None).measured for least in (0.0, 0.1))
    assert alone.intensity[1] > true[1] + 2 * alone.sigma[1]
    assert np.all(np.abs(together.intensity - true) < 0.3 * together.sigma)
