"""Least squares of one lattice against its peaks: orientation, strains, shift of the pattern, distance.

Parameters, in this order: three rotations about x, y, z (rad), n_strain strains, shift x and y of the pattern (m),
relative change of the distance. Residuals: the peak's place along the two directions of its spot's ellipse, and the
excitation error, each over its expected error. All derivatives are analytic.
"""
import numpy as np
from numba import njit

from mpixfel.kernels.spots import ellipse, tangents

N_ROTATION = 3
MAX_PARAMETERS = 12
STUDENT = 5.0   # degrees of freedom of the error distribution: outliers lose weight as 1 / residual^2


@njit(cache=True, _nrt=False, error_model="numpy")
def assign(axes, q, centring, limit, hkl, matched):
    """Nearest Miller indices of scattering vectors q (n, 3); matched where the lattice point lies within `limit`.

    `axes` (3, 3) has a*, b*, c* as rows; `limit` (n,) in 1/angstrom. Returns the number matched. Two peaks may share
    indices; peaks on the origin or on systematically absent (centring) points never match.
    """
    c0, c1, c2 = axes[0], axes[1], axes[2]
    v0x, v0y, v0z = c1[1] * c2[2] - c1[2] * c2[1], c1[2] * c2[0] - c1[0] * c2[2], c1[0] * c2[1] - c1[1] * c2[0]
    v1x, v1y, v1z = c2[1] * c0[2] - c2[2] * c0[1], c2[2] * c0[0] - c2[0] * c0[2], c2[0] * c0[1] - c2[1] * c0[0]
    v2x, v2y, v2z = c0[1] * c1[2] - c0[2] * c1[1], c0[2] * c1[0] - c0[0] * c1[2], c0[0] * c1[1] - c0[1] * c1[0]
    inverse = 1.0 / (c0[0] * v0x + c0[1] * v0y + c0[2] * v0z)
    count = 0
    for i in range(q.shape[0]):
        x, y, z = q[i, 0], q[i, 1], q[i, 2]
        h = np.rint((v0x * x + v0y * y + v0z * z) * inverse)
        k = np.rint((v1x * x + v1y * y + v1z * z) * inverse)
        l = np.rint((v2x * x + v2y * y + v2z * z) * inverse)
        dx = h * c0[0] + k * c1[0] + l * c2[0] - x
        dy = h * c0[1] + k * c1[1] + l * c2[1] - y
        dz = h * c0[2] + k * c1[2] + l * c2[2] - z
        hkl[i, 0], hkl[i, 1], hkl[i, 2] = h, k, l
        matched[i] = (dx * dx + dy * dy + dz * dz < limit[i] * limit[i] and (h != 0.0 or k != 0.0 or l != 0.0)
                      and allowed(int(h), int(k), int(l), centring))
        count += matched[i]
    return count


@njit(cache=True, error_model="numpy", inline="always")
def allowed(h, k, l, centring):
    """Whether a centring (ASCII code of P A B C I F H) lets a reflection be; R means rhombohedral axes, like P."""
    if centring == 73:
        return (h + k + l) % 2 == 0
    if centring == 70:
        return (h + k) % 2 == 0 and (k + l) % 2 == 0
    if centring == 65:
        return (k + l) % 2 == 0
    if centring == 66:
        return (h + l) % 2 == 0
    if centring == 67:
        return (h + k) % 2 == 0
    if centring == 72:
        return (-h + k + l) % 3 == 0
    return True


@njit(cache=True, _nrt=False, error_model="numpy")
def residual_rows(q, k0, spread, point, strains, distance_m, residual, rows):
    """Residuals and derivatives of one peak at a laboratory `point` (3,), m, whose reflection stands at `q` (3,).

    Fills residual (3,): observed - predicted place along r and along t and the excitation error, 1/angstrom, and
    rows (3, MAX_PARAMETERS): derivatives of the predictions. `strains` (n, 3, 3) are in the laboratory frame. Returns
    the Gaussian model's variances along r, along t and of the excitation error.
    """
    error, nn, shift, rr, tt = ellipse(q[0], q[1], q[2], k0, spread)
    frame = tangents(q[0], q[1], q[2], k0)
    slope = shift / error if abs(error) > 1e-12 else 0.0
    radius = np.sqrt(point[0] * point[0] + point[1] * point[1] + point[2] * point[2])
    stretch = k0 / (k0 + error)
    residual[0] = k0 / radius * (point[0] * frame[3] + point[1] * frame[4] + point[2] * frame[5]) - shift
    residual[1] = k0 / radius * (point[0] * frame[6] + point[1] * frame[7] + point[2] * frame[8])
    residual[2] = -error
    n_strain = strains.shape[0]
    for p in range(N_ROTATION + n_strain):
        if p == 0:
            dx, dy, dz = 0.0, -q[2], q[1]
        elif p == 1:
            dx, dy, dz = q[2], 0.0, -q[0]
        elif p == 2:
            dx, dy, dz = -q[1], q[0], 0.0
        else:
            s = strains[p - N_ROTATION]
            dx = s[0, 0] * q[0] + s[0, 1] * q[1] + s[0, 2] * q[2]
            dy = s[1, 0] * q[0] + s[1, 1] * q[1] + s[1, 2] * q[2]
            dz = s[2, 0] * q[0] + s[2, 1] * q[1] + s[2, 2] * q[2]
        along = dx * frame[0] + dy * frame[1] + dz * frame[2]
        rows[0, p] = stretch * (dx * frame[3] + dy * frame[4] + dz * frame[5]) + slope * along
        rows[1, p] = stretch * (dx * frame[6] + dy * frame[7] + dz * frame[8])
        rows[2, p] = along
    p = N_ROTATION + n_strain
    for axis in range(2):
        rows[0, p + axis] = k0 / radius * frame[3 + axis]
        rows[1, p + axis] = k0 / radius * frame[6 + axis]
        rows[2, p + axis] = 0.0
    rows[0, p + 2] = -k0 / radius * distance_m * frame[5]
    rows[1, p + 2] = 0.0
    rows[2, p + 2] = 0.0
    return rr, tt, nn


@njit(cache=True, error_model="numpy")
def normal_equations(axes, strains, offset, hkl, use, points, relative, floor, k0, spread, widen, distance_m, normal,
                     gradient, residual, rows):
    """Fill normal (p, p) and gradient (p,) of robust least squares; returns (chi square, number used, sum of squares).

    Parameters
    ----------
    axes : (3, 3) rows a*, b*, c*
    offset : (3,) shift x, y of the pattern (m) and relative change of distance at which to linearise
    hkl : (n, 3) ; use : (n,) bool ; points : (n, 3) laboratory positions of the peaks, m
    relative : (n,) relative error of each peak's intensity: its centroid's error is that share of the spot's width
    floor : float, systematic error of a position, 1/angstrom
    widen : float, factor on the variance of the excitation error

    The last result is the sum over used peaks of the squared distance (1/angstrom^2) from the prediction.
    """
    n_parameters = normal.shape[0]
    normal[:] = 0.0
    gradient[:] = 0.0
    chi2, count, squares = 0.0, 0, 0.0
    q, point = np.empty(3), np.empty(3)
    for i in range(hkl.shape[0]):
        if not use[i]:
            continue
        for a in range(3):
            q[a] = hkl[i, 0] * axes[0, a] + hkl[i, 1] * axes[1, a] + hkl[i, 2] * axes[2, a]
        point[0] = points[i, 0] - offset[0]
        point[1] = points[i, 1] - offset[1]
        point[2] = points[i, 2] + offset[2] * distance_m
        rr, tt, nn = residual_rows(q, k0, spread, point, strains, distance_m, residual, rows)
        share = relative[i] * relative[i]
        w0 = 1.0 / (floor * floor + share * (rr + floor * floor))
        w1 = 1.0 / (floor * floor + share * (tt + floor * floor))
        w2 = 1.0 / (nn * widen)
        x = w0 * residual[0] ** 2 + w1 * residual[1] ** 2 + w2 * residual[2] ** 2
        trust = (STUDENT + 3.0) / (STUDENT + x)
        chi2 += (STUDENT + 3.0) * np.log1p(x / STUDENT)
        squares += residual[0] ** 2 + residual[1] ** 2
        count += 1
        w0, w1, w2 = w0 * trust, w1 * trust, w2 * trust
        for a in range(n_parameters):
            r0, r1, r2 = w0 * rows[0, a], w1 * rows[1, a], w2 * rows[2, a]
            gradient[a] += r0 * residual[0] + r1 * residual[1] + r2 * residual[2]
            for b in range(a + 1):
                normal[a, b] += r0 * rows[0, b] + r1 * rows[1, b] + r2 * rows[2, b]
    return chi2, count, squares


@njit(cache=True, _nrt=False, error_model="numpy")
def substitute(factor, right, n):
    """Solve factor factor^T x = right in place."""
    for i in range(n):
        s = right[i]
        for k in range(i):
            s -= factor[i, k] * right[k]
        right[i] = s / factor[i, i]
    for i in range(n - 1, -1, -1):
        s = right[i]
        for k in range(i + 1, n):
            s -= factor[k, i] * right[k]
        right[i] = s / factor[i, i]


@njit(cache=True, _nrt=False, error_model="numpy")
def cholesky_solve(matrix, right, n):
    """Solve matrix x = right in place (lower triangle becomes the factor, right becomes x); False if not positive."""
    for i in range(n):
        for j in range(i + 1):
            s = matrix[i, j]
            for k in range(j):
                s -= matrix[i, k] * matrix[j, k]
            if i == j:
                if s <= 0.0:
                    return False
                matrix[i, i] = np.sqrt(s)
            else:
                matrix[i, j] = s / matrix[j, j]
    substitute(matrix, right, n)
    return True


@njit(cache=True, _nrt=False, error_model="numpy")
def turn(axes, w):
    """Rotate the rows of axes (3, 3) in place by the rotation vector w (3,), rad (Rodrigues)."""
    angle = np.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    if angle < 1e-300:
        return
    s, c = np.sin(angle) / angle, (1.0 - np.cos(angle)) / (angle * angle)
    for i in range(3):
        x, y, z = axes[i, 0], axes[i, 1], axes[i, 2]
        ux, uy, uz = w[1] * z - w[2] * y, w[2] * x - w[0] * z, w[0] * y - w[1] * x
        axes[i, 0] = x + s * ux + c * (w[1] * uz - w[2] * uy)
        axes[i, 1] = y + s * uy + c * (w[2] * ux - w[0] * uz)
        axes[i, 2] = z + s * uz + c * (w[0] * uy - w[1] * ux)


@njit(cache=True, _nrt=False, error_model="numpy")
def strained(reference, strains, amounts, axes):
    """Fill axes (3, 3) with the rows of `reference`, each multiplied by I + sum_k amounts[k] strains[k]."""
    for i in range(3):
        for a in range(3):
            axes[i, a] = reference[i, a]
            for k in range(strains.shape[0]):
                for b in range(3):
                    axes[i, a] += amounts[k] * strains[k, a, b] * reference[i, b]


@njit(cache=True, error_model="numpy")
def descend(reference, strains, hkl, use, points, relative, floor, k0, spread, widen, distance_m, precision, centre,
            state, axes, covariance, steps):
    """Gauss-Newton on one lattice with fixed indices; returns (converged, chi square, number used, rms 1/angstrom).

    Parameters
    ----------
    reference : (3, 3) unstrained axes, turned in place by the refined rotations
    precision, centre : (p,) restraints: weight and wanted value of each parameter (rotations: weight 0)
    state : (p,) values of the parameters, changed in place; the rotations among them are applied and left at zero
    axes : (3, 3) is filled with the refined axes; covariance (p, p) with that of the parameters
    """
    n = state.size
    n_strain = strains.shape[0]
    normal, gradient = np.empty((n, n)), np.empty(n)
    residual, rows = np.empty(3), np.empty((3, MAX_PARAMETERS))
    offset = np.zeros(3)
    chi2, count, squares = 0.0, 0, 0.0
    for step in range(steps):
        strained(reference, strains, state[N_ROTATION:], axes)
        for a in range(3):
            offset[a] = state[N_ROTATION + n_strain + a]
        chi2, count, squares = normal_equations(axes, strains, offset, hkl, use, points, relative, floor, k0, spread,
                                                widen, distance_m, normal, gradient, residual, rows)
        for a in range(n):
            normal[a, a] += precision[a]
            gradient[a] += precision[a] * (centre[a] - state[a])
        for a in range(n):   # an assignment of slices would be compiled for four seconds, for the text of its error
            for b in range(n):
                covariance[a, b] = normal[a, b]
        if not cholesky_solve(normal, gradient, n):
            return False, chi2, count, 0.0
        moved = 0.0
        for a in range(n):
            moved = max(moved, abs(gradient[a]) * np.sqrt(covariance[a, a]))
        turn(reference, gradient[:N_ROTATION])
        for k in range(n_strain):
            turn_tensor(strains[k], gradient)
        for a in range(N_ROTATION, n):
            state[a] += gradient[a]
        # So small a step leaves errors and residuals as they are.
        if moved < 1e-2:
            break
    strained(reference, strains, state[N_ROTATION:], axes)
    return invert(covariance, normal), chi2, count, np.sqrt(squares / max(count, 1))


@njit(cache=True, _nrt=False, error_model="numpy")
def turn_tensor(tensor, w):
    """Rotate a symmetric tensor (3, 3) in place by the rotation vector w."""
    turn(tensor, w)
    for i in range(3):
        for j in range(i):
            tensor[i, j], tensor[j, i] = tensor[j, i], tensor[i, j]
    turn(tensor, w)


@njit(cache=True, error_model="numpy")
def invert(matrix, work):
    """Replace a positive definite matrix (lower triangle given) by its inverse; False where it is not positive."""
    n = matrix.shape[0]
    column = np.empty(n)
    for i in range(n):
        for j in range(i + 1):
            work[i, j] = matrix[i, j]
    for c in range(n):
        for i in range(n):
            column[i] = 1.0 if i == c else 0.0
        if c == 0:
            if not cholesky_solve(work, column, n):
                return False
        else:
            substitute(work, column, n)
        for i in range(n):
            matrix[i, c] = column[i]
    return True
