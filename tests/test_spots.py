"""Where a spot stands, how it is drawn out and how much of it is excited: against clouds of samples and a ball."""
import numpy as np
import pytest

from mpixfel.kernels.spots import ellipse, ellipses, excited, excited_all, tangents, truncated, wide_part
from mpixfel.stages.spread import describe, spread_of

K0 = 0.77
NO_TAIL = dict(tail=1e-12)


def cloud_on_sphere(q, spread, flat, n=600_000, seed=0):
    """Density of samples along the sphere's normal, and their places along r and t, from a cloud about q."""
    rng = np.random.default_rng(seed)
    x = q + rng.normal(0, np.sqrt(spread.domain), (n, 3))
    x += np.cross(rng.normal(0, np.sqrt(spread.mosaic), (n, 3)), q)
    relative = rng.uniform(-flat, flat, n) if flat else rng.normal(0, np.sqrt(spread.bandwidth), n)
    ray = x + np.stack([0 * relative, 0 * relative, K0 * (1 + relative)], axis=1)
    length = np.linalg.norm(ray, axis=1)
    on = np.abs(length - K0 * (1 + relative)) < 2e-5
    frame = np.array(tangents(*q, K0)).reshape(3, 3)
    unit = ray[on] / length[on, None]
    return on.mean() / 4e-5, K0 * unit @ frame[1], K0 * unit @ frame[2]


def point(length, error):
    """A q of a length whose excitation error is nearly `error`."""
    z = -length ** 2 / (2 * K0) + error
    return np.array([np.sqrt(length ** 2 - z ** 2) * 0.6, np.sqrt(length ** 2 - z ** 2) * 0.8, z])


@pytest.mark.parametrize("length, error, bandwidth", [(0.15, 0.0, 0.002), (0.4, 4e-4, 0.002), (0.4, -3e-4, 0.005),
                                                      (0.3, 0.0, 0.03), (0.3, 1.1e-3, 0.03), (0.15, 5e-4, 0.03)])
def test_a_spot_is_where_and_as_wide_as_a_cloud_of_samples_that_meet_the_sphere(length, error, bandwidth):
    spread = spread_of(1500.0, 0.1, bandwidth)._replace(**NO_TAIL)
    q = point(length, error)
    density, along, across = cloud_on_sphere(q, spread, spread.flat)
    found, variance, shift, rr, tt = ellipse(*q, K0, spread)
    assert found == pytest.approx(error, abs=2e-6)
    assert excited(found, variance, length ** 2 / (2 * K0), spread)[0] == pytest.approx(density, rel=0.1)
    scatter = np.sqrt(rr / len(along))
    assert shift == pytest.approx(along.mean(), abs=5 * scatter + 0.06 * np.sqrt(rr))
    assert rr == pytest.approx(along.var(), rel=0.12)
    assert tt == pytest.approx(across.var(), rel=0.08)


def test_the_directions_of_a_spot_are_orthogonal_and_turn_with_it():
    for q in (point(0.3, 0.0), point(0.05, 1e-3), np.array([0.0, 0.0, 1e-4])):
        frame = np.array(tangents(*q, K0)).reshape(3, 3)
        assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-12)
        assert np.allclose(np.cross(frame[0], frame[1]), frame[2])


def test_a_ball_is_cut_as_its_gaussian_and_its_tail_say():
    """The transform of a ball, cut by planes and smoothed a little, from its top down to a thousandth."""
    size = 1500.0
    ball = size * (6 / np.pi) ** (1 / 3)
    x = np.linspace(1e-4, 200.0, 200_001)
    transform = (3 * (np.sin(x) - x * np.cos(x)) / x ** 3) ** 2
    cut = np.cumsum((transform * x)[::-1])[::-1]
    heights = np.linspace(-60, 60, 6001)
    profile = np.interp(np.abs(heights), x, cut)
    smooth = np.exp(-0.5 * heights ** 2)
    profile = np.convolve(profile, smooth / smooth.sum(), "same")
    profile /= profile.sum() * (heights[1] - heights[0])
    spread = spread_of(size, 1e-9, 1e-9)
    unit = 1 / (np.pi * ball)
    for height in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0):
        model = excited(height * unit, spread.domain + unit ** 2, 1e-9, spread)[0] * unit
        assert model == pytest.approx(np.interp(height, heights, profile), rel=0.25)


def test_the_far_tail_does_not_depend_on_what_widens_the_core():
    narrow, wide = spread_of(1500.0, 0.01, 1e-4), spread_of(1500.0, 0.2, 1e-4)
    q = point(0.2, 8e-3)
    values = [excited_all(q[None], K0, spread)[0] for spread in (narrow, wide)]
    assert values[0] == pytest.approx(values[1], rel=0.05)


def test_a_truncated_normal_distribution_has_the_moments_of_its_samples():
    rng = np.random.default_rng(1)
    sample = rng.normal(0, 2.0, 2_000_000)
    for low, high in ((-3.0, 3.0), (1.0, 4.0), (-20.0, -1.0)):
        inside = sample[(sample > low) & (sample < high)]
        mean, variance = truncated(low, high, 4.0)
        assert mean == pytest.approx(inside.mean(), abs=0.01)
        assert variance == pytest.approx(inside.var(), rel=0.02)
    mean, variance = truncated(14.0, 30.0, 4.0)
    assert 14.0 < mean < 14.4 and 0 < variance < 0.1


def test_widths_come_back_from_their_spread():
    for widths in ((1200.0, 0.08, 0.002), (900.0, 0.2, 0.03)):
        assert describe(spread_of(*widths)) == pytest.approx(widths)


def test_the_tail_of_a_wide_spectrum_is_drawn_out_along_the_streak():
    spread = spread_of(1500.0, 0.05, 0.03)
    q = point(0.3, 0.0)
    error, variance, *_ = ellipse(*q, K0, spread)
    shift, along, across = wide_part(error, variance, *q, K0, spread)
    assert abs(shift) < 1e-5 and along > 5 * across
    narrow = spread_of(1500.0, 0.05, 0.002)
    error, variance, *_ = ellipse(*q, K0, narrow)
    assert wide_part(error, variance, *q, K0, narrow)[1] == wide_part(error, variance, *q, K0, narrow)[2]


def test_many_points_at_once_are_the_same_as_one_by_one():
    rng = np.random.default_rng(2)
    q = rng.normal(0, 0.2, (20, 3))
    spread = spread_of(1000.0, 0.1, 0.002)
    assert np.allclose(ellipses(q, K0, spread).T, [ellipse(*row, K0, spread) for row in q])
