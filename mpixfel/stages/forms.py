"""A known cell, made ready for the search: reduced, with its symmetry and what may differ from what is given."""
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.match import lattice_matrix
from mpixfel.model.symmetry import lattice_rotations, primitive_basis, reduce_basis, rotation_matrices

# Relative differences of metrics that count as none; as none for a coarse search; as worth a try.
STRICT, LOOSE, SIMILAR = 1e-3, 0.025, 0.06
MAX_POINTS = 60_000


class ScanAxis(NamedTuple):
    """One axis of the reduced cell, and what turning the cell about it needs."""

    length: float           # angstrom
    reference: np.ndarray   # (5, 3) see kernels.lattice.turns_about_axes
    signs: np.ndarray       # 1 or 2 directions of the axis that differ
    order: int              # of the symmetry about the axis
    stretch: np.ndarray     # (6,) strain by 1 along the axis


@dataclass(frozen=True, eq=False)
class Form:
    """One known cell."""

    cell: object                # UnitCell
    axes: np.ndarray            # (3, 3) rows: reduced primitive axes, angstrom, shortest first
    reciprocal: np.ndarray      # (3, 3) rows
    conventional: np.ndarray    # (3, 3) integers: conventional axes = conventional @ axes
    scans: tuple                # ScanAxis of each axis
    alternatives: np.ndarray    # (n, 3, 3) pseudo-symmetric settings: rotations in the crystal's frame
    precision: np.ndarray       # (6, 6) prior precision of the strain
    points: np.ndarray          # (m, 3) lattice points by ascending length, 1/angstrom
    lengths: np.ndarray         # (m,)
    unique: np.ndarray          # (m,) one of each set of equivalent points

    @cached_property
    def primitive(self):
        """(3, 3): reduced axes = primitive @ conventional ones."""
        return np.linalg.inv(self.conventional)

    @cached_property
    def longest(self):
        """Angstrom."""
        return float(np.linalg.norm(self.axes[2]))

    @cached_property
    def volume(self):
        """Of the primitive cell, angstrom^3."""
        return float(abs(np.linalg.det(self.axes)))

    def reciprocal_axes(self, rotation, strain):
        """(3, 3) rows: the reduced reciprocal axes in the laboratory frame, 1/angstrom."""
        matrix = np.empty((3, 3))
        lattice_matrix(rotation, strain, self.reciprocal, matrix)
        return matrix.T

    def real_axes(self, rotation, strain):
        """(3, 3) rows: the reduced axes in the laboratory frame, angstrom."""
        return np.linalg.inv(self.reciprocal_axes(rotation, strain).T)


def make_form(cell, allowed=0.01, forbidden=0.002):
    """`Form` of a `UnitCell`; `allowed` and `forbidden`: see `strain_precision`."""
    axes = reduce_basis(primitive_basis(cell))
    strict, loose = lattice_rotations(axes, STRICT), lattice_rotations(axes, LOOSE)
    turns = rotation_matrices(axes, strict)
    reciprocal = np.ascontiguousarray(np.linalg.inv(axes).T)
    return Form(cell, axes, reciprocal, np.rint(cell.direct_axes() @ np.linalg.inv(axes)).astype(int),
                tuple(_scan_axis(axes, k, loose) for k in range(3)),
                _settings(axes, strict, lattice_rotations(axes, SIMILAR)),
                strain_precision(turns, allowed, forbidden), *_points(reciprocal, turns))


def plain_form(axes, strain):
    """`Form` of reduced axes (3, 3), angstrom, for fits alone: strain of that size, nothing to search with."""
    reciprocal = np.ascontiguousarray(np.linalg.inv(axes).T)
    return Form(None, axes, reciprocal, np.eye(3, dtype=int), (), np.zeros((0, 3, 3)), np.eye(6) / strain ** 2,
                np.zeros((0, 3)), np.zeros(0), np.zeros(0, bool))


def _scan_axis(axes, k, rotations):
    length = np.linalg.norm(axes[k])
    z = axes[k] / length
    others = axes[[i for i in range(3) if i != k]]
    x = others[0] - z * (z @ others[0])
    x /= np.linalg.norm(x)
    turn = np.array([x, np.cross(z, x), z])
    goal = np.eye(3, dtype=int)[k]
    order = sum(1 for m in rotations if np.array_equal(m[k], goal))
    flips = any(np.array_equal(m[k], -goal) for m in rotations)
    return ScanAxis(float(length), np.ascontiguousarray(np.vstack([turn, others @ turn.T])),
                    np.array([1.0] if flips else [1.0, -1.0]), order, strain_of(np.outer(z, z)))


def _settings(axes, strict, similar):
    """One rotation for each setting that is nearly, but not, equivalent: cosets of the strict symmetry."""
    seen, out = {m.tobytes() for m in strict}, []
    for m in similar:
        if m.tobytes() not in seen:
            out.append(m)
            seen.update((s @ m).tobytes() for s in strict)
    return rotation_matrices(axes, out) if out else np.zeros((0, 3, 3))


def _points(reciprocal, turns):
    """(points, lengths, unique): the shortest lattice points but 0, and one of each set that `turns` exchange."""
    radius = (MAX_POINTS * 3 / (4 * np.pi) * abs(np.linalg.det(reciprocal))) ** (1 / 3)
    span = np.ceil(radius * np.linalg.norm(np.linalg.inv(reciprocal), axis=0)).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-s, s + 1) for s in span), indexing="ij"), axis=-1).reshape(-1, 3)
    points = hkl @ reciprocal
    lengths = np.linalg.norm(points, axis=1)
    keep = np.flatnonzero((lengths < radius) & (lengths > 0))
    keep = keep[np.argsort(lengths[keep], kind="stable")]
    points = np.ascontiguousarray(points[keep])
    # A direction without symmetry orders equivalent points; rounding lets equal ones be equal.
    height = points @ np.array([1.0, 0.618034, 0.381966])
    unique = np.ones(len(points), bool)
    for turn in turns[1:]:
        unique &= height >= points @ turn.T @ np.array([1.0, 0.618034, 0.381966]) - 1e-9
    return points, lengths[keep], unique


def strain_of(matrix):
    """(6,) strain of a symmetric (3, 3) matrix, in the order of `kernels.match.lattice_matrix`."""
    return np.concatenate([np.diag(matrix), np.sqrt(2.0) * matrix[[1, 0, 0], [2, 2, 1]]])


def strain_precision(rotations, allowed, forbidden):
    """(6, 6) prior precision of strain: relative standard deviation `allowed` within the symmetry, `forbidden` else.

    rotations (n, 3, 3): the lattice's symmetry in the crystal's frame. Strains are ordered as in
    `kernels.match.lattice_matrix`.
    """
    basis = np.zeros((6, 3, 3))
    for i in range(3):
        basis[i, i, i] = 1.0
        j, k = (i + 1) % 3, (i + 2) % 3
        basis[3 + i, j, k] = basis[3 + i, k, j] = np.sqrt(0.5)
    turned = np.einsum("nij,ajk,nlk->ail", rotations, basis, rotations) / len(rotations)
    project = np.einsum("aij,bij->ab", turned, basis)
    return project / allowed ** 2 + (np.eye(6) - project) / forbidden ** 2


def lattice_axes(form, rotation, strain):
    """(3, 3) rows a*, b*, c* of the conventional cell, laboratory frame, 1/angstrom."""
    return form.primitive.T @ form.reciprocal_axes(rotation, strain)
