"""Simulated frames against their own truth and against statistics: photons, least errors, read-out, dirt, layouts."""
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from mpixfel.errors import MpixfelError
from mpixfel.simulate import SimulateOptions, make_scene, simulate_frame
from mpixfel.simulate.frame import draw_shot, expose, frame_rng
from mpixfel.simulate.presets import PRESETS
from mpixfel.simulate.readout import STAGE_CODE

# A small detector that still sees a few hundred reflections.
SMALL = {"size": 240, "pixel_um": 300.0, "blank_fraction": 0.0, "dead_pixels": 20, "hot_pixels": 9, "beam_stop_px": 5.0,
         "seed": 11}


def scene_of(kind="lysozyme", **given):
    return make_scene(SimulateOptions.of(kind, **{**SMALL, **given}))


def test_photons_in_the_truth_are_those_on_the_image():
    scene = scene_of(resolution_angstrom=3.0)
    frame = simulate_frame(scene, 0)
    background = frame.shot.background_ph * scene.water
    assert len(frame.reflections[0]["photons"]) > 100
    total = (frame.expected.astype(float) - background).sum()
    assert total == pytest.approx(frame.lattices[0]["bragg_photons"], rel=1e-4)
    assert frame.reflections[0]["photons"].sum() == pytest.approx(total, rel=0.02)
    # A lonely strong reflection: what stands around its position is its own.
    rows = frame.reflections[0]
    apart = np.hypot(rows["fs"][:, None] - rows["fs"], rows["ss"][:, None] - rows["ss"]) + 1e3 * np.eye(len(rows["fs"]))
    inside = (np.abs(rows["fs"] - 120) < 100) & (np.abs(rows["ss"] - 120) < 100) & (apart.min(axis=1) > 9)
    best = np.argmax(np.where(inside, rows["photons"], 0))
    fs, ss = int(rows["fs"][best]), int(rows["ss"][best])
    box = np.s_[0, ss - 4:ss + 5, fs - 4:fs + 5]
    signal = frame.expected[box].astype(float) - background[box]
    assert signal.sum() == pytest.approx(rows["photons"][best], rel=0.01)
    assert (signal * (np.arange(fs - 4, fs + 5) + 0.5)).sum() / signal.sum() == pytest.approx(rows["fs"][best], abs=0.01)


def test_counted_photons_follow_poisson_around_the_expected():
    scene = scene_of(background_ph=2.0)
    frame = simulate_frame(scene, 0)
    z = (frame.counted - frame.expected)[frame.expected > 0] / np.sqrt(frame.expected[frame.expected > 0])
    assert z.mean() == pytest.approx(0.0, abs=5.0 / np.sqrt(z.size))
    assert z.var() == pytest.approx(1.0, rel=0.03)
    assert np.all(frame.counted[frame.expected == 0] == 0)


def test_the_best_weighted_sum_of_pixels_is_as_uncertain_as_the_bound_says():
    scene = scene_of("small", adu_per_photon=20.0, noise_adu=8.0, crystal_um=2.0)
    shot = replace(draw_shot(scene, frame_rng(1, 0)), background_ph=1.0)
    frame = expose(scene, shot, frame_rng(1, 0))
    rows = frame.reflections[0]
    apart = np.hypot(rows["fs"][:, None] - rows["fs"], rows["ss"][:, None] - rows["ss"]) + 1e3 * np.eye(len(rows["fs"]))
    fit = (rows["photons"] > 20) & (apart.min(axis=1) > 9) & (np.abs(rows["fs"] - 120) < 90) & (np.abs(rows["ss"] - 120) < 90)
    rng = np.random.default_rng(3)
    checked = 0
    for one in np.flatnonzero(fit)[:4]:
        fs, ss = int(rows["fs"][one]), int(rows["ss"][one])
        box = np.s_[0, ss - 5:ss + 6, fs - 5:fs + 6]
        if (scene.mask[box] != 0).any():
            continue
        background = (shot.background_ph * scene.water)[box].astype(float)
        expected = frame.expected[box].astype(float)
        share = (expected - background) / rows["photons"][one]
        weight = share / (expected + (8.0 ** 2 + 1 / 12) / 20.0 ** 2)
        draws = rng.poisson(expected, (4000, *expected.shape)) + rng.normal(0, 8.0 / 20.0, (4000, *expected.shape))
        estimate = ((draws - background) * weight).sum(axis=(1, 2)) / (share * weight).sum()
        assert estimate.mean() == pytest.approx(rows["photons"][one], abs=4 * estimate.std() / np.sqrt(4000) + 0.02)
        assert estimate.std() == pytest.approx(rows["sigma_bound"][one], rel=0.05)
        checked += 1
    assert checked >= 2


def test_polarisation_takes_the_cosine_squared_away_along_the_field():
    along, across = [], []
    for fraction in (1.0, 0.0):
        water = scene_of(polarisation_fraction=fraction, dead_pixels=0, hot_pixels=0).water[0]
        # Same distance to the left and below the beam, which is at (125.3, 112.4).
        along.append(water[112, 25])
        across.append(water[12, 125])
    cosine2 = np.cos(np.arctan(100.0 * 0.3 / 60.0)) ** 2
    assert along[0] / across[0] == pytest.approx(cosine2, rel=0.02)
    assert along[1] / across[1] == pytest.approx(1.0 / cosine2, rel=0.02)


def test_frames_do_not_depend_on_their_order_and_seeds_differ():
    scene = scene_of()
    late, early = simulate_frame(scene, 3), simulate_frame(scene, 0)
    again = simulate_frame(scene_of(), 3)
    assert np.array_equal(late.counted, again.counted)
    assert not np.array_equal(late.counted, early.counted)
    assert not np.array_equal(simulate_frame(scene_of(seed=12), 3).counted, late.counted)


def test_words_of_a_dark_frame_have_the_pedestal_and_the_noise():
    scene = scene_of(pedestal_adu=1000.0, pedestal_sigma_adu=40.0, noise_adu=6.0, adu_per_photon=25.0)
    electronics, nothing = scene.electronics, np.zeros(scene.stack_shape, np.int32)
    stack = np.zeros((60, *scene.stack_shape), electronics.dtype)
    for i, words in enumerate(stack):
        electronics.words(nothing, np.random.default_rng(i), words)
    good = np.setdiff1d(np.arange(nothing.size), np.r_[electronics.dead, electronics.hot])
    flat = stack.reshape(60, -1).astype(float)
    error = (flat.mean(axis=0) - electronics.pedestal[0])[good] / (6.0 / np.sqrt(60))
    assert error.mean() == pytest.approx(0.0, abs=0.05)
    assert error.std() == pytest.approx(1.0, rel=0.03)
    assert np.sqrt(flat[:, good].var(axis=0, ddof=1).mean()) == pytest.approx(np.sqrt(36.0 + 1 / 12), rel=0.01)
    assert electronics.pedestal[0].std() == pytest.approx(40.0, rel=0.05)
    assert np.all(flat[:, electronics.dead] == 0)
    assert np.all(flat[:, electronics.hot].mean(axis=0) > electronics.pedestal[0][electronics.hot] + 1000)


def test_the_common_mode_moves_whole_panels_together():
    scene = scene_of(layout="tiles", pedestal_adu=500.0, common_mode_adu=30.0, noise_adu=1.0, dead_pixels=0, hot_pixels=0)
    nothing = np.zeros(scene.stack_shape, np.int32)
    offsets = []
    for i in range(40):
        words = np.zeros(scene.stack_shape, np.uint16)
        scene.electronics.words(nothing, np.random.default_rng(i), words)
        offsets.append(np.median(words.astype(float) - 500.0, axis=(1, 2)))
    offsets = np.array(offsets)
    assert offsets.std() == pytest.approx(30.0, rel=0.15)
    assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.6


def test_photons_come_back_from_words_with_gain_stages():
    scene = scene_of(adu_per_photon=400.0, pedestal_adu=3000.0, pedestal_sigma_adu=100.0, noise_adu=25.0,
                     gain_switching=True, saturation_adu=16383)
    electronics = scene.electronics
    photons = np.random.default_rng(0).integers(0, 3000, scene.stack_shape).astype(np.int32)
    photons[0, :20] = np.arange(20 * 240).reshape(20, 240) % 40
    words = np.zeros(scene.stack_shape, np.uint16)
    electronics.words(photons, np.random.default_rng(1), words)
    words, photons = words.reshape(-1), photons.reshape(-1)
    good = np.setdiff1d(np.arange(words.size), np.r_[electronics.dead, electronics.hot])
    stage = np.searchsorted(STAGE_CODE, words >> 14)
    back = ((words & 0x3FFF) - electronics.pedestal[stage, np.arange(words.size)]) / electronics.gain[stage]
    assert set(stage[good]) == {0, 1, 2}
    # Low signals stay in the first stage, high ones reach the last.
    assert photons[good][stage[good] == 0].max() < 40 and photons[good][stage[good] == 2].min() > 500
    sigma = np.sqrt(electronics.noise ** 2 + 1 / 12) / np.abs(electronics.gain)
    for s in range(3):
        error = (back - photons)[good][stage[good] == s]
        assert error.mean() == pytest.approx(0.0, abs=5 * sigma[s] / np.sqrt(error.size))
        assert error.std() == pytest.approx(sigma[s], rel=0.05)
    claimed = np.sqrt(electronics.variance(photons.astype(np.float32)))
    assert np.mean(np.isclose(claimed, sigma[stage], rtol=1e-3)[good]) > 0.99


def test_rings_of_ice_and_salt_stand_at_their_spacings():
    scene = scene_of("dirty", ice_ph=3.0, salt_ph=0.0, streak_ph=0.0, hot_region_ph=0.0, shadow=0.0, size=800, pixel_um=120.0)
    _, ss, fs = np.indices(scene.stack_shape) + 0.5
    radius = np.hypot(fs - 405.3, ss - 392.4) * 120e-6
    d = 1.305096825 / (2.0 * np.sin(0.5 * np.arctan(radius / 60e-3)))
    upwards = (np.abs(fs - 405.3) < 3)     # across the field, where polarisation takes nothing
    peak = {}
    for ring in (3.90, 3.67, 3.44, 2.67, 2.25):
        near = upwards & (np.abs(d / ring - 1) < 0.02)
        peak[ring] = d[near][np.argmax(scene.dirt[near])]
        assert peak[ring] == pytest.approx(ring, rel=0.005)
    between = upwards & ((np.abs(d - 3.1) < 0.1) | (np.abs(d - 4.5) < 0.2))
    assert scene.dirt[between].max() < 0.05


def test_dirt_is_on_blank_frames_and_no_reflection_is():
    scene = scene_of("dirty", blank_fraction=1.0)
    frame = simulate_frame(scene, 0)
    assert frame.shot.is_blank and not frame.lattices
    assert (scene.dirt > 5.0).sum() > 50 and (scene.transmission < 0.5).mean() > 0.03
    assert scene_of().dirt.max() == 0 and scene_of().transmission.min() == 1


@pytest.mark.parametrize("kind", ["thermolysin-cspad", "lysozyme-jungfrau"])
def test_panels_of_large_detectors_do_not_overlap_and_fill_their_places_in_the_file(kind):
    scene = make_scene(SimulateOptions.of(kind, dark_frames=0))
    panels = scene.arrangement.detector.panels
    assert len(panels) == (64 if "cspad" in kind else 8)
    assert scene.arrangement.block_shape == ((1480, 1552) if "cspad" in kind else (8, 512, 1024))
    block = np.zeros(scene.arrangement.block_shape, int)
    for p in range(len(panels)):
        scene.arrangement.place(p, block)[...] += 1
    assert block.min() == block.max() == 1
    # Corners and edges of each panel lie outside every other.
    geometry = scene.geometry
    for p, panel in enumerate(panels):
        edge = np.linspace(0, 1, 30)
        fs = np.r_[edge, edge, 0 * edge, 0 * edge + 1] * panel.shape[1]
        ss = np.r_[0 * edge, 0 * edge + 1, edge, edge] * panel.shape[0]
        points = geometry.origin[p] + np.outer(fs, geometry.fs_axis[p]) + np.outer(ss, geometry.ss_axis[p])
        for other in range(len(panels)):
            if other != p:
                there = np.linalg.solve(np.column_stack([geometry.fs_axis[other], geometry.ss_axis[other],
                                                         np.cross(geometry.fs_axis[other], geometry.ss_axis[other])]),
                                        (points - geometry.origin[other]).T)
                inside = ((there[0] > 0) & (there[0] < panels[other].shape[1]) & (there[1] > 0)
                          & (there[1] < panels[other].shape[0]))
                assert not inside.any()


def test_the_point_of_interaction_moves_the_pattern():
    still, moved = scene_of(), scene_of()
    shot = draw_shot(still, frame_rng(5, 0))
    before = expose(still, shot, frame_rng(5, 0)).reflections[0]
    # 300 um towards +x: with fast axis -x and 300 um pixels, one pixel up in fs is one to the right, so fs falls by one.
    after = expose(moved, replace(shot, source_m=np.array([3e-4, 0.0, 0.0])), frame_rng(5, 0)).reflections[0]
    place = {tuple(h): (f, s) for h, f, s in zip(before["hkl"], before["fs"], before["ss"])}
    strong = [i for i in np.argsort(-after["photons"])[:40] if tuple(after["hkl"][i]) in place]
    delta = np.array([(after["fs"][i], after["ss"][i]) - np.array(place[tuple(after["hkl"][i])]) for i in strong])
    np.testing.assert_allclose(np.median(delta, axis=0), (-1.0, 0.0), atol=0.02)


@pytest.mark.parametrize("kind", PRESETS)
def test_every_kind_has_a_cell_that_its_space_group_allows(kind):
    options = SimulateOptions.of(kind)
    group = gemmi.find_spacegroup_by_name(options.space_group)
    cell = gemmi.UnitCell(*options.cell)
    assert cell.is_compatible_with_spacegroup(group)


def test_wrong_options_are_told():
    with pytest.raises(MpixfelError, match="unknown kind"):
        SimulateOptions.of("lysosyme")
    with pytest.raises(MpixfelError, match="out of range"):
        SimulateOptions.of("lysozyme", blank_fraction=1.5)
    with pytest.raises(MpixfelError, match="give 6"):
        SimulateOptions.of("lysozyme", cell=(1.0, 2.0))
    with pytest.raises(MpixfelError, match="space group"):
        make_scene(SimulateOptions.of("lysozyme", space_group="P9", size=32))
    with pytest.raises(MpixfelError, match="cannot have space group"):
        make_scene(SimulateOptions.of("lysozyme", cell=(20.0, 30.0, 40.0, 90.0, 90.0, 90.0), size=32))
