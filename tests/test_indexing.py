"""Indexing on lists of spots: simulated ones, real ones, and noise."""
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mpixfel
from mpixfel.errors import MpixfelError
from mpixfel.model.crystal import UnitCell, cell_parameters
from mpixfel.model.event import Reason, Skip
from mpixfel.model.experiment import Beam, Context, Detector, Learnt, Panel, Shot
from mpixfel.model.tables import PEAK
from mpixfel.simulate.spots import simulate_spots
from mpixfel.stages import acceptance, lattices, search
from mpixfel.stages.indexing import Spots, StagedIndexer, index_spots, spots_from_peaks
from mpixfel.units import photon_energy_ev

LYSOZYME = UnitCell(79.3, 79.3, 37.8, 90, 90, 90, "tetragonal", "P", "c")
MONOCLINIC = UnitCell(60.2, 75.5, 100.3, 90, 104.5, 90, "monoclinic", "P", "b")
TRICLINIC = UnitCell(41.0, 52.3, 63.1, 82, 95, 107)
SMALL = UnitCell(9.64, 9.61, 19.03, 90, 101.2, 90, "monoclinic", "P", "b")
CENTRED = [UnitCell(120, 45, 71, 90, 97, 90, "monoclinic", "C", "b"), UnitCell(50, 67, 83, 90, 90, 90, "orthorhombic", "F"),
           UnitCell(50, 67, 83, 90, 90, 90, "orthorhombic", "I"), UnitCell(82, 82, 34, 90, 90, 120, "rhombohedral", "H", "c"),
           UnitCell(104, 104, 104, 90, 90, 90, "cubic", "I")]
GROUPS = {"C": "C2", "F": "F222", "I": "I222", "H": "R3", "P": "P1"}
WAVELENGTH, DISTANCE, PIXEL = 1.3, 0.15, 75e-6


def context(*cells, **changes):
    panel = Panel("p", (0.0, 0.0, 0.0), (PIXEL, 0.0, 0.0), (0.0, PIXEL, 0.0), (2000, 2000), adu_per_photon=1.0)
    return Context(Detector((panel,)), Beam(), cells, **changes)


def index(spots, cells, learnt=None, **options):
    """LATTICE table or Skip of a `SpotList`."""
    stage, known = StagedIndexer(**options), context(*cells)
    known = known.wiser(learnt) if learnt else known
    shot = Shot(known.detector.geometry(DISTANCE), photon_energy_ev(WAVELENGTH), 0.0, DISTANCE, np.ones(1))
    return stage(Spots(spots.q, spots.intensity, spots.sigma_q), shot, stage.prepare(known), np.random.default_rng(0))


def same_lattice(one, other, degrees=1.5):
    """Whether rows a*, b*, c* of two bases span the same lattice."""
    change = np.rint(one @ np.linalg.inv(other))
    if abs(abs(np.linalg.det(change)) - 1) > 1e-6:
        return False
    return bool(np.max(np.abs(np.linalg.inv(change @ other) @ one - np.eye(3))) < np.radians(degrees))


def right(found, axes):
    """Whether every lattice found is a true one, every true one is found, and none twice."""
    if isinstance(found, Skip) or len(found) != len(axes):
        return False
    match = [[same_lattice(row["reciprocal_axes"], a) for a in axes] for row in found]
    return bool(np.all(np.sum(match, axis=0) == 1) and np.all(np.sum(match, axis=1) == 1))


@settings(max_examples=8)
@given(st.integers(0, 10 ** 6))
@example(205397)   # six of the spots left over make what chance makes in one of a thousand events
def test_a_random_cell_is_found_in_its_given_setting(seed):
    """Any cell, any orientation: right-handed, with the constants given and not those of a reduced cell."""
    rng = np.random.default_rng(seed)
    cell = UnitCell(*rng.uniform(25, 110, 3), *rng.uniform(75, 115, 3))
    spots = simulate_spots(cell, 40, [seed, 1])
    found = index(spots, (cell,))
    assert right(found, spots.axes)
    assert np.linalg.det(found["reciprocal_axes"][0]) > 0
    np.testing.assert_allclose(found["cell"][0], cell.parameters, rtol=0.02)
    np.testing.assert_allclose(cell_parameters(found["reciprocal_axes"][0]), found["cell"][0])


@pytest.mark.parametrize("cell", CENTRED, ids=lambda c: c.lattice_type + c.centring)
def test_a_centred_cell_is_indexed_in_its_conventional_setting(cell):
    spots = simulate_spots(cell, 40, 3, space_group=GROUPS[cell.centring])
    found = index(spots, (cell,))
    assert isinstance(found, np.ndarray)
    hkl = np.rint(spots.q @ np.linalg.inv(found["reciprocal_axes"][0])).astype(int)
    seen = np.max(np.abs(hkl @ found["reciprocal_axes"][0] - spots.q), axis=1) < 0.003
    allowed = {"C": lambda h, k, l: (h + k) % 2, "I": lambda h, k, l: (h + k + l) % 2, "H": lambda h, k, l: (-h + k + l) % 3,
               "F": lambda h, k, l: (h + k) % 2 + (k + l) % 2}[cell.centring]
    assert seen.sum() >= 30
    assert np.mean([allowed(*h) == 0 for h in hkl[seen]]) > 0.95
    np.testing.assert_allclose(found["cell"][0], cell.parameters, rtol=0.02)
    assert found["centring"][0].decode() == cell.centring


def test_axes_of_400_angstrom_are_found_at_low_resolution():
    cell = UnitCell(400, 400, 400, 90, 90, 90, "cubic", "F")
    spots = simulate_spots(cell, 120, 3, space_group="F23", d_min_angstrom=4.5)
    assert right(index(spots, (cell,)), spots.axes)


@pytest.mark.parametrize("cell", [LYSOZYME, MONOCLINIC, TRICLINIC, SMALL], ids=["lysozyme", "monoclinic", "triclinic", "small"])
def test_six_spots_are_enough_for_cells_of_this_size(cell):
    d_min = 0.8 if cell is SMALL else 2.5
    good = 0
    for seed in range(6):
        spots = simulate_spots(cell, 7, seed, foreign_fraction=1 / 7, d_min_angstrom=d_min)
        good += right(index(spots, (cell,)), spots.axes)
    assert good == 6


def test_too_few_spots_for_a_large_cell_are_called_so():
    cell = UnitCell(281, 281, 165, 90, 90, 120, "hexagonal", "P", "c")
    spots = simulate_spots(cell, 5, 1, foreign_fraction=0.0)
    found = index(spots, (cell,))
    assert isinstance(found, Skip) and found.reason is Reason.too_few_spots_for_cell
    assert found.numbers["best_possible"] < found.numbers["bound"]
    assert index(simulate_spots(cell, 4, 1), (cell,)).reason is Reason.too_few_peaks


def test_three_lattices_are_told_apart():
    spots = simulate_spots(LYSOZYME, 138, 5, lattices=3, foreign_fraction=0.13)
    assert right(index(spots, (LYSOZYME,)), spots.axes)
    assert len(index(spots, (LYSOZYME,), max_lattices=2)) == 2


def test_two_crystal_forms_are_told_apart():
    one, other = simulate_spots(LYSOZYME, 40, 6), simulate_spots(MONOCLINIC, 40, 7)
    for number, spots in enumerate((one, other)):
        found = index(spots, (LYSOZYME, MONOCLINIC))
        assert right(found, spots.axes)
        assert found["form"][0] == number


@pytest.mark.parametrize("scale", [(1.02, 1.02, 1.02), (0.98, 0.98, 1.02), (1.02, 1.02, 0.98)])
def test_a_cell_off_by_two_per_cent_does_no_harm(scale):
    spots = simulate_spots(LYSOZYME, 60, 8)
    off = replace(LYSOZYME, a=79.3 * scale[0], b=79.3 * scale[1], c=37.8 * scale[2])
    found = index(spots, (off,))
    assert right(found, spots.axes)
    np.testing.assert_allclose(found["cell"][0], LYSOZYME.parameters, rtol=5e-3)


def test_a_beam_centre_off_by_three_pixels_is_found():
    for seed in range(4):
        spots = simulate_spots(MONOCLINIC, 60, seed, beam_shift_px=(2.4, -1.8))
        found = index(spots, (MONOCLINIC,))
        assert right(found, spots.axes)
        np.testing.assert_allclose(found["beam_shift"][0] / PIXEL, [2.4, -1.8], atol=0.4)


def test_a_distance_off_by_one_per_cent_does_no_harm():
    spots = simulate_spots(MONOCLINIC, 60, 9, distance_m=DISTANCE)
    ray = spots.q * WAVELENGTH + [0, 0, 1]
    point = ray / ray[:, 2:] / 1.01
    point[:, 2] = 1.0
    wrong = (point / np.linalg.norm(point, axis=1, keepdims=True) - [0, 0, 1]) / WAVELENGTH
    assert right(index(replace(spots, q=wrong), (MONOCLINIC,)), spots.axes)


def test_half_of_the_spots_may_be_foreign():
    for seed in range(4):
        spots = simulate_spots(LYSOZYME, 60, seed, foreign_fraction=0.5, position_error_px=0.7)
        off = replace(LYSOZYME, a=79.3 * 1.007, b=79.3 * 1.007, c=37.8 * 1.007)
        assert right(index(spots, (off,)), spots.axes)


def test_a_pink_beam_is_indexed_by_its_own_error_model():
    spots = simulate_spots(LYSOZYME, 80, 10, bandwidth_fwhm=0.03)
    stage, known = StagedIndexer(), context(LYSOZYME)
    shot = Shot(known.detector.geometry(DISTANCE), photon_energy_ev(WAVELENGTH), 0.03, DISTANCE, np.ones(1))
    found = stage(Spots(spots.q, spots.intensity, spots.sigma_q), shot, stage.prepare(known), None)
    assert right(found, spots.axes)


@pytest.mark.parametrize("cell", [LYSOZYME, SMALL], ids=["lysozyme", "small"])
def test_noise_is_never_indexed(cell):
    rng = np.random.default_rng(11)
    for n in (5, 7, 12, 30, 120):
        for _ in range(4):
            q = acceptance.on_ewald_sphere(0.4 * np.sqrt(rng.uniform(0.01, 1, n)), WAVELENGTH, rng)
            found = index_spots(q, cell, WAVELENGTH)
            assert isinstance(found, Skip)
            assert found.numbers["log_odds"] <= found.numbers["bound"]


def test_copies_of_a_spot_do_not_make_a_lattice():
    """A streak of many spots at nearly the same place is one lattice point at most."""
    rng = np.random.default_rng(12)
    q = acceptance.on_ewald_sphere(np.array([0.1, 0.2, 0.3]), WAVELENGTH, rng)
    q = np.repeat(q, 20, axis=0) + rng.normal(0, 1e-4, (60, 3))
    assert isinstance(index_spots(q, LYSOZYME, WAVELENGTH), Skip)


def test_a_foreign_cell_is_not_reported():
    """Spots of another lattice lie in planes and rows, which a wrong cell matches better than random spots."""
    for seed in range(8):
        spots = simulate_spots(LYSOZYME, 60, seed, foreign_fraction=0.1)
        assert isinstance(index(spots, (MONOCLINIC,)), Skip)
        spots = simulate_spots(MONOCLINIC, 100, seed, foreign_fraction=0.1)
        assert isinstance(index(spots, (LYSOZYME,)), Skip)


@pytest.mark.parametrize("cell", [MONOCLINIC, TRICLINIC, CENTRED[0]], ids=lambda c: c.lattice_type + c.centring)
def test_where_the_search_went_wrong_the_pattern_s_own_cell_shows_the_way(cell, monkeypatch):
    """A search that knows the cell may end at odds that other lattices reach, too; one that does not know it may not."""
    def astray(job, i, table, bound, first, worth):
        member = (np.arange(job.n) < 8).astype(float)
        return search.Fit(bound + 1.0, np.eye(3), np.zeros(8), member, np.zeros((job.n, 3), int))

    monkeypatch.setattr(lattices, "_search", astray)
    spots = simulate_spots(cell, 150, 12, space_group=GROUPS[cell.centring], foreign_fraction=0.1)
    assert right(index(spots, (LYSOZYME, cell), max_lattices=1), spots.axes)
    assert index(spots, (LYSOZYME,), max_lattices=1).reason is Reason.cell_mismatch


def test_the_order_of_spots_does_not_matter():
    spots = simulate_spots(LYSOZYME, 50, 14)
    order = np.random.default_rng(1).permutation(len(spots.q))
    mixed = replace(spots, q=spots.q[order], intensity=spots.intensity[order], sigma_q=spots.sigma_q[order])
    one, other = index(spots, (LYSOZYME,)), index(mixed, (LYSOZYME,))
    np.testing.assert_allclose(one["reciprocal_axes"], other["reciprocal_axes"], rtol=1e-9, atol=1e-12)


def test_what_the_run_has_learnt_is_used():
    learnt = Learnt(n_lattices=20, beam_shift_m=(0.0, 0.0), beam_shift_sigma_m=(1e-5, 1e-5), cells=(LYSOZYME,),
                    cell_sigma=(np.array([0.05, 0.05, 0.03, 0, 0, 0]),), half_mosaicity_deg=0.05, domain_size_angstrom=1500.0)
    spots = simulate_spots(LYSOZYME, 6, 15, foreign_fraction=0.0)
    loose, tight = index(spots, (LYSOZYME,)), index(spots, (LYSOZYME,), learnt)
    assert right(tight, spots.axes)
    assert tight["score"][0] > loose["score"][0]


def test_a_name_for_other_programs():
    spots = simulate_spots(LYSOZYME, 40, 16)
    found = mpixfel.index_spots(spots.q, LYSOZYME, sigma=spots.sigma_q)
    assert right(found, spots.axes)
    assert mpixfel.index_spots(np.zeros((0, 3)), LYSOZYME, 1.3).reason is Reason.too_few_peaks
    with pytest.raises(MpixfelError, match="wavelength"):
        mpixfel.index_spots(-spots.q, LYSOZYME)


def test_peaks_become_spots_with_their_errors():
    known = context(LYSOZYME)
    shot = Shot(known.detector.geometry(DISTANCE), photon_energy_ev(WAVELENGTH), 0.0, DISTANCE, np.ones(1))
    peaks = np.zeros(2, PEAK)
    peaks["fs"], peaks["ss"], peaks["intensity"] = [0, 1000], [0, 0], [5, 7]
    spots = spots_from_peaks(peaks, shot)
    np.testing.assert_allclose(spots.q[0], 0, atol=1e-12)
    angle = np.arctan(1000 * PIXEL / DISTANCE)
    assert np.linalg.norm(spots.q[1]) == pytest.approx(2 * np.sin(angle / 2) / WAVELENGTH)
    np.testing.assert_array_equal(spots.intensity, [5, 7])
    assert 0 < spots.sigma_q[0] < PIXEL / DISTANCE / WAVELENGTH


def test_chance_is_an_extreme_value():
    rng = np.random.default_rng(17)
    values = {(n, f): 20 + n + 3 * f - 2 * np.log(-np.log(rng.uniform(size=400))) for n in (6, 30) for f in (6.0, 7.5)}
    strict = 60 - 5 * np.log(-np.log(rng.uniform(size=400)))
    null = acceptance.measure(lambda n, f, i: values[n, f][i], (6, 30), (6.0, 7.5), 400, lambda i: (120, strict[i]))
    assert null.scale == pytest.approx(2, rel=0.15)
    assert null.at(6, 6.0) == pytest.approx(44, abs=0.5)
    assert null.at(30, 9.0) == pytest.approx(77, abs=1.5)
    assert null.bound(6, 6.0, 1e-3) == pytest.approx(44 + 2 * 6.9, rel=0.05)
    assert null.log10_odds(null.bound(6, 6.0, 1e-3), 6, 6.0) == pytest.approx(3)


def test_other_lattices_raise_the_bound_for_many_spots():
    null = acceptance.Null(np.log([6, 30]), np.array([6.0, 7.5]), np.array([[20.0, 25.0], [18.0, 24.0]]), 1.5,
                           np.log(120), 40.0, 8.0)
    assert null.bound(8, 6.0, 1e-3) == pytest.approx(null.at(8, 6.0) + 1.5 * 6.9, abs=0.1)
    others = [null.bound_of_others(n, 6.0, 1e-3) for n in (8, 40, 120, 500)]
    assert others[0] == null.bound(8, 6.0, 1e-3)
    assert others[2] == pytest.approx(40 + 8 * 5.3, rel=0.01)
    assert sorted(others) == others


@pytest.fixture(scope="module")
def real_stills(shared_data):
    with h5py.File(shared_data / "real/lysozyme_ld91_spots.h5") as f:
        first, n = f["still/first_spot"][:], f["still/n_spots"][:]
        q, axes, wavelength = f["spot/q"][:].astype(float), f["still/A"][:], f["still/wavelength_A"][:]
    return [(q[a:a + m], basis.T, w) for a, m, basis, w in zip(first, n, axes, wavelength)]


@pytest.mark.parametrize("kind, least", [("all", 1.0), ("half", 0.95), ("twice", 0.95)])
def test_real_stills_are_indexed_as_by_dials(real_stills, kind, least):
    """Every third of 150 stills; with half of the spots; with as many random ones. Bases agree up to their lengths."""
    cell, good, false = UnitCell(78.9, 78.9, 38.1, 90, 90, 90, "tetragonal", "P", "c"), 0, 0
    for i, (q, axes, wavelength) in enumerate(real_stills[::3]):
        rng = np.random.default_rng(i)
        if kind == "half":
            q = q[rng.permutation(len(q))[:(len(q) + 1) // 2]]
        if kind == "twice":
            size = np.linalg.norm(q, axis=1)
            extra = acceptance.on_ewald_sphere(np.sqrt(rng.uniform(size.min() ** 2, size.max() ** 2, len(q))), wavelength, rng)
            q = np.concatenate([q, extra])
        found = index_spots(q, cell, wavelength, bandwidth_fwhm=0.002)
        if isinstance(found, np.ndarray):
            hits = [same_lattice(row["reciprocal_axes"], axes, 4.0) for row in found]
            good, false = good + any(hits), false + len(hits) - sum(hits)
    assert false == 0
    assert good >= least * len(real_stills[::3])
