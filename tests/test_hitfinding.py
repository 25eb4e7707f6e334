"""Hits and peaks against truth: the simulated sets, and frames of rings, streaks and shadows without a crystal."""
from dataclasses import replace

import h5py
import kernel_cases
import numpy as np
import pytest
from powder_frames import FRAMES, frame_without_crystal
from scipy.spatial import cKDTree
from small_detector import context_of, event_of, flat_context, panel

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry import read_geometry
from mpixfel.io.sources import open_source
from mpixfel.model import tables
from mpixfel.model.event import Event, Image, Skip
from mpixfel.model.experiment import Context
from mpixfel.stages.calibration import Calibration
from mpixfel.stages.hitfinding import HitFinding
from mpixfel.stages.peakfinder8 import Peakfinder8
from mpixfel.stages.pixels import PixelWatch, conclude_pixels, observe_pixels
from mpixfel.stages.rings import crowded
from mpixfel.stages.robust import RobustFinder

SETS = ("lyso-easy", "lyso-weak", "lyso-sparse", "multi", "hex", "bigcell", "small", "small-tric", "pink")
LEAST_VISIBLE = 10


class Set:
    """One of the shared sets, its frames calibrated one after the other."""

    def __init__(self, folder, finder, mask=True):
        name = folder.name
        geometry = read_geometry(folder / f"{name}.geom")
        self.source = open_source((str(folder / f"{name}.h5"),), geometry)
        self.context = Context(geometry.detector, geometry.beam, mask=self.source.static_mask() if mask else None)
        self.finder, self.calibration = finder, Calibration()
        self.prepared = finder.prepare(self.context), self.calibration.prepare(self.context)
        with h5py.File(folder / "truth.h5") as f:
            self.blank, self.visible = f["frame/is_blank"][:], f["frame/n_visible"][:]
            self.ring = f["frame/background_ph_at_ring"][:]
            frame = f["lattice/frame"][:][f["reflection/lattice"][:]]
            self.at = np.column_stack([f["reflection/ss"][:], f["reflection/fs"][:]])
            self.photons = f["reflection/photons"][:]
            # The least error of an intensity; a spot of 13 pixels on the background, where the file does not tell.
            self.sigma = (f["reflection/sigma_bound"][:] if "sigma_bound" in f["reflection"]
                          else np.sqrt(self.photons + 13 * np.maximum(self.ring[frame], 0.02)))
        self.of = [np.flatnonzero(frame == i) for i in range(len(self.blank))]

    def frames(self, change=lambda raw: raw, step=1):
        """Image and peaks of each frame: (number, Image, PEAK table, Shot)."""
        for i in range(0, len(self.source), step):
            event = self.source.event(i)
            event = Event(event.id, tuple(change(b) for b in event.raw), event.photon_energy_ev, event.clen_m)
            shot = self.context.shot(event)
            image = self.calibration(event, shot, self.prepared[1])
            yield i, image, self.finder(image, shot, self.prepared[0]), shot

    def score(self, image, peaks, i):
        """(distance of the nearest peak for each strong reflection on sound pixels, number of peaks that are none)."""
        rows = self.of[i]
        at, photons = self.at[rows], self.photons[rows]
        size = np.array(image.photons.shape[1:])
        inside = ((at > 1) & (at < size - 1)).all(axis=1)
        inside[inside] = np.isfinite(image.photons[0][tuple(at[inside].astype(int).T)])
        strong = inside & (photons > 6 * self.sigma[rows])
        found = np.column_stack([peaks["ss"], peaks["fs"]])
        near = cKDTree(found).query(at[strong])[0] if len(found) else np.full(strong.sum(), np.inf)
        return near, int((cKDTree(at[photons > 2]).query(found)[0] > 2).sum()) if len(found) else 0


@pytest.mark.parametrize("name", SETS)
def test_hits_and_peaks_of_the_simulated_sets_are_the_true_ones(shared_data, name):
    data, decision = Set(shared_data / name, RobustFinder()), HitFinding()
    near, foreign, n_peaks, hit = [], 0, 0, np.zeros(len(data.blank), bool)
    for i, image, peaks, shot in data.frames():
        hit[i] = not isinstance(decision.decide(peaks, image, shot), Skip)
        if not data.blank[i]:
            distances, false = data.score(image, peaks, i)
            near.append(distances)
            foreign, n_peaks = foreign + false, n_peaks + len(peaks)
    assert hit[~data.blank & (data.visible >= LEAST_VISIBLE)].mean() >= 0.99
    assert hit[~data.blank & (data.visible >= 5)].all()         # so few can be indexed, too
    assert not hit[data.blank].any()
    assert foreign <= 0.02 * n_peaks
    near = np.concatenate(near)
    assert (near < 2).mean() > 0.97
    # A wide bandwidth draws spots out: half a pixel is less than the photons of a pink spot allow.
    assert (near < 0.5).mean() > (0.78 if name == "pink" else 0.95)


@pytest.mark.parametrize("scale, pedestal", [(0.1, 0.0), (0.3, 40.0), (7.0, -250.0), (100.0, 1000.0)])
@pytest.mark.parametrize("name", ["lyso-weak", "lyso-sparse", "hex", "small"])
def test_scaled_frames_with_a_pedestal_give_the_same_hits(shared_data, name, scale, pedestal):
    data, decision = Set(shared_data / name, RobustFinder()), HitFinding()
    change = lambda raw: (scale * raw + pedestal).astype(np.float32)
    for i, image, peaks, shot in data.frames(change, step=5):
        hit = not isinstance(decision.decide(peaks, image, shot), Skip)
        if data.blank[i]:
            assert not hit
        elif data.visible[i] >= LEAST_VISIBLE:
            assert hit


@pytest.mark.parametrize("name", ["lyso-easy", "hex"])
def test_peakfinder8_finds_the_strong_reflections(shared_data, name):
    data = Set(shared_data / name, Peakfinder8())
    near, foreign, n = [], 0, 0
    for i, image, peaks, _ in data.frames(step=4):
        if not data.blank[i]:
            distances, false = data.score(image, peaks, i)
            near.append(distances)
            foreign, n = foreign + false, n + len(peaks)
    assert (np.concatenate(near) < 0.7).mean() > 0.95 and foreign <= 0.02 * n


def test_hot_and_dead_pixels_are_found_in_the_first_images(shared_data):
    data = Set(shared_data / "lyso-easy", RobustFinder(), mask=False)
    true, sums, watch = data.source.static_mask(), {}, PixelWatch(data.context)
    for _, image, _, _ in data.frames():
        for name, array in observe_pixels(image, watch).items():
            sums[name] = sums.get(name, 0) + array
    found = conclude_pixels(sums, watch)
    assert not (found & ~true).any()
    hot = np.nanmin(np.where(true, sums["out"], 1000), axis=0) > 0
    assert found[0][hot & (sums["out"][0] == len(data.source))].all()
    assert found.sum() >= 100         # 25 hot ones, and the dead ones where the light is strong enough to tell


@pytest.mark.parametrize("part", range(4))
def test_two_hundred_frames_of_powder_streaks_and_shadows_without_a_crystal_give_no_hit(part):
    context, finder, decision = FRAMES.context, RobustFinder(), HitFinding()
    prepared, shot = finder.prepare(context), context.shot(event_of())
    for seed in range(50 * part, 50 * (part + 1)):
        image = Image(frame_without_crystal(seed), np.zeros(0, np.int64))
        assert isinstance(decision.decide(finder(image, shot, prepared), image, shot), Skip), seed


def test_rings_that_hold_far_more_peaks_than_others_are_crowded():
    rng = np.random.default_rng(1)
    crystal, ice = 500 * np.sqrt(rng.random(120)), rng.normal(230, 3, 200)
    bad = crowded(np.concatenate([crystal, ice]))
    assert bad[120:].mean() > 0.95 and bad[:120].mean() < 0.12
    assert not crowded(crystal).any()


def test_a_few_grains_on_few_rings_are_no_crystal():
    rng = np.random.default_rng(2)
    grains = lambda n: rng.choice([210.0, 290.0, 331.0], n) + rng.normal(0, 0.4, n)
    left = [np.sum(~crowded(grains(n))) for n in (6, 7, 9, 12, 20)]
    assert sum(left) <= 3
    # Of a crystal, with one pair of equivalent reflections, nothing is taken; nor of one among grains.
    spared = []
    for n in (4, 6, 9, 14, 20, 30):
        for _ in range(50):
            crystal = 500 * np.sqrt(rng.random(n))
            crystal[1] = crystal[0]
            spared.append(not crowded(crystal).any())
    assert np.mean(spared) > 0.97
    among = np.concatenate([np.linspace(101, 460, 8), 290 + rng.normal(0, 0.4, 12)])
    bad = crowded(among)
    assert bad[8:].all() and bad[:8].sum() <= 1


def test_a_glance_in_calibration_changes_no_peak():
    words, context = kernel_cases.small_image(np.random.default_rng(5))
    finder, calibration, event = RobustFinder(), Calibration(), event_of(words)
    prepared, shot = finder.prepare(context), context.shot(event)
    glanced = calibration(event, shot, calibration.prepare(context, prepared.boxes))
    assert glanced.highs is not None and glanced.samples is not None
    one, other = (finder(image, shot, prepared) for image in (glanced, replace(glanced, highs=None, samples=None)))
    assert len(one) > 5 and one.tobytes() == other.tobytes()


def test_an_image_without_good_pixels_has_no_peaks():
    context = flat_context(128)
    finder = RobustFinder()
    image = Image(np.full((1, 128, 128), np.nan, np.float32), np.zeros(0, np.int64))
    assert len(finder(image, context.shot(event_of()), finder.prepare(context))) == 0


def spotty(seed=1, size=256):
    """A Poisson image with 30 spots on a grid, their places (ss, fs) and photons."""
    rng = np.random.default_rng(seed)
    at = np.array([(s, f) for s in range(20, 240, 40) for f in range(20, 240, 44)]) + rng.uniform(-3, 3, (30, 2))
    ss, fs = np.indices((size, size)) + 0.5
    light = np.full((size, size), 0.4)
    for s, f in at:
        light += 80 / (2 * np.pi) * np.exp(-0.5 * ((ss - s) ** 2 + (fs - f) ** 2))
    return rng.poisson(light).astype(np.float32), at


@pytest.mark.parametrize("scale, pedestal", [(0.1, 0.0), (0.1, -7.0), (3.0, 300.0), (100.0, 0.0), (100.0, 5000.0)])
def test_neither_gain_nor_pedestal_changes_the_peaks(scale, pedestal):
    image, at = spotty()
    blank = np.random.default_rng(8).poisson(0.4, image.shape).astype(np.float32)
    context, finder = flat_context(256), RobustFinder()
    shot, prepared = context.shot(event_of()), finder.prepare(context)
    found = finder(Image((scale * image + pedestal)[None], np.zeros(0, np.int64)), shot, prepared)
    assert len(found) == len(at) and len(finder(Image((scale * blank + pedestal)[None], np.zeros(0, np.int64)), shot,
                                                prepared)) == 0
    near = cKDTree(at).query(np.column_stack([found["ss"], found["fs"]]))[0]
    assert near.mean() < 0.3 and found["intensity"].mean() == pytest.approx(70 * scale, rel=0.2)
    assert found["background"].mean() == pytest.approx(0.4 * scale + pedestal, abs=0.1 * scale + 1e-4 * abs(pedestal))


@pytest.mark.parametrize("finder", [RobustFinder(), Peakfinder8(), Peakfinder8(exact=True)],
                         ids=["robust", "pf8", "exact"])
def test_a_peak_tells_place_photons_error_background_size_and_resolution(finder):
    image, at = spotty()
    context = flat_context(256)
    shot = context.shot(event_of())
    peaks = finder(Image(image[None], np.zeros(0, np.int64)), shot, finder.prepare(context))
    assert peaks.dtype == tables.PEAK and len(peaks) == 30
    distance, which = cKDTree(at).query(np.column_stack([peaks["ss"], peaks["fs"]]))
    assert sorted(which) == list(range(30)) and np.sqrt((distance ** 2).mean()) < 0.25
    assert (np.diff(peaks["snr"]) <= 0).all() and (peaks["lattice"] == -1).all()
    # peakfinder8 takes the faint skirts of a spot for background.
    assert peaks["background"].mean() == pytest.approx(0.4, abs=0.06 if isinstance(finder, RobustFinder) else 0.2)
    assert 55 < peaks["intensity"].mean() < 85
    assert 0.8 < np.std(peaks["intensity"]) / peaks["sigma"].mean() < 1.4
    x = (np.column_stack([peaks["fs"], peaks["ss"]]) - 128) * 75e-6
    two_theta = np.arctan(np.hypot(*x.T) / 0.06)
    np.testing.assert_allclose(peaks["resolution"], 2 * np.sin(two_theta / 2) / shot.wavelength_angstrom, rtol=1e-4)


def test_larger_pixels_on_the_edges_of_panels_are_no_peaks_and_spots_there_are_found():
    """Outermost columns of two or three times the area, each its own, as between the two ASICs of a CSPAD tile."""
    rng, n, found, foreign = np.random.default_rng(3), 96, 0, 0
    context = context_of(*(panel(f"p{k}", (n, n), (0, n * k), centre=(-50.0, 48.0)) for k in range(4)))
    finder, shot = RobustFinder(), context.shot(event_of())
    prepared, ss = finder.prepare(context), np.indices((n, n))[0]
    for _ in range(10):
        light, height = np.full((4, n, n), 1.0), rng.permutation(np.arange(5, n - 5, 16))[:4]
        for p, s in enumerate(height):
            light[p, :, n - 2:] += 25 * np.exp(-0.5 * (ss[:, :2] - s) ** 2)
        light[:, :, -1] *= 2.5 * rng.lognormal(0.0, 0.8, (4, n))
        peaks = finder(Image(rng.poisson(light).astype(np.float32), np.zeros(0, np.int64)), shot, prepared)
        true = (peaks["fs"] > n - 4) & (np.abs(peaks["ss"] - height[peaks["panel"]] - 0.5) < 2)
        found, foreign = found + true.sum(), foreign + (~true).sum()
    assert found >= 38 and foreign <= 4


def test_peaks_of_a_real_detector_are_no_denser_on_the_edges_of_its_asics(shared_data):
    """Two CSPAD images; the outermost two pixels are 4 % of the area, and the inner ones of a tile are larger."""
    name = str(shared_data / "real" / "thermolysin_cspad")
    geometry, on_edge, n = read_geometry(name + ".geom"), 0, 0
    with open_source((name + ".cxi",), geometry) as source:
        context, finder, calibration = Context(geometry.detector, geometry.beam), RobustFinder(), Calibration()
        prepared = finder.prepare(context), calibration.prepare(context)
        for i in range(len(source)):
            event = source.event(i)
            shot = context.shot(event)
            peaks = finder(calibration(event, shot, prepared[1]), shot, prepared[0])
            size = np.array([p.shape for p in geometry.detector.panels])[peaks["panel"]].T
            at = np.stack([peaks["ss"], peaks["fs"]])
            on_edge, n = on_edge + (np.minimum(at, size - at).min(axis=0) < 2).sum(), n + len(peaks)
    assert n > 400 and on_edge < 2 * 0.042 * n


def test_no_finder_depends_on_the_event_before():
    image, _ = spotty()
    other = np.random.default_rng(5).poisson(9, image.shape).astype(np.float32)
    context = flat_context(256)
    shot = context.shot(event_of())
    for finder in (RobustFinder(), Peakfinder8()):
        prepared = finder.prepare(context)
        tables_ = [finder(Image(i[None], np.zeros(0, np.int64)), shot, prepared) for i in (image, other, image)]
        assert tables_[0].tobytes() == tables_[2].tobytes() and len(tables_[0])


def test_only_strong_peaks_of_low_resolution_count_where_asked_for():
    peaks = np.zeros(4, tables.PEAK)
    peaks["snr"], peaks["resolution"] = [5, 8, 12, 20], [0.1, 0.3, 0.2, 0.6]
    image, shot = Image(np.zeros((1, 2, 2), np.float32), np.zeros(0, np.int64)), flat_context(2).shot(event_of())
    hit = lambda **options: not isinstance(HitFinding(**options).decide(peaks, image, shot), Skip)
    assert hit(min_peaks=4) and hit(min_peaks=3, min_snr=8) and not hit(min_peaks=3, min_snr=9)
    assert hit(min_peaks=3, finest_angstrom=3.0) and not hit(min_peaks=4, finest_angstrom=3.0)


@pytest.mark.parametrize("chance", [1e-2, 1e-4, 1e-8])
def test_a_hit_by_chance_is_as_rare_as_asked_for(chance):
    stage = HitFinding(min_peaks=1, max_chance=chance, chance_peaks=0.5)
    few = np.exp(-0.5) * np.cumsum([0.5 ** k / np.prod(np.arange(1.0, k + 1)) for k in range(30)])
    assert 1 - few[stage.least_peaks - 1] <= chance < 1 - few[stage.least_peaks - 2]


@pytest.mark.parametrize("wrong", [{"false_peaks_per_image": 0.0}, {"max_pixels": 3}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(MpixfelError, match=next(iter(wrong))):
        RobustFinder(**wrong)
