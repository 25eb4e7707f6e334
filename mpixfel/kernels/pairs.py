"""Orientations from pairs of spots: for few spots, where no single axis stands out.

Two spots whose lengths and distance agree with those of two lattice points fix the orientation; the others vote
(SPIND: Li et al., IUCrJ 6 (2019) 72). The error model makes the windows narrow: the length of a scattering vector and
distances along the sphere are known far better than the excitation error.
"""
import numpy as np

from mpixfel.kernels.match import Q, U1, U2, VARIANCE, lattice_matrix, log_product
from mpixfel.kernels.vectors import invert, kernel, with_arrays


@kernel
def spread_along(spots, i, x, y, z):
    """Variance of spot i's error along the unit vector (x, y, z)."""
    a = spots[U1, i] * x + spots[U1 + 1, i] * y + spots[U1 + 2, i] * z
    b = spots[U2, i] * x + spots[U2 + 1, i] * y + spots[U2 + 2, i] * z
    v1, v2, v3 = spots[VARIANCE, i], spots[VARIANCE + 1, i], spots[VARIANCE + 2, i]
    return v3 + (v1 - v3) * a * a + (v2 - v3) * b * b


@kernel
def window(spots, i, j, more, more_q, out):
    """Length of q_i - q_j (of q_i where j < 0) less and plus three standard deviations, into out (2,).

    more (1/angstrom) and more_q (relative) widen it for what is not known of beam and cell.
    """
    x, y, z = spots[Q, i], spots[Q + 1, i], spots[Q + 2, i]
    if j >= 0:
        x, y, z = x - spots[Q, j], y - spots[Q + 1, j], z - spots[Q + 2, j]
    size = np.sqrt(x * x + y * y + z * z)
    x, y, z = x / size, y / size, z / size
    variance = spread_along(spots, i, x, y, z)
    if j >= 0:
        variance += spread_along(spots, j, x, y, z)
        more = 0.0
    wide = 3.0 * np.sqrt(variance + more * more + (more_q * size) ** 2)
    out[0], out[1] = max(size - wide, 0.0), size + wide


@kernel
def unit_triad(ax, ay, az, bx, by, bz, out):
    """Orthonormal columns from two vectors: along their sum, along their difference in the plane, normal to it."""
    a, b = 1.0 / np.sqrt(ax * ax + ay * ay + az * az), 1.0 / np.sqrt(bx * bx + by * by + bz * bz)
    ax, ay, az, bx, by, bz = ax * a, ay * a, az * a, bx * b, by * b, bz * b
    sx, sy, sz, dx, dy, dz = ax + bx, ay + by, az + bz, ax - bx, ay - by, az - bz
    s, d = np.sqrt(sx * sx + sy * sy + sz * sz), np.sqrt(dx * dx + dy * dy + dz * dz)
    if s < 0.1 or d < 0.1:
        return False
    sx, sy, sz, dx, dy, dz = sx / s, sy / s, sz / s, dx / d, dy / d, dz / d
    out[0, 0], out[1, 0], out[2, 0], out[0, 1], out[1, 1], out[2, 1] = sx, sy, sz, dx, dy, dz
    out[0, 2], out[1, 2], out[2, 2] = sy * dz - sz * dy, sz * dx - sx * dz, sx * dy - sy * dx
    return True


@with_arrays
def pair_rotations(spots, pairs, points, lengths, unique, reciprocal, more, more_q, wide, wide_q, budget, rotations,
                   scores, work):
    """The best rotations that pairs of spots allow; returns how many.

    spots: see `kernels.match`; pairs (p, 2) of spots, tried in order until `budget` comparisons are spent; points
    (m, 3) lattice points in the crystal's frame, ascending lengths (m,); unique (m,) bool: one of those equivalent by
    symmetry; reciprocal (3, 3) rows; more, more_q: see `window`; wide (1/angstrom) and wide_q: errors of the votes;
    rotations (k, 3, 3), scores (k,): the best k; work (5, 3, 3).
    """
    n, room, least = 0, scores.size, 0
    matrix, inverse, seen, known, turn = work[0], work[1], work[2], work[3], work[4]
    bounds, rest = np.empty((3, 2)), np.zeros(8)
    for p in range(pairs.shape[0]):
        i, j = pairs[p, 0], pairs[p, 1]
        window(spots, i, -1, more, more_q, bounds[0])
        window(spots, j, -1, more, more_q, bounds[1])
        window(spots, i, j, more, more_q, bounds[2])
        if not unit_triad(spots[Q, i], spots[Q + 1, i], spots[Q + 2, i], spots[Q, j], spots[Q + 1, j], spots[Q + 2, j],
                          seen):
            continue
        first, last = np.searchsorted(lengths, bounds[0, 0]), np.searchsorted(lengths, bounds[0, 1])
        begin, end = np.searchsorted(lengths, bounds[1, 0]), np.searchsorted(lengths, bounds[1, 1])
        low, high = bounds[2, 0] ** 2, bounds[2, 1] ** 2
        for a in range(first, last):
            if not unique[a]:
                continue
            budget -= end - begin
            ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
            for b in range(begin, end):
                bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
                d2 = (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2
                if d2 < low or d2 > high or not unit_triad(ax, ay, az, bx, by, bz, known):
                    continue
                for r in range(3):
                    for c in range(3):
                        turn[r, c] = seen[r, 0] * known[c, 0] + seen[r, 1] * known[c, 1] + seen[r, 2] * known[c, 2]
                lattice_matrix(turn, rest[2:], reciprocal, matrix)
                invert(matrix, inverse)
                budget -= 10 * spots.shape[1]
                score = log_product(spots, matrix, inverse, rest[:2], 0.5, wide, wide_q)
                if n == room and not score > scores[least]:
                    continue
                place = n if n < room else least
                scores[place] = score
                for r in range(3):
                    for c in range(3):
                        rotations[place, r, c] = turn[r, c]
                n = min(n + 1, room)
                if n == room:
                    least = np.argmin(scores)
        if budget < 0:
            break
    return n
