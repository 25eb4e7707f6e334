"""Merohedral ambiguity, against textbook cases (International Tables C, 1.3; Brehm and Diederichs 2014)."""
import numpy as np
import pytest

from mpixfel.io.learnt import cells_of, fill_cells
from mpixfel.model.ambiguity import ambiguity
from mpixfel.model.crystal import UnitCell


def matrix(law):
    """(3, 3) of "k,h,-l": new indices are matrix @ old."""
    return np.array([[0 if name not in word else -1 if "-" + name in word else 1 for name in "hkl"] for word in law.split(",")])


@pytest.mark.parametrize("cell, number", [
    (UnitCell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c", "P 43 21 2"), 0),
    (UnitCell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c", "P 43"), 1),
    (UnitCell(281, 281, 165, 90, 90, 120, "hexagonal", "P", "c", "P 63"), 1),
    (UnitCell(281, 281, 165, 90, 90, 120, "hexagonal", "P", "c", "P 32"), 3),
    (UnitCell(104, 104, 104, 90, 90, 90, "cubic", "I", "", "I 2 3"), 1),
    (UnitCell(104, 104, 104, 90, 90, 90, "cubic", "I", "", "I 4 3 2"), 0),
    (UnitCell(60, 75, 100, 90, 104, 90, "monoclinic", "P", "b", "P 1 21 1"), 0),
    (UnitCell(60, 75, 100, 90, 90.1, 90, "monoclinic", "P", "b", "P 1 21 1"), 1),
    (UnitCell(82, 82, 34, 90, 90, 120, "rhombohedral", "H", "c"), 1),
    (UnitCell(41, 52, 63, 82, 95, 107), 0)], ids=lambda x: getattr(x, "space_group", None))
def test_there_are_as_many_laws_as_the_lattice_has_more_symmetry_than_the_crystal(cell, number):
    assert len(ambiguity(cell)) == number


def test_a_law_keeps_the_lengths_of_scattering_vectors_and_the_hand():
    cell = UnitCell(281, 281, 165, 90, 90, 120, "hexagonal", "P", "c", "P 63")
    hkl, axes = np.random.default_rng(0).integers(-9, 9, (20, 3)), cell.reciprocal_axes()
    for law in ambiguity(cell):
        change = matrix(law)
        assert np.linalg.det(change) == pytest.approx(1)
        np.testing.assert_allclose(np.linalg.norm(hkl @ change.T @ axes, axis=1), np.linalg.norm(hkl @ axes, axis=1))


def test_an_unknown_space_group_leaves_the_most_that_may_be():
    assert len(ambiguity(UnitCell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c"))) == 1
    assert len(ambiguity(UnitCell(60, 75, 100, 90, 90, 90, "orthorhombic", "P"))) == 0


def test_files_note_it_with_the_cells(tmp_path):
    h5py = pytest.importorskip("h5py")
    cells = (UnitCell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c", "P 43"), UnitCell(41, 52, 63, 82, 95, 107))
    with h5py.File(tmp_path / "c.h5", "w") as f:
        fill_cells(f, cells)
        assert f["ambiguity"].asstr()[:].tolist() == ["; ".join(ambiguity(cells[0])), ""]
        assert cells_of(f) == cells
