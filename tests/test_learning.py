"""What a run learns from its first lattices."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gamma
from still import CELL, context, event, rotation

from mpixfel.kernels.spots import ellipses, excited_all
from mpixfel.model.tables import EVENT, LATTICE, PEAK, REFLECTION, Flag
from mpixfel.stages.learning import Tables, common, freed, learn
from mpixfel.stages.relief import expected_photons, known_relief, known_shape, known_tally
from mpixfel.stages.restraints import restraints
from mpixfel.stages.spread import known_tail, spread_of


def test_mean_and_spread_of_shots_come_back_with_their_errors():
    rng = np.random.default_rng(0)
    pulls, spreads = [], []
    for _ in range(60):
        errors = rng.uniform(0.1, 2.0, 50)
        values = rng.normal(3.0, 0.5, 50) + rng.normal(0, errors)
        found = common(values, errors)
        pulls.append((found.mean - 3.0) / found.error)
        spreads.append(found.spread)
    assert abs(np.mean(pulls)) < 0.4 and 0.7 < np.std(pulls) < 1.4
    assert np.median(spreads) == pytest.approx(0.5, abs=0.1)


def test_a_wild_shot_among_many_teaches_nothing():
    values, errors = np.concatenate([np.full(30, 1.0), [500.0]]), np.full(31, 0.1)
    assert common(values, errors).mean == pytest.approx(1.0, abs=0.05)


def test_what_nobody_measured_is_nothing():
    assert np.isnan(common(np.array([1.0, 2.0]), np.array([np.inf, np.nan])).error)


@pytest.mark.parametrize("sigma", [2.0, 0.3])
def test_a_restraint_is_not_learnt_again_from_the_shots_it_went_into(sigma):
    """Posterior means of many poor shots lie near the restraint; their common mean must not, however tight that was."""
    rng = np.random.default_rng(1)
    truth, prior, errors = 5.0, 0.0, rng.uniform(1.0, 6.0, 400)
    seen = truth + rng.normal(0, errors)
    posterior = (seen / errors ** 2 + prior / sigma ** 2) / (1 / errors ** 2 + 1 / sigma ** 2)
    posterior_errors = (1 / errors ** 2 + 1 / sigma ** 2) ** -0.5
    assert common(posterior, posterior_errors).mean < 4.5
    assert common(*freed(posterior, posterior_errors, prior, sigma)).mean == pytest.approx(truth, abs=0.4)
    assert freed([0.1], [sigma * 0.9995], prior, sigma)[1][0] == np.inf


def fresh(**changes):
    """A context that has learnt nothing."""
    return context(n_events=0, n_lattices=0, beam_shift_sigma_m=(np.nan, np.nan), cells=(), cell_sigma=(),
                   half_mosaicity_deg=np.nan, domain_size_angstrom=np.nan, bandwidth_fwhm=np.nan, **changes)


def tables_of(rows, reflections=None):
    events = np.zeros(len(rows), EVENT)
    events["photon_energy"] = event().photon_energy_ev
    rows["event"] = np.arange(len(rows))
    return Tables(events, np.zeros(0, PEAK), rows, np.zeros(0, REFLECTION) if reflections is None else reflections)


def lattices(n, rng, shift=(3e-5, -2e-5), cell=(60.2, 60.2, 39.9), widths=(1500.0, 0.1, 0.003)):
    rows = np.zeros(n, LATTICE)
    rows["beam_shift_sigma"], rows["distance_scale_sigma"] = 2e-6, 3e-4
    rows["beam_shift"] = np.array(shift) + rng.normal(0, 2e-6, (n, 2))
    rows["distance_scale"] = 1.002 + rng.normal(0, 3e-4, n)
    rows["cell"] = [*cell, 90, 90, 90]
    rows["cell_sigma"][:, :3] = 0.02
    rows["cell"][:, :3] += rng.normal(0, 0.02, (n, 1)) * [1, 1, 0] + rng.normal(0, 0.02, (n, 1)) * [0, 0, 1]
    for name, value in zip(("domain_size", "half_mosaicity", "bandwidth"), widths):
        rows[name] = value * np.exp(rng.normal(0, 0.05, n))
        rows[f"{name}_sigma"] = 0.05 * value
    rows["b_factor"], rows["b_factor_sigma"] = 25.0 + rng.normal(0, 2, n), 2.0
    rows["overall_scale"] = 100.0
    rows["reciprocal_axes"] = CELL.reciprocal_axes()
    return rows


def test_beam_cell_distance_and_crystals_are_learnt():
    rng = np.random.default_rng(2)
    learnt = learn(tables_of(lattices(40, rng)), fresh())
    assert learnt.n_lattices == 40
    assert learnt.beam_shift_m == pytest.approx((-3e-5, 2e-5), abs=2e-6)
    assert learnt.distance_scale == pytest.approx(1.002, abs=2e-4)
    assert learnt.cells[0].a == learnt.cells[0].b == pytest.approx(60.2, abs=0.03)
    assert learnt.cells[0].c == pytest.approx(39.9, abs=0.03) and learnt.cells[0].alpha == 90.0
    assert learnt.domain_size_angstrom == pytest.approx(1500, rel=0.05)
    assert learnt.half_mosaicity_deg == pytest.approx(0.1, rel=0.05)
    assert learnt.bandwidth_fwhm == pytest.approx(0.003, rel=0.05)
    assert learnt.extra["fall_off"][0] == pytest.approx(25.0, abs=1.0)


def test_the_learnt_shift_brings_the_pattern_to_where_it_is_predicted():
    """A pattern found displaced by +x is met by panels moved by -x: later shots then show no shift."""
    rng = np.random.default_rng(3)
    before = fresh()
    after = before.wiser(learn(tables_of(lattices(20, rng)), before))
    moved = after.shot(event()).geometry.origin - before.shot(event()).geometry.origin
    assert moved[:, 0] == pytest.approx(-3e-5, abs=3e-6) and moved[:, 1] == pytest.approx(2e-5, abs=3e-6)
    assert np.all(moved[:, 2] > 0)


def test_later_shots_are_restrained_to_what_was_learnt():
    rng = np.random.default_rng(4)
    before = fresh()
    loose, tight = restraints(before), restraints(before.wiser(learn(tables_of(lattices(40, rng)), before)))
    assert np.all(tight.beam_sigma < loose.beam_sigma / 5)
    assert np.all(tight.forms[0].sigma < loose.forms[0].sigma)


def test_two_lattices_are_too_few_to_learn_from():
    before = fresh()
    assert learn(tables_of(lattices(2, np.random.default_rng(5))), before) is before.learnt


def test_what_the_first_lattices_do_not_tell_stays_as_it_was():
    rng = np.random.default_rng(6)
    rows = lattices(10, rng)
    for name in ("domain_size", "half_mosaicity", "bandwidth", "b_factor"):
        rows[f"{name}_sigma"] = np.nan
    learnt = learn(tables_of(rows), fresh())
    assert np.isnan(learnt.domain_size_angstrom) and "fall_off" not in learnt.extra
    assert learnt.extra["width_sigma"] == pytest.approx([1.0] * 3)


def reflections_of(rows, rng, factor, widths=3.0, tail=1.0):
    """Reflections within some widths of the sphere of lattices turned at random, with Wilson's distribution about means
    that depart from the plain expectation by factor(resolution), and by the weight of the tails."""
    crystal = rows[0]["domain_size"], rows[0]["half_mosaicity"], rows[0]["bandwidth"]
    spread, true_spread = spread_of(*crystal), spread_of(*crystal, tail=tail)
    k0 = event().photon_energy_ev / 12398.419843320026
    grid = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), -1).reshape(-1, 3)
    parts, weights = [], []
    for i, row in enumerate(rows):
        row["reciprocal_axes"] = CELL.reciprocal_axes() @ rotation(rng).T
        q = grid @ row["reciprocal_axes"]
        error, variance, *_ = ellipses(q, k0, spread)
        near = (np.abs(error) < widths * np.sqrt(variance)) & (np.linalg.norm(q, axis=1) < 0.4) & np.any(grid != 0, axis=1)
        part = np.zeros(near.sum(), REFLECTION)
        part["lattice"], part["hkl"], part["excitation_error"] = i, grid[near], error[near]
        part["resolution"] = np.linalg.norm(q[near], axis=1)
        parts.append(part)
        weights.append(excited_all(q[near], k0, true_spread) / excited_all(q[near], k0, spread))
    out = np.concatenate(parts)
    mean = expected_photons(tables_of(rows, out), fresh())[0] * factor(out["resolution"].astype(float)) * np.concatenate(weights)
    true = mean * rng.exponential(size=len(mean))
    out["sigma"] = np.sqrt(1.0 + true)
    out["sigma_sum"] = 1.3 * out["sigma"]
    out["intensity"] = true + rng.normal(0, 1, len(mean)) * out["sigma"]
    out["intensity_sum"] = out["intensity"]
    out["flags"] = Flag.profile_fitted
    return out


def same_crystals(n, rng):
    """LATTICE rows of equal crystals."""
    rows = lattices(n, rng)
    rows["domain_size"], rows["half_mosaicity"], rows["bandwidth"] = 1200.0, 0.1, 0.002
    return rows


def test_a_departure_from_the_expected_fall_off_is_learnt():
    rng = np.random.default_rng(7)
    rows = same_crystals(25, rng)
    table = reflections_of(rows, rng, lambda resolution: 1.0 + 0.6 * np.sin(resolution * 25))
    relief = known_relief(fresh().wiser(learn(tables_of(rows, table), fresh())))
    at = np.linspace(*np.percentile(table["resolution"], [15, 85]), 6)
    found = relief(at, np.zeros(6))
    assert found / found.mean() == pytest.approx((1 + 0.6 * np.sin(at * 25)) / np.mean(1 + 0.6 * np.sin(at * 25)), rel=0.35)


@pytest.mark.parametrize("tail, least, most", [(1.0, 1.0, 1.0), (0.6, 1.0, 1.0), (0.0, 0.0, 0.15)])
def test_blocks_without_sharp_faces_are_told_by_the_light_that_is_not_there(tail, least, most):
    rng = np.random.default_rng(9)
    rows = same_crystals(25, rng)
    table = reflections_of(rows, rng, np.ones_like, widths=7.0, tail=tail)
    known = fresh().wiser(learn(tables_of(rows, table), fresh()))
    assert least <= known_tail(known) <= most
    expected, width = expected_photons(tables_of(rows, table), known)
    far = np.abs(table["excitation_error"]) > 4 * width
    assert expected[far].sum() <= 1.001 * most * expected_photons(tables_of(rows, table), fresh())[0][far].sum()
    # Few reflections are no evidence.
    few = learn(tables_of(rows[:3], table[(table["lattice"] < 3) & (rng.random(len(table)) < 0.1)]), fresh())
    assert known_tail(fresh().wiser(few)) == 1.0


def test_fits_that_fall_short_of_summation_are_brought_up_to_it():
    rng = np.random.default_rng(8)
    rows = same_crystals(25, rng)
    table = reflections_of(rows, rng, np.ones_like)
    even = known_tally(fresh().wiser(learn(tables_of(rows, table), fresh())))
    table["intensity"] *= 0.8
    raised = known_tally(fresh().wiser(learn(tables_of(rows, table), fresh())))
    assert even(np.array([0.2, 0.8])) == pytest.approx([1.0, 1.0], abs=0.02)
    assert raised(np.array([0.2, 0.8])) == pytest.approx([1.25, 1.25], abs=0.06)


def test_the_scatter_of_intensities_gives_their_distribution():
    plain = known_shape(fresh())
    wider = known_shape(fresh().wiser(replace(fresh().learnt, extra={"scatter": np.array(3.0)})))
    for shape, scatter in ((plain, 1.5), (wider, 3.0)):
        assert gamma(1 + 2 / shape) / gamma(1 + 1 / shape) ** 2 - 1 == pytest.approx(scatter, rel=1e-3)
