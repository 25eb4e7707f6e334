"""The measurement of single spots: against sums and fits in plain NumPy, and against the photons that were put there."""
import numpy as np
import pytest

from mpixfel.kernels import footprint
from mpixfel.kernels.integrate import MADE_UP, measure, spots
from mpixfel.kernels.levels import levels
from mpixfel.kernels.predict import Predictions, room
from mpixfel.kernels.profiles import work

SIZE = 256
BOUNDS = np.array([[SIZE, SIZE]])
EXTENT = (3.5, 6.0)


def spots_on_a_grid(rng, sxx=0.4, sxy=0.1, syy=0.3, step=16):
    """`Predictions` of round-ish untailed spots, one in each square of a grid, at random places within a pixel."""
    centres = np.arange(step, SIZE - step + 1, step)
    n = len(centres) ** 2
    rows = Predictions(*(np.zeros_like(c) for c in room(n)))
    rows.place[:] = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2) + rng.random((n, 2))
    rows.shape[:] = sxx, sxy, syy
    rows.tail[:] = 0.0, 0.0, 0.0, 1.0, 0.0, 1.0
    rows.frame[:] = 1.0, 0.0, 0.0, 1.0
    return rows


def photons_of(rng, rows, intensity, background):
    """(1, SIZE, SIZE) counts: each spot's photons drawn one by one from its normal distribution."""
    image = rng.poisson(background, (SIZE, SIZE)).astype(np.float32)
    for place, shape, mean in zip(rows.place, rows.shape, intensity):
        hits = rng.multivariate_normal(place, [[shape[0], shape[1]], [shape[1], shape[2]]], rng.poisson(mean))
        np.add.at(image, (hits[:, 1].astype(int), hits[:, 0].astype(int)), 1.0)
    return image[None]


def measured(image, rows, prior=None, bright=4.0, readout=0.0):
    n = len(rows.hkl)
    prior = np.zeros(n) if prior is None else prior
    claims, light = footprint.claims(image.shape), np.zeros(image.shape, np.float32)
    scratch, out = work(), spots(n)
    footprint.mark(rows, prior, n, *EXTENT, BOUNDS, claims)
    footprint.shine(rows, prior, prior, n, *EXTENT, BOUNDS, scratch, light)
    lit = np.zeros(n, bool)
    footprint.crowded(rows, prior, n, *EXTENT, BOUNDS, claims, lit)
    measure(image, light, rows, np.arange(n), prior, prior, lit, BOUNDS, claims, levels(image.shape), 1, *EXTENT, readout,
            bright, scratch, out)
    return out


@pytest.mark.parametrize("mean", [0.0, 5.0, 30.0, 400.0])
def test_intensities_have_no_bias_and_their_errors_are_true(mean):
    rng = np.random.default_rng(int(mean) + 1)
    rows = spots_on_a_grid(rng)
    truth = np.full(len(rows.hkl), mean)
    values, errors = [], []
    for _ in range(6):
        out = measured(photons_of(rng, rows, truth, 0.8), rows)
        values.append(out.intensity)
        errors.append(out.sigma)
    values, errors = np.concatenate(values), np.concatenate(errors)
    z = (values - mean) / errors
    standard = np.std(values) / np.sqrt(len(values))
    assert abs(values.mean() - mean) < 4 * standard + 0.004 * mean
    # Without any signal the error of a positive fluctuation counts it as signal: it is a little too large.
    assert (0.9 if mean > 0 else 0.8) < np.std(z) < 1.1
    assert values.min() < 0 or mean > 10          # nothing is cut off at zero


def test_a_weak_spot_is_measured_nearly_as_well_as_photons_allow():
    rng = np.random.default_rng(3)
    rows = spots_on_a_grid(rng)
    mean, background = 8.0, 1.0
    bound, errors = [], []
    for _ in range(6):
        out = measured(photons_of(rng, rows, np.full(len(rows.hkl), mean), background), rows)
        errors.append(out.intensity - mean)
    fine = np.arange(-5, 5, 0.05) + 0.025
    for place, shape in zip(rows.place[:40], rows.shape[:40]):
        x, y = np.meshgrid(fine, fine)
        inverse = np.linalg.inv([[shape[0], shape[1]], [shape[1], shape[2]]])
        form = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
        density = np.exp(-0.5 * form) * np.sqrt(np.linalg.det(inverse)) / (2 * np.pi) * 0.05 ** 2
        shares = np.zeros((16, 16))
        np.add.at(shares, ((y + place[1] % 1 + 8).astype(int), (x + place[0] % 1 + 8).astype(int)), density)
        bound.append(np.sum(shares ** 2 / (background + mean * shares)) ** -0.5)
    efficiency = (np.mean(bound) / np.std(np.concatenate(errors))) ** 2
    assert efficiency > 0.88


def test_summation_is_the_sum_above_the_background_over_the_foreground():
    rng = np.random.default_rng(4)
    rows = spots_on_a_grid(rng)
    image = photons_of(rng, rows, np.full(len(rows.hkl), 60.0), 0.5)
    out = measured(image, rows)
    for i in range(0, len(rows.hkl), 11):
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        dx, dy = x - rows.place[i, 0], y - rows.place[i, 1]
        inverse = np.linalg.inv([[rows.shape[i, 0] + 1 / 12, rows.shape[i, 1]],
                                 [rows.shape[i, 1], rows.shape[i, 2] + 1 / 12]])
        own = inverse[0, 0] * dx ** 2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy ** 2 <= EXTENT[0] ** 2
        plain = image[0][own].sum() - out.background[i] * own.sum()
        assert out.total[i] * out.share[i] == pytest.approx(plain, abs=0.05 * own.sum() * 0.5 + 0.5)
        assert out.share[i] == pytest.approx(1.0, abs=0.01)


def test_a_profile_fit_is_the_weighted_least_squares_fit_of_the_profile():
    rng = np.random.default_rng(5)
    rows = spots_on_a_grid(rng)
    image = photons_of(rng, rows, rng.uniform(0, 100, len(rows.hkl)), 0.7)
    out = measured(image, rows)
    fine = 16
    for i in range(0, len(rows.hkl), 17):
        x0, y0 = int(rows.place[i, 0]) - 6, int(rows.place[i, 1]) - 6
        grid = (np.arange(13 * fine) + 0.5) / fine
        x, y = np.meshgrid(grid + x0 - rows.place[i, 0], grid + y0 - rows.place[i, 1])
        covariance = np.array([[rows.shape[i, 0], rows.shape[i, 1]], [rows.shape[i, 1], rows.shape[i, 2]]])
        inverse = np.linalg.inv(covariance)
        form = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
        profile = (np.exp(-0.5 * form) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))).reshape(
            13, fine, 13, fine).mean((1, 3))
        counts = image[0, y0:y0 + 13, x0:x0 + 13] - out.background[i]
        value = 0.0
        for _ in range(20):
            weight = 1 / (out.background[i] + max(value, 0) * profile)
            value = np.sum(weight * profile * counts) / np.sum(weight * profile ** 2)
        assert out.intensity[i] == pytest.approx(value, abs=0.05 * out.sigma[i] + 0.3)


def test_missing_pixels_are_made_up_for_and_told():
    rng = np.random.default_rng(6)
    rows = spots_on_a_grid(rng)
    image = photons_of(rng, rows, np.full(len(rows.hkl), 500.0), 0.5)
    holed = image.copy()
    for place in rows.place:
        holed[0, int(place[1]) + 1, int(place[0]) - 1:int(place[0]) + 2] = np.nan
    whole, part = measured(image, rows), measured(holed, rows)
    assert np.all(part.share < whole.share)
    assert np.median(part.intensity) == pytest.approx(np.median(whole.intensity), rel=0.03)
    assert np.all(part.sigma > whole.sigma)
    # However strong a spot, what the profile makes up for is known no better than the profile.
    bright = measured(image * 1e4, rows), measured(holed * 1e4, rows)
    assert np.all(bright[1].sigma > 0.95 * MADE_UP * (1.0 - bright[1].share) * bright[1].intensity)
    assert np.all(bright[0].sigma < 0.01 * bright[0].intensity)


def test_light_of_a_neighbour_is_taken_off():
    rng = np.random.default_rng(7)
    rows = spots_on_a_grid(rng, sxx=0.5, syy=0.5, sxy=0.0, step=32)
    rows.place[1::2] = rows.place[::2][:len(rows.place[1::2])] + [2.6, 0.4]
    truth = np.where(np.arange(len(rows.place)) % 2, 10.0, 800.0)
    image = photons_of(rng, rows, truth, 0.5)
    alone = measured(image, rows)
    shared = measured(image, rows, np.maximum(measured(image, rows, np.maximum(alone.intensity, 0)).intensity, 0))
    weak = truth < 100
    assert abs(np.median(shared.intensity[weak]) - 10) < 0.5 * abs(np.median(alone.intensity[weak]) - 10)
    assert np.all(shared.claimed[weak] > 0.2)


def test_places_and_widths_of_bright_spots_are_found():
    rng = np.random.default_rng(8)
    true = spots_on_a_grid(rng, sxx=0.45, sxy=0.0, syy=0.35)
    image = photons_of(rng, true, np.full(len(true.hkl), 600.0), 0.4)
    rows = Predictions(*(c.copy() for c in true))
    rows.place[:] -= [0.15, -0.1]
    rows.shape[:] = 0.35, 0.0, 0.35
    out = measured(image, rows)
    assert np.median(out.offset, axis=0) == pytest.approx([0.15, -0.1], abs=0.03)
    widening = np.median(out.widening, axis=0)
    assert widening[0] == pytest.approx(0.10, abs=0.03) and widening[1] == pytest.approx(0.0, abs=0.03)
    pulls = (out.offset - [0.15, -0.1]) * np.sqrt(out.information[:, [0, 2]])
    assert 0.7 < np.std(pulls) < 1.3


def test_a_spot_without_pixels_is_not_measured():
    rows = spots_on_a_grid(np.random.default_rng(9))
    out = measured(np.full((1, SIZE, SIZE), np.nan, np.float32), rows)
    assert np.isnan(out.intensity).all() and np.isnan(out.total).all()


def test_read_out_noise_is_counted():
    rng = np.random.default_rng(10)
    rows = spots_on_a_grid(rng)
    image = photons_of(rng, rows, np.full(len(rows.hkl), 20.0), 0.2) + rng.normal(0, 0.7, (1, SIZE, SIZE)).astype(np.float32)
    out = measured(image.astype(np.float32), rows, readout=0.49)
    assert 0.88 < np.std((out.intensity - 20) / out.sigma) < 1.12
