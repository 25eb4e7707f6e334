"""Small changes of a unit cell that its lattice type allows."""
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.vectors import determinant, invert, nearest_rotation

FREE = {
    "triclinic": ((0,), (1,), (2,), (3,), (4,), (5,)),
    "monoclinic": ((0,), (1,), (2,), (4,)),
    "orthorhombic": ((0,), (1,), (2,)),
    "tetragonal": ((0, 1), (2,)),
    "hexagonal": ((0, 1), (2,)),
    "cubic": ((0, 1, 2),),
}
UNIQUE_ANGLE = {"a": 3, "b": 4, "c": 5}
STEP = 1e-5
UNITY = np.eye(3).ravel()


class Strains(NamedTuple):
    """The free strains of a cell: a reciprocal vector q of the crystal becomes (I + sum_k strain_k basis[k]) q."""

    basis: np.ndarray     # (n, 3, 3), symmetric, in the frame of UnitCell.reciprocal_axes
    to_cell: np.ndarray   # (6, n): derivatives of a, b, c (angstrom), alpha, beta, gamma (degrees)


def free_parameters(cell):
    """Groups of indices into (a, b, c, alpha, beta, gamma) that vary together in a cell's lattice type."""
    kind = cell.lattice_type
    if kind == "monoclinic":
        return ((0,), (1,), (2,), (UNIQUE_ANGLE.get(cell.unique_axis, 4),))
    if kind == "tetragonal" and cell.unique_axis in ("a", "b"):
        unique = "ab".index(cell.unique_axis)
        return (tuple(i for i in range(3) if i != unique), (unique,))
    if kind == "rhombohedral":
        return FREE["hexagonal"] if abs(cell.gamma - 120.0) < 1e-3 and cell.centring == "H" else ((0, 1, 2), (3, 4, 5))
    return FREE[kind]


def strains(cell):
    """`Strains` of a cell: unit strain is a relative change of length, or a radian of angle.

    The derivative of B B0^-1 has a symmetric part, the strain, and an antisymmetric one, a rotation, which is dropped.
    """
    b0 = cell.reciprocal_axes().T
    basis, to_cell = [], []
    for group in free_parameters(cell):
        column = np.zeros(6)
        column[list(group)] = [cell.parameters[i] if i < 3 else np.degrees(1.0) for i in group]
        plus, minus = (type(cell)(*(np.array(cell.parameters) + s * STEP * column)).reciprocal_axes().T
                       for s in (1, -1))
        change = (plus - minus) / (2 * STEP) @ np.linalg.inv(b0)
        basis.append((change + change.T) / 2)
        to_cell.append(column)
    return Strains(np.array(basis), np.array(to_cell).T)


@lru_cache(maxsize=256)
def own_axes(cell):
    """(axes, reciprocal axes) of a cell in its own frame, (3, 3) rows, angstrom and 1/angstrom: not to be written to."""
    return cell.direct_axes(), cell.reciprocal_axes()


def orientation(axes, cell):
    """(3, 3) proper rotation U that best carries a cell's own reciprocal axes into the rows `axes`: q = U B h."""
    product, out = np.asarray(axes, float).T @ own_axes(cell)[0], np.empty((3, 3))
    if nearest_rotation(product, out):
        return out
    u, _, vt = np.linalg.svd(product)      # axes that are another's, or mirrored
    turn = u @ vt
    return turn if determinant(turn) > 0 else u @ np.diag([1.0, 1.0, -1.0]) @ vt


def turned_degrees(one, other):
    """Degrees by which (3, 3) rows of axes are turned against nearly the same others."""
    inverse, out = np.empty((3, 3)), np.empty((3, 3))
    invert(np.array(other, float), inverse)
    if not nearest_rotation(inverse @ one, out):
        return 180.0
    return float(np.degrees(np.arccos(np.clip((np.trace(out) - 1.0) / 2.0, -1.0, 1.0))))


def amounts(axes, reference, strains_lab):
    """(n,) strains that carry the rows `reference` into `axes`, to first order; any rotation between them is ignored."""
    inverse = np.empty((3, 3))
    invert(reference, inverse)
    change = (inverse @ axes).ravel() - UNITY     # the strains are symmetric, so that its own symmetric part is what counts
    flat = strains_lab.reshape(len(strains_lab), 9)
    return np.linalg.solve(flat @ flat.T, flat @ change)
