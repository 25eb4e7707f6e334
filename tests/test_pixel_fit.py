"""The last fit of a lattice to all its predicted spots, seen or not."""
import numpy as np
import pytest
from still import CELL, K0, context, event, rotation
from scipy.spatial.transform import Rotation

from mpixfel.kernels import signals as kernel
from mpixfel.kernels.signals import Signals, descend_signals, scaled, signal_equations
from mpixfel.kernels.spots import ellipse, excited, excited_all, ellipses
from mpixfel.stages.spread import spread_of
from mpixfel.stages.strain import orientation, strains

SPREAD = spread_of(1200.0, 0.08, 0.002)
FALL = 20.0


def simulated(seed, scale=0.3, sigma=2.0, places=True, spread=SPREAD):
    """(axes, `Signals`): Wilson-distributed intensities about the model's means, with noise; exact places of the strong."""
    rng = np.random.default_rng(seed)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    grid = np.stack(np.meshgrid(*[np.arange(-18, 19)] * 3, indexing="ij"), -1).reshape(-1, 3)
    q = grid @ axes
    error, nn, shift, rr, tt = ellipses(q, K0, spread)
    use = (np.abs(error) < 3 * np.sqrt(nn)) & (np.linalg.norm(q, axis=1) < 0.4) & np.any(grid != 0, axis=1)
    grid, q, shift, rr, tt = grid[use], q[use], shift[use], rr[use], tt[use]
    mean = scale * np.exp(-0.5 * FALL * np.sum(q * q, 1)) * excited_all(q, K0, spread)
    true = mean * rng.exponential(size=len(mean))
    seen = true + rng.normal(0, np.sqrt(sigma ** 2 + true))
    ray = q + [0, 0, K0]
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    t = np.cross([0, 0, 1.0], ray)
    t /= np.linalg.norm(t, axis=1)[:, None]
    r = np.cross(t, ray)
    strong = seen > 8 * np.sqrt(sigma ** 2 + true)
    place_error = np.where(strong & places, 5e-5, np.inf)
    spot = (K0 * ray + (shift + rng.normal(0, 5e-5, len(q)))[:, None] * r + rng.normal(0, 5e-5, len(q))[:, None] * t)
    points = spot * (0.06 / spot[:, 2])[:, None]
    width_error = np.where(strong & places, 0.1, np.inf)[:, None] * np.stack([rr, tt], 1)
    width = np.stack([rr, tt], 1) * (1 + 0.1 * rng.normal(size=(len(q), 2)))
    return axes, Signals(grid.astype(float), seen, np.sqrt(sigma ** 2 + np.maximum(seen, 0)), np.ones(len(q)), points,
                         np.stack([place_error, place_error], 1), width, width_error)


def parts(axes):
    turn = orientation(axes, CELL)
    return np.ascontiguousarray(CELL.reciprocal_axes() @ turn.T), np.ascontiguousarray(turn @ strains(CELL).basis @ turn.T)


def log_mean(parameters, axes, lab, hkl, spread=SPREAD):
    """Logarithm of a reflection's expected intensity as a function of all parameters, written down anew."""
    n_strain = len(lab)
    moved = axes @ (np.eye(3) + np.tensordot(parameters[3:3 + n_strain], lab, 1)).T
    moved = Rotation.from_rotvec(parameters[:3]).apply(moved)
    q = hkl @ moved
    now = scaled(spread, *np.exp(parameters[-3:]))
    error, nn, *_ = ellipse(*q, K0, now)
    return parameters[-5] - 0.5 * parameters[-4] * (q @ q) + np.log(excited(error, nn, (q @ q) / (2 * K0), now)[0])


@pytest.mark.parametrize("bandwidth", [0.002, 0.03])
def test_the_gradient_is_that_of_the_quasi_likelihood(bandwidth):
    """Weights m / (m^2 + sigma^2) times d m, d m by finite differences of the expected intensity."""
    spread = spread_of(1200.0, 0.08, bandwidth)
    axes, every = simulated(0, places=False, spread=spread)
    every = Signals(*(column[:40] for column in every))
    reference, lab = parts(axes)
    n = 3 + len(lab) + 3 + 5
    normal, gradient, row = np.empty((n, n)), np.empty(n), np.empty(n)
    start = np.zeros(n)
    start[-5:-3] = np.log(0.3), FALL
    signal_equations(axes, lab, np.zeros(3), spread, 0.3, FALL, every, K0, 0.06, n - 5, normal, gradient, np.empty(3),
                     np.empty((3, 20)), row)
    twin = np.zeros(n)
    for hkl, seen, sigma in zip(every.hkl, every.intensity, every.sigma):
        mean = np.exp(log_mean(start, axes, lab, hkl, spread))
        seen = min(seen, kernel.BRIGHTEST * mean + 3 * sigma)
        for p in range(n):
            step = np.zeros(n)
            step[p] = 1e-6 if p != n - 4 else 1e-3
            slope = (log_mean(start + step, axes, lab, hkl, spread) - log_mean(start - step, axes, lab, hkl, spread)) / (
                2 * step[p])
            twin[p] += mean * (seen - mean) / (mean ** 2 + sigma ** 2) * slope
    size = np.sqrt(np.abs(np.diag(normal)))
    free = size > 1e-6 * size.max()
    assert np.allclose(gradient[free] / size[free], twin[free] / size[free], atol=0.02)
    assert np.all(np.abs(gradient[~free]) < 1e-6 * np.abs(gradient).max())


def fitted(axes, every, start, spread=SPREAD, loose=1.0):
    reference, lab = parts(start)
    n_geometry = 3 + len(lab) + 3
    state, centre = np.zeros(n_geometry + 5), np.zeros(n_geometry + 5)
    state[n_geometry:n_geometry + 2] = centre[n_geometry:n_geometry + 2] = np.log(0.2), 15.0
    precision = np.concatenate([np.zeros(3), np.full(len(lab), 1e-3 ** -2.0), [1e-6 ** -2.0] * 2, [1e-6 ** -2.0],
                                [1e-2, 10.0 ** -2.0], np.full(3, loose ** -2.0)])
    found, covariance = np.empty((3, 3)), np.empty((len(state), len(state)))
    converged, *_ = descend_signals(reference, lab, every, K0, spread, 0.06, precision, centre, state, found, covariance, 30)
    return converged, found, state, covariance


def degrees_between(one, other):
    u, _, vt = np.linalg.svd(one.T @ np.linalg.inv(other.T))
    return np.degrees(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1)))


def test_an_orientation_comes_back_from_intensities_and_places():
    before, after, pulls = [], [], []
    for seed in range(10):
        axes, every = simulated(seed)
        start = Rotation.from_rotvec(np.radians(0.04) * np.random.default_rng(seed).normal(size=3)).apply(axes)
        converged, found, _, covariance = fitted(axes, every, start)
        assert converged
        before.append(degrees_between(start, axes))
        after.append(degrees_between(found, axes))
        turn = Rotation.from_matrix(_rotation(found, axes)).as_rotvec()
        pulls.extend(turn / np.sqrt(np.diag(covariance)[:3]))
    assert np.median(after) < 0.3 * np.median(before)
    assert 0.5 < np.std(pulls) < 1.6


def _rotation(one, other):
    u, _, vt = np.linalg.svd(one.T @ np.linalg.inv(other.T))
    return u @ vt


def test_scale_and_fall_off_come_back():
    found = []
    for seed in range(8):
        axes, every = simulated(seed)
        found.append(fitted(axes, every, axes)[2][-5:-3])
    assert np.median(found, axis=0) == pytest.approx([np.log(0.3), FALL], abs=3.0)
    assert np.median(found, axis=0)[0] == pytest.approx(np.log(0.3), abs=0.15)


def test_widths_come_back_from_shapes_and_excitation_errors():
    """The model starts with everything 30 % off."""
    wrong = scaled(SPREAD, 1 / 1.3, 1.3, 1.3)
    found = []
    for seed in range(6):
        axes, every = simulated(seed)
        found.append(fitted(axes, every, axes, wrong)[2][-3:])
    assert np.exp(np.median(found, axis=0)) * [1 / 1.3, 1.3, 1.3] == pytest.approx([1.0, 1.0, 1.0], abs=0.12)
