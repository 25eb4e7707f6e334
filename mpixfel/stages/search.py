"""Search for one lattice of a known cell among spots: axis, turn about it, fit."""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import lattice, match
from mpixfel.kernels.vectors import keep_best
from mpixfel.model.symmetry import lattice_rotations, primitive_basis, reduce_basis, rotation_matrices

TRIM_CYCLES = np.array([0.25, 0.15, 0.1, 0.07])
MAX_SCAN_SPOTS = 64
MAX_AXES = 30
AXES_REFINED = 200
TURNS_KEPT = 2


class ErrorModel(NamedTuple):
    """Spots as the fit sees them: see `kernels.match`."""

    q: np.ndarray           # (n, 3) 1/angstrom
    frames: np.ndarray      # (n, 3, 3)
    variances: np.ndarray   # (n, 3)
    shifts: np.ndarray      # (n, 3, 2)
    norm: np.ndarray        # (n,) |q|

    def subset(self, keep):
        """Some of the spots."""
        return ErrorModel(*(np.ascontiguousarray(a[keep]) for a in self))


class Fit(NamedTuple):
    """One lattice found: primitive cell, crystal's frame to laboratory."""

    log_odds: float
    rotation: np.ndarray    # (3, 3)
    free: np.ndarray        # (8,) shift (radians), strain
    member: np.ndarray      # (n,) probability that the spot belongs to it
    indices: np.ndarray     # (n, 3) of the primitive cell


def error_model(q, sigma, wavelength, radius, mosaicity, bandwidth):
    """`ErrorModel` of q (n, 3); arguments as `kernels.match.error_model`."""
    n = len(q)
    out = ErrorModel(np.ascontiguousarray(q, float), np.empty((n, 3, 3)), np.empty((n, 3)), np.empty((n, 3, 2)),
                     np.sqrt(np.einsum("ij,ij->i", q, q)))
    match.error_model(out.q, wavelength, sigma, radius, mosaicity, bandwidth, out.frames, out.variances)
    match.shift_directions(out.q, wavelength, out.shifts)
    return out


def fibonacci_hemisphere(n):
    """(3, n) float32 unit vectors, evenly spread over half the sphere (Swinbank and Purser 2006)."""
    i = np.arange(n) + 0.5
    z = i / n
    angle = np.pi * (1 + 5 ** 0.5) * i
    r = np.sqrt(1 - z * z)
    return np.ascontiguousarray([r * np.cos(angle), r * np.sin(angle), z], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Form:
    """One known cell, ready for the search."""

    cell: object                # UnitCell
    axes: np.ndarray            # (3, 3) rows: reduced primitive axes, angstrom, shortest first
    reciprocal: np.ndarray      # (3, 3) rows
    conventional: np.ndarray    # (3, 3) integers: conventional axes = conventional @ axes
    reference: np.ndarray       # (5, 3) see kernels.lattice.turns_about_axes
    signs: np.ndarray           # 1 or 2 directions of the shortest axis that differ
    turns: int                  # order of the symmetry about the shortest axis
    alternatives: np.ndarray    # (n, 3, 3) pseudo-symmetric settings: rotations in the crystal's frame
    precision: np.ndarray       # (6, 6) prior precision of the strain

    @property
    def longest(self):
        return float(np.linalg.norm(self.axes[2]))

    @property
    def shortest(self):
        return float(np.linalg.norm(self.axes[0]))


def strain_precision(rotations, allowed, forbidden):
    """(6, 6) prior precision of strain: relative standard deviation `allowed` within the symmetry, `forbidden` else."""
    basis = np.zeros((6, 3, 3))
    for i in range(3):
        basis[i, i, i] = 1.0
        j, k = (i + 1) % 3, (i + 2) % 3
        basis[3 + i, j, k] = basis[3 + i, k, j] = np.sqrt(0.5)
    turned = np.einsum("nij,ajk,nlk->ail", rotations, basis, rotations) / len(rotations)
    project = np.einsum("aij,bij->ab", turned, basis)
    return project / allowed ** 2 + (np.eye(6) - project) / forbidden ** 2


def make_form(cell, allowed=0.01, forbidden=0.002):
    """`Form` of a `UnitCell`; `allowed` and `forbidden`: see `strain_precision`."""
    axes = reduce_basis(primitive_basis(cell))
    length = np.linalg.norm(axes[0])
    z = axes[0] / length
    x = axes[1] - z * (z @ axes[1])
    x /= np.linalg.norm(x)
    turn = np.array([x, np.cross(z, x), z])
    strict, loose = lattice_rotations(axes, 1e-3), lattice_rotations(axes, 0.025)
    about = sum(1 for m in loose if tuple(m[0]) == (1, 0, 0))
    flips = any(tuple(m[0]) == (-1, 0, 0) for m in loose)
    return Form(cell, axes, np.ascontiguousarray(np.linalg.inv(axes).T),
                np.rint(cell.direct_axes() @ np.linalg.inv(axes)).astype(int),
                np.ascontiguousarray(np.vstack([turn, axes[1:] @ turn.T])),
                np.array([1.0] if flips else [1.0, -1.0]), about, _settings(axes, strict, loose),
                strain_precision(rotation_matrices(axes, strict), allowed, forbidden))


def _settings(axes, strict, loose):
    """One rotation for each setting that is nearly, but not, equivalent: cosets of the strict symmetry."""
    seen, out = {m.tobytes() for m in strict}, []
    for m in loose:
        if m.tobytes() not in seen:
            out.append(m)
            seen.update((m @ s).tobytes() for s in strict)
            seen.update((s @ m).tobytes() for s in strict)
    return rotation_matrices(axes, out) if out else np.zeros((0, 3, 3))


class Grids:
    """Direction grids and turn tables, kept by size."""

    def __init__(self):
        self._directions, self._turns = {}, {}

    def directions(self, n):
        """At least n directions: (3, N) float32 and a buffer for their scores."""
        size = 2048 * 2 ** max(0, int(np.ceil(2 * np.log2(n / 2048)))) // 1 if n <= 2048 else _step_up(n)
        if size not in self._directions:
            self._directions[size] = fibonacci_hemisphere(size), np.empty(size, np.float32)
        return self._directions[size]

    def turns(self, n, order):
        """Cosines, sines and a buffer for at least n turns over 2 pi / order."""
        n = 16 * int(np.ceil(n / 16))
        if (n, order) not in self._turns:
            angle = 2 * np.pi / order * np.arange(n) / n
            self._turns[n, order] = (np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32),
                                     np.empty(n, np.float32))
        return self._turns[n, order]


def _step_up(n):
    return int(2048 * 2 ** (np.ceil(2 * np.log2(n / 2048)) / 2))


def _padded(q, rows=None):
    """q (n, 3) as (3, m) float32, m a multiple of 16, zeros at the end."""
    n = len(q)
    out = np.zeros((3, 16 * ((n + 15) // 16)), np.float32)
    out[:, :n] = q.T
    return out


def scan_hypotheses(model, form, grids, tolerance):
    """Rotations (k, 3, 3), best first, from the scan along the shortest axis."""
    low = np.argsort(model.norm, kind="stable")[:MAX_SCAN_SPOTS]
    scanned = _padded(model.q[low])
    reach = float(np.quantile(model.norm[low], 0.8))
    spacing = 0.22 / (form.shortest * reach)
    directions, scores = grids.directions(min(2 * np.pi / (2.6 * spacing ** 2), 200_000))
    lattice.scan_directions(directions, form.shortest, scanned, scores)
    index, best = np.empty(AXES_REFINED, np.int64), np.empty(AXES_REFINED, np.float32)
    n = keep_best(scores, index, best)
    axes, axis_scores = np.empty((n, 3)), np.empty(n)
    q32 = np.ascontiguousarray(model.q.T, dtype=np.float32)
    n = lattice.refine_axes(index[:n], directions, form.shortest, model.q.T.copy(), tolerance + 0.02, TRIM_CYCLES, axes,
                            axis_scores)
    order = np.argsort(-axis_scores[:n], kind="stable")[:MAX_AXES]
    reach = float(np.quantile(model.norm, 0.8))
    cosines, sines, work = grids.turns(2 * np.pi * form.longest * reach / 0.25 / form.turns, form.turns)
    rows = len(order) * len(form.signs) * TURNS_KEPT
    turn_scores, rotations = np.empty(rows), np.empty((rows, 3, 3))
    lattice.turns_about_axes(axes, order, form.signs, form.reference, form.shortest, q32, 0.15, cosines, sines, work,
                             TURNS_KEPT, turn_scores, rotations)
    return rotations[np.argsort(-turn_scores, kind="stable")]


def schedule(wide, wide_q, rounds, final):
    """(rounds + final, 2) widening of the errors, falling by 0.6 a round and then none."""
    fall = np.concatenate([0.6 ** np.arange(rounds), np.zeros(final)])
    return np.ascontiguousarray(np.outer(fall, [wide, wide_q]))


def fit(model, form, precision, rotation, free, plan, n_free, work):
    """One `Fit` from a starting rotation."""
    n = len(model.q)
    out = Fit(0.0, rotation.copy(), free.copy(), np.empty(n), np.empty((n, 3), np.int64))
    odds = match.fit_lattice(model.q, model.frames, model.variances, model.shifts, form.reciprocal, precision, plan,
                             n_free, out.rotation, out.free, out.member, out.indices, work)
    return out._replace(log_odds=float(odds))


def search(model, form, shift_sigma, tolerance, grids, work, tries=8, finalists=3):
    """The best `Fit` of one lattice to the spots, or None where nothing could be tried.

    shift_sigma: prior of the pattern's shift, radians; tolerance: relative uncertainty of the cell.
    """
    if len(model.q) < 5:
        return None
    precision = np.zeros((8, 8))
    precision[0, 0] = precision[1, 1] = shift_sigma ** -2
    precision[2:, 2:] = form.precision
    reach = float(np.quantile(model.norm, 0.8))
    k = 1.0 / 1.3
    wide = min(shift_sigma * k, 0.15 / form.longest)
    coarse = schedule(wide, 0.15 / (form.longest * reach) + tolerance, 4, 0)
    fits = []
    for rotation in scan_hypotheses(model, form, grids, tolerance)[:tries]:
        fits.append(fit(model, form, precision, rotation, np.zeros(8), coarse, 3, work))
    fits.sort(key=lambda f: -f.log_odds)
    fine = schedule(0.3 * wide, 0.5 * tolerance, 4, 3)
    best = None
    for start in fits[:finalists]:
        for turn in (np.eye(3), *form.alternatives):
            one = fit(model, form, precision, start.rotation @ turn, start.free, fine, match.N_PARAMETERS, work)
            if best is None or one.log_odds > best.log_odds:
                best = one
    return best
