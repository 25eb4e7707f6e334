"""Refinement of lattices against peaks: derivatives, linear algebra, and lattices that come back."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from still import CELL, K0, event, rotation
from still import context as context_of

from mpixfel.kernels import refine
from mpixfel.kernels.geometry import project
from mpixfel.kernels.spots import ellipses
from mpixfel.kernels.vectors import cell_of, nearest_rotation
from mpixfel.model.crystal import UnitCell, cell_parameters
from mpixfel.model.event import Reason, Skip
from mpixfel.model.tables import LATTICE, PEAK
from mpixfel.stages.refinement import Refinement, same_lattice
from mpixfel.stages.spread import spread_of
from mpixfel.stages.strain import amounts, orientation, strains, turned_degrees

SPREAD = spread_of(1200.0, 0.08, 0.002)
SIZE = 1200


def context(**learnt):
    """A detector large enough for hundreds of peaks."""
    return context_of(SIZE, **learnt)


def exact_residuals(axes, hkl, beam, points, distance_m=0.06):
    """(n, 3): places along r and t and excitation errors, written down anew: directions of rays against predictions."""
    q = hkl @ axes
    error, _, shift, _, _ = ellipses(q, K0, SPREAD)
    moved = points - np.array([beam[0], beam[1], -beam[2] * distance_m])
    unit = moved / np.linalg.norm(moved, axis=1)[:, None]
    ray = q + [0, 0, K0]
    n = ray / np.linalg.norm(ray, axis=1)[:, None]
    t = np.cross([0, 0, 1.0], n)
    t /= np.linalg.norm(t, axis=1)[:, None]
    r = np.cross(t, n)
    return np.stack([K0 * np.sum(unit * r, axis=1) - shift, K0 * np.sum(unit * t, axis=1), -error], 1)


def peaks_on_the_detector(axes, rng, n=80, scatter_px=0.05, excitation=2e-4, shot=None, seen=None):
    """(points (n, 3), hkl, PEAK table) of reflections near the sphere, on a panel, with some scatter."""
    shot = shot or context().shot(event())
    grid = np.stack(np.meshgrid(*[np.arange(-26, 27)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[np.any(grid != 0, axis=1)]
    q = grid @ axes
    error, _, shift, _, _ = ellipses(q, K0, SPREAD)
    near = (np.abs(error) < 2 * excitation) & (np.linalg.norm(q, axis=1) < 0.45) & (q[:, 2] > -K0)
    near &= rng.random(len(q)) < np.exp(-0.5 * (error / excitation) ** 2)
    geometry = shot.geometry if seen is None else seen
    ray = q[near] + [0, 0, K0]
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    t = np.cross([0, 0, 1.0], ray)
    t /= np.linalg.norm(t, axis=1)[:, None]
    spot = K0 * ray + shift[near][:, None] * np.cross(t, ray)
    panel, fs, ss = project(geometry, spot - [0, 0, K0], 1 / K0)
    on = np.flatnonzero(panel >= 0)
    on = rng.permutation(on)[:n]
    peaks = np.zeros(len(on), PEAK)
    peaks["panel"], peaks["intensity"], peaks["sigma"] = panel[on], 400.0, 25.0
    peaks["fs"] = fs[on] + rng.normal(0, scatter_px, len(on))
    peaks["ss"] = ss[on] + rng.normal(0, scatter_px, len(on))
    return grid[near][on], peaks


def points_of(peaks, geometry):
    panel = peaks["panel"].astype(int)
    return (geometry.origin[panel] + peaks["fs"].astype(float)[:, None] * geometry.fs_axis[panel]
            + peaks["ss"].astype(float)[:, None] * geometry.ss_axis[panel])


def lattice_rows(*axes, form=0):
    rows = np.zeros(len(axes), LATTICE)
    for row, own in zip(rows, axes):
        row["reciprocal_axes"], row["cell"], row["centring"], row["form"] = own, cell_parameters(own), b"P", form
    return rows


def degrees_between(one, other):
    u, _, vt = np.linalg.svd(np.asarray(one).T @ np.linalg.inv(np.asarray(other).T))
    return np.degrees(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1)))


def test_derivatives_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    hkl, peaks = peaks_on_the_detector(axes, rng, 12, scatter_px=0.02)
    points = points_of(peaks, context().shot(event()).geometry)
    turn = orientation(axes, CELL)
    lab = np.ascontiguousarray(turn @ strains(CELL).basis @ turn.T)
    residual, rows = np.empty(3), np.empty((3, refine.MAX_PARAMETERS))
    steps = np.array([1e-6] * 3 + [1e-6] * 2 + [1e-7] * 2 + [1e-6])
    for i in range(len(hkl)):
        refine.residual_rows(hkl[i] @ axes, K0, SPREAD, points[i], lab, 0.06, residual, rows)
        one = lambda a, beam: exact_residuals(a, hkl[i:i + 1].astype(float), beam, points[i:i + 1])[0]
        assert np.allclose(residual, one(axes, np.zeros(3)), atol=1e-12)
        for p, step in enumerate(steps):
            ends = []
            for s in (step, -step):
                moved, beam = axes.copy(), np.zeros(3)
                if p < 3:
                    moved = Rotation.from_rotvec(np.eye(3)[p] * s).apply(axes)
                elif p < 5:
                    moved = axes @ (np.eye(3) + s * lab[p - 3]).T
                else:
                    beam[p - 5] = s
                ends.append(one(moved, beam))
            numeric = -(ends[0] - ends[1]) / (2 * step)     # residuals fall as predictions rise
            # The directions r and t turn with the reflection, which the derivatives leave out: of second order.
            assert np.allclose(rows[:, p], numeric, atol=2e-3 * max(np.abs(numeric).max(), 0.1))


@given(st.integers(0, 1000), st.integers(1, 9))
def test_systems_are_solved_and_inverted_as_numpy_does(seed, n):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 2))
    matrix, right = root @ root.T, rng.normal(size=n)
    solution, inverse = right.copy(), np.tril(matrix)
    assert refine.cholesky_solve(matrix.copy(), solution, n) and refine.invert(inverse, np.empty((n, n)))
    assert np.allclose(solution, np.linalg.solve(matrix, right), rtol=1e-6, atol=1e-8)
    assert np.allclose(inverse, np.linalg.inv(matrix), rtol=1e-5, atol=1e-8)


def test_a_matrix_that_is_not_positive_is_refused():
    assert not refine.cholesky_solve(np.array([[1.0, 0.0], [2.0, 1.0]]), np.ones(2), 2)


@given(st.integers(0, 1000))
def test_turning_is_a_rotation_by_the_vector(seed):
    rng = np.random.default_rng(seed)
    axes, w = rng.normal(size=(3, 3)), rng.normal(size=3)
    symmetric = axes + axes.T
    turned, tensor = axes.copy(), symmetric.copy()
    refine.turn(turned, w)
    refine.turn_tensor(tensor, w)
    matrix = Rotation.from_rotvec(w).as_matrix()
    assert np.allclose(turned, axes @ matrix.T) and np.allclose(tensor, matrix @ symmetric @ matrix.T)


def test_indices_are_the_nearest_ones_and_far_or_forbidden_points_match_none():
    rng = np.random.default_rng(1)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    true = rng.integers(-9, 10, (200, 3))
    q = true @ axes + rng.normal(0, 2e-4, (200, 3))
    q[::5] += 0.3 * axes[0]
    hkl, matched = np.empty((200, 3)), np.empty(200, bool)
    count = refine.assign(np.ascontiguousarray(axes), q, ord("I"), np.full(200, 1e-3), hkl, matched)
    far = np.linalg.norm(hkl @ axes - q, axis=1) >= 1e-3
    twin = ~far & (true.sum(1) % 2 == 0) & np.any(hkl != 0, axis=1)
    assert np.array_equal(matched, twin) and count == twin.sum()
    assert np.array_equal(hkl[matched], true[matched])


@pytest.mark.parametrize("n_peaks, degrees, cell_error", [(80, 0.15, 0.002), (20, 0.08, 0.001), (300, 0.2, 0.003)])
def test_a_perturbed_lattice_comes_back_within_its_errors(n_peaks, degrees, cell_error):
    pulls, stage = [], Refinement()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        axes = CELL.reciprocal_axes() @ rotation(rng).T
        _, peaks = peaks_on_the_detector(axes, rng, n_peaks)
        start = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=3)).apply(axes) * (1 + cell_error * rng.normal())
        shot = context().shot(event())
        lattices, marked = stage(lattice_rows(start), peaks, shot, stage.prepare(context()))
        row = lattices[0]
        assert row["n_indexed"] > 0.8 * len(peaks)
        assert degrees_between(row["reciprocal_axes"], axes) < 5 * np.linalg.norm(row["orientation_sigma"])
        pulls.append(row["cell"][:3] / cell_parameters(axes)[:3] - 1)
        q = marked["hkl"][marked["lattice"] == 0] @ row["reciprocal_axes"]
        assert np.all(np.abs(ellipses(q, K0, SPREAD)[0]) < 2e-3)
    assert np.sqrt(np.mean(np.square(pulls))) < 8e-4


def test_the_cell_keeps_its_lattice_type():
    rng = np.random.default_rng(3)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    _, peaks = peaks_on_the_detector(axes, rng, 60)
    start = axes @ (np.eye(3) + 0.002 * rng.normal(size=(3, 3)))
    stage = Refinement()
    row = stage(lattice_rows(start), peaks, context().shot(event()), stage.prepare(context()))[0][0]
    a, b, _, *angles = row["cell"]
    assert a == pytest.approx(b, rel=1e-9) and angles == pytest.approx([90.0] * 3, abs=1e-6)


def test_shift_and_distance_are_found_where_the_run_has_not_learnt_them():
    fresh = context(n_lattices=0, beam_shift_sigma_m=(np.nan, np.nan), cell_sigma=(), cells=())
    stage, found = Refinement(), []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        axes = CELL.reciprocal_axes() @ rotation(rng).T
        shot = fresh.shot(event())
        seen = shot.geometry.shifted(-1e-4, 5e-5, 0.0)       # panels moved one way: the pattern moves the other
        _, peaks = peaks_on_the_detector(axes, rng, 150, shot=shot, seen=seen)
        start = Rotation.from_rotvec(np.radians(0.1) * rng.normal(size=3)).apply(axes)
        found.append(stage(lattice_rows(start), peaks, shot, stage.prepare(fresh))[0][0]["beam_shift"])
    assert np.median(found, axis=0) == pytest.approx([1e-4, -5e-5], abs=1.5e-5)


def test_two_lattices_share_the_peaks_between_them():
    rng = np.random.default_rng(5)
    one, two = (CELL.reciprocal_axes() @ rotation(rng).T for _ in range(2))
    hkl_one, peaks_one = peaks_on_the_detector(one, rng, 60)
    hkl_two, peaks_two = peaks_on_the_detector(two, rng, 60)
    peaks = np.concatenate([peaks_one, peaks_two])
    stage = Refinement()
    lattices, marked = stage(lattice_rows(two, one), peaks, context().shot(event()), stage.prepare(context()))
    first = 0 if same_lattice(lattices[0]["reciprocal_axes"], one) else 1
    owner = np.repeat([first, 1 - first], [len(peaks_one), len(peaks_two)])
    assert len(lattices) == 2 and np.mean(marked["lattice"] == owner) > 0.9
    agree = marked["lattice"] == owner
    assert np.array_equal(marked["hkl"][agree], np.concatenate([hkl_one, hkl_two])[agree])


def test_the_same_lattice_offered_twice_is_kept_once():
    rng = np.random.default_rng(6)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    _, peaks = peaks_on_the_detector(axes, rng, 60)
    other_setting = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]) @ axes
    stage = Refinement()
    lattices, _ = stage(lattice_rows(axes, other_setting, axes), peaks, context().shot(event()), stage.prepare(context()))
    assert len(lattices) == 1


def test_a_lattice_that_explains_too_few_peaks_is_refused_with_its_reason():
    rng = np.random.default_rng(7)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    _, peaks = peaks_on_the_detector(axes, rng, 3)
    stage = Refinement(min_indexed=8)
    verdict = stage(lattice_rows(axes), peaks, context().shot(event()), stage.prepare(context()))
    assert isinstance(verdict, Skip) and verdict.reason is Reason.too_few_indexed and verdict.stage == "refinement"


def test_foreign_peaks_do_not_move_a_lattice():
    rng = np.random.default_rng(8)
    axes = CELL.reciprocal_axes() @ rotation(rng).T
    _, peaks = peaks_on_the_detector(axes, rng, 80)
    foreign = peaks[rng.integers(0, len(peaks), 80)].copy()
    foreign["fs"], foreign["ss"] = rng.uniform(0, SIZE / 2, 80), rng.uniform(0, SIZE, 80)
    stage, shot = Refinement(), context().shot(event())
    start = Rotation.from_rotvec([0.001, -0.001, 0.0005]).apply(axes)
    clean = stage(lattice_rows(start), peaks, shot, stage.prepare(context()))[0][0]
    mixed = stage(lattice_rows(start), np.concatenate([peaks, foreign]), shot, stage.prepare(context()))[0][0]
    assert degrees_between(mixed["reciprocal_axes"], clean["reciprocal_axes"]) < 0.02


@pytest.mark.parametrize("cell", [
    UnitCell(50, 60, 70, 90, 101, 90, "monoclinic", unique_axis="b"), UnitCell(50, 60, 70, 81, 95, 104, "triclinic"),
    UnitCell(50, 50, 70, 90, 90, 120, "hexagonal"), UnitCell(50, 50, 50, 80, 80, 80, "rhombohedral", centring="R"),
    UnitCell(50, 50, 90, 90, 90, 120, "rhombohedral", centring="H"), UnitCell(50, 50, 50, 90, 90, 90, "cubic"),
    UnitCell(50, 60, 60, 90, 90, 90, "tetragonal", unique_axis="a"), UnitCell(50, 60, 70, 90, 90, 90, "orthorhombic")])
def test_strains_change_the_free_constants_of_a_cell_and_no_others(cell):
    basis, to_cell = strains(cell)
    reference = cell.reciprocal_axes()
    for k in range(len(basis)):
        step = 1e-5
        changed = cell_parameters(reference @ (np.eye(3) + step * basis[k]).T) - cell_parameters(reference)
        assert np.allclose(changed / step, to_cell[:, k], atol=2e-2)
        assert np.allclose(amounts(reference @ (np.eye(3) + step * basis[k]).T, reference, basis), np.eye(len(basis))[k] * step,
                           atol=1e-8)


def test_an_orientation_comes_back_from_its_axes():
    turn = rotation(np.random.default_rng(9))
    assert np.allclose(orientation(CELL.reciprocal_axes() @ turn.T, CELL), turn)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.1))
def test_the_nearest_rotation_is_that_of_singular_vectors(seed, strain):
    rng = np.random.default_rng(seed)
    product = Rotation.random(rng=rng).as_matrix() @ (np.eye(3) + strain * rng.normal(size=(3, 3)))
    out = np.empty((3, 3))
    assert nearest_rotation(product, out)
    u, _, vt = np.linalg.svd(product)
    assert np.allclose(out, u @ vt, atol=1e-12)
    assert not nearest_rotation(-product, out)


def test_axes_that_are_turned_are_so_by_the_angle_whatever_their_strain():
    turn = Rotation.from_rotvec(np.radians(0.3) * np.array([0.6, 0.0, 0.8])).as_matrix()
    axes = CELL.reciprocal_axes()
    assert turned_degrees(1.001 * axes @ turn.T, axes) == pytest.approx(0.3, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_a_cell_is_that_of_its_axes_however_they_are_turned(seed):
    rng, out = np.random.default_rng(seed), np.empty(6)
    axes = rng.normal(size=(3, 3)) * 0.01
    cell_of(axes, out)
    np.testing.assert_allclose(out, cell_parameters(axes), rtol=1e-9)
    axes[2] = 0.0
    cell_of(axes, out)
    assert np.all(np.isnan(out))
