"""How well a lattice explains spots: the error model, the fit of a known cell, the odds.

A spot is observed on the Ewald sphere; its lattice point lies off it. So the distance d between observed and
predicted vector has its own variance along three directions: within the sphere (centroid error), normal to it
(size of the lattice point, mosaicity) and along q (bandwidth). The chance that a random spot lies as near is the
share of the reciprocal cell that this ellipsoid fills, hundreds of times less than for a sphere that holds it.

The odds of a lattice against chance are a mixture over spots: log prod (1 - w + w V* t(d)), with w the share of
spots that the lattice explains, V* the volume of the reciprocal cell and t a Student density with 4 degrees of
freedom in three dimensions (Lange, Little and Taylor, J. Am. Stat. Assoc. 84 (1989) 881), which forgives outliers.
"""
import numpy as np
from numba import njit

from mpixfel.kernels.vectors import FAST, invert, solve_positive, turn

FREEDOM = 4.0
# Student density at 0 in three dimensions, 4 degrees of freedom: gamma(7/2) / (gamma(2) (4 pi)^(3/2)).
PEAK_DENSITY = 3.3233509704478426 / 44.546623974653656
N_PARAMETERS = 11   # rotation (3), shift of the pattern (2), strain of the cell (6)
ROOT_HALF = np.sqrt(0.5)


@njit(cache=True, fastmath=FAST)
def error_model(q, wavelength, sigma, radius, mosaicity, bandwidth, frames, variances):
    """Principal directions and variances of each spot's error.

    q (n, 3) 1/angstrom, lab frame; wavelength angstrom; sigma (n,) position error, radius of the lattice point, both
    1/angstrom; mosaicity radians, bandwidth relative, all as one standard deviation; frames (n, 3, 3) rows are the
    directions, variances (n, 3).
    """
    k = 1.0 / wavelength
    for i in range(q.shape[0]):
        x, y, z = q[i, 0], q[i, 1], q[i, 2]
        q2 = x * x + y * y + z * z
        size = 1.0 / np.sqrt(x * x + y * y + (z + k) * (z + k))
        nx, ny, nz = x * size, y * size, (z + k) * size
        along = nx * x + ny * y + nz * z
        px, py, pz = x - along * nx, y - along * ny, z - along * nz
        across = np.sqrt(px * px + py * py + pz * pz)
        if across > 1e-9:
            px, py, pz = px / across, py / across, pz / across
        else:
            across, px, py, pz = 0.0, nz, 0.0, -nx
            norm = np.sqrt(nz * nz + nx * nx)
            px, pz = px / norm, pz / norm
        streak = bandwidth * bandwidth
        normal = radius * radius + mosaicity * mosaicity * q2 + streak * along * along
        tangent, both = streak * across * across, streak * along * across
        half, mean = 0.5 * (normal - tangent), 0.5 * (normal + tangent)
        root = np.sqrt(half * half + both * both)
        c, s = 1.0, 0.0
        if root > 0.0:
            c = np.sqrt(max(0.0, 0.5 * (1.0 + half / root)))
            s = np.copysign(np.sqrt(max(0.0, 0.5 * (1.0 - half / root))), both)
        f = frames[i]
        f[0, 0], f[0, 1], f[0, 2] = c * nx + s * px, c * ny + s * py, c * nz + s * pz
        f[1, 0], f[1, 1], f[1, 2] = c * px - s * nx, c * py - s * ny, c * pz - s * nz
        f[2, 0] = f[0, 1] * f[1, 2] - f[0, 2] * f[1, 1]
        f[2, 1] = f[0, 2] * f[1, 0] - f[0, 0] * f[1, 2]
        f[2, 2] = f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0]
        blur = sigma[i] * sigma[i]
        variances[i, 0], variances[i, 1], variances[i, 2] = blur + mean + root, blur + max(mean - root, 0.0), blur


@njit(cache=True, fastmath=FAST)
def shift_directions(q, wavelength, out):
    """Change of each q with a shift of the whole pattern, per radian of shift / distance in x and y: out (n, 3, 2)."""
    for i in range(q.shape[0]):
        x, y, z = q[i, 0] * wavelength, q[i, 1] * wavelength, q[i, 2] * wavelength + 1.0
        scale = z / wavelength
        out[i, 0, 0], out[i, 1, 0], out[i, 2, 0] = scale * (1.0 - x * x), -scale * x * y, -scale * x * z
        out[i, 0, 1], out[i, 1, 1], out[i, 2, 1] = -scale * x * y, scale * (1.0 - y * y), -scale * y * z


@njit(cache=True, fastmath=FAST)
def lattice_matrix(rotation, strain, reciprocal, out):
    """(3, 3) matrix rotation (1 + strain) reciprocal^T: laboratory q = out h. strain (6,) xx yy zz yz xz xy,
    the last three times sqrt 2 (so that its length is rotation invariant)."""
    yz, xz, xy = ROOT_HALF * strain[3], ROOT_HALF * strain[4], ROOT_HALF * strain[5]
    for j in range(3):
        x, y, z = reciprocal[j, 0], reciprocal[j, 1], reciprocal[j, 2]
        a = x + strain[0] * x + xy * y + xz * z
        b = y + strain[1] * y + xy * x + yz * z
        c = z + strain[2] * z + xz * x + yz * y
        for i in range(3):
            out[i, j] = rotation[i, 0] * a + rotation[i, 1] * b + rotation[i, 2] * c


@njit(cache=True, fastmath=FAST)
def nearest_point(matrix, inverse, x, y, z, h):
    """Nearest lattice point's indices of a vector into h (3,)."""
    for i in range(3):
        h[i] = np.rint(inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] * z)


@njit(cache=True, fastmath=FAST)
def _derivatives(p, rotation, h, reciprocal, shift, jacobian):
    """d(q predicted - q observed) by the 11 parameters: jacobian (11, 3). p (3,) is the predicted vector."""
    x, y, z = p[0], p[1], p[2]
    jacobian[0, 0], jacobian[0, 1], jacobian[0, 2] = 0.0, -z, y
    jacobian[1, 0], jacobian[1, 1], jacobian[1, 2] = z, 0.0, -x
    jacobian[2, 0], jacobian[2, 1], jacobian[2, 2] = -y, x, 0.0
    for i in range(3):
        jacobian[3, i], jacobian[4, i] = shift[i, 0], shift[i, 1]
    a = h[0] * reciprocal[0, 0] + h[1] * reciprocal[1, 0] + h[2] * reciprocal[2, 0]
    b = h[0] * reciprocal[0, 1] + h[1] * reciprocal[1, 1] + h[2] * reciprocal[2, 1]
    c = h[0] * reciprocal[0, 2] + h[1] * reciprocal[1, 2] + h[2] * reciprocal[2, 2]
    for i in range(3):
        u, v, w = rotation[i, 0], rotation[i, 1], rotation[i, 2]
        jacobian[5, i], jacobian[6, i], jacobian[7, i] = u * a, v * b, w * c
        jacobian[8, i] = ROOT_HALF * (v * c + w * b)
        jacobian[9, i] = ROOT_HALF * (u * c + w * a)
        jacobian[10, i] = ROOT_HALF * (u * b + v * a)


@njit(cache=True, fastmath=FAST)
def fit_lattice(q, frames, variances, shifts, reciprocal, precision, schedule, n_free, rotation, free, member, indices,
                work):
    """Fit a known cell to spots: most probable rotation, shift of the pattern and strain; returns the log odds.

    Gauss-Newton on the mixture of the module's text: each round weights spots by their membership (expectation
    maximisation), with errors widened at first as the schedule says.

    q (n, 3), frames (n, 3, 3), variances (n, 3), shifts (n, 3, 2): spots; reciprocal (3, 3) rows a*, b*, c* in the
    crystal's frame; precision (8, 8): prior of shift (radians) and strain; schedule (rounds, 2): widening as 1/angstrom
    and as a share of |q|; n_free: 3, 5 or 11 parameters; rotation (3, 3) and free (8,) [shift, strain] are changed in
    place; member (n,) probability that the spot belongs to the lattice; indices (n, 3); work: see `new_work`.
    """
    normal, gradient, jacobian, small, matrix, inverse = work
    share = 0.5
    volume = 0.0
    for k in range(schedule.shape[0]):
        volume = _state(rotation, free, reciprocal, matrix, inverse)
        _prior(normal, gradient, precision, free, n_free)
        share = _gather(q, frames, variances, shifts, reciprocal, rotation, free, schedule[k, 0], schedule[k, 1],
                        share, volume, matrix, inverse, member, indices, n_free, normal, gradient, jacobian, small)
        if not solve_positive(normal, n_free, gradient):
            return -np.inf
        _step(gradient, n_free, rotation, free, small)
    volume = _state(rotation, free, reciprocal, matrix, inverse)
    return log_odds(q, frames, variances, shifts, free, share, volume, matrix, inverse, member, indices) - 0.5 * _cost(
        precision, free, n_free)


@njit(cache=True, fastmath=FAST)
def _state(rotation, free, reciprocal, matrix, inverse):
    lattice_matrix(rotation, free[2:], reciprocal, matrix)
    return abs(invert(matrix, inverse))


@njit(cache=True, fastmath=FAST)
def _prior(normal, gradient, precision, free, n_free):
    for i in range(n_free):
        gradient[i] = 0.0
        for j in range(i + 1):
            normal[i, j] = 0.0
    for i in range(3):
        normal[i, i] = 1e-3
    for i in range(3, n_free):
        for j in range(3, n_free):
            if j <= i:
                normal[i, j] = precision[i - 3, j - 3]
            gradient[i] -= precision[i - 3, j - 3] * free[j - 3]


@njit(cache=True, fastmath=FAST)
def _cost(precision, free, n_free):
    total = 0.0
    for i in range(n_free - 3):
        for j in range(n_free - 3):
            total += precision[i, j] * free[i] * free[j]
    return total


@njit(cache=True, fastmath=FAST)
def _step(change, n_free, rotation, free, small):
    # Half a radian or half the cell in one step is no refinement: such steps are shortened.
    turn(rotation, change[0], change[1], change[2], small)
    rotation[:] = small
    for i in range(3, n_free):
        free[i - 3] += change[i]


@njit(cache=True, fastmath=FAST)
def _gather(q, frames, variances, shifts, reciprocal, rotation, free, wide, wide_q, share, volume, matrix, inverse,
            member, indices, n_free, normal, gradient, jacobian, p):
    """One round's normal equations; returns the new share of spots explained."""
    h = p[1]
    total = 0.0
    for i in range(q.shape[0]):
        x = q[i, 0] - shifts[i, 0, 0] * free[0] - shifts[i, 0, 1] * free[1]
        y = q[i, 1] - shifts[i, 1, 0] * free[0] - shifts[i, 1, 1] * free[1]
        z = q[i, 2] - shifts[i, 2, 0] * free[0] - shifts[i, 2, 1] * free[1]
        nearest_point(matrix, inverse, x, y, z, h)
        for c in range(3):
            p[0, c] = matrix[c, 0] * h[0] + matrix[c, 1] * h[1] + matrix[c, 2] * h[2]
            indices[i, c] = int(h[c])
        dx, dy, dz = p[0, 0] - x, p[0, 1] - y, p[0, 2] - z
        more = wide * wide + wide_q * wide_q * (x * x + y * y + z * z)
        chi2, peak = 0.0, volume * PEAK_DENSITY
        for k in range(3):
            r = dx * frames[i, k, 0] + dy * frames[i, k, 1] + dz * frames[i, k, 2]
            v = variances[i, k] + more
            chi2 += r * r / v
            peak /= np.sqrt(v)
        t = 1.0 / (1.0 + chi2 / FREEDOM)
        odds = peak * t * t * t * np.sqrt(t)
        if h[0] == 0.0 and h[1] == 0.0 and h[2] == 0.0:
            odds = 0.0
        member[i] = share * odds / (1.0 - share + share * odds)
        total += member[i]
        weight = member[i] * t * (FREEDOM + 3.0) / FREEDOM
        if weight < 1e-3:
            continue
        _derivatives(p[0], rotation, h, reciprocal, shifts[i], jacobian)
        for k in range(3):
            _add_residual(frames[i, k], dx, dy, dz, weight / (variances[i, k] + more), n_free, jacobian, normal, gradient)
    return min(max(total / q.shape[0], 0.05), 0.95)


@njit(cache=True, fastmath=FAST)
def _add_residual(direction, dx, dy, dz, weight, n_free, jacobian, normal, gradient):
    f0, f1, f2 = direction[0], direction[1], direction[2]
    r = dx * f0 + dy * f1 + dz * f2
    row = jacobian[:, 3]
    for a in range(n_free):
        row[a] = f0 * jacobian[a, 0] + f1 * jacobian[a, 1] + f2 * jacobian[a, 2]
    for a in range(n_free):
        w = weight * row[a]
        gradient[a] -= w * r
        for b in range(a + 1):
            normal[a, b] += w * row[b]


@njit(cache=True, fastmath=FAST)
def log_odds(q, frames, variances, shifts, free, share, volume, matrix, inverse, member, indices):
    """Log of the odds of the lattice against chance, at the best of a few shares; fills member and indices."""
    h = np.empty(3)
    for i in range(q.shape[0]):
        x = q[i, 0] - shifts[i, 0, 0] * free[0] - shifts[i, 0, 1] * free[1]
        y = q[i, 1] - shifts[i, 1, 0] * free[0] - shifts[i, 1, 1] * free[1]
        z = q[i, 2] - shifts[i, 2, 0] * free[0] - shifts[i, 2, 1] * free[1]
        nearest_point(matrix, inverse, x, y, z, h)
        dx = matrix[0, 0] * h[0] + matrix[0, 1] * h[1] + matrix[0, 2] * h[2] - x
        dy = matrix[1, 0] * h[0] + matrix[1, 1] * h[1] + matrix[1, 2] * h[2] - y
        dz = matrix[2, 0] * h[0] + matrix[2, 1] * h[1] + matrix[2, 2] * h[2] - z
        chi2 = 0.0
        for k in range(3):
            r = dx * frames[i, k, 0] + dy * frames[i, k, 1] + dz * frames[i, k, 2]
            chi2 += r * r / variances[i, k]
            indices[i, k] = int(h[k])
        t = 1.0 / (1.0 + chi2 / FREEDOM)
        root = np.sqrt(t / (variances[i, 0] * variances[i, 1] * variances[i, 2]))
        member[i] = volume * PEAK_DENSITY * t * t * t * root
        if h[0] == 0.0 and h[1] == 0.0 and h[2] == 0.0:
            member[i] = 0.0
    _drop_repeats(member, indices)
    for _ in range(3):
        total = 0.0
        for i in range(member.size):
            total += share * member[i] / (1.0 - share + share * member[i])
        share = min(max(total / member.size, 0.5 / member.size), 1.0 - 0.5 / member.size)
    total = 0.0
    for i in range(member.size):
        total += np.log(1.0 - share + share * member[i])
        member[i] = share * member[i] / (1.0 - share + share * member[i])
    return total


@njit(cache=True, fastmath=FAST)
def _drop_repeats(odds, indices):
    """A lattice point explains one spot: the others that claim it (split peaks, streaks) count as unexplained."""
    for i in range(odds.size):
        if odds[i] <= 1.0:
            continue
        for j in range(i):
            if odds[j] > 1.0 and (indices[i, 0] == indices[j, 0] and indices[i, 1] == indices[j, 1]
                                  and indices[i, 2] == indices[j, 2]):
                if odds[j] >= odds[i]:
                    odds[i] = 0.0
                    break
                odds[j] = 0.0


def new_work():
    """Scratch for `fit_lattice`: normal equations, gradient, derivatives, two small matrices, a state and its inverse."""
    n = N_PARAMETERS
    return np.zeros((n, n)), np.zeros(n), np.zeros((n, 4)), np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3))
