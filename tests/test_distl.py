"""DISTL: its planes, boxes, screens and heuristics; and the original's spot lists on the shared images."""
import shutil
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401  the shared data are compressed with its filters
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from small_detector import context_of, event_of, flat_context, panel

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry import read_geometry
from mpixfel.kernels import distl as kernel
from mpixfel.kernels import distl_maxima
from mpixfel.model.event import Image
from mpixfel.model.experiment import Context
from mpixfel.stages import distl_screen
from mpixfel.stages.distl import Distl, nearest_panels
from mpixfel.stages.distl_boxes import intervals, make_boxes
from mpixfel.stages.distl_resolution import before_gap, shells

ORIGINAL = """
import sys, numpy as np
from scitbx.array_family import flex
from spotfinder.core_toolbox import w_Distl
import spotfinder.array_family.flex
f = np.load(sys.argv[1])
image, tile = f['image'], [0, 0, *f['image'].shape]
raw, d = flex.int(image), w_Distl('', False)     # the finder does not keep the image alive
d.setspotimg(pixel_size=float(f['pixel']), distance=float(f['distance']), wavelength=float(f['wavelength']),
             xbeam=float(f['beam'][0]), ybeam=float(f['beam'][1]), rawdata=raw, peripheral_margin=1,
             saturation=10.0 ** 8)
d.set_tiling('')
d.set_minimum_spot_area(3); d.set_spot_area_maximum_factor(5); d.set_peak_intensity_maximum_factor(10000)
d.set_scanbox_windows(flex.int((101, 51, 51)))
d.set_tiling(detector_tiling=flex.int(tile), peripheral_margin=1)
d.parameter_guarantees(); d.get_underload(); d.pxlclassify(); d.search_icerings(); d.search_maximas()
d.search_spots(); d.search_overloadpatches(); d.finish_analysis()
spots = [(s.ctr_mass_x(), s.ctr_mass_y(), s.bodypixels.size(), s.intensity(), s.total_mass) for s in d.spots]
np.savez(sys.argv[2], spots=np.array(spots).reshape(-1, 5), z=d.Z_data().as_numpy_array().astype('f4'))
"""


def original_python():
    """A Python that has cctbx's spotfinder, or None."""
    for python in (sys.executable, shutil.which("libtbx.python"), shutil.which("cctbx.python")):
        command = [python, "-c", "import spotfinder.core_toolbox"]
        if python and subprocess.run(command, capture_output=True).returncode == 0:
            return python
    return None


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A function (image, shot, beam (ss, fs) pixels) -> (spots, Z) of the original program."""
    python = original_python()
    if python is None:
        pytest.skip("cctbx is not installed (pip install cctbx-base)")
    folder = tmp_path_factory.mktemp("original")

    def find(image, shot, beam):
        np.savez(folder / "in.npz", image=image.astype(np.int32), pixel=0.075,
                 distance=1e3 * shot.geometry.origin[0, 2], wavelength=shot.wavelength_angstrom, beam=0.075 * np.array(beam))
        subprocess.run([python, "-c", ORIGINAL, folder / "in.npz", folder / "out.npz"], check=True, capture_output=True)
        found = np.load(folder / "out.npz")
        return found["spots"], found["z"]
    return find


def shared_frame(folder, frame):
    """(image in ADU, bad pixels, Context, Shot, beam (ss, fs) in pixels) of one frame of a shared set."""
    with h5py.File(folder / f"{folder.name}.h5") as f:
        image, bad = f["entry/data/data"][frame].astype(np.int32), f["entry/instrument/detector/pixel_mask"][:] != 0
        energy = f["entry/instrument/beam/incident_energy"][frame]
    geometry = read_geometry(folder / f"{folder.name}.geom")
    with h5py.File(folder / "truth.h5") as f:
        beam, distance = f["frame/beam_centre_px"][frame], f["frame/distance_mm"][frame]
    context = Context(geometry.detector, geometry.beam, mask=bad[None])
    event = event_of(image, energy=float(energy))
    shot = context.shot(type(event)(event.id, event.raw, event.photon_energy_ev, distance / 1e3))
    return image, bad, context, shot, beam[::-1]


def ours(image, bad, context, shot, **options):
    stage = Distl(legacy_distl=True, compactness_filter=False, **options)
    photons = np.where(bad, np.nan, image / shot.gain[0]).astype(np.float32)[None]
    return stage(Image(photons, np.zeros(0, np.int64)), shot, stage.prepare(context))


@pytest.mark.parametrize("name, frame", [("hex", 1), ("hex", 5), ("hex", 8), ("pink", 1), ("pink", 3)])
def test_the_original_finds_the_same_spots(shared_data, original, name, frame):
    image, bad, context, shot, beam = shared_frame(shared_data / name, frame)
    peaks = ours(image, bad, context, shot)
    spots, _ = original(np.where(bad, -100, image), shot, beam)
    assert len(spots) > 100
    distance, which = cKDTree(spots[:, :2]).query(np.column_stack([peaks["ss"] - 0.5, peaks["fs"] - 0.5]))
    same = distance < 0.02
    assert len(peaks) == len(spots) and same.mean() > 0.995
    np.testing.assert_array_equal(peaks["n_pixels"][same], spots[which[same], 2])
    # Where two pixels are equally high, either may be the maximum.
    assert (np.abs(peaks["snr"][same] / spots[which[same], 3] - 1) < 1e-4).mean() > 0.95
    np.testing.assert_allclose(peaks["intensity"][same] * shot.gain[0], spots[which[same], 4], rtol=1e-4)


def test_spots_that_one_alone_finds_lie_where_all_background_pixels_are_alike(shared_data, original):
    # In photon counts the original takes 0 for an underload. Where all that is left is 1, its sigma is rounding error
    # and its Z some 1e16; here such a box has no sigma, and no spots.
    image, bad, context, shot, beam = shared_frame(shared_data / "multi", 2)
    peaks = ours(image, bad, context, shot)
    spots, z = original(np.where(bad, -100, image), shot, beam)
    degenerate = np.array([[(np.abs(z[s:s + 51, f:f + 51]) > 1e4).any() or (z[s:s + 51, f:f + 51] == 0).mean() > 0.5
                            for f in range(0, 1024, 51)] for s in range(0, 1024, 51)])
    near = np.pad(degenerate, 1)
    near = np.any([near[j:j + len(degenerate), i:i + len(degenerate)] for j in range(3) for i in range(3)], axis=0)
    ordinary = lambda ss, fs: ~near[(ss / 51).astype(int), (fs / 51).astype(int)]
    at = np.column_stack([peaks["ss"] - 0.5, peaks["fs"] - 0.5])
    at, theirs = at[ordinary(*at.T)], spots[:, :2][ordinary(*spots[:, :2].T)]
    assert len(theirs) > 400
    assert (cKDTree(theirs).query(at)[0] < 0.02).mean() > 0.99 and (cKDTree(at).query(theirs)[0] < 0.02).mean() > 0.99


# Boxes and planes

@given(size=st.integers(5, 600), margin=st.integers(0, 2), width=st.integers(4, 110), narrow=st.booleans())
def test_boxes_cover_a_panel_without_gaps_or_overlaps(size, margin, width, narrow):
    parts = intervals(size, margin, width, narrow)
    n = (size - 2 * margin) // width
    assert len(parts) == (n or int(narrow and size - 2 * margin > 1))
    if parts:
        assert parts[0][0] == margin and parts[-1][1] == size - margin - 1
        assert all(b[0] == a[1] + 1 for a, b in zip(parts, parts[1:])) and all(a <= b for a, b in parts)


def naive_plane(image, box, inside):
    """a, b, c, sigma of one box by a least-squares library, from every second pixel that is `inside`."""
    ss, fs = np.mgrid[box["s0"]:box["s1"] + 1:2, box["f0"]:box["f1"] + 1:2].reshape(2, -1)
    use = inside[ss, fs]
    x, y, v = ss[use] - box["s0"], fs[use] - box["f0"], image[ss[use], fs[use]].astype(float)
    design = np.column_stack([x, y, np.ones(len(x))])
    plane = np.linalg.lstsq(design, v, rcond=None)[0]
    return [*plane, np.sqrt(np.mean((v - design @ plane) ** 2))]


def work_space(width, kind):
    return np.full((3, width), np.nan, kind), np.full(width, 9, np.uint32), np.full((6, width), np.nan, kind)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(seed=st.integers(0, 2**32 - 1), widths=st.sampled_from([(40, 20, 20), (30, 17, 23), (80, 70, 9)]))
def test_planes_of_three_passes_are_those_of_a_least_squares_library(kind, seed, widths):
    rng = np.random.default_rng(seed)
    ss, fs = np.indices((90, 110))
    image = rng.normal(20 + rng.uniform(-0.2, 0.2) * ss + rng.uniform(-0.2, 0.2) * fs, 3).astype(np.float32)
    image[rng.random(image.shape) < 0.01] += 300
    image[rng.random(image.shape) < 0.02] = np.nan
    shape, stack = np.array([[90, 110]], np.int64), (1, 90, 110)
    passes = [make_boxes(shape, stack, 1, w, np.ones(1, bool), True) for w in widths]
    before, z = passes[0], np.zeros(image.shape)
    for k, (boxes, grid) in enumerate(passes):
        kernel.fit_planes(image[None], shape, boxes, grid, *before, 2.5, np.float32(-np.inf), k == 0,
                          *work_space(110, kind))
        inside = np.isfinite(image) & (z < 2.5)
        for box in boxes:
            expected = naive_plane(image, box, inside)
            np.testing.assert_allclose([box[c] for c in ("a", "b", "c", "sigma")], expected,
                                       rtol=2e-3 if kind is np.float32 else 1e-6, atol=2e-3)
            at = np.s_[box["s0"]:box["s1"] + 1, box["f0"]:box["f1"] + 1]
            plane = (box["a"] * (ss[at] - box["s0"]) + box["b"] * (fs[at] - box["f0"]) + box["c"])
            z[at] = (image[at] - plane) / box["sigma"]
        before = boxes, grid


def test_a_box_poor_in_background_grows():
    rng = np.random.default_rng(4)
    image = rng.normal(10, 1, (120, 120)).astype(np.float32)
    image[41:80, 41:80] = np.nan
    image[55:60, 55:60] = 12
    shape = np.array([[120, 120]], np.int64)
    boxes, grid = make_boxes(shape, (1, 120, 120), 0, 40, np.ones(1, bool), True)
    kernel.fit_planes(image[None], shape, boxes, grid, boxes, grid, 1.5, np.float32(-np.inf), True,
                      *work_space(120, np.float64))
    middle = boxes[4]
    assert middle["sigma"] == pytest.approx(1.0, abs=0.1) and middle["a"] * 20 + middle["b"] * 20 + middle["c"] == (
        pytest.approx(10, abs=0.2))


@given(seed=st.integers(0, 2**32 - 1), least=st.integers(1, 5), margin=st.integers(0, 2),
       density=st.sampled_from([0.5, 2.0]),
       sizes=st.lists(st.tuples(st.integers(5, 40), st.integers(5, 140)), min_size=1, max_size=3))
def test_pixels_above_planes_are_marked_and_maxima_with_such_neighbours_found(seed, least, margin, density, sizes):
    rng, shape = np.random.default_rng(seed), np.array(sizes, np.int64)
    stack = (len(sizes), *shape.max(axis=0))
    image = rng.normal(0, 1, stack).astype(np.float32)
    image[rng.random(stack) < 0.05] = np.nan
    boxes, grid = make_boxes(shape, stack, 1, 12, rng.random(len(sizes)) < 0.8, True)
    for name in ("a", "b", "c"):
        boxes[name] = rng.normal(0, 0.05, len(boxes))
    boxes["sigma"] = rng.choice([0.0, 0.8, 1.0], len(boxes))
    expected = np.zeros((stack[0], stack[1] + 2, stack[2] + 2), int)        # with a rim of unmarked pixels
    for box in boxes[boxes["sigma"] > 0]:
        x, y = np.mgrid[box["s0"]:box["s1"] + 1, box["f0"]:box["f1"] + 1]
        plane = box["a"] * (x - box["s0"]) + box["b"] * (y - box["f0"]) + box["c"]
        value = image[box["panel"], x, y]
        expected[box["panel"], x + 1, y + 1] = (value > plane + 1 / density * box["sigma"]) & (value > 0.1)
    words = -(-stack[2] // distl_maxima.WORD)
    body, found = np.full((*stack[:2], 64 * words), 7, np.uint8), np.empty(image.size, np.int64)
    higher, inside = np.zeros(stack, bool), np.zeros(stack, bool)
    for p, (height, across) in enumerate(sizes):
        body[p, height:], body[p, :, across:] = 0, 0
        inside[p, margin:height - margin, margin:across - margin] = True
        rim = np.pad(image[p, :height, :across], 1, constant_values=np.nan)
        higher[p, :height, :across] = np.any([rim[j:j + height, i:i + across] > image[p, :height, :across]
                                              for j in range(3) for i in range(3)], axis=0)
    n = distl_maxima.maxima(image, shape, boxes, grid, 1 / density, np.float32(0.1), least, margin,
                            np.empty((2, 64 * words), np.float32), np.empty((3, words), np.uint64), body, found)
    inner = expected[:, 1:-1, 1:-1]
    np.testing.assert_array_equal(body[:, :, :stack[2]], inner)
    around = sum(expected[:, j:j + stack[1], i:i + stack[2]] for j in range(3) for i in range(3))
    panel, ss, fs = np.nonzero((inner == 1) & (around >= least) & ~higher & inside)
    np.testing.assert_array_equal(found[:n], (panel << 40) + (ss << 20) + fs)


@given(word=st.integers(1, 2**64 - 1), least=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_bits_of_words_are_counted_as_pixels_are(word, least, seed):
    assert distl_maxima.lowest_bit(np.uint64(word)) == (word & -word).bit_length() - 1
    rows = (np.random.default_rng(seed).random((5, 200)) < 0.3).astype(int)
    rows[0], rows[4], rows[:, :8], rows[:, 192:] = 0, 0, 0, 0
    packed = np.packbits(rows[1:4, :192].astype(np.uint8), axis=1, bitorder="little").view(np.uint64)
    found = np.array([distl_maxima.crowded(*packed, k, least) for k in range(3)], np.uint64)
    around = sum(np.roll(rows[1:4], i, axis=1).sum(axis=0) for i in (-1, 0, 1))
    np.testing.assert_array_equal(np.unpackbits(found.view(np.uint8), bitorder="little"),
                                  ((rows[2] == 1) & (around >= least))[:192])


# The finder

def spots_on(image, context, **options):
    stage = Distl(**{"minimum_signal_height": 2.5, "minimum_spot_height": 5.0, **options})
    shot = context.shot(event_of())
    return stage(Image(image, np.zeros(0, np.int64)), shot, stage.prepare(context))


def bright_background(rng, shape, level=200.0):
    return rng.poisson(level, shape).astype(np.float32)


SPOT = np.array([[110, 220, 110], [220, 500, 220], [110, 220, 110]], np.float32)


def test_spots_are_found_with_place_area_and_height():
    image = bright_background(np.random.default_rng(8), (1, 256, 256))
    places = [(s, f) for s in range(20, 240, 36) for f in range(20, 240, 36)]
    for s, f in places:
        image[0, s - 1:s + 2, f - 1:f + 2] += SPOT
    peaks = spots_on(image, flat_context(256))
    assert len(peaks) == len(places)
    distance, _ = cKDTree(np.array(places) + 0.5).query(np.column_stack([peaks["ss"], peaks["fs"]]))
    assert distance.max() < 0.6
    assert peaks["background"].mean() == pytest.approx(200, rel=0.02)
    assert peaks["max_pixel"].mean() == pytest.approx(500, rel=0.1)
    assert (peaks["n_pixels"] >= 3).all() and (np.diff(peaks["snr"]) <= 0).all()


@pytest.mark.parametrize("legacy, expected", [(False, 1), (True, 0)])
def test_a_panel_narrower_than_a_box_is_searched_unless_the_old_program_is_asked_for(legacy, expected):
    image = bright_background(np.random.default_rng(8), (1, 40, 300))
    image[0, 19:22, 149:152] += SPOT
    context = context_of(panel("p", (40, 300), centre=(150, 400)))
    assert len(spots_on(image, context, legacy_distl=legacy)) == expected


def test_flags_of_tiles_choose_the_panels():
    rng = np.random.default_rng(8)
    image = bright_background(rng, (2, 110, 110))
    image[:, 54:57, 54:57] += SPOT
    context = context_of(panel("a", (110, 110)), panel("b", (110, 110), (110, 0)))
    assert spots_on(image, context)["panel"].tolist() != [] and set(spots_on(image, context)["panel"]) == {0, 1}
    assert set(spots_on(image, context, tile_flags=(0, 1))["panel"]) == {1}
    with pytest.raises(MpixfelError, match="1 flags for 2 panels"):
        spots_on(image, context, tile_flags=(1,))


def test_the_old_program_searches_the_eight_panels_nearest_to_the_beam():
    panels = [panel(f"p{k}", (110, 110), (110 * k, 0), centre=(55, 550)) for k in range(10)]
    context = context_of(*panels)
    nearest = nearest_panels(context.shot(event_of()).geometry, 8)
    assert sorted(nearest) == list(range(1, 9))
    image = bright_background(np.random.default_rng(8), (10, 110, 110))
    image[:, 54:57, 54:57] += SPOT
    assert set(spots_on(image, context, legacy_distl=True, minimum_spot_area=2)["panel"]) <= set(range(1, 9))
    assert set(spots_on(image, context)["panel"]) == set(range(10))


def test_spots_on_a_bright_ring_are_taken_for_ice():
    rng = np.random.default_rng(8)
    ss, fs = np.indices((256, 256)) + 0.5
    radius = np.hypot(ss - 128, fs - 128)
    image = rng.poisson(200 + 300 * (np.abs(radius - 62) < 3)).astype(np.float32)[None]
    for angle in np.arange(0, 6.2, 0.5):
        for r in (62, 100):
            s, f = int(128 + r * np.sin(angle)), int(128 + r * np.cos(angle))
            image[0, s - 1:s + 2, f - 1:f + 2] += 2 * SPOT
    peaks = spots_on(image, flat_context(256))
    r = np.hypot(peaks["ss"] - 128, peaks["fs"] - 128)
    assert (np.abs(r - 100) < 4).sum() >= 10 and not (np.abs(r - 62) < 8).any()


def test_resolution_limits_cut():
    image = bright_background(np.random.default_rng(8), (1, 256, 256))
    for f in (140, 180, 220):
        image[0, 127:130, f - 1:f + 2] += SPOT
    context = flat_context(256)
    assert len(spots_on(image, context)) == 3
    d = np.sort(1 / spots_on(image, context)["resolution"])
    assert len(spots_on(image, context, res_outer=float(d[0] + 0.1))) == 2
    assert len(spots_on(image, context, res_inner=float(d[2] - 0.1))) == 2


@pytest.mark.parametrize("area, edges, keep", [(3, 2, False), (3, 3, True), (4, 4, False), (4, 6, True), (8, 12, False),
                                               (8, 13, True), (9, 18, False), (9, 20, True), (1, 0, True)])
def test_compact_spots_have_enough_edges(area, edges, keep):
    assert distl_screen.compact(np.array([area]), np.array([edges]))[0] == keep


def test_each_list_is_part_of_the_one_before():
    image = bright_background(np.random.default_rng(8), (1, 512, 512))
    rng = np.random.default_rng(2)
    for s, f in rng.integers(10, 500, (150, 2)):
        image[0, s - 1:s + 2, f - 1:f + 2] += SPOT * rng.lognormal(0.3, 0.3)
    counts = [len(spots_on(image, flat_context(512), spot_list=name)) for name in distl_screen.LISTS]
    assert counts == sorted(counts, reverse=True) and counts[0] > 80 and counts[-1] > 30


def test_shells_hold_equal_volumes_of_reciprocal_space():
    rng = np.random.default_rng(3)
    resolution = np.sort(1 / (0.5 * rng.random(4000) ** (1 / 3)))[::-1]
    view = distl_screen.View(1.3, 60.0, 0.075, 1000.0)
    population, share, limit = shells(resolution, resolution[199], view)
    assert population.sum() == 4000 and (share == 1).all()
    assert np.abs(population[:-1] - 200).max() < 70 and limit[0] == resolution[199]


def test_ten_poor_shells_in_a_row_end_the_resolution():
    assert before_gap(np.array([9, 9] + [0] * 9 + [9]), 5, 11) == 11
    assert before_gap(np.array([9, 9] + [0] * 10 + [9]), 5, 12) == 1


@pytest.mark.parametrize("wrong", [{"scanbox_windows": (101, 51)}, {"scanbox_windows": (101, 51, 2)},
                                   {"minimum_spot_area": 0}, {"spot_list": "all"}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(MpixfelError, match=next(iter(wrong))):
        Distl(**wrong)
