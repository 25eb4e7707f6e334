"""The last fit of a lattice to all its predicted spots, seen or not."""
import numpy as np
import pytest
from still import CELL, K0, context, event, rotation
from scipy.integrate import trapezoid
from scipy.spatial.transform import Rotation

from mpixfel.kernels import signals as kernel
from mpixfel.kernels.integrate import Spots
from mpixfel.kernels.predict import room
from mpixfel.kernels.signals import (Signals, Trust, by_spreads, descend_signals, fill_signals, scaled, signal_equations,
                                     signals_room)
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


def log_likelihood(mean, seen, noise):
    """Of an intensity that was seen with some noise, where Wilson-distributed ones have a mean; by quadrature."""
    true = np.linspace(0.0, max(seen, 0.0) + 12 * noise, 20_001)
    return np.log(trapezoid(np.exp(-true / mean - 0.5 * ((seen - true) / noise) ** 2) / mean, true))


@pytest.mark.parametrize("bandwidth", [0.002, 0.03])
def test_the_gradient_is_that_of_the_likelihood_of_what_was_measured(bandwidth):
    """All derivatives by finite differences: of the likelihood by the expected intensity, and of that by the parameters."""
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
        noise = np.sqrt(sigma ** 2 - max(seen, 0.0) + mean)
        seen = min(seen, kernel.BRIGHTEST * mean + 3 * noise)
        pull = (log_likelihood(mean * 1.001, seen, noise) - log_likelihood(mean / 1.001, seen, noise)) / (2 * np.log(1.001))
        for p in range(n):
            step = np.zeros(n)
            step[p] = 1e-6 if p != n - 4 else 1e-3
            slope = (log_mean(start + step, axes, lab, hkl, spread) - log_mean(start - step, axes, lab, hkl, spread)) / (
                2 * step[p])
            twin[p] += pull * slope
    size = np.sqrt(np.abs(np.diag(normal)))
    free = size > 1e-6 * size.max()
    # The geometry is taken to act through the excitation error alone: a per cent of its derivatives is left out.
    assert np.allclose(gradient[free] / size[free], twin[free] / size[free], rtol=0.02, atol=0.02)
    assert np.all(np.abs(gradient[~free]) < 1e-6 * np.abs(gradient).max())


def test_derivatives_by_the_spreads_are_the_limits_of_small_steps():
    rng, step = np.random.default_rng(3), 1e-5
    for spread in (SPREAD, spread_of(300.0, 0.4, 0.006, 0.001), spread_of(3000.0, 0.01, 0.0005)):
        for _ in range(10):
            q = np.append(rng.uniform(-0.3, 0.3, 2), 0.0)
            q[2] = np.sqrt(K0 ** 2 - q @ q) - K0 + rng.normal() * 5e-4
            error, nn, *_ = ellipse(*q, K0, spread)
            share = excited(error, nn, q @ q / (2 * K0), spread)[1]
            row, rows, twin, twins = np.zeros(5), np.zeros((3, 5)), np.zeros(3), np.zeros((2, 3))
            by_spreads(q, K0, spread, error, nn, share, 0, row, rows)
            for b in range(3):
                ends = []
                for sign in (1, -1):
                    wider = scaled(spread, *np.exp(sign * step * (np.arange(3) == b)))
                    e, v, _, r, t = ellipse(*q, K0, wider)
                    ends.append((np.log(excited(e, v, q @ q / (2 * K0), wider)[0]), r, t))
                twin[b], twins[0, b], twins[1, b] = (np.array(ends[0]) - ends[1]) / (2 * step)
            assert np.allclose(row[2:], twin, atol=1e-5)
            assert np.allclose(rows[:2, :3], twins, atol=1e-5 * twins.max())


def measurements(rng, n):
    """(`Predictions`, `Spots`) of n spots as good and bad as they come."""
    rows, spots = room(n), Spots(*(np.zeros((n, w)) if w else np.zeros(n) for w in (0,) * 9 + (2, 3, 2, 2)))
    rows.hkl[:], rows.panel[:], rows.place[:] = rng.integers(-9, 9, (n, 3)), rng.integers(0, 2, n), rng.uniform(0, 90, (n, 2))
    rows.frame[:] = [4000.0, 300.0, -250.0, 3900.0] * rng.uniform(0.8, 1.2, (n, 4))
    rows.shape[:] = [0.4, 0.1, 0.3] * rng.uniform(0.8, 1.2, (n, 3))
    spots.intensity[:], spots.sigma[:] = rng.normal(20, 15, n), rng.uniform(1, 9, n)
    spots.intensity[::11] = np.nan
    spots.share[:], spots.claimed[:] = rng.uniform(0.6, 1, n), rng.uniform(0, 0.1, n)
    spots.offset[:], spots.widening[:] = rng.normal(0, 0.6, (n, 2)), 1e-9 * rng.normal(size=(n, 2))
    spots.information[:] = [30.0, 5.0, 40.0]
    spots.information[::3] = 0.0
    spots.width_information[:] = 1e16 * rng.uniform(0.5, 2, (n, 2))
    spots.width_information[::5, 1] = 0.0
    return rows, spots


def test_signals_are_what_was_measured_of_the_usable_spots():
    rows, spots = measurements(np.random.default_rng(4), 200)
    rng = np.random.default_rng(5)
    origin, fs_axis, ss_axis = rng.normal(size=(3, 2, 3))
    relief, trust = rng.uniform(0.5, 2, 200), Trust(0.8, 0.05, 1.0, 1e-5, 0.1, 2e-10)
    out = signals_room(200)
    n = fill_signals(rows, spots, relief, origin, fs_axis, ss_axis, trust, out)
    use = [i for i in range(200) if np.isfinite(spots.intensity[i]) and spots.share[i] > 0.8 and spots.claimed[i] < 0.05]
    assert n == len(use) > 20
    for m, i in enumerate(use):
        placed = spots.information[i, 0] > 0 and np.hypot(*spots.offset[i]) < 1
        fs, ss = rows.place[i] + np.clip(spots.offset[i], -1, 1)
        p, frame = rows.panel[i], rows.frame[i].reshape(2, 2)
        assert np.allclose(out.point[m], origin[p] + fs * fs_axis[p] + ss * ss_axis[p])
        assert (out.intensity[m], out.sigma[m], out.relief[m]) == (spots.intensity[i], spots.sigma[i], relief[i])
        matrix = lambda three: np.array([[three[0], three[1]], [three[1], three[2]]])
        into = np.linalg.inv(frame.T)                      # pixels to steps along r and t
        variance = np.diag(into @ matrix(rows.shape[i]) @ into.T)
        assert np.allclose(out.width[m], variance + spots.widening[i], rtol=1e-9)
        true = max(1 - (spots.sigma[i] / spots.intensity[i]) ** 2, 0.0)
        known = true * np.diag(frame @ matrix(spots.information[i]) @ frame.T)
        if placed and true > 0:
            assert np.allclose(out.point_error[m], np.sqrt(1 / known + 1e-5 ** 2))
        else:
            assert np.all(np.isinf(out.point_error[m]))
        if placed and np.all(spots.width_information[i] > 0):
            assert np.allclose(out.width_error[m] ** 2, 1 / spots.width_information[i] + (0.1 * variance) ** 2 + 2e-10 ** 2)
        else:
            assert np.all(np.isinf(out.width_error[m]))


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
