"""Symmetry of lattices: primitive reduced bases, rotations that map a lattice onto itself, settings (gemmi)."""
from itertools import product

import numpy as np

# Primitive axes (rows) as combinations of the conventional ones; R is the obverse setting on hexagonal axes.
PRIMITIVE = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, 0.5], [0, -0.5, 0.5]]),
    "B": np.array([[0.5, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


def primitive_basis(cell):
    """(3, 3) rows: primitive real axes of a `UnitCell`, angstrom, in the frame of its `direct_axes`; not reduced.

    R (or H) on hexagonal axes is centred, R on rhombohedral axes is primitive.
    """
    hexagonal = abs(cell.gamma - 120) < 1 and abs(cell.alpha - 90) < 1
    centring = {"H": "R", "R": "R" if hexagonal else "P"}.get(cell.centring, cell.centring)
    return PRIMITIVE[centring] @ cell.direct_axes()


_STEPS = (None, np.array([(n,) for n in (0, 1, -1, 2, -2)]), np.array(list(product((0, 1, -1, 2, -2), repeat=2))))


def reduce_basis(axes):
    """Buerger-like reduction of (3, 3) rows: the shortest basis, right-handed, shortest axis first.

    Each axis is made as short as the shorter ones can make it; converges in a few rounds for any lattice.
    """
    axes = np.array(axes, float)
    for _ in range(100):
        before = np.sum(axes ** 2)
        axes = axes[np.argsort(np.sum(axes ** 2, axis=1), kind="stable")]
        for i in (1, 2):
            tried = axes[i] - _STEPS[i] @ axes[:i]
            # Equal lengths are left as they are: rounding must not decide.
            length2 = np.sum(tried ** 2, axis=1)
            axes[i] = tried[np.flatnonzero(length2 <= length2.min() * (1 + 1e-9))[0]]
        if np.sum(axes ** 2) > before * (1 - 1e-9):
            break
    axes = axes[np.argsort(np.sum(axes ** 2, axis=1), kind="stable")]
    return axes if np.linalg.det(axes) > 0 else -axes


_SMALL = np.array(list(product((-1, 0, 1), repeat=9)), np.int64).reshape(-1, 3, 3)
_SMALL = _SMALL[np.rint(np.linalg.det(_SMALL)) == 1]


def lattice_rotations(axes, tolerance=0.02):
    """(n, 3, 3) integer matrices M, det 1, with M axes = axes turned, for reduced rows `axes`; identity first.

    All symmetry operations of a reduced lattice have entries -1, 0, 1. `tolerance` is the largest relative change of
    an axis and (in radians) of an angle that still counts as equal: a larger one also gives the pseudo-symmetric
    turns.
    """
    found = changes_onto(axes, axes, tolerance)
    return found[np.argsort(np.any(found != np.eye(3, dtype=int), axis=(1, 2)), kind="stable")]


def changes_onto(axes, other, tolerance=0.02):
    """(n, 3, 3) integer matrices M, det 1, with M axes = the rows `other` turned, the nearest first; both are reduced.

    `tolerance` as for `lattice_rotations`.
    """
    lengths = np.linalg.norm(other, axis=1)
    moved = np.einsum("nij,jk,nlk->nil", _SMALL, axes @ axes.T, _SMALL)
    off = np.abs(moved - other @ other.T) / np.outer(lengths, lengths)
    fits = np.all(off <= 2 * tolerance, axis=(1, 2))
    return _SMALL[fits][np.argsort(off[fits].max(axis=(1, 2)), kind="stable")]


def rotation_matrices(axes, operations):
    """(n, 3, 3) proper rotations nearest to what the integer `operations` do to the rows `axes`."""
    return np.array([rotation_onto(m @ axes, axes) for m in operations])


def rotation_onto(one, other):
    """(3, 3) rotation nearest to what carries the rows `other` (3, 3) into the rows `one`."""
    u, _, vt = np.linalg.svd(one.T @ np.linalg.inv(other).T)
    return u @ vt


def same_lattice(one, other, degrees=1.0):
    """Whether (3, 3) rows of axes span the same lattice, up to a change of basis, in nearly the same orientation."""
    change = np.rint(other @ np.linalg.inv(one))
    if abs(abs(np.linalg.det(change)) - 1.0) > 1e-6:
        return False
    return bool(np.trace(rotation_onto(change @ one, other)) > 1.0 + 2.0 * np.cos(np.radians(degrees)))
