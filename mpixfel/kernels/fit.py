"""The most probable orientation, shift of the pattern and strain of a known cell, given spots.

Gauss-Newton on the mixture of `kernels.match`: in each round spots are weighted by the probability that they belong to
the lattice (expectation maximisation), with errors widened at first as a schedule says, so that indices settle from
low resolution to high. Shift and strain have normal priors: with few spots they stay at what is known, with many they
follow the data, and no number of spots has to be named at which the one model gives way to the other.

The equations are gathered for a general linear change G of the predicted vectors p, d = G p, in products of the
inverse covariance (6 numbers) and of p (6): that costs a third of the derivatives by 11 parameters, spot by spot.
"""
import numpy as np


from mpixfel.kernels.match import FREEDOM, PEAK_DENSITY, ROOT_HALF, compare, fill_odds, lattice_matrix, log_product
from mpixfel.kernels.vectors import determinant, invert, kernel, nine, solve_positive, turn, with_arrays

N_PARAMETERS = 11   # rotation (3), shift of the pattern (2), strain of the cell (6)
_PAIRS = np.array([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)])


@kernel
def gather(spots, matrix, inverse, shift, share, wide, wide_q, sums, slopes, cross, own):
    """Sums over spots for one step; returns the sum of memberships.

    sums (6, 6): inverse covariance times products of p; slopes (3, 3): gradient by G; cross (2, 3, 3): the shift's
    equations with G; own (5,): the shift's xx, xy, yy, and its gradient. wide (1/angstrom), wide_q add to the errors.
    """
    m, n = nine(matrix), nine(inverse)
    scale = PEAK_DENSITY * abs(determinant(matrix))
    tx, ty, wide, wide_q, total = shift[0], shift[1], wide * wide, wide_q * wide_q, 0.0
    a0 = a1 = a2 = a3 = a4 = a5 = b0 = b1 = b2 = b3 = b4 = b5 = c0 = c1 = c2 = c3 = c4 = c5 = 0.0
    d0 = d1 = d2 = d3 = d4 = d5 = e0 = e1 = e2 = e3 = e4 = e5 = f0 = f1 = f2 = f3 = f4 = f5 = 0.0
    g0 = g1 = g2 = g3 = g4 = g5 = g6 = g7 = g8 = x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = x8 = 0.0
    y0 = y1 = y2 = y3 = y4 = y5 = y6 = y7 = y8 = xx = xy = yy = gx = gy = 0.0
    for i in range(spots.shape[1]):
        _, _, _, px, py, pz, dx, dy, dz, i1, i2, i3, r1, r2, t, odds = compare(
            spots, i, m, n, tx, ty, scale, wide, wide_q)
        member = spots[19, i] * share * odds / (1.0 - share + share * odds)
        total += member
        # The nearest lattice point is the right one of those within the widened error with the chance odds / (1 + odds).
        weight = member * odds / (1.0 + odds) * t * ((FREEDOM + 3.0) / FREEDOM)
        k1, k2, k3 = weight * (i1 - i3), weight * (i2 - i3), weight * i3
        ux, uy, uz, vx, vy, vz = spots[3, i], spots[4, i], spots[5, i], spots[6, i], spots[7, i], spots[8, i]
        w0, w1, w2 = k3 + k1 * ux * ux + k2 * vx * vx, k3 + k1 * uy * uy + k2 * vy * vy, k3 + k1 * uz * uz + k2 * vz * vz
        w3, w4, w5 = k1 * uy * uz + k2 * vy * vz, k1 * ux * uz + k2 * vx * vz, k1 * ux * uy + k2 * vx * vy
        q0, q1, q2, q3, q4, q5 = px * px, py * py, pz * pz, py * pz, px * pz, px * py
        a0 += w0 * q0; a1 += w0 * q1; a2 += w0 * q2; a3 += w0 * q3; a4 += w0 * q4; a5 += w0 * q5
        b0 += w1 * q0; b1 += w1 * q1; b2 += w1 * q2; b3 += w1 * q3; b4 += w1 * q4; b5 += w1 * q5
        c0 += w2 * q0; c1 += w2 * q1; c2 += w2 * q2; c3 += w2 * q3; c4 += w2 * q4; c5 += w2 * q5
        d0 += w3 * q0; d1 += w3 * q1; d2 += w3 * q2; d3 += w3 * q3; d4 += w3 * q4; d5 += w3 * q5
        e0 += w4 * q0; e1 += w4 * q1; e2 += w4 * q2; e3 += w4 * q3; e4 += w4 * q4; e5 += w4 * q5
        f0 += w5 * q0; f1 += w5 * q1; f2 += w5 * q2; f3 += w5 * q3; f4 += w5 * q4; f5 += w5 * q5
        k1, k2 = k1 * r1, k2 * r2
        sx, sy, sz = k3 * dx + k1 * ux + k2 * vx, k3 * dy + k1 * uy + k2 * vy, k3 * dz + k1 * uz + k2 * vz
        g0 += sx * px; g1 += sx * py; g2 += sx * pz
        g3 += sy * px; g4 += sy * py; g5 += sy * pz
        g6 += sz * px; g7 += sz * py; g8 += sz * pz
        hx, hy, hz, jx, jy, jz = spots[12, i], spots[13, i], spots[14, i], spots[15, i], spots[16, i], spots[17, i]
        gx += sx * hx + sy * hy + sz * hz
        gy += sx * jx + sy * jy + sz * jz
        sx, sy, sz = w0 * hx + w5 * hy + w4 * hz, w5 * hx + w1 * hy + w3 * hz, w4 * hx + w3 * hy + w2 * hz
        xx += sx * hx + sy * hy + sz * hz
        xy += sx * jx + sy * jy + sz * jz
        x0 += sx * px; x1 += sx * py; x2 += sx * pz
        x3 += sy * px; x4 += sy * py; x5 += sy * pz
        x6 += sz * px; x7 += sz * py; x8 += sz * pz
        sx, sy, sz = w0 * jx + w5 * jy + w4 * jz, w5 * jx + w1 * jy + w3 * jz, w4 * jx + w3 * jy + w2 * jz
        yy += sx * jx + sy * jy + sz * jz
        y0 += sx * px; y1 += sx * py; y2 += sx * pz
        y3 += sy * px; y4 += sy * py; y5 += sy * pz
        y6 += sz * px; y7 += sz * py; y8 += sz * pz
    _put6(sums[0], a0, a1, a2, a3, a4, a5)
    _put6(sums[1], b0, b1, b2, b3, b4, b5)
    _put6(sums[2], c0, c1, c2, c3, c4, c5)
    _put6(sums[3], d0, d1, d2, d3, d4, d5)
    _put6(sums[4], e0, e1, e2, e3, e4, e5)
    _put6(sums[5], f0, f1, f2, f3, f4, f5)
    _put9(slopes, g0, g1, g2, g3, g4, g5, g6, g7, g8)
    _put9(cross[0], x0, x1, x2, x3, x4, x5, x6, x7, x8)
    _put9(cross[1], y0, y1, y2, y3, y4, y5, y6, y7, y8)
    own[0], own[1], own[2], own[3], own[4] = xx, xy, yy, gx, gy
    return total


@kernel
def _put6(row, a, b, c, d, e, f):
    row[0], row[1], row[2], row[3], row[4], row[5] = a, b, c, d, e, f


@kernel
def _put9(m, a, b, c, d, e, f, g, h, i):
    m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2], m[2, 0], m[2, 1], m[2, 2] = a, b, c, d, e, f, g, h, i


@kernel
def generators(rotation, strain, out):
    """(9, 3, 3): the linear changes G of a rotation about x, y, z and of the six strains."""
    out[:3] = 0.0
    out[0, 1, 2], out[0, 2, 1] = -1.0, 1.0
    out[1, 0, 2], out[1, 2, 0] = 1.0, -1.0
    out[2, 0, 1], out[2, 1, 0] = -1.0, 1.0
    stretch, relaxed = out[3], out[4]
    yz, xz, xy = ROOT_HALF * strain[3], ROOT_HALF * strain[4], ROOT_HALF * strain[5]
    _put9(stretch, 1.0 + strain[0], xy, xz, xy, 1.0 + strain[1], yz, xz, yz, 1.0 + strain[2])
    invert(stretch, relaxed)
    # q = R (1 + S) q0, so dq = R dS (1 + S)^-1 R^T q.
    back = (relaxed[0, 0] * rotation[0, 0] + relaxed[0, 1] * rotation[0, 1] + relaxed[0, 2] * rotation[0, 2],
            relaxed[0, 0] * rotation[1, 0] + relaxed[0, 1] * rotation[1, 1] + relaxed[0, 2] * rotation[1, 2],
            relaxed[0, 0] * rotation[2, 0] + relaxed[0, 1] * rotation[2, 1] + relaxed[0, 2] * rotation[2, 2],
            relaxed[1, 0] * rotation[0, 0] + relaxed[1, 1] * rotation[0, 1] + relaxed[1, 2] * rotation[0, 2],
            relaxed[1, 0] * rotation[1, 0] + relaxed[1, 1] * rotation[1, 1] + relaxed[1, 2] * rotation[1, 2],
            relaxed[1, 0] * rotation[2, 0] + relaxed[1, 1] * rotation[2, 1] + relaxed[1, 2] * rotation[2, 2],
            relaxed[2, 0] * rotation[0, 0] + relaxed[2, 1] * rotation[0, 1] + relaxed[2, 2] * rotation[0, 2],
            relaxed[2, 0] * rotation[1, 0] + relaxed[2, 1] * rotation[1, 1] + relaxed[2, 2] * rotation[1, 2],
            relaxed[2, 0] * rotation[2, 0] + relaxed[2, 1] * rotation[2, 1] + relaxed[2, 2] * rotation[2, 2])
    for a in range(6):
        k, l = _PAIRS[a]
        scale = 0.5 if k == l else ROOT_HALF
        for i in range(3):
            for j in range(3):
                out[3 + a, i, j] = scale * (rotation[i, k] * back[3 * l + j] + rotation[i, l] * back[3 * k + j])


@kernel
def equations(sums, slopes, cross, own, changes, n_linear, normal, right, image):
    """Normal equations in the order rotation, shift, strain from the sums of `gather`: lower normal, right.

    changes (9, 3, 3): see `generators`; n_linear of them are free; image (3, 3) work.
    """
    for a in range(n_linear):
        g, place = changes[a], a if a < 3 else a + 2
        _curvature(sums, g, image)
        right[place] = 0.0
        for i in range(3):
            for j in range(3):
                right[place] -= g[i, j] * slopes[i, j]
        for b in range(a + 1):
            total = 0.0
            for i in range(3):
                for j in range(3):
                    total += image[i, j] * changes[b, i, j]
            normal[place, b if b < 3 else b + 2] = total
        for s in range(2):
            total = 0.0
            for i in range(3):
                for j in range(3):
                    total += cross[s, i, j] * g[i, j]
            if a < 3:
                normal[3 + s, a] = total
            else:
                normal[place, 3 + s] = total
    normal[3, 3], normal[4, 3], normal[4, 4] = own[0], own[1], own[2]
    right[3], right[4] = -own[3], -own[4]


@kernel
def _curvature(sums, g, out):
    """out_ij = sum_kl W_ik P_jl g_kl, W and P the symmetric factors of `sums`."""
    out[:] = 0.0
    for a in range(6):
        i, k = _PAIRS[a]
        for b in range(6):
            j, l = _PAIRS[b]
            s = sums[a, b]
            out[i, j] += s * g[k, l]
            if j != l:
                out[i, l] += s * g[k, j]
            if i != k:
                out[k, j] += s * g[i, l]
                if j != l:
                    out[k, l] += s * g[i, j]


@kernel
def fit_lattice(spots, reciprocal, precision, schedule, n_free, rotation, free, share, work):
    """Refine rotation (3, 3) and free (8,) [shift, strain] in place; returns the share of spots explained.

    spots (ROWS, n): see `kernels.match`; reciprocal (3, 3) rows a*, b*, c* in the crystal's frame; precision (8, 8)
    of the prior of shift (radians) and strain; schedule (rounds, 2): errors widened by 1/angstrom and by a share of
    |q|; n_free 3 (rotation), 5 (and shift) or 11 (and strain); share to start from; work: `new_work`. The share is
    negative where the equations had no solution.
    """
    sums, small, normal, right, own = work
    matrix, inverse, slopes, cross, image, changes = small[0], small[1], small[2], small[3:5], small[5], small[6:]
    n = np.sum(spots[19])
    for k in range(schedule.shape[0]):
        lattice_matrix(rotation, free[2:], reciprocal, matrix)
        invert(matrix, inverse)
        total = gather(spots, matrix, inverse, free[:2], share, schedule[k, 0], schedule[k, 1], sums, slopes, cross, own)
        share = min(max(total / n, 1.0 / n), 0.98)
        generators(rotation, free[2:], changes)
        equations(sums, slopes, cross, own, changes, 9 if n_free > 5 else 3, normal, right, image)
        _add_prior(normal, right, precision, free, n_free)
        if not solve_positive(normal, n_free, right):
            return -1.0
        turn(rotation, right[0], right[1], right[2], image)
        for i in range(3):
            for j in range(3):
                rotation[i, j] = image[i, j]
        for i in range(3, n_free):
            free[i - 3] += right[i]
    return share


@kernel
def _add_prior(normal, right, precision, free, n_free):
    for i in range(3):
        # Holds the step where no spot belongs to the lattice: a tenth of a radian for a residual of one sigma.
        normal[i, i] += 100.0
    for i in range(3, n_free):
        for j in range(3, n_free):
            if j <= i:
                normal[i, j] += precision[i - 3, j - 3]
            right[i] -= precision[i - 3, j - 3] * free[j - 3]


@kernel
def _cost(precision, free):
    total = 0.0
    for i in range(8):
        for j in range(8):
            total += precision[i, j] * free[i] * free[j]
    return 0.5 * total


@kernel
def fit_many(spots, reciprocal, precision, schedule, n_free, rotations, frees, scores, work):
    """Fit each of rotations (k, 3, 3), frees (k, 8) in place; scores (k,) are log odds, with errors widened as in the
    schedule's last round, less the prior's cost."""
    matrix, inverse, wide, wide_q = work[1][0], work[1][1], schedule[-1, 0], schedule[-1, 1]
    for i in range(rotations.shape[0]):
        share = fit_lattice(spots, reciprocal, precision, schedule, n_free, rotations[i], frees[i], 0.5, work)
        if share <= 0.0:
            scores[i] = -np.inf
            continue
        lattice_matrix(rotations[i], frees[i, 2:], reciprocal, matrix)
        invert(matrix, inverse)
        scores[i] = log_product(spots, matrix, inverse, frees[i, :2], share, wide, wide_q) - _cost(
            precision, frees[i])


@kernel
def judge(spots, reciprocal, precision, rotation, free, work, member, indices):
    """Log odds of a lattice against chance, each lattice point counted once, at the best share of spots explained.

    Fills member (n,), the probability that a spot belongs to the lattice, and indices (n, 3) int64; n is the number of
    spots, without padding.
    """
    matrix, inverse, n, share = work[1][0], work[1][1], member.size, 0.5
    lattice_matrix(rotation, free[2:], reciprocal, matrix)
    invert(matrix, inverse)
    fill_odds(spots, matrix, inverse, free[:2], member, indices)
    drop_repeats(member, indices)
    for _ in range(4):
        total = 0.0
        for i in range(n):
            total += share * member[i] / (1.0 - share + share * member[i])
        share = min(max(total / n, 0.5 / n), 1.0 - 0.5 / n)
    result = -_cost(precision, free)
    for i in range(n):
        result += np.log(1.0 - share + share * member[i])
        member[i] = share * member[i] / (1.0 - share + share * member[i])
    return result


@with_arrays
def drop_repeats(odds, indices):
    """A lattice point explains one spot: the odds of others that claim it (split peaks, streaks) become 0."""
    n, size = odds.size, 16
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, np.int64)
    for i in range(n):
        if odds[i] <= 1.0:
            continue
        h, k, l = indices[i, 0], indices[i, 1], indices[i, 2]
        slot = (h * 73856093 + k * 19349663 + l * 83492791) & (size - 1)
        while table[slot] >= 0:
            j = table[slot]
            if indices[j, 0] == h and indices[j, 1] == k and indices[j, 2] == l:
                break
            slot = (slot + 1) & (size - 1)
        j = table[slot]
        if j < 0:
            table[slot] = i
        elif odds[j] >= odds[i]:
            odds[i] = 0.0
        else:
            odds[j] = 0.0
            table[slot] = i


def new_work():
    """Scratch for the fits of this module."""
    return np.zeros((6, 6)), np.zeros((15, 3, 3)), np.zeros((11, 11)), np.zeros(11), np.zeros(5)
