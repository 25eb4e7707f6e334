"""Shapes of spots on pixels, what they shine, and the background between them: each kernel beside its naive twin."""
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from mpixfel.kernels import footprint
from mpixfel.kernels.levels import levels, plane
from mpixfel.kernels.predict import Predictions, room
from mpixfel.kernels.profiles import belongs, fill_profile, foreground, work

FINE = 20


def naive_profile(place, shape, tail, width, height):
    """The spot's density averaged over FINE x FINE points of each pixel."""
    fine = (np.arange(width * FINE) + 0.5) / FINE
    x, y = np.meshgrid(fine, fine[:height * FINE])
    core = multivariate_normal(place, [[shape[0], shape[1]], [shape[1], shape[2]]]).pdf(np.dstack([x, y]))
    dx, dy = x - place[0] - tail[1], y - place[1] - tail[2]
    matrix = np.array([[tail[3], tail[4]], [tail[4], tail[5]]])
    inverse = np.linalg.inv(matrix)
    form = inverse[0, 0] * dx ** 2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy ** 2
    wide = 1 / (np.pi * np.sqrt(np.linalg.det(matrix)) * (1 + form) ** 2)
    density = (1 - tail[0]) * core + tail[0] * wide
    return density.reshape(height, FINE, width, FINE).mean((1, 3))


@pytest.mark.parametrize("shape, tail, precision", [
    ((0.12, 0.0, 0.12), (0.0, 0, 0, 1.0, 0, 1.0), 0.002),
    ((0.3, 0.12, 0.2), (0.2, 0, 0, 1.0, 0, 1.0), 0.002),
    ((0.06, 0.0, 0.06), (0.3, 0, 0, 0.25, 0, 0.25), 0.003),
    ((1.5, 0.9, 1.0), (0.5, 1.0, -0.5, 3.0, 1.0, 2.0), 0.002)])
def test_a_profile_is_the_mean_of_the_density_over_each_pixel(shape, tail, precision):
    scratch, rng = work(), np.random.default_rng(0)
    for _ in range(4):
        place = 7 + rng.random(2)
        fill_profile(*place, np.array([shape]), np.array([tail]), 0, 1e12, 16, 15, scratch)
        assert np.allclose(scratch.pixels[:240].reshape(15, 16), naive_profile(place, shape, tail, 16, 15), atol=precision)


@pytest.mark.parametrize("sigma, precision", [(0.02, 1.0), (0.05, 0.2), (0.08, 0.005), (0.11, 0.005), (0.2, 0.005)])
def test_a_spot_sharper_than_a_pixel_neither_gains_nor_loses_light(sigma, precision):
    scratch, rng = work(), np.random.default_rng(3)
    shape, tail = np.array([[sigma ** 2, 0.0, 1.4 * sigma ** 2]]), np.array([[1e-9, 0.0, 0.0, 0.5, 0.0, 0.5]])
    for x, y in 7 + rng.random((20, 2)):
        fill_profile(x, y, shape, tail, 0, 1e12, 16, 15, scratch)
        found = scratch.pixels[:240].reshape(15, 16)
        exact = np.outer(np.diff(norm.cdf(np.arange(16), y, np.sqrt(1.4) * sigma)), np.diff(norm.cdf(np.arange(17), x, sigma)))
        assert found.sum() == pytest.approx(1.0, abs=0.002)
        assert np.allclose(found, exact, atol=precision)


def test_a_spot_holds_all_its_light_within_its_radius():
    scratch = work()
    shape, tail = np.array([[0.2, 0.05, 0.3]]), np.array([[0.4, 0.0, 0.0, 4.0, 0.0, 4.0]])
    fill_profile(20.2, 19.7, shape, tail, 0, 36.0, 48, 39, scratch)
    y, x = np.mgrid[:39, :48] + 0.5
    inside = np.hypot(x - 20.2, y - 19.7) < 6
    assert scratch.pixels[:39 * 48].reshape(39, 48)[inside].sum() == pytest.approx(1.0, abs=0.01)


def spots_at(places, shapes, tails):
    """`Predictions` on panel 0 with nothing but places and shapes."""
    n = len(places)
    rows = Predictions(*(np.zeros_like(c) for c in room(n)))
    rows.place[:], rows.shape[:], rows.tail[:] = places, shapes, tails
    return rows


def some_spots(n=12, seed=1, size=64):
    rng = np.random.default_rng(seed)
    shapes = np.stack([rng.uniform(0.1, 0.6, n), rng.uniform(-0.05, 0.05, n), rng.uniform(0.1, 0.6, n)], 1)
    tails = np.zeros((n, 6))
    tails[:, 0], tails[:, 3], tails[:, 5] = 0.25, 0.8, 0.8
    return spots_at(rng.uniform(-2, size + 2, (n, 2)), shapes, tails), rng.uniform(0, 400, n)


BOUNDS = np.array([[64, 60]])


def unpacked(words, size):
    """(SS, FS) bool map of the first panel."""
    return np.unpackbits(words[0].astype("<u4").view(np.uint8), axis=1, bitorder="little")[:, :size].astype(bool)


def test_every_pixel_of_a_foreground_is_claimed_and_given_back():
    rows, intensity = some_spots()
    claims, twin = footprint.claims((1, 64, 64)), np.zeros((64, 64), int)
    assert footprint.mark(rows, intensity, 12, 3.5, 6.0, BOUNDS, claims)
    y, x = np.mgrid[:64, :60]
    own = []
    for i in range(12):
        fore = foreground(rows.shape, rows.tail, i, intensity[i], 3.5, 6.0)
        own.append(np.array([[belongs(x + 0.5 - rows.place[i, 0], y + 0.5 - rows.place[i, 1], fore) for x in range(60)]
                             for y in range(64)]))
        twin[:, :60] += own[i]
    assert np.array_equal(unpacked(claims.one, 64), twin > 0) and np.array_equal(unpacked(claims.more, 64), twin > 1)
    assert twin.max() > 1
    shared = np.zeros(12, bool)
    footprint.crowded(rows, intensity, 12, 3.5, 6.0, BOUNDS, claims, shared)
    assert list(shared) == [np.any(twin[:, :60][own[i]] > 1) for i in range(12)]
    footprint.clear(claims, True)
    assert not claims.one.any() and not claims.more.any()


def test_spots_that_share_no_pixel_are_told_from_those_that_do():
    rows, intensity = some_spots(2)
    for apart, shared in ((40.0, False), (1.0, True)):
        rows.place[:] = [[10.5, 30.2], [10.5 + apart, 30.2]]
        assert footprint.mark(rows, intensity, 2, 3.5, 6.0, BOUNDS, footprint.claims((1, 64, 64))) == shared


def test_the_bits_of_a_row_are_those_of_its_pixels():
    rng = np.random.default_rng(8)
    words = rng.integers(0, 1 << 32, (1, 3, 4), dtype=np.uint32)
    plain = unpacked(words, 128)
    for x in range(64):
        bits = footprint.row_bits(words, 0, 1, x)
        assert [(bits >> k) & 1 for k in range(16)] == list(plain[1, x:x + 16])


def test_light_is_the_sum_of_all_spots_and_can_be_put_out():
    rows, intensity = some_spots()
    light = np.zeros((1, 64, 64), np.float32)
    footprint.shine(rows, intensity, intensity, 12, 3.5, 6.0, BOUNDS, work(), light)
    twin = np.zeros((64, 64))
    for i in range(12):
        fore = foreground(rows.shape, rows.tail, i, intensity[i], 3.5, 6.0)
        whole = 1 - rows.tail[i, 0] * rows.tail[i, 3] / (fore.far2 + rows.tail[i, 3])
        place = rows.place[i] + 10
        profile = naive_profile(place, rows.shape[i], rows.tail[i], 84, 84)[10:74, 10:74] / whole
        y, x = np.mgrid[:64, :64]
        near = (np.abs(x - int(rows.place[i, 0])) < fore.wide) & (np.abs(y - int(rows.place[i, 1])) < fore.high)
        twin[near] += intensity[i] * profile[near]
    twin[:, 60:] = 0
    strong = twin > 1
    assert np.allclose(light[0][strong], twin[strong], rtol=0.05, atol=0.5)
    footprint.darken(rows, intensity, intensity, 12, 3.5, 6.0, BOUNDS, light)
    assert not light.any()


def test_a_background_is_the_plane_through_the_free_pixels():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:96, :80] + 0.5
    truth = 3.0 + 0.02 * x - 0.015 * y
    image = rng.poisson(truth).astype(np.float32)[None]
    image[0, ::9, ::7] = np.nan
    claimed = footprint.claims((1, 96, 80)).one
    taken = rng.random((96, 80)) < 0.2
    for y, x in zip(*np.nonzero(taken)):
        claimed[0, y, x // footprint.WORD] |= np.uint32(1 << x % footprint.WORD)
    image[0][taken] += 50
    bounds, room_for = np.array([[96, 80]]), levels((1, 96, 80))
    pulls = []
    for stamp, (fs, ss) in enumerate(rng.uniform(10, 70, (40, 2))):
        value, slope_x, slope_y, variance = plane(image, 0, fs, ss, stamp, bounds, claimed, 0.0, room_for)
        pulls.append((value - (3.0 + 0.02 * fs - 0.015 * ss)) / np.sqrt(variance))
        assert slope_x == pytest.approx(0.02, abs=0.03) and slope_y == pytest.approx(-0.015, abs=0.03)
    assert abs(np.mean(pulls)) < 0.6 and 0.6 < np.std(pulls) < 1.4


def test_a_background_is_that_of_least_squares_where_nothing_is_left_out():
    rng = np.random.default_rng(4)
    image = rng.uniform(1, 2, (1, 64, 64)).astype(np.float32)
    value, slope_x, slope_y, _ = plane(image, 0, 32.0, 32.0, 1, np.array([[64, 64]]), footprint.claims((1, 64, 64)).one, 0.0,
                                       levels(image.shape))
    y, x = np.mgrid[16:48, 16:48] + 0.5 - 32.0
    design = np.stack([np.ones(1024), x.ravel(), y.ravel()], 1)
    twin = np.linalg.lstsq(design, image[0, 16:48, 16:48].ravel(), rcond=None)[0]
    assert np.allclose([value, slope_x, slope_y], twin, atol=1e-4)


def test_a_peak_that_nobody_predicted_does_not_lift_the_background():
    rng = np.random.default_rng(5)
    image = rng.poisson(0.5, (1, 64, 64)).astype(np.float32)
    quiet = plane(image, 0, 32.0, 32.0, 1, np.array([[64, 64]]), footprint.claims((1, 64, 64)).one, 0.0, levels(image.shape))
    image[0, 28:31, 35:38] += 300
    loud = plane(image, 0, 32.0, 32.0, 1, np.array([[64, 64]]), footprint.claims((1, 64, 64)).one, 0.0, levels(image.shape))
    assert loud[0] == pytest.approx(quiet[0], abs=0.05)


def test_where_no_pixel_is_free_there_is_no_background():
    image = np.full((1, 64, 64), np.nan, np.float32)
    assert plane(image, 0, 30.0, 30.0, 1, np.array([[64, 64]]), footprint.claims((1, 64, 64)).one, 0.0,
                 levels(image.shape))[3] == np.inf
