"""Which reflections a still excites, and where they appear: against a search through all indices."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from still import CELL, DOMAIN, K0, MOSAICITY, context, event, rotation

from mpixfel.kernels.geometry import panel_inverses, project, scattering_vectors
from mpixfel.kernels.known import fill_keys, known, row_of
from mpixfel.kernels.predict import outline, predict, room, select
from mpixfel.kernels.spots import ellipses, excited, partiality, tangents
from mpixfel.stages.spread import spread_of

EVERYTHING = (0.0, 20.0)
P, C, F = ord("P"), ord("C"), ord("F")


def predicted(axes, spread, least, q_max, centring=P, n=20_000, strength=EVERYTHING):
    geometry = context().shot(event()).geometry
    rows = room(n)
    axes, inverse = np.ascontiguousarray(axes), panel_inverses(geometry)
    count = predict(axes, centring, K0, spread, strength, least, q_max, geometry.shape, inverse, rows)
    outline(axes, K0, spread, inverse, count, rows)
    return type(rows)(*(column[:count] for column in rows)), geometry


def naive(axes, spread, least, q_max, geometry, rule=lambda h, k, l: True):
    """All indices, one after the other: those excited enough whose spot lies on a panel."""
    span = [int(np.ceil(np.linalg.norm(v) * q_max)) for v in np.linalg.inv(axes).T]
    found = {}
    for h in range(-span[0], span[0] + 1):
        for k in range(-span[1], span[1] + 1):
            for l in range(-span[2], span[2] + 1):
                q = np.array([h, k, l]) @ axes
                if not rule(h, k, l) or not 0 < np.linalg.norm(q) <= q_max or K0 + q[2] <= 0:
                    continue
                error, nn, shift, _, _ = ellipses(q[None], K0, spread)[:, 0]
                if partiality(error, nn, q @ q / (2 * K0), spread) < least:
                    continue
                frame = np.array(tangents(*q, K0)).reshape(3, 3)
                panel, fs, ss = project(geometry, K0 * frame[0] + shift * frame[1] - [0, 0, K0], 1 / K0)
                if panel[0] >= 0:
                    found[h, k, l] = (panel[0], fs[0], ss[0])
    return found


@pytest.mark.parametrize("seed, bandwidth", [(0, 0.002), (1, 0.03)])
def test_prediction_finds_what_a_search_through_all_indices_finds(seed, bandwidth):
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(seed)).T
    spread = spread_of(DOMAIN, MOSAICITY, bandwidth)
    rows, geometry = predicted(axes, spread, (0.05, 0.0), 0.3)
    twin = naive(axes, spread, 0.05, 0.3, geometry)
    found = {tuple(h): (p, *xy) for h, p, xy in zip(rows.hkl.tolist(), rows.panel.tolist(), rows.place.tolist())}
    assert found.keys() == twin.keys() and len(found) > 25
    assert all(found[h] == pytest.approx(twin[h]) for h in found)


@pytest.mark.parametrize("centring, rule", [(C, lambda h, k, l: (h + k) % 2 == 0),
                                            (F, lambda h, k, l: h % 2 == k % 2 == l % 2)])
def test_reflections_that_a_centring_forbids_are_not_predicted(centring, rule):
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(3)).T
    spread = spread_of(DOMAIN, MOSAICITY, 0.002)
    rows, geometry = predicted(axes, spread, (0.05, 0.0), 0.25, centring)
    assert set(map(tuple, rows.hkl.tolist())) == set(naive(axes, spread, 0.05, 0.25, geometry, rule))


def test_the_shape_of_a_spot_is_its_ellipse_seen_on_the_panel():
    """Steps of the ray along r and t, projected one by one, span the covariance."""
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(4)).T
    spread = spread_of(DOMAIN, MOSAICITY, 0.005)
    rows, geometry = predicted(axes, spread, (0.1, 0.0), 0.3)
    for i in range(0, len(rows.hkl), 7):
        q = rows.hkl[i].astype(float) @ axes
        _, _, shift, rr, tt = ellipses(q[None], K0, spread)[:, 0]
        frame = np.array(tangents(*q, K0)).reshape(3, 3)
        ray = K0 * frame[0] + shift * frame[1]
        steps = []
        for direction in frame[1:]:
            ends = [project(geometry, ray + s * 1e-6 * direction - [0, 0, K0], 1 / K0) for s in (1, -1)]
            if ends[0][0][0] != ends[1][0][0] or ends[0][0][0] < 0:
                break
            steps.append([(ends[0][a][0] - ends[1][a][0]) / 2e-6 for a in (1, 2)])
        else:
            covariance = rr * np.outer(steps[0], steps[0]) + tt * np.outer(steps[1], steps[1])
            assert np.allclose(rows.shape[i], covariance[[0, 0, 1], [0, 1, 1]], rtol=1e-3)


def test_reflections_are_left_out_that_show_too_few_photons_in_the_mean():
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(5)).T
    spread = spread_of(DOMAIN, MOSAICITY, 0.002)
    strength = (-2.0, 30.0)
    every, _ = predicted(axes, spread, (0.01, 0.0), 0.35, strength=strength)
    some, _ = predicted(axes, spread, (0.01, 2.0), 0.35, strength=strength)
    expected = [np.exp(strength[0] - strength[1] * r * r / 2) * excited(e, w * w, r * r / (2 * K0), spread)[0]
                for r, e, w in zip(every.resolution, every.excitation, every.width)]
    assert np.allclose(every.expected, expected)
    assert len(some.hkl) == np.sum(every.expected >= 2.0) and 0 < len(some.hkl) < len(every.hkl)


def test_of_those_predicted_the_wanted_and_the_known_are_kept_in_order():
    rng, rows = np.random.default_rng(8), room(200)
    for column in rows:
        column[:] = rng.integers(-30, 30, column.shape)
    lattice, every = np.full(200, 3), np.empty(200, np.int64)
    fill_keys(lattice, rows.hkl, every)
    assert len(set(every.tolist())) == len({tuple(h) for h in rows.hkl.tolist()})
    wanted = rng.choice(every, 40)
    table = known(wanted)
    there = np.array([row_of(number, table) >= 0 for number in every])
    assert np.array_equal(there, np.isin(every, wanted))
    twin = (rows.expected >= 5.0) | there
    before = {name: column[twin].copy() for name, column in rows._asdict().items()}
    n = select(rows, 200, 5.0, table, 3)
    assert n == twin.sum() and 0 < np.sum(twin & (rows.expected < 5.0))
    for name in set(rows._fields) - {"shape", "tail", "frame"}:
        assert np.array_equal(getattr(rows, name)[:n], before[name])
    others = np.empty(200, np.int64)
    fill_keys(lattice + 1, rows.hkl, others)
    assert not set(others.tolist()) & set(every.tolist())


@given(st.lists(st.integers(0, 2 ** 52 - 1) | st.integers(0, 40).map(lambda n: n << 40), max_size=60))
def test_known_numbers_are_found_where_they_stand_first(numbers):
    table = known(np.array(numbers, np.int64))
    for number in {*numbers, 7, 3 << 40}:
        assert row_of(number, table) == (numbers.index(number) if number in numbers else -1)


def test_where_room_runs_out_the_count_says_how_much_is_needed():
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(6)).T
    geometry = context().shot(event()).geometry
    arguments = (np.ascontiguousarray(axes), P, K0, spread_of(DOMAIN, MOSAICITY, 0.002), EVERYTHING, (0.05, 0.0), 0.3,
                 geometry.shape, panel_inverses(geometry))
    small, large = room(10), room(5000)
    n = predict(*arguments, large)
    assert predict(*arguments, small) == n > 10
    assert np.array_equal(small.hkl, large.hkl[:10])


def test_predictions_reach_the_corners_of_the_detector():
    geometry = context().shot(event()).geometry
    corner = scattering_vectors(geometry, [1], [geometry.shape[1, 1]], [geometry.shape[1, 0]], 1 / K0)
    axes = CELL.reciprocal_axes() @ rotation(np.random.default_rng(7)).T
    rows, _ = predicted(axes, spread_of(300.0, 0.5, 0.005), (0.01, 0.0), float(np.linalg.norm(corner)) * 1.001)
    last = rows.place[rows.panel == 1]
    assert np.min(np.hypot(*(last - geometry.shape[1, ::-1]).T)) < 40
