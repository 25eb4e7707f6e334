"""Structure factors, cells, orientations, spectra and spot lists of simulated crystals."""
import gemmi
import numpy as np
import pytest

from mpixfel.errors import MpixfelError
from mpixfel.model.crystal import UnitCell
from mpixfel.simulate import crystals, structure
from mpixfel.simulate.spots import simulate_spots

GRID = np.indices((13, 13, 13)).reshape(3, -1).T - 6
LYSOZYME = UnitCell(79.3, 79.3, 37.8, 90, 90, 90, "tetragonal", "P", "c")


@pytest.mark.parametrize("name", ["P1", "P21", "C2", "P212121", "P43212", "I213", "P6122", "R3:H", "F23", "P-1"])
def test_equivalent_indices_share_their_intensity_and_extinct_ones_have_none(name):
    symmetry = structure.Symmetry(name)
    model = structure.WilsonIntensities(symmetry, 1e5, 10.0, 0.03, seed=4)
    hkl = GRID[np.any(GRID != 0, axis=1)]
    q = np.full(len(hkl), 0.2)
    intensity = model(hkl, q)
    operations = gemmi.find_spacegroup_by_name(name).operations()
    absent = np.array([operations.is_systematically_absent(list(map(int, h))) for h in hkl])
    assert np.array_equal(intensity == 0, absent)
    for operation in operations.sym_ops:
        moved = np.array([operation.apply_to_hkl(list(map(int, h))) for h in hkl])
        np.testing.assert_allclose(model(moved, q), intensity)
    np.testing.assert_allclose(model(-hkl, q), intensity)


def test_wilson_statistics_have_the_moments_of_theory():
    hkl = np.indices((30, 30, 30)).reshape(3, -1).T + 1
    q = np.full(len(hkl), 0.25)
    acentric = structure.WilsonIntensities(structure.Symmetry("P1"), 2e5, 20.0, 0.03, seed=1)(hkl, q)
    centric = structure.WilsonIntensities(structure.Symmetry("P-1"), 2e5, 20.0, 0.03, seed=1)(hkl, q)
    # <I> = sum f^2 exp(-2 B s^2), s = q / 2; <I^2> / <I>^2 is 2 for acentric, 3 for centric reflections.
    mean = 2e5 * 0.03 * structure.LIGHT_ATOM_F2 * np.exp(-2 * (20.0 + structure.LIGHT_ATOM_B) * (0.25 / 2) ** 2)
    assert acentric.mean() == pytest.approx(mean, rel=0.03)
    assert centric.mean() == pytest.approx(mean, rel=0.03)
    assert (acentric ** 2).mean() / acentric.mean() ** 2 == pytest.approx(2.0, rel=0.05)
    assert (centric ** 2).mean() / centric.mean() ** 2 == pytest.approx(3.0, rel=0.06)


def test_the_seed_makes_the_structure():
    hkl, q = GRID + 7, np.full(len(GRID), 0.2)
    first, again, other = (structure.WilsonIntensities(structure.Symmetry("P1"), 1e5, 10.0, 0.03, seed=s)(hkl, q)
                           for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1


def test_intensities_come_from_lists_and_mtz_files(tmp_path):
    hkl = np.array([[1, 2, 3], [2, 2, 0], [4, 0, 0]])
    intensity = np.array([120.0, 35.5, 7.25])
    rows = "".join(f"{h:4d} {k:4d} {l:4d} {i:10.2f}        - 1.00 3\n" for (h, k, l), i in zip(hkl, intensity))
    (tmp_path / "a.hkl").write_text("CrystFEL reflection list version 2.0\nSymmetry: 422\n"
                                    "   h    k    l          I    phase   sigma(I)   nmeas\n" + rows + "End of reflections\n")
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.find_spacegroup_by_name("P43212")
    mtz.set_cell_for_all(gemmi.UnitCell(79, 79, 38, 90, 90, 90))
    mtz.add_dataset("x")
    mtz.add_column("FP", "F")
    mtz.set_data(np.column_stack([hkl, np.sqrt(intensity)]).astype(np.float32))
    mtz.write_to_file(str(tmp_path / "a.mtz"))
    for name in ("a.hkl", "a.mtz"):
        listed = structure.listed(structure.Symmetry("P43212"), *structure.read_reflections(tmp_path / name))
        asked = np.array([[1, 2, 3], [-2, 1, 3], [2, 1, -3], [2, 2, 0], [0, 4, 0], [5, 5, 5]])
        np.testing.assert_allclose(listed(asked, None), [120.0, 120.0, 120.0, 35.5, 7.25, 0.0], rtol=1e-5)


def test_a_file_without_reflections_is_refused(tmp_path):
    (tmp_path / "empty.hkl").write_text("nothing here\n")
    for name in ("empty.hkl", "missing.hkl", "missing.mtz"):
        with pytest.raises(MpixfelError, match="not a reflection file"):
            structure.read_reflections(tmp_path / name)
    with pytest.raises(MpixfelError, match="unknown space group"):
        structure.Symmetry("P7")


def test_random_rotations_are_rotations_and_point_everywhere():
    rng = np.random.default_rng(0)
    many = np.array([crystals.random_rotation(rng) for _ in range(2000)])
    np.testing.assert_allclose(many @ many.transpose(0, 2, 1), np.broadcast_to(np.eye(3), many.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(many), 1.0)
    assert np.abs(many.mean(axis=0)).max() < 0.05
    # The angle of uniform rotations has the density (1 - cos a) / pi: its mean is pi / 2 + 2 / pi.
    angles = np.arccos(np.clip((np.trace(many, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, rel=0.02)


@pytest.mark.parametrize("cell, equal", [
    (UnitCell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c"), {(0, 1)}),
    (UnitCell(38, 79, 79, 90, 90, 90, "tetragonal", "P", "a"), {(1, 2)}),
    (UnitCell(93, 93, 130, 90, 90, 120, "hexagonal", "P", "c"), {(0, 1)}),
    (UnitCell(78, 78, 78, 90, 90, 90, "cubic", "I"), {(0, 1), (1, 2), (0, 2)}),
    (UnitCell(60, 60, 60, 80, 80, 80, "rhombohedral", "R"), {(0, 1), (1, 2), (0, 2)}),
    (UnitCell(54, 58, 66, 90, 90, 90, "orthorhombic", "P"), set())])
def test_jitter_keeps_axes_equal_that_the_lattice_makes_equal(cell, equal):
    rng = np.random.default_rng(1)
    cells = np.array([crystals.jittered_cell(cell, 0.01, rng).parameters for _ in range(400)])
    for i, j in ((0, 1), (1, 2), (0, 2)):
        ratio = cells[:, i] / cells[:, j] * cell.parameters[j] / cell.parameters[i]
        assert np.allclose(ratio, 1.0) == ((i, j) in equal)
    np.testing.assert_allclose(cells[:, :3].std(axis=0) / cell.parameters[:3], 0.01, rtol=0.15)
    np.testing.assert_allclose(cells[:, 3:], np.broadcast_to(cell.parameters[3:], (400, 3)))


def test_the_block_transform_is_that_of_a_sphere():
    # (3 (sin u - u cos u) / u^3)^2 with u = pi D q, normalised by 1 / volume: share of the integral within q.
    q = np.linspace(1e-6, 3.0, 30001)
    u = np.pi * q
    sphere = (3.0 * (np.sin(u) - u * np.cos(u)) / u ** 3) ** 2 * np.pi / 6.0
    sphere[u < 1e-2] = np.pi / 6.0
    inside = np.cumsum(4.0 * np.pi * q ** 2 * sphere) * (q[1] - q[0])
    got = np.zeros_like(q)
    for weight, width in crystals.block_transform("sphere", 1.0):
        got += weight * np.exp(-0.5 * (q / width) ** 2) / (2.0 * np.pi * width ** 2) ** 1.5
    assert got[0] == pytest.approx(np.pi / 6.0, rel=0.02)
    drawn = np.cumsum(4.0 * np.pi * q ** 2 * got) * (q[1] - q[0])
    assert np.abs(drawn - inside).max() < 0.07
    (_, narrow), = crystals.block_transform("gaussian", 2000.0)
    assert (2.0 * np.pi * narrow ** 2) ** -1.5 == pytest.approx(np.pi / 6.0 * 2000.0 ** 3, rel=1e-3)


@pytest.mark.parametrize("kind", ["gaussian", "flat", "sase"])
def test_spectra_are_normalised_and_as_wide_as_they_say(kind):
    rng = np.random.default_rng(7)
    lines = np.concatenate([crystals.spectrum_lines(kind, 0.02, rng) for _ in range(300)])
    weight = lines[:, 0] / lines[:, 0].sum()
    assert lines[:, 0].sum() == pytest.approx(300.0)
    variance = (weight * ((lines[:, 1] - 1.0) ** 2 + lines[:, 2] ** 2)).sum()
    assert np.sqrt(variance) == pytest.approx(0.02 / np.sqrt(12.0) if kind == "flat" else 0.02 / 2.3548, rel=0.05)


def test_listed_spots_without_errors_index_exactly_and_lie_on_the_sphere():
    spots = simulate_spots(LYSOZYME, 80, 3, lattices=2, position_error_px=0.0, radius_per_angstrom=2e-4,
                           foreign_fraction=0.2)
    assert len(spots.q) == 80 and (spots.lattice == -1).sum() == 16
    assert np.all(np.diff(spots.intensity) <= 0)
    k = 1.0 / 1.3
    np.testing.assert_allclose(np.linalg.norm(spots.q + [0, 0, k], axis=1), k, rtol=1e-12)
    for number in (0, 1):
        own = spots.lattice == number
        fractional = np.linalg.solve(spots.axes[number].T, spots.q[own].T).T
        np.testing.assert_allclose(fractional, spots.hkl[own], atol=0.06)
        lengths = np.linalg.norm(np.linalg.inv(spots.axes[number]), axis=0)
        np.testing.assert_allclose(lengths, [79.3, 79.3, 37.8], rtol=1e-9)


def test_listed_spots_are_as_far_off_as_they_say():
    shift = []
    for seed in range(20):
        exact, blurred = (simulate_spots(LYSOZYME, 100, seed, foreign_fraction=0.0, position_error_px=e)
                          for e in (0.0, 0.5))
        # Neither error changes what is listed nor its order.
        assert np.array_equal(exact.hkl, blurred.hkl)
        shift.append((blurred.q - exact.q)[:, :2] / blurred.sigma_q[:, None])
    assert np.concatenate(shift).std() == pytest.approx(1.0, rel=0.1)


def test_a_wrong_beam_centre_moves_every_listed_spot():
    right = simulate_spots(LYSOZYME, 60, 5)
    wrong = simulate_spots(LYSOZYME, 60, 5, beam_shift_px=(3.0, 0.0))
    near = np.linalg.norm(right.q, axis=1) < 0.15
    step = 75e-6 / 0.15 / 1.3
    moved = (wrong.q - right.q)[near, :2]
    np.testing.assert_allclose(moved, np.broadcast_to([3 * step, 0], moved.shape), atol=0.2 * step)
