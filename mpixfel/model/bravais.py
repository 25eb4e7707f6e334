"""The conventional cell of a lattice: what symmetry it has, and which basis shows it.

Conventions: International Tables A; the axes of 2-, 3-, 4- and 6-fold turns are found as integer combinations of the
reduced axes. Triclinic cells are Niggli's (gemmi).
"""
from itertools import product
from math import gcd

import gemmi
import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.model.symmetry import lattice_rotations, reduce_basis

SYSTEMS = {1: "triclinic", 2: "monoclinic", 4: "orthorhombic", 6: "rhombohedral", 8: "tetragonal", 12: "hexagonal",
           24: "cubic"}
UNIQUE_AXIS = {"monoclinic": "b", "tetragonal": "c", "hexagonal": "c", "rhombohedral": "c"}
_HALVES = {(0.0, 0.5, 0.5): "A", (0.5, 0.0, 0.5): "B", (0.5, 0.5, 0.0): "C", (0.5, 0.5, 0.5): "I"}


def conventional_cell(axes, tolerance=0.004):
    """`UnitCell` of the highest symmetry that rows `axes` (3, 3), primitive and in angstrom, have within `tolerance`.

    tolerance: relative for lengths, radians for angles. The cell's parameters obey the symmetry exactly.
    """
    axes = reduce_basis(axes)
    turns = symmetry_group(axes, tolerance)
    system = SYSTEMS[len(turns)]
    metric = np.mean([m @ (axes @ axes.T) @ m.T for m in turns], axis=0)
    if system == "triclinic":
        return UnitCell(*_niggli(metric), lattice_type=system)
    basis, centring = _centring(_BASES[system](turns, metric), system, metric)
    return UnitCell(*parameters(basis @ metric @ basis.T), lattice_type=system, centring=centring,
                    unique_axis=UNIQUE_AXIS.get(system, ""))


def symmetry_group(axes, tolerance):
    """(n, 3, 3) integers: a group of turns of the reduced rows `axes`; the tolerance is lowered until they are one."""
    while True:
        turns = lattice_rotations(axes, tolerance)
        known = {m.tobytes() for m in turns}
        if len(turns) in SYSTEMS and all((a @ b).tobytes() in known for a in turns for b in turns):
            return turns
        tolerance *= 0.8


def parameters(metric):
    """(a, b, c, alpha, beta, gamma) of a metric tensor; angles within 1e-6 of 90, 60 and 120 degrees made exact."""
    lengths = np.sqrt(np.diag(metric))
    cosines = np.clip([metric[1, 2] / lengths[1] / lengths[2], metric[0, 2] / lengths[0] / lengths[2],
                       metric[0, 1] / lengths[0] / lengths[1]], -1, 1)
    angles = np.degrees(np.arccos(cosines))
    for exact in (60.0, 90.0, 120.0):
        angles = np.where(np.abs(angles - exact) < 1e-6, exact, angles)
    return tuple(float(x) for x in (*lengths, *angles))


def _niggli(metric):
    reduced = gemmi.GruberVector(gemmi.UnitCell(*parameters(metric)), "P")
    reduced.niggli_reduce()
    return reduced.cell_parameters()


def _axis(turn):
    """Smallest integers x with x turn = x: the sum of a turn's powers projects on its axis."""
    power, total = turn, np.eye(3, dtype=np.int64)
    while not np.array_equal(power, np.eye(3)):
        total = total + power
        power = power @ turn
    row = total[np.flatnonzero(np.any(total != 0, axis=1))[0]]
    return row // gcd(*(int(x) for x in row))


def _order(turn):
    n, power = 1, turn
    while not np.array_equal(power, np.eye(3)):
        n, power = n + 1, power @ turn
    return n


def _axes_of(turns, order, metric):
    """Axes of the turns of an order, shortest first, each once."""
    found = {}
    for m in turns:
        if _order(m) == order:
            x = _axis(m)
            x = x if tuple(x) > tuple(-x) else -x
            found[tuple(x)] = x @ metric @ x
    return [np.array(x) for x in sorted(found, key=lambda x: (round(found[x], 6), [-abs(v) for v in x], x))]


def _right_handed(basis):
    basis = np.array(basis)
    return basis if np.linalg.det(basis) > 0 else basis * np.array([[1], [1], [-1]])


def _about(main_order):
    """Bases with c along the main axis, a the shortest two-fold axis across it, b = a turned."""
    def basis(turns, metric):
        main = _axes_of(turns, main_order, metric)[0]
        turn = next(m for m in turns if _order(m) == main_order and abs(_axis(m) @ metric @ main) > 1e-9)
        across = [x for x in _axes_of(turns, 2, metric) if abs(x @ metric @ main) < 1e-6 * (main @ metric @ main)]
        a = across[0]
        b = a @ turn @ turn if main_order == 6 else a @ turn
        return _right_handed([a, b, main])
    return basis


def _cubic(turns, metric):
    return _right_handed(_axes_of(turns, 4, metric))


def _orthorhombic(turns, metric):
    return _right_handed(_axes_of(turns, 2, metric))


def _monoclinic(turns, metric):
    """b along the two-fold axis, a and c the shortest across it, beta obtuse."""
    b = _axes_of(turns, 2, metric)[0]
    turn = next(m for m in turns if _order(m) == 2)
    across = [np.array(x) for x in product(range(-3, 4), repeat=3)
              if any(x) and x > tuple(-v for v in x) and np.array_equal(np.array(x) @ turn, -np.array(x))]
    across.sort(key=lambda x: round(x @ metric @ x, 6))
    a = across[0]
    c = next(x for x in across if np.any(np.cross(a, x)))
    return _obtuse(a, b, c, metric)


def _obtuse(a, b, c, metric):
    c = -c if a @ metric @ c > 0 else c
    basis = np.array([a, b, c])
    return basis if np.linalg.det(basis) > 0 else np.array([a, -b, c])


_BASES = {"monoclinic": _monoclinic, "orthorhombic": _orthorhombic, "rhombohedral": _about(3), "tetragonal": _about(4),
          "hexagonal": _about(6), "cubic": _cubic}


def _centring(basis, system, metric):
    """(basis, centring letter): axes put so that the centring is a standard one."""
    volume = int(round(np.linalg.det(basis)))
    points = np.linalg.inv(basis) % 1.0
    points = {tuple(np.round(p, 4) % 1.0) for p in points} - {(0.0, 0.0, 0.0)}
    if volume == 1:
        return basis, "P"
    if volume == 4:
        return basis, "F"
    if volume == 3:
        obverse = any(abs(p[0] - 2 / 3) < 0.01 and abs(p[1] - 1 / 3) < 0.01 and abs(p[2] - 1 / 3) < 0.01
                      or abs(p[0] - 1 / 3) < 0.01 and abs(p[1] - 2 / 3) < 0.01 and abs(p[2] - 2 / 3) < 0.01 for p in points)
        return (basis if obverse else basis * np.array([[-1], [-1], [1]])), "H"
    kind = _HALVES[next(iter(points))]
    if system == "monoclinic":
        return _c_centred(basis, kind, metric), "C"
    if kind in "AB":
        # The centred face becomes the third; the two axes in it ascend.
        basis = basis[[1, 2, 0]] if kind == "A" else _right_handed(basis[[0, 2, 1]])
        kind = "C"
    if kind == "C" and basis[0] @ metric @ basis[0] > basis[1] @ metric @ basis[1]:
        basis = _right_handed(basis[[1, 0, 2]])
    return basis, kind


def _c_centred(basis, kind, metric):
    """Monoclinic axes with the C face centred, beta obtuse and least."""
    a, b, c = basis
    choices = {"C": [(a, c), (a, a + c), (a, c - a)], "A": [(c, a), (c, a + c), (c, a - c)],
               "I": [(a + c, a), (a + c, c), (a - c, a), (a - c, c)]}[kind]
    tried = [_obtuse(x, b, y, metric) for x, y in choices]
    return min(tried, key=lambda m: (round(m[0] @ metric @ m[0] + m[2] @ metric @ m[2], 6)))
