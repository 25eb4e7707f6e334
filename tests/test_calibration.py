"""Raw words to photons: against plain NumPy, against a facility's own result, and against what was put in."""
from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401  the shared data are compressed with its filters
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_detector import context_of, event_of, flat_context, panel

from mpixfel.errors import BadData, MpixfelError
from mpixfel.kernels import background, highs
from mpixfel.model.constants import Constants
from mpixfel.stages.boxes import Boxes
from mpixfel.stages.calibration import Calibration

DTYPES = ("u1", "u2", "i2", "i4", "u4", "f4", "f8")


def calibrate(context, event, **options):
    stage = Calibration(**options)
    image = stage(event, context.shot(event), stage.prepare(context))
    return image.photons.copy(), image.saturated.copy(), image.readout_sigma


def naive(raw, panels, gains, mask, stack):
    """Photons and saturated pixels, panel by panel, as the words say."""
    out, saturated = np.full(stack, np.nan), np.zeros(stack, bool)
    for i, p in enumerate(panels):
        ss, fs = p.shape
        words = raw[p.min_ss:p.min_ss + ss, p.min_fs:p.min_fs + fs].astype(float)
        bad = mask[i, :ss, :fs] | (words < p.flag_less_than) | (words > p.flag_more_than) | ~np.isfinite(words)
        bad |= words == p.flag_equal
        out[i, :ss, :fs] = np.where(bad, np.nan, words / gains[i])
        saturated[i, :ss, :fs] = (words > p.max_adu) & ~mask[i, :ss, :fs] & ~np.isnan(words)
    return out, np.flatnonzero(saturated)


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(DTYPES), flags=st.booleans(),
       sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 140)), min_size=1, max_size=4))
def test_panels_are_cut_out_masked_and_scaled_as_plain_numpy_does(seed, dtype, flags, sizes):
    rng = np.random.default_rng(seed)
    at, panels = 0, []
    for i, (ss, fs) in enumerate(sizes):
        limits = {"flag_less_than": 3.0, "flag_more_than": 95.0, "flag_equal": 50.0, "max_adu": 90.0} if flags else {}
        limits["adu_per_photon"] = rng.uniform(0.5, 40)
        panels.append(panel(f"p{i}", (ss, fs), (at, int(rng.integers(0, 5))), **limits))
        at += ss
    raw = rng.integers(0, 100, (at + 1, 150)).astype(dtype)
    if dtype[0] == "f":
        raw[rng.random(raw.shape) < 0.02] = rng.choice([np.nan, np.inf, -np.inf])
    context = context_of(*panels)
    mask = rng.random(context.detector.stack_shape) < 0.1
    context = context_of(*panels, mask=mask)
    photons, saturated, sigma = calibrate(context, event_of(raw))
    expected, expected_saturated = naive(raw, panels, [p.adu_per_photon for p in panels], mask, photons.shape)
    np.testing.assert_allclose(photons, expected, rtol=3e-7)
    np.testing.assert_array_equal(saturated, expected_saturated)
    assert photons.dtype == np.float32 and np.isnan(sigma)


@given(seed=st.integers(0, 2**32 - 1), gains=st.sampled_from(["none", "jungfrau"]),
       sizes=st.lists(st.tuples(st.integers(1, 14), st.integers(1, 80)), min_size=1, max_size=3))
def test_highs_and_samples_are_those_of_the_image_that_is_made(seed, gains, sizes):
    rng, at, panels = np.random.default_rng(seed), 0, []
    for i, (ss, fs) in enumerate(sizes):
        panels.append(panel(f"p{i}", (ss, fs), (at, int(rng.integers(0, 5))), max_adu=90.0, flag_equal=50.0))
        at += ss
    stack = context_of(*panels).detector.stack_shape
    constants = Constants(np.zeros((1, 3, *stack), "f4"), np.ones(stack, "f4"), np.ones((1, 3, *stack), "f4"), unit="photon")
    context = context_of(*panels, mask=rng.random(stack) < 0.01, constants=constants if gains == "jungfrau" else None)
    stage = Calibration(gain_switching=gains, common_mode="none")
    boxes, others = (Boxes(context.detector, context.mask) for _ in range(2))
    prepared, samples = stage.prepare(context, boxes), others.samples
    for _ in range(2):
        event = event_of(rng.integers(0, 100, (at + 1, 90)).astype(np.uint16))
        image = stage(event, context.shot(event), prepared)
        expected = highs.highs_of(stack)
        highs.fill_highs(image.photons, prepared.tables.layout.shape, highs.room(stack), expected)
        np.testing.assert_array_equal(image.highs, expected)
        background.sample(image.photons, samples)
        np.testing.assert_array_equal(image.samples, samples.values)


def test_an_image_that_is_changed_once_more_has_neither_highs_nor_samples():
    context, event = flat_context(40), event_of(np.ones((40, 40), np.uint16))
    boxes, glances = Boxes(context.detector, None), lambda image: [image.highs is not None, image.samples is not None]
    counting = Calibration(photon_threshold=0.5, two_photon_threshold=1.5)
    assert not any(glances(counting(event, context.shot(event), counting.prepare(context, boxes))))
    plain, masked = Calibration(), replace(event, masks=((0, np.zeros((40, 40), bool)),))
    prepared = plain.prepare(context, boxes)
    assert not any(glances(plain(masked, context.shot(event), prepared)))
    assert all(glances(plain(event, context.shot(event), prepared)))
    assert not any(glances(plain(event, context.shot(event), plain.prepare(context))))


def test_photons_are_counted_as_none_one_or_two_by_thresholds_in_adu():
    """As the old program counted: below the first threshold 0, from the second on 2, otherwise 1; bad pixels stay bad."""
    panels = [panel("a", (1, 4), adu_per_photon=20.0), panel("b", (1, 4), (1, 0), adu_per_photon=25.0, flag_equal=99.0)]
    raw = np.array([[-7, 11, 12, 29], [30, 31, 500, 99]], np.int32)
    photons, _, _ = calibrate(context_of(*panels), event_of(raw), photon_threshold=12.0, two_photon_threshold=30.0)
    np.testing.assert_array_equal(photons, [[[0, 0, 1, 1]], [[2, 2, 2, np.nan]]])
    with pytest.raises(MpixfelError, match="only one of"):
        Calibration(photon_threshold=12.0)


def test_panels_may_stand_in_several_blocks_and_saturated_pixels_are_in_order():
    panels = [panel("a", (2, 3), block=1, max_adu=5.0), panel("b", (2, 3), block=0, max_adu=5.0)]
    blocks = np.array([[9, 1, 1], [1, 1, 9]]), np.array([[1, 9, 1], [1, 1, 1]])
    photons, saturated, _ = calibrate(context_of(*panels), event_of(*blocks))
    assert photons.tolist() == [blocks[1].tolist(), blocks[0].tolist()]
    assert saturated.tolist() == [1, 6, 11]


def test_a_saturation_map_counts_pixel_by_pixel():
    level = np.array([[[10, 20, 30]]], np.float32)
    context = context_of(panel("p", (1, 3)), saturation_adu=level)
    assert calibrate(context, event_of(np.array([[11, 20, 31]])))[1].tolist() == [0, 2]


def test_gain_per_electronvolt_follows_the_photon_energy_of_the_shot():
    context = context_of(panel("p", (1, 1), adu_per_photon=None, adu_per_ev=0.01))
    assert calibrate(context, event_of([[190]], energy=9500.0))[0][0, 0, 0] == pytest.approx(2.0)
    assert calibrate(context, event_of([[190]], energy=19000.0))[0][0, 0, 0] == pytest.approx(1.0)


def test_the_image_stands_in_the_same_memory_for_every_event():
    context, stage = flat_context(64), Calibration()
    prepared = stage.prepare(context)
    shot = context.shot(event_of())
    first, second = (stage(event_of(np.full((64, 64), n, np.uint16)), shot, prepared) for n in (1, 2))
    assert np.shares_memory(first.photons, second.photons) and (first.photons == 2).all()


@pytest.mark.parametrize("blocks", [(), (np.zeros((3, 8), np.uint16),), (np.zeros((8, 7), np.uint16),),
                                    (np.zeros((2, 8, 8), np.uint16),)])
def test_a_block_that_cannot_hold_its_panels_is_bad_data(blocks):
    with pytest.raises(BadData):
        calibrate(flat_context(8), event_of(*blocks))


def test_pedestal_noise_gain_map_and_mask_of_the_constants_are_used():
    rng = np.random.default_rng(5)
    raw, pedestal = rng.integers(900, 1200, (16, 16)).astype(np.uint16), rng.normal(1000, 30, (16, 16))
    factor, noise, bad = rng.uniform(0.8, 1.2, (16, 16)), rng.uniform(3, 5, (16, 16)), rng.random((16, 16)) < 0.1
    noise[3, 4], noise[5, 6] = 0.0, 100.0                          # dead, noisy
    constants = Constants(pedestal[None, None, None].astype("f4"), noise[None].astype("f4"),
                          factor[None, None, None].astype("f4"), bad=bad[None])
    context = context_of(panel("p", (16, 16), adu_per_photon=30.0), constants=constants)
    photons, _, sigma = calibrate(context, event_of(raw), common_mode="none")
    bad[3, 4] = bad[5, 6] = True
    np.testing.assert_array_equal(np.isnan(photons[0]), bad)
    np.testing.assert_allclose(photons[0][~bad], ((raw - pedestal) * factor / 30)[~bad], atol=2e-5)
    np.testing.assert_allclose(sigma[0][~bad], (noise * factor / 30)[~bad], rtol=1e-5)


def test_outermost_pixels_can_be_masked_on_every_panel():
    photons, _, _ = calibrate(context_of(panel("a", (6, 8)), panel("b", (4, 5))), event_of(np.ones((6, 8), int)),
                              mask_edge_pixels=1)
    assert np.isfinite(photons[0]).sum() == 4 * 6 and np.isfinite(photons[1]).sum() == 2 * 3


def test_hot_pixels_that_the_run_has_learnt_are_masked():
    context = flat_context(8)
    hot = np.zeros((1, 8, 8), bool)
    hot[0, 2, 3] = True
    learnt = context.wiser(type(context.learnt)(extra={"hot_pixels": hot}))
    photons, _, _ = calibrate(learnt, event_of(np.ones((8, 8), int)))
    np.testing.assert_array_equal(np.isnan(photons), hot)


@given(seed=st.integers(0, 2**32 - 1), reverse=st.booleans())
def test_masks_of_one_event_take_out_its_pixels_and_no_others(seed, reverse):
    rng = np.random.default_rng(seed)
    panels = [panel("a", (4, 9), (2, 1), block=1, max_adu=80.0), panel("b", (5, 7), (0, 2), max_adu=80.0),
              panel("c", (3, 9), (5, 0), max_adu=80.0)]
    blocks = rng.integers(0, 100, (8, 12)), rng.integers(0, 100, (7, 10))
    bad = [(b, rng.random(blocks[b].shape) < rng.choice([0.0, 0.2, 1.0])) for b in (0, 1)[:rng.integers(0, 3)]]
    context, stage = context_of(*panels), Calibration()
    shot, prepared = context.shot(event_of()), stage.prepare(context)
    event = replace(event_of(*blocks), masks=tuple(bad[::-1] if reverse else bad))
    for masks, some in ((dict(bad), event), ({}, event_of(*blocks))):      # the next event has no mask any more
        image = stage(some, shot, prepared)
        expected, saturated = np.full((3, 5, 9), np.nan), []
        for i, p in enumerate(panels):
            cut = np.s_[p.min_ss:p.min_ss + p.shape[0], p.min_fs:p.min_fs + p.shape[1]]
            good = ~masks.get(p.block, np.zeros(blocks[p.block].shape, bool))[cut]
            expected[i, :p.shape[0], :p.shape[1]] = np.where(good, blocks[p.block][cut], np.nan)
        np.testing.assert_array_equal(image.photons, expected)
        np.testing.assert_array_equal(image.saturated, np.flatnonzero(expected > 80))


def test_a_mask_of_one_event_that_cannot_hold_the_panels_is_bad_data():
    event = replace(event_of(np.ones((8, 8), int)), masks=((0, np.zeros((8, 7), bool)),))
    with pytest.raises(BadData, match="mask of shape"):
        calibrate(flat_context(8), event)


# Gain switching

def test_jungfrau_frames_agree_with_the_facility_to_a_thousandth_of_a_photon(shared_data):
    with h5py.File(shared_data / "real" / "jungfrau_module.h5") as f:
        raw, reference = f["raw"][:], f["reference"][:].astype(float)
        pedestal = np.stack([f[f"pedestal/G{k}"][:] for k in range(3)])
        noise, energy = f["pedestal/G0_rms"][:], float(f.attrs["photon_energy_eV"])
    stage, value = np.where(raw >> 14 == 3, 2, raw >> 14), (raw & 0x3FFF).astype(float)
    # The gains are those that explain the reference best, one for each pixel and stage over the three frames.
    factor = np.ones(pedestal.shape)
    for k in range(3):
        use = (stage == k) & (np.abs(reference) > 1e-3) & (raw != 0xC000)
        above = value - pedestal[k]
        weight = (use * above * above).sum(axis=0)
        factor[k] = np.where(weight > 0, (use * above * reference).sum(axis=0) / np.maximum(weight, 1e-9), 1.0)
    constants = Constants(pedestal[None, :, None].astype("f4"), noise[None], factor[None, :, None].astype("f4"),
                          unit="photon")
    context = context_of(panel("m", (512, 1024)), constants=constants)
    for frame, truth in zip(raw, reference):
        photons, saturated, _ = calibrate(context, event_of(frame, energy=energy), gain_switching="jungfrau",
                                          common_mode="none")
        sound = np.isfinite(photons[0])
        sound.reshape(-1)[saturated] = False
        assert sound.mean() > 0.999
        assert np.abs(photons[0] - truth)[sound].max() < 1e-3
        assert set(saturated) == set(np.flatnonzero((frame == 0xC000) & np.isfinite(photons[0])))


def test_agipd_pixels_change_stage_where_the_gain_word_passes_its_thresholds():
    rng = np.random.default_rng(2)
    shape = (3, 7)
    words, gains = rng.integers(4000, 9000, shape).astype(np.uint16), rng.integers(4000, 9000, shape).astype(np.uint16)
    pedestal = rng.uniform(3000, 5000, (2, 3, 1, *shape)).astype("f4")
    factor = rng.uniform(0.5, 50, (2, 3, 1, *shape)).astype("f4")
    threshold = np.sort(rng.uniform(4500, 8500, (2, 2, 1, *shape)), axis=1).astype("f4")
    context = context_of(panel("p", shape), constants=Constants(pedestal, None, factor, threshold, unit="kev"))
    for cell in (0, 1):
        event = event_of(np.stack([words, gains]), energy=10000.0, memory_cell=cell)
        photons, _, _ = calibrate(context, event, gain_switching="agipd", common_mode="none")
        low, high = threshold[cell, :, 0]
        stage = (gains > low).astype(int) + (gains > high)
        expected = np.choose(stage, (words - pedestal[cell, :, 0]) * factor[cell, :, 0]) / 10.0
        np.testing.assert_allclose(photons[0], expected, rtol=2e-6)
    with pytest.raises(BadData, match="memory cell 2"):
        calibrate(context, event_of(np.stack([words, gains]), memory_cell=2), gain_switching="agipd")


def test_a_gain_switching_detector_without_constants_is_refused():
    with pytest.raises(MpixfelError, match="three stages"):
        Calibration(gain_switching="jungfrau").prepare(flat_context(8))


# Common mode

def dark_context(size, sections=1, seed=3):
    rng = np.random.default_rng(seed)
    pedestal = rng.normal(1000, 50, (size, size))
    constants = Constants(pedestal[None, None, None].astype("f4"), np.full((1, size, size), 4.0, "f4"))
    return rng, pedestal, context_of(panel("p", (size, size), adu_per_photon=25.0), constants=constants)


@pytest.mark.parametrize("lit, photons", [(0.0, 0.0), (0.3, 5.0), (0.7, 2.0), (1.0, 0.3), (1.0, 1.0)])
def test_the_robust_common_mode_is_not_fooled_by_light(lit, photons):
    rng, pedestal, context = dark_context(128)
    for shift in (-9.0, 0.0, 11.0):
        light = 25 * rng.poisson(photons, pedestal.shape) * (rng.random(pedestal.shape) < lit)
        raw = np.rint(pedestal + rng.normal(0, 4, pedestal.shape) + light + shift)
        image, _, _ = calibrate(context, event_of(raw.astype(np.int32)))
        remains = 25 * image[0] - light
        assert abs(remains.mean()) < 1.5, shift


def test_where_no_pixel_is_dark_nothing_is_taken_off():
    rng, pedestal, context = dark_context(128)
    light = 25 * (20 + rng.poisson(50.0, pedestal.shape))
    image, _, _ = calibrate(context, event_of(np.rint(pedestal + light).astype(np.int32)))
    assert abs((25 * image[0] - light).mean()) < 0.1


@pytest.mark.parametrize("method", ["robust", "mean", "median", "mode", "gaussian"])
def test_each_section_has_its_own_common_mode(method):
    rng, pedestal, context = dark_context(128)
    drift = np.kron([[12.0, -7.0], [3.0, 0.0]], np.ones((64, 64)))
    raw = np.rint(pedestal + drift + rng.normal(0, 4, pedestal.shape)).astype(np.int32)
    image, _, _ = calibrate(context, event_of(raw), common_mode=method, common_mode_sections=(2, 2))
    left = 25 * image[0].reshape(2, 64, 2, 64).mean(axis=(1, 3))
    # The mean of pixels below 2 sigma is low by construction.
    assert np.abs(left).max() < (6.5 if method == "mean" else 1.2)


def test_the_chebyshev_common_mode_takes_off_waves_but_no_peaks():
    rng, pedestal, context = dark_context(128)
    x = np.linspace(-1, 1, 128)
    wave = 10 * (x ** 2)[:, None] - 8 * np.cos(4 * x)[None, :]
    light = np.zeros((128, 128))
    light[40:43, 70:73] = 500
    raw = np.rint(pedestal + wave + light + rng.normal(0, 4, light.shape)).astype(np.int32)
    image, _, _ = calibrate(context, event_of(raw), common_mode="chebyshev")
    left = 25 * image[0] - light
    assert np.abs(left[4:-4, 4:-4].mean(axis=0)).max() < 2.5 and np.abs(left[4:-4, 4:-4].mean(axis=1)).max() < 2.5
    assert abs(left[40:43, 70:73].mean()) < 8
