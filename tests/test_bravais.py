"""Conventional cells: every Bravais lattice is recognised from any of its bases."""
import gemmi
import numpy as np
import pytest

from mpixfel.model.bravais import conventional_cell
from mpixfel.model.crystal import UnitCell
from mpixfel.model.symmetry import lattice_rotations, primitive_basis, reduce_basis

LATTICES = [
    ("triclinic", "P", (21.0, 24.5, 26.0, 81.0, 97.0, 62.0)),
    ("monoclinic", "P", (9.64, 9.61, 19.03, 90, 101.2, 90)),
    ("monoclinic", "P", (60.2, 75.5, 100.3, 90, 104.5, 90)),
    ("monoclinic", "C", (120.0, 45.0, 71.0, 90, 97.0, 90)),
    ("orthorhombic", "P", (38.0, 61.0, 77.0, 90, 90, 90)),
    ("orthorhombic", "C", (50.0, 83.0, 67.0, 90, 90, 90)),
    ("orthorhombic", "I", (50.0, 67.0, 83.0, 90, 90, 90)),
    ("orthorhombic", "F", (50.0, 67.0, 83.0, 90, 90, 90)),
    ("tetragonal", "P", (79.3, 79.3, 37.8, 90, 90, 90)),
    ("tetragonal", "I", (58.0, 58.0, 151.0, 90, 90, 90)),
    ("tetragonal", "I", (151.0, 151.0, 58.0, 90, 90, 90)),
    ("hexagonal", "P", (94.0, 94.0, 131.0, 90, 90, 120)),
    ("rhombohedral", "H", (82.0, 82.0, 34.0, 90, 90, 120)),
    ("rhombohedral", "H", (46.0, 46.0, 150.0, 90, 90, 120)),
    ("cubic", "P", (78.0, 78.0, 78.0, 90, 90, 90)),
    ("cubic", "I", (104.0, 104.0, 104.0, 90, 90, 90)),
    ("cubic", "F", (178.0, 178.0, 178.0, 90, 90, 90)),
]
GEMMI = {"H": "R"}   # the letter there of a rhombohedral lattice on hexagonal axes
TURNS = {"triclinic": 1, "monoclinic": 2, "orthorhombic": 4, "rhombohedral": 6, "tetragonal": 8, "hexagonal": 12,
         "cubic": 24}


def any_basis(axes, rng):
    """The same lattice in another basis and orientation."""
    change = np.eye(3, dtype=int)
    for _ in range(6):
        i, j = rng.permutation(3)[:2]
        change[i] += rng.integers(-1, 2) * change[j]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return change @ axes @ turn


@pytest.mark.parametrize("system, centring, constants", LATTICES)
def test_a_bravais_lattice_is_recognised_from_any_basis(system, centring, constants):
    cell = UnitCell(*constants, lattice_type=system, centring=centring)
    rng = np.random.default_rng(4)
    for _ in range(5):
        found = conventional_cell(any_basis(primitive_basis(cell), rng))
        assert (found.lattice_type, found.centring) == (system, centring)
        assert found.volume == pytest.approx(cell.volume, rel=1e-6)
        if system != "triclinic":
            np.testing.assert_allclose(found.parameters, constants, rtol=1e-6)


@pytest.mark.parametrize("system, centring, constants", LATTICES)
def test_a_conventional_cell_spans_the_lattice_it_was_made_of(system, centring, constants):
    """gemmi reduces the conventional cell found to the same Niggli cell as the one given."""
    given = gemmi.GruberVector(gemmi.UnitCell(*constants), GEMMI.get(centring, centring))
    rng = np.random.default_rng(5)
    found = conventional_cell(any_basis(primitive_basis(UnitCell(*constants, lattice_type=system, centring=centring)), rng))
    again = gemmi.GruberVector(gemmi.UnitCell(*found.parameters), GEMMI.get(found.centring, found.centring))
    given.niggli_reduce()
    again.niggli_reduce()
    np.testing.assert_allclose(again.cell_parameters(), given.cell_parameters(), rtol=1e-4)


@pytest.mark.parametrize("system, centring, constants", LATTICES)
def test_symmetry_is_seen_within_errors_and_not_beyond(system, centring, constants):
    rng = np.random.default_rng(6)
    axes = primitive_basis(UnitCell(*constants, lattice_type=system, centring=centring))
    noisy = axes @ (np.eye(3) + rng.normal(0, 3e-4, (3, 3)))
    assert conventional_cell(any_basis(noisy, rng)).lattice_type == system
    bent = axes @ (np.eye(3) + np.array([[0, 0.03, 0.01], [0, 0.02, -0.02], [0, 0, -0.03]]))
    assert conventional_cell(bent).lattice_type == "triclinic"


@pytest.mark.parametrize("system, centring, constants", LATTICES)
def test_the_turns_of_a_lattice_are_those_of_its_system(system, centring, constants):
    axes = reduce_basis(primitive_basis(UnitCell(*constants, lattice_type=system, centring=centring)))
    turns = lattice_rotations(axes, 1e-3)
    assert len(turns) == TURNS[system]
    assert np.array_equal(turns[0], np.eye(3))
    for m in turns:
        np.testing.assert_allclose(m @ (axes @ axes.T) @ m.T, axes @ axes.T, atol=1e-6 * np.max(axes @ axes.T))


@pytest.mark.parametrize("system, centring, constants", LATTICES)
def test_reduced_axes_are_as_short_as_niggli_s(system, centring, constants):
    axes = primitive_basis(UnitCell(*constants, lattice_type=system, centring=centring))
    reduced = reduce_basis(any_basis(axes, np.random.default_rng(7)))
    niggli = gemmi.GruberVector(gemmi.UnitCell(*constants), GEMMI.get(centring, centring))
    niggli.niggli_reduce()
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), niggli.cell_parameters()[:3], rtol=1e-6)
    assert np.linalg.det(reduced) == pytest.approx(abs(np.linalg.det(axes)))
