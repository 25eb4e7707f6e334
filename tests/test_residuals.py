"""Which peaks are a lattice's, and how large their errors are: against plain NumPy."""
import numpy as np
from scipy.spatial.transform import Rotation

from mpixfel.kernels.residuals import match_peaks, typical_errors
from mpixfel.kernels.spots import ellipses
from mpixfel.model.crystal import UnitCell
from mpixfel.stages.spread import spread_of

K0, DISTANCE_M = 0.766, 0.06
SPREAD = spread_of(1200.0, 0.1, 0.002)
CELL = UnitCell(60.0, 60.0, 40.0, 90, 90, 90, lattice_type="tetragonal", centring="I", unique_axis="c")


def some_peaks(n=150, seed=0):
    """(axes, places of peaks in m, of which half lie near reflections; their relative errors; the pattern's shift)"""
    rng = np.random.default_rng(seed)
    axes = CELL.reciprocal_axes() @ Rotation.random(random_state=seed).as_matrix()
    hkl = rng.integers(-9, 10, (40 * n, 3))
    q = hkl @ axes
    near = np.abs(np.linalg.norm(q + [0, 0, K0], axis=1) - K0) < 8e-4
    ray = (q[near] + [0, 0, K0])[:n // 2]
    points = ray / ray[:, 2:] * DISTANCE_M
    foreign = np.column_stack([rng.uniform(-0.03, 0.03, (n - len(points), 2)), np.full(n - len(points), DISTANCE_M)])
    beam = np.array([2e-5, -3e-5, 1e-3])
    points = np.concatenate([points, foreign])
    points[:, :2] += 2e-5 * rng.normal(size=(n, 2))
    return axes, points + [beam[0], beam[1], -beam[2] * DISTANCE_M], rng.uniform(0.02, 0.5, n), beam


def rays_of(points, beam):
    ray = points - np.array([beam[0], beam[1], -beam[2] * DISTANCE_M])
    return ray / np.linalg.norm(ray, axis=1)[:, None]


def test_peaks_are_matched_by_their_distance_along_and_across_their_rays():
    axes, points, relative, beam = some_peaks()
    widen, floor, least, far, slant, tolerance = 1.3, 1e-4, 1e-8, 1.5, 0.2, 3.0
    hkl, matched, distance2 = np.empty((len(points), 3)), np.empty(len(points), bool), np.empty(len(points))
    match_peaks(axes, ord("I"), points, beam, DISTANCE_M, K0, SPREAD, relative, (widen, floor, least, far, slant),
                tolerance, hkl, matched, distance2)
    ray = rays_of(points, beam)
    q = K0 * (ray - [0, 0, 1])
    nearest = np.rint(q @ np.linalg.inv(axes))
    assert np.array_equal(hkl, nearest)
    _, nn, _, rr, tt = ellipses(q, K0, SPREAD)
    along2 = np.maximum(widen * nn, least)
    across2 = far ** 2 * (2 * floor ** 2 + relative ** 2 * (rr + tt) + slant ** 2 * along2)
    apart = nearest @ axes - q
    along = np.sum(apart * ray, axis=1)
    twin = along ** 2 / along2 + (np.sum(apart ** 2, axis=1) - along ** 2) / across2
    assert np.allclose(distance2, twin, rtol=1e-6, atol=1e-9)
    lawful = (nearest.sum(axis=1) % 2 == 0) & nearest.any(axis=1)
    within = np.sum(apart ** 2, axis=1) < tolerance ** 2 * (along2 + across2)
    assert np.array_equal(matched, lawful & within & (twin < tolerance ** 2))
    assert 5 < matched.sum() < len(points) - 5


def test_typical_errors_are_medians_over_the_peaks_in_use():
    axes, points, relative, beam = some_peaks(seed=3)
    hkl = np.rint(K0 * (rays_of(points, beam) - [0, 0, 1]) @ np.linalg.inv(axes))
    use = np.arange(len(points)) % 3 != 0
    n, error2, across2, place2 = typical_errors(axes, hkl, use, points, beam, DISTANCE_M, K0, SPREAD, relative)
    q, ray = hkl[use] @ axes, rays_of(points[use], beam)
    error, nn, shift, rr, tt = ellipses(q, K0, SPREAD)
    apart = q - K0 * (ray - [0, 0, 1])
    across = np.sqrt(np.maximum(np.sum(apart ** 2, axis=1) - np.sum(apart * ray, axis=1) ** 2, 0.0))
    assert n == use.sum()
    assert np.isclose(error2, np.median(error ** 2 / nn))
    assert np.isclose(across2, np.median(np.minimum(across, np.abs(across - np.abs(shift))) ** 2))
    assert np.isclose(place2, np.median(relative[use] ** 2 * (rr + tt) / 2))
