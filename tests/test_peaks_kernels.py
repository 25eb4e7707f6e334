"""Kernels of hit finding against naive twins, and plain against compiled."""
import json
import os
import pathlib
import subprocess
import sys

import kernel_cases
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_detector import context_of, panel

from mpixfel.kernels import background, edges, highs, peaks
from mpixfel.kernels.screen import expand, room, screen
from mpixfel.kernels.surroundings import patches
from mpixfel.model.event import Image
from mpixfel.stages.boxes import Boxes, slope_quantum
from mpixfel.stages.robust import falling
from mpixfel.stages.tail import Tail

seeds = st.integers(0, 2**32 - 1)


def test_plain_python_gives_what_the_compiled_kernels_give():
    script = pathlib.Path(__file__).with_name("kernel_cases.py")
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1",
                   "PYTHONPATH": os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])}
    plain = json.loads(subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True,
                                      text=True).stdout)
    compiled = kernel_cases.results()
    assert plain.keys() == compiled.keys() and all(len(v) for v in compiled.values())
    for name, values in compiled.items():
        np.testing.assert_allclose(plain[name], values, rtol=2e-4, atol=2e-4, err_msg=name)


# Background

def naive_moments(values, n_sigma, quantum, rounds):
    kept = values[np.isfinite(values)].astype(float)
    for _ in range(rounds - 1):
        if len(kept) < 2:
            return 0, 0.0, 0.0
        mean, reach = kept.mean(), n_sigma * kept.std(ddof=1) + quantum
        finite = values[np.isfinite(values)].astype(float)
        inside = finite[np.abs(finite - mean) <= reach]
        if len(inside) == len(kept):
            break
        kept = inside
    return (len(kept), kept.mean(), kept.var(ddof=1)) if len(kept) > 1 else (0, 0.0, 0.0)


@given(seed=seeds, pedestal=st.sampled_from([0.0, 1000.0, -300.0]), gain=st.sampled_from([0.1, 1.0, 30.0]),
       quantum=st.sampled_from([0.0, 3.0, 60.0]))
def test_clipped_moments_are_those_of_the_kept_values(seed, pedestal, gain, quantum):
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.uniform(0.1, 20), (7, 40)).astype(np.float32)
    values[rng.random(values.shape) < 0.05] *= 50
    values = (pedestal + gain * values).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0], out = np.nan, np.zeros((3, 7), np.float32)
    background.clipped_moments(values, np.float32(pedestal), np.float32(4), np.float32(quantum), 6, out)
    out = out.T
    expected = np.array([naive_moments(row, 4, quantum, 6) for row in values])
    np.testing.assert_array_equal(out[:, 0], expected[:, 0])
    np.testing.assert_allclose(out[:, 1], expected[:, 1], rtol=1e-4, atol=1e-3 * gain)
    np.testing.assert_allclose(out[:, 2], expected[:, 2], rtol=2e-3, atol=1e-3 * gain * gain)


@given(seed=seeds, grids=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3))
def test_boxes_are_pooled_with_their_neighbours_on_the_same_panel(seed, grids):
    rng = np.random.default_rng(seed)
    grid = np.array(grids, np.int64)
    first = np.concatenate([[0], np.cumsum(grid.prod(axis=1))[:-1]]).astype(np.int64)
    samples = [rng.normal(rng.uniform(0, 9), 1, rng.choice([0, 5, 30])) for _ in range(int(grid.prod(axis=1).sum()))]
    boxes = np.array([(len(v), v.mean(), v.var(ddof=1)) if len(v) else (0, 0, 0) for v in samples], np.float32).T.copy()
    out, least = np.empty_like(boxes), np.float32(rng.choice([0.0, 8.0]))
    background.pool(boxes, first, grid, least, out)
    for p, (ny, nx) in enumerate(grids):
        for y in range(ny):
            for x in range(nx):
                near = [samples[first[p] + j * nx + i] for j in range(ny) for i in range(nx)
                        if abs(j - y) <= 1 and abs(i - x) <= 1 and len(samples[first[p] + j * nx + i])]
                got = out[:, first[p] + y * nx + x]
                assert got[0] == sum(map(len, near))
                if near:
                    within = sum(((v - v.mean()) ** 2).sum() for v in near) / sum(len(v) - 1 for v in near)
                    within = max(within, least / got[0])
                    np.testing.assert_allclose(got[1:], [np.concatenate(near).mean(), within], rtol=1e-4)


@pytest.mark.parametrize("gain, pedestal", [(1.0, 0.0), (0.1, 50.0), (30.0, -1000.0), (100.0, 7.0)])
@pytest.mark.parametrize("mean", [0.02, 0.3, 3.0, 60.0])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_the_size_of_a_photon_is_found_whatever_the_gain_and_pedestal(gain, pedestal, mean, noise):
    rng = np.random.default_rng(4)
    slope = np.linspace(0.4, 1.6, 320)[:, None] * np.ones(320)
    image = (pedestal + gain * (rng.poisson(mean * slope) + rng.normal(0, noise, slope.shape))).astype(np.float32)
    boxes = Boxes(context_of(panel("p", image.shape)).detector, None)
    found = boxes.background(Image(image[None], np.zeros(0, np.int64)))
    # Read-out noise hides photons: the ratio of third to second cumulant is the most that small samples can tell.
    least = gain * mean / (mean + noise ** 2)
    assert 0.6 * least < found.quantum < 1.25 * gain
    np.testing.assert_allclose(found.mean.mean(), image.mean(), atol=0.02 * gain * (1 + mean))
    expected = gain ** 2 * (mean * slope + noise ** 2)
    assert found.variance.mean() == pytest.approx(expected.mean(), rel=0.2)


def test_samples_are_runs_that_begin_at_good_pixels_of_their_box():
    rng, shapes = np.random.default_rng(2), [(70, 100), (33, 61)]
    detector = context_of(*(panel(f"p{i}", shape, (70 * i, 0)) for i, shape in enumerate(shapes))).detector
    image = np.full(detector.stack_shape, np.nan, np.float32)
    for p, (height, width) in enumerate(shapes):
        ss, fs = np.indices((height, width))
        image[p, :height, :width] = 1e4 * p + 100 * ss + fs
    bad = rng.random(image.shape) < 0.2
    boxes = Boxes(detector, bad)
    boxes.background(Image(image, np.zeros(0, np.int64)))
    runs = boxes.values.reshape(len(boxes.values), -1, background.RUN)
    for p, ((ny, nx), (height, width)) in enumerate(zip(boxes.grid, shapes)):
        for j, i in np.ndindex(ny, nx):
            begin = runs[boxes.first[p] + j * nx + i, :, 0].astype(int)
            ss, fs = begin % 10000 // 100, begin % 100
            assert len(set(begin)) == len(begin) > 10 and not bad[p, ss, fs].any() and (begin // 10000 == p).all()
            assert (ss >= j * height // ny).all() and (ss < (j + 1) * height // ny).all()
            assert (fs >= i * width // nx).all() and (fs < (i + 1) * width // nx).all()
    np.testing.assert_array_equal(np.diff(runs, axis=2), 1.0)


def test_a_tenth_of_bright_boxes_does_not_move_the_size_of_a_photon():
    rng = np.random.default_rng(9)
    mean = rng.uniform(1, 3, 1000)
    boxes = np.array([np.full(1000, 64), rng.normal(mean, 0.05), mean * rng.normal(1, 0.15, 1000)], np.float32)
    boxes[2, ::10] *= 40
    boxes[1, ::20] += 3
    assert slope_quantum(boxes) == 1.0


# Tail

@pytest.mark.parametrize("probability", [1e-3, 5e-8])
@pytest.mark.parametrize("mean", [1e-4, 0.01, 0.3, 2.0, 9.0, 100.0, 5e4])
def test_the_bar_lies_between_the_whole_numbers_of_the_poisson_tail(probability, mean):
    level = mean + Tail(probability).bar(np.array([mean]), 1.0)[0]
    assert stats.poisson.sf(np.ceil(level + 1e-3) - 1, mean) <= probability * 1.02
    assert stats.poisson.sf(np.floor(level - 1e-3) - 1, mean) >= probability * 0.98


def test_the_bar_scales_with_the_quantum():
    tail = Tail(1e-6)
    assert tail.bar(np.array([7.0 * 900]), 30.0)[0] == pytest.approx(30 * tail.bar(np.array([7.0]), 1.0)[0])


# Screening

@given(seed=seeds, width=st.integers(1, 200), nx=st.integers(1, 9))
def test_boxes_are_interpolated_between_their_centres(seed, width, nx):
    boxes = np.random.default_rng(seed).random(nx).astype(np.float32)
    out = np.empty(256, np.float32)
    expand(boxes, 0, nx, width, out)
    at = (np.arange(width) + 0.5) * nx / width - 0.5
    expected = np.interp(at, np.arange(nx), boxes)
    np.testing.assert_allclose(out, np.pad(expected, (1, 255 - width), mode="edge"), atol=3e-6)


def highs_of_image(image, shape):
    """Highs of all cells of an image."""
    out = highs.highs_of(image.shape)
    highs.fill_highs(image, shape, highs.room(image.shape), out)
    return out


def naive_high(image, row, column):
    """The largest mean of 3 x 3 pixels, times nine, of a cell of one panel (ss, fs); NaN if any pixel is."""
    best = []
    for s in range(4 * row, min(4 * row + 4, image.shape[0])):
        for f in range(32 * column, min(32 * column + 32, image.shape[1])):
            best.append(9 * image[max(s - 1, 0):s + 2, max(f - 1, 0):f + 2].mean())
    return max(best) if np.isfinite(best).all() else np.nan


@given(seed=seeds, size=st.tuples(st.integers(1, 20), st.integers(1, 100)), pedestal=st.sampled_from([0.0, 500.0, -50.0]))
def test_highs_are_the_largest_sums_of_cells(seed, size, pedestal):
    rng = np.random.default_rng(seed)
    image = np.full((2, 20, 100), np.nan, np.float32)
    image[1, :size[0], :size[1]] = pedestal + rng.poisson(1.0, size)
    image[1][rng.random((20, 100)) < 0.005] = np.nan
    image[0] = rng.random((20, 100))
    found = highs_of_image(image, np.array([(20, 100), size]))[1]
    rows, columns = highs.cells(size)
    expected = [[naive_high(image[1, :size[0], :size[1]].astype(float), row, c) for c in range(columns)] for row in range(rows)]
    np.testing.assert_allclose(found[:rows, :columns], expected, rtol=1e-6, atol=1e-3)


@given(seed=seeds, sizes=st.lists(st.tuples(st.integers(3, 20), st.integers(3, 150)), min_size=1, max_size=3),
       pedestal=st.sampled_from([0.0, 500.0]))
def test_all_sums_above_the_threshold_are_found_and_no_others(seed, sizes, pedestal):
    rng = np.random.default_rng(seed)
    stack = (len(sizes), max(s for s, _ in sizes), max(f for _, f in sizes))
    image = np.full(stack, np.nan, np.float32)
    shape = np.array(sizes, np.int64)
    for p, (ss, fs) in enumerate(sizes):
        image[p, :ss, :fs] = pedestal + rng.poisson(1.0, (ss, fs))
    image[rng.random(stack) < 0.05] = np.nan
    grid, first = np.ones((len(sizes), 2), np.int64), np.arange(len(sizes))
    mean, threshold = np.full(len(sizes), pedestal + 1, np.float32), np.full(len(sizes), 5.5, np.float32)
    index, value = np.empty(image.size, np.int64), np.empty(image.size, np.float32)
    n = screen(image, highs_of_image(image, shape), shape, first, grid, mean, threshold, room(stack[2], len(mean)), index, value)
    order = np.argsort(index[:n])
    excess = np.nan_to_num(image - pedestal - 1)
    sums = np.zeros(stack)
    for p, (ss, fs) in enumerate(sizes):
        padded = np.pad(excess[p, :ss, :fs], 1)
        sums[p, :ss, :fs] = sum(padded[j:j + ss, i:i + fs] for j in range(3) for i in range(3))
    np.testing.assert_array_equal(index[order], np.flatnonzero(sums > 5.5))
    np.testing.assert_allclose(value[order], sums[sums > 5.5], atol=1e-3)


@given(seed=seeds, n=st.integers(0, 300))
def test_values_are_sorted_falling_and_equal_ones_stay_in_order(seed, n):
    value = np.random.default_rng(seed).integers(1, 20, n).astype(np.float32) * np.float32(0.37)
    np.testing.assert_array_equal(falling(value), np.argsort(-value, kind="stable"))


# From pixels to peaks

def divide(score, quantum=1.0, variance=0.0):
    """Owners (ss, fs) and summits [(ss, fs)] of one panel, from a map that is positive where pixels stand out."""
    shape = np.array([score.shape], np.int64)
    index = np.flatnonzero(score > 0)
    value = score.ravel()[index].astype(np.float32)
    owner, place = np.zeros((1, *score.shape), np.int32), np.empty((len(index), 3), np.int32)
    found, one = np.empty(len(index), np.int64), np.ones((1, 2), np.int64)
    n = peaks.divide(index, value, falling(value), shape, np.zeros(1, np.int64), one, np.full(1, variance, np.float32),
                     quantum, owner, place, np.empty(len(index) + 1, np.int32), found)
    owners = owner[0].copy()
    peaks.forget(index, owner)
    assert not owner.any()
    return owners, [tuple(place[k, 1:]) for k in found[:n]]


def naive_divide(score, quantum, variance):
    """The same, pixel by pixel from the highest down, with sets of pixels instead of labels."""
    order = sorted(zip(*np.nonzero(score > 0)), key=lambda at: (-score[at], at))
    regions = []                                        # (summit, pixels), highest summit first
    for at in order:
        touching = [r for r in regions if any(abs(a - at[0]) <= 1 and abs(b - at[1]) <= 1 for a, b in r[1])]
        if not touching:
            regions.append((at, {at}))
            continue
        best = touching[0]
        noise = np.sqrt(2 * quantum * score[at] + 18 * variance)
        for other in touching[1:]:
            if score[other[0]] - score[at] < 2 * noise:
                best[1].update(other[1])
                regions.remove(other)
        best[1].add(at)
    owners = np.zeros(score.shape, int)
    for k, (_, pixels) in enumerate(regions):
        for at in pixels:
            owners[at] = k + 1
    return owners, [summit for summit, _ in regions]


@given(seed=seeds, quantum=st.sampled_from([0.01, 1.0]), variance=st.sampled_from([0.0, 0.3]))
def test_pixels_are_divided_as_by_the_naive_watershed(seed, quantum, variance):
    rng = np.random.default_rng(seed)
    score = rng.permutation(12 * 17).reshape(12, 17).astype(np.float32)      # no two alike
    score[rng.random(score.shape) < 0.4] = 0
    owners, summits = divide(score, quantum, variance)
    expected, expected_summits = naive_divide(score, quantum, variance)
    assert [tuple(map(int, s)) for s in summits] == [tuple(map(int, s)) for s in expected_summits]
    np.testing.assert_array_equal(owners, expected)


def test_two_peaks_survive_if_the_saddle_between_them_is_deep():
    score = np.zeros((5, 15))
    score[2, 2:13] = [50, 100, 60, 40, 20, 10, 20, 40, 60, 90, 50]
    assert len(divide(score)[1]) == 2
    score[2, 2:13] = [50, 100, 90, 80, 75, 75, 75, 80, 85, 90, 50]
    assert len(divide(score)[1]) == 1


def measured(image, summit, shape=None, mean=0.0):
    """The SUMMIT row of one peak whose highest 3 x 3 sum is at `summit`."""
    image = np.asarray(image, np.float32)
    index = np.array([np.ravel_multi_index(summit, image.shape)])
    out, owner = np.zeros(1, peaks.SUMMIT), np.zeros((1, *image.shape), np.int32)
    owner[0][summit] = 1
    place = np.array([[0, *summit]], np.int32)
    peaks.measure(image[None], owner, index, np.ones(1, np.float32), place, np.zeros(1, np.int64),
                  np.array([shape or image.shape], np.int64), np.zeros(1, np.int64), np.ones((1, 2), np.int64),
                  np.full(1, mean, np.float32), np.ones(1, np.float32), 1.0, patches(), out)
    return out[0]


def test_sum_centroid_and_background_are_those_of_the_pixels():
    rng = np.random.default_rng(3)
    image = 2 + rng.normal(0, 0.1, (30, 30))
    image[14:17, 14:17] += [[0, 4, 0], [2, 20, 6], [0, 8, 0]]
    row = measured(image, (15, 15), mean=2.0)
    spot = np.array([[0, 4, 0], [2, 20, 6], [0, 8, 0]], float)
    assert row["intensity"] == pytest.approx(40, abs=1.5) and row["n_pixels"] == 9
    assert row["background"] == pytest.approx(2, abs=0.03) and row["max_pixel"] == pytest.approx(20, abs=0.5)
    assert row["ds"] == pytest.approx((spot.sum(1) * [-1, 0, 1]).sum() / 40, abs=0.04)
    assert row["df"] == pytest.approx((spot.sum(0) * [-1, 0, 1]).sum() / 40, abs=0.04)


@pytest.mark.parametrize("angle", np.arange(0, 180, 7))
def test_a_line_through_a_peak_is_seen_at_every_angle_and_a_neighbour_is_not(angle):
    ss, fs = np.indices((41, 41)) - 20
    across = ss * np.cos(np.radians(angle)) - fs * np.sin(np.radians(angle))
    line = 1 + 10 * np.exp(-0.5 * (across / 1.5) ** 2)
    assert measured(line, (20, 20), mean=1.0)["level"] > 6
    s, f = 7 * np.sin(np.radians(angle)), 7 * np.cos(np.radians(angle))
    blob = 1 + 40 * np.exp(-0.5 * ((ss - s) ** 2 + (fs - f) ** 2))
    assert measured(blob, (20, 20), mean=1.0)["level"] < 1.6


@pytest.mark.parametrize("angle", np.arange(0, 360, 13))
def test_the_edge_of_a_bright_area_is_seen_at_every_angle(angle):
    ss, fs = np.indices((41, 41)) - 20
    image = np.where(ss * np.cos(np.radians(angle)) - fs * np.sin(np.radians(angle)) > -1.2, 30.0, 2.0)
    assert measured(image, (20, 20), mean=2.0)["level"] > 25


def test_single_bright_pixels_are_told_apart_by_what_they_leave_to_others():
    image = np.zeros((30, 30))
    image[15, 15] = 100
    row = measured(image, (15, 15))
    assert row["core"] == row["core_max"] == 100


# Edges of panels

@given(seed=seeds, size=st.tuples(st.integers(6, 60), st.integers(6, 60)))
def test_what_is_usual_along_an_edge_is_the_median_and_upper_spread_of_its_sums(seed, size):
    rng = np.random.default_rng(seed)
    image = rng.gamma(2.0, 1.0, (1, *size)).astype(np.float32)
    image[rng.random(image.shape) < 0.2] = np.nan
    s, f = rng.integers(0, size[0], 12), rng.integers(0, size[1], 12)
    out = np.empty((12, 2))
    edges.along_edges(image, np.array([size]), np.zeros(12, int), s, f, np.empty(2 * edges.STEPS), out)
    for found, at in zip(out, np.column_stack([s, f])):
        usual = [(-np.inf, 0.0)]
        for axis in (0, 1):
            if 1 < at[1 - axis] < size[1 - axis] - 2:
                continue
            patches = []
            for k in (k for k in range(-36, 37, 3) if k and 0 <= at[axis] + k < size[axis]):
                j, i = at + k * np.eye(2, dtype=int)[axis]
                patch = image[0, max(j - 1, 0):j + 2, max(i - 1, 0):i + 2]
                patches += [(np.nanmean(patch), np.isfinite(patch).sum())] if np.isfinite(patch).sum() > 3 else []
            if len(patches) >= edges.FEWEST:
                means = sorted(mean for mean, _ in patches)
                spread = means[84 * len(means) // 100] - means[len(means) // 2]
                usual.append((means[len(means) // 2], spread ** 2 * np.mean([n for _, n in patches])))
        np.testing.assert_allclose(found, np.max(usual, axis=0), rtol=1e-4, atol=1e-6)
