"""Kernels of indexing beside their naive twins."""
import itertools

import numpy as np
import pytest

from mpixfel.kernels import fit, lattice, match, pairs, periods, vectors
from mpixfel.model.crystal import UnitCell
from mpixfel.stages.forms import make_form
from mpixfel.stages.search import fibonacci_hemisphere

WAVELENGTH = 1.3


def rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def on_sphere(rng, n, reach=0.35):
    """n vectors on the Ewald sphere."""
    size = reach * np.sqrt(rng.uniform(0.01, 1, n))
    z = -0.5 * WAVELENGTH * size ** 2
    r, angle = np.sqrt(size ** 2 - z ** 2), rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([r * np.cos(angle), r * np.sin(angle), z])


def score(v, q, power=4):
    p = q @ v
    return np.sum((1 - 2 * np.abs(p - np.rint(p))) ** power)


def test_small_linear_algebra_agrees_with_numpy():
    rng = np.random.default_rng(1)
    for n in (1, 3, 5, 11):
        a = rng.normal(size=(n, n))
        positive, x = a @ a.T + np.eye(n), rng.normal(size=n)
        expected, work = np.linalg.solve(positive, x), np.zeros((11, 11))
        work[:n, :n] = np.tril(positive)
        assert vectors.solve_positive(work, n, x)
        np.testing.assert_allclose(x, expected, rtol=1e-9)
    assert not vectors.solve_positive(-np.eye(3), 3, np.ones(3))
    m, out = rng.normal(size=(3, 3)), np.empty((3, 3))
    assert vectors.invert(m, out) == pytest.approx(np.linalg.det(m))
    np.testing.assert_allclose(out, np.linalg.inv(m))


def test_turning_by_a_vector_keeps_it_and_turns_by_its_length():
    rng = np.random.default_rng(2)
    for size in (0.0, 1e-9, 0.3, 3.0):
        w = rng.normal(size=3)
        w *= size / np.linalg.norm(w)
        turned = np.empty((3, 3))
        vectors.turn(np.eye(3), *w, turned)
        np.testing.assert_allclose(turned.T @ turned, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(turned @ w, w, atol=1e-12)
        assert np.trace(turned) == pytest.approx(1 + 2 * np.cos(size))


def test_the_best_scores_are_kept_one_for_each_block():
    scores = np.random.default_rng(3).normal(size=640).astype(np.float32)
    index, best = np.empty(12, np.int64), np.empty(12, np.float32)
    assert vectors.keep_best(scores, 16, index, best) == 12
    expected = np.sort(scores.reshape(-1, 16).max(axis=1))[::-1][:12]
    np.testing.assert_array_equal(np.sort(best)[::-1], expected)
    np.testing.assert_array_equal(scores[index], best)


def test_of_rotations_that_are_one_the_best_is_kept_and_none_that_is_out_of_the_race():
    rng = np.random.default_rng(5)
    first = np.linalg.qr(rng.normal(size=(6, 3, 3)))[0]
    angle = np.radians(0.1)
    near = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ first
    rotations, scores = np.concatenate([first, near]), np.array([90.0, 80, 70, 60, 34, 50, 91, 20, 75, 10, 33, 100])
    kept = np.empty(9, np.int64)
    n = vectors.keep_distinct(rotations, scores, np.argsort(-scores, kind="stable"), kept)
    assert kept[:n].tolist() == [11, 6, 1, 8, 3]
    assert vectors.keep_distinct(rotations, scores, np.argsort(-scores, kind="stable"), kept[:2]) == 2


def test_directions_are_scored_as_written():
    rng = np.random.default_rng(4)
    q, directions = on_sphere(rng, 40), fibonacci_hemisphere(512)
    padded = np.zeros((3, 48), np.float32)
    padded[:, :40] = q.T
    expected, out = np.zeros(32, np.float32), np.empty(512, np.float32)
    lattice.scan_directions(directions, 79.0, padded, expected, out)
    naive = np.array([score(79.0 * d, q) + 8 for d in directions.T.astype(float)])
    np.testing.assert_allclose(out, naive, rtol=2e-3)


def test_expected_scores_are_the_mean_over_azimuths():
    q = on_sphere(np.random.default_rng(5), 16)
    out = np.empty(8, np.float32)
    lattice.expected_scores(40.0, np.ascontiguousarray(q.T, np.float32), out)
    angles = np.linspace(0, 2 * np.pi, 721)[:-1]
    for b in range(8):
        cosine = (b + 0.5) / 8
        sine = np.sqrt(1 - cosine ** 2)
        turned = np.column_stack([sine * np.cos(angles), sine * np.sin(angles), np.full(720, cosine)])
        assert out[b] == pytest.approx(np.mean([score(40.0 * d, q) for d in turned]), abs=1.0)


def test_an_axis_is_refined_by_trimmed_least_squares():
    q = on_sphere(np.random.default_rng(6), 48)
    v = np.array([20.0, 25.0, -12.0])
    p = q @ v
    near = np.abs(p - np.rint(p)) < 0.2
    expected = np.linalg.lstsq(q[near], np.rint(p)[near], rcond=None)[0]
    x, y, z, n = lattice.refine_axis(*v.astype(np.float32), np.ascontiguousarray(q.T, np.float32), 48, np.float32(0.2))
    assert n == near.sum()
    np.testing.assert_allclose([x, y, z], expected, rtol=1e-3, atol=1e-2)


def test_turns_are_scored_as_written():
    rng = np.random.default_rng(7)
    q, turn, others = on_sphere(rng, 30), rotation(rng), rng.normal(0, 30, (2, 3))
    angles = np.linspace(0, 2 * np.pi, 33)[:-1]
    out = np.empty(32, np.float32)
    used = lattice.turn_scores(turn, others, np.ascontiguousarray(q.T, np.float32), 0.2, 40.0,
                               np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), out)
    local = q @ turn.T
    near = np.abs(40 * local[:, 2] - np.rint(40 * local[:, 2])) < 0.2
    assert used == near.sum()
    for a, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        p = local[near] @ (others @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])).T
        naive = np.sum(np.prod(1 - 2 * np.abs(p - np.rint(p)), axis=1) ** 4)
        assert out[a] == pytest.approx(naive, rel=2e-3, abs=1e-3)


def test_the_error_model_is_the_sum_of_its_parts():
    q, sigma, radius, mosaicity, bandwidth = on_sphere(np.random.default_rng(8), 9), 3e-4, 1.5e-3, 2e-3, 8e-3
    spots = match.spot_table(q, sigma, WAVELENGTH, radius, mosaicity, bandwidth)
    for i, x in enumerate(q):
        normal = x + [0, 0, 1 / WAVELENGTH]
        normal /= np.linalg.norm(normal)
        expected = (sigma ** 2 * np.eye(3) + bandwidth ** 2 * np.outer(x, x)
                    + (radius ** 2 + mosaicity ** 2 * (x @ x)) * np.outer(normal, normal))
        u1, u2 = spots[match.U1:match.U1 + 3, i], spots[match.U2:match.U2 + 3, i]
        v1, v2, v3 = spots[match.VARIANCE:match.VARIANCE + 3, i]
        np.testing.assert_allclose(v3 * np.eye(3) + (v1 - v3) * np.outer(u1, u1) + (v2 - v3) * np.outer(u2, u2),
                                   expected, atol=1e-12)
        assert abs(u1 @ u2) < 1e-9
    assert spots[match.WEIGHT].sum() == 9
    some = match.subset(spots, np.array([3, 1]))
    np.testing.assert_array_equal(some[:, :2], spots[:, [3, 1]])
    assert some[match.WEIGHT].sum() == 2


def test_a_shift_of_the_pattern_moves_spots_along_the_sphere():
    q = on_sphere(np.random.default_rng(9), 6)
    spots = match.spot_table(q, 3e-4, WAVELENGTH, 1e-3, 0.0, 0.0)
    for axis in range(2):
        ray = q * WAVELENGTH + [0, 0, 1]
        point = ray / ray[:, 2:]
        point[:, axis] += 1e-6
        moved = (point / np.linalg.norm(point, axis=1, keepdims=True) - [0, 0, 1]) / WAVELENGTH
        row = match.SHIFT + 3 * axis
        np.testing.assert_allclose(spots[row:row + 3, :6].T, (moved - q) / 1e-6, atol=1e-5)


def naive_odds(spots, i, matrix, shift, wide=0.0, wide_q=0.0):
    """(odds, indices, difference, inverse covariance) of a spot, written with NumPy."""
    x = spots[0:3, i] - shift[0] * spots[12:15, i] - shift[1] * spots[15:18, i]
    h = np.rint(np.linalg.solve(matrix, x))
    u1, u2, (v1, v2, v3) = spots[3:6, i], spots[6:9, i], spots[9:12, i]
    covariance = ((v3 + wide ** 2 + wide_q ** 2 * spots[18, i]) * np.eye(3) + (v1 - v3) * np.outer(u1, u1)
                  + (v2 - v3) * np.outer(u2, u2))
    d = matrix @ h - x
    inverse = np.linalg.inv(covariance)
    density = match.PEAK_DENSITY * np.linalg.det(covariance) ** -0.5 * (1 + d @ inverse @ d / 4) ** -3.5
    return (density * abs(np.linalg.det(matrix)) if np.any(h) else 0.0), h, d, inverse


def a_case(seed, n=21):
    """A turned and strained cell among random spots, the last of which is the direct beam."""
    rng = np.random.default_rng(seed)
    reciprocal, turn = UnitCell(60, 75, 100, 90, 104, 90).reciprocal_axes().copy(), rotation(rng)
    spots = match.spot_table(np.vstack([on_sphere(rng, n - 1), [[1e-4, 0, 0]]]), 3e-4, WAVELENGTH, 1.5e-3, 1e-3, 2e-3)
    free = np.concatenate([rng.normal(0, 1e-4, 2), rng.normal(0, 3e-3, 6)])
    matrix, inverse = np.empty((3, 3)), np.empty((3, 3))
    match.lattice_matrix(turn, free[2:], reciprocal, matrix)
    vectors.invert(matrix, inverse)
    return spots, reciprocal, turn, free, matrix, inverse, n


def test_log_odds_are_those_of_the_mixture():
    spots, _, _, free, matrix, inverse, n = a_case(10)
    for wide, wide_q in ((0.0, 0.0), (1e-3, 0.01)):
        odds = [naive_odds(spots, i, matrix, free[:2], wide, wide_q)[0] for i in range(n)]
        expected = np.sum(np.log(1 - 0.3 + 0.3 * np.array(odds)))
        assert match.log_product(spots, matrix, inverse, free[:2], 0.3, wide, wide_q) == pytest.approx(expected)
    found, indices = np.empty(n), np.empty((n, 3), np.int64)
    match.fill_odds(spots, matrix, inverse, free[:2], found, indices)
    np.testing.assert_allclose(found, [naive_odds(spots, i, matrix, free[:2])[0] for i in range(n)])
    np.testing.assert_array_equal(indices, [naive_odds(spots, i, matrix, free[:2])[1] for i in range(n)])
    assert found[-1] == 0.0, "the direct beam belongs to no lattice"


def test_the_equations_of_a_step_are_those_of_weighted_least_squares():
    """Derivatives by differences, weights and sums written with NumPy."""
    spots, reciprocal, turn, free, matrix, inverse, n = a_case(11)
    share, wide, wide_q = 0.4, 5e-4, 4e-3

    def predicted(change, h):
        turned, out = np.empty((3, 3)), np.empty((3, 3))
        vectors.turn(turn, *change[:3], turned)
        match.lattice_matrix(turned, free[2:] + change[5:], reciprocal, out)
        return out @ h

    normal, right = np.zeros((11, 11)), np.zeros(11)
    for i in range(n):
        odds, h, d, weight = naive_odds(spots, i, matrix, free[:2], wide, wide_q)
        jacobian = np.empty((3, 11))
        for a in range(11):
            step = np.zeros(11)
            step[a] = 1e-6
            jacobian[:, a] = (predicted(step, h) - predicted(-step, h)) / 2e-6
        jacobian[:, 3:5] = spots[12:18, i].reshape(2, 3).T
        member = share * odds / (1 - share + share * odds)
        weight = weight * member * odds / (1 + odds) * (7 / 4) / (1 + d @ weight @ d / 4)
        normal += jacobian.T @ weight @ jacobian
        right -= jacobian.T @ weight @ d
    sums, small, got, got_right, own = fit.new_work()
    fit.gather(spots, matrix, inverse, free[:2], share, wide, wide_q, sums, small[2], small[3:5], own)
    fit.generators(turn, free[2:], small[6:])
    fit.equations(sums, small[2], small[3:5], own, small[6:], 9, got, got_right, small[5])
    scale = np.sqrt(np.diag(normal))
    np.testing.assert_allclose(np.tril(got / np.outer(scale, scale)), np.tril(normal / np.outer(scale, scale)), atol=2e-6)
    np.testing.assert_allclose(got_right / scale, right / scale, atol=2e-5 * np.max(np.abs(right / scale)))


def test_a_fit_finds_back_what_was_turned_strained_and_shifted():
    rng = np.random.default_rng(12)
    reciprocal = UnitCell(79, 79, 38, 90, 90, 90).reciprocal_axes().copy()
    turn, strain, shift = rotation(rng), rng.normal(0, 2e-3, 6), np.array([4e-4, -3e-4])
    matrix = np.empty((3, 3))
    match.lattice_matrix(turn, strain, reciprocal, matrix)
    h = np.array(list(itertools.product(range(-16, 17), range(-16, 17), range(-8, 9))))
    q = h @ matrix.T
    k = q + [0, 0, 1 / WAVELENGTH]
    q = q[(np.abs(np.linalg.norm(k, axis=1) - 1 / WAVELENGTH) < 5e-4) & (np.linalg.norm(q, axis=1) > 0.02)]
    spots = match.spot_table(q, 3e-4, WAVELENGTH, 1.5e-3, 0.0, 0.0)
    spots[0:3] += shift[0] * spots[12:15] + shift[1] * spots[15:18]
    found, free = np.empty((3, 3)), np.zeros(8)
    vectors.turn(turn, 0.004, -0.003, 0.005, found)
    precision = np.diag([1e3 ** 2] * 2 + [1e2 ** 2] * 6)
    plan = np.array([[1e-3, 0.01], [5e-4, 0.005], [0, 0.002], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]])
    share = fit.fit_lattice(spots, reciprocal, precision, plan, 11, found, free, 0.5, fit.new_work())
    assert share > 0.9
    again = np.empty((3, 3))
    match.lattice_matrix(found, free[2:], reciprocal, again)
    assert np.max(np.abs(again @ np.linalg.inv(matrix) - np.eye(3))) < 5e-4
    np.testing.assert_allclose(free[:2], shift, atol=5e-5)


def test_a_lattice_point_explains_one_spot():
    indices = np.array([[1, 0, 0], [1, 0, 0], [2, 1, 0], [1, 0, 0], [0, 0, 3]])
    odds = np.array([5.0, 9.0, 4.0, 7.0, 0.5])
    fit.drop_repeats(odds, indices)
    np.testing.assert_array_equal(odds, [0.0, 9.0, 4.0, 0.0, 0.5])


def test_pairs_of_true_spots_give_the_true_orientation():
    rng = np.random.default_rng(13)
    form, turn = make_form(UnitCell(60, 75, 100, 90, 104, 90)), rotation(rng)
    q = form.points[:4000] @ turn.T
    k = q + [0, 0, 1 / WAVELENGTH]
    q = q[np.abs(np.linalg.norm(k, axis=1) - 1 / WAVELENGTH) < 3e-4]
    q = q[rng.permutation(len(q))[:6]]
    spots = match.spot_table(q, 3e-4, WAVELENGTH, 1e-3, 0.0, 0.0)
    spots = match.subset(spots, np.argsort(spots[match.Q2, :6], kind="stable"))
    chosen = np.array([(j, i) for i in range(6) for j in range(i + 1, 6)])
    rotations, scores = np.empty((16, 3, 3)), np.empty(16)
    n = pairs.pair_rotations(spots, chosen, form.points, form.lengths, form.unique, form.reciprocal, 0.0, 0.002, 5e-4,
                             0.004, 1e7, rotations, scores, np.empty((5, 3, 3)))
    best = rotations[np.argmax(scores[:n])]
    twofold = np.diag([-1.0, 1.0, -1.0])
    assert max(np.trace(best.T @ turn), np.trace(best.T @ turn @ twofold)) > 1 + 2 * np.cos(np.radians(0.5))


def test_a_ball_of_vectors_holds_the_lattice_s_own():
    rng = np.random.default_rng(14)
    axes = UnitCell(40, 45, 52, 85, 95, 100).direct_axes() @ rotation(rng).T
    q = np.array(list(itertools.product(range(-8, 9), repeat=3))) @ np.linalg.inv(axes).T
    k, size = q + [0, 0, 1 / WAVELENGTH], np.linalg.norm(q, axis=1)
    q = q[(np.abs(np.linalg.norm(k, axis=1) - 1 / WAVELENGTH) < 1e-3) & (size < 0.15) & (size > 0)]
    padded = np.zeros((3, 8 * ((len(q) + 7) // 8)), np.float32)
    padded[:, :len(q)] = q.T
    out = np.empty((7, 81, 81), np.float32)
    periods.scan_ball(60.0, 5.0, 1.5, 10.0, padded, np.empty((2, 32), np.float32), out)
    k, j, i = np.unravel_index(np.argmax(out), out.shape)
    refined = np.empty((1, 3))
    periods.refine_vectors(np.array([[(i - 40) * 1.5, (j - 40) * 1.5, k * 10.0]]), padded,
                           np.array([16, padded.shape[1]]), np.float32(0.25), refined)
    whole = np.linalg.inv(axes).T @ refined[0]
    np.testing.assert_allclose(whole, np.rint(whole), atol=0.05)
    odds = np.empty(2)
    periods.vector_odds(np.array([refined[0], refined[0] * 1.13]), match.spot_table(q, 3e-4, WAVELENGTH, 1e-3, 0, 0), odds)
    assert odds[0] > 20 > odds[1]
