"""Search for one axis of a known length, and for the turn of the known cell about it.

A real-space vector v of the lattice gives integers q.v for every spot of the lattice. The score of a vector is the
sum over spots of (1 - 2 f)^4, f the distance of q.v from the nearest integer: smooth, wide enough for a coarse grid,
without branches or transcendental functions (0.14 ns per direction and spot, AVX-512).
"""
import numpy as np
from numba import njit

from mpixfel.kernels.vectors import FAST, solve_positive

f32 = np.float32


@njit(cache=True, fastmath=True)
def scan_directions(directions, length, q, out):
    """Score of `length` along each unit vector.

    directions (3, N) float32; length angstrom; q (3, M) float32 1/angstrom, zeros as padding are allowed (each adds 1);
    out (N,) float32.
    """
    scale = f32(length)
    for i in range(directions.shape[1]):
        x, y, z = directions[0, i] * scale, directions[1, i] * scale, directions[2, i] * scale
        total = f32(0.0)
        for j in range(q.shape[1]):
            p = x * q[0, j] + y * q[1, j] + z * q[2, j]
            t = f32(1.0) - f32(2.0) * abs(p - np.rint(p))
            t = t * t
            total += t * t
        out[i] = total


@njit(cache=True, fastmath=FAST)
def refine_axis(v, q, limits, matrix, x):
    """Least squares of a real-space vector against q (3, M), trimmed at falling distances from integers.

    v (3,) angstrom, changed; limits (n,) cycles; matrix (3, 3) and x (3,) work. Returns the sum of (1 - 2 f)^8, the
    sharper score of what was found, or -1 where fewer than 5 spots stay or all lie in a plane.
    """
    for limit in limits:
        n = 0
        matrix[:] = 0.0
        x[:] = 0.0
        for j in range(q.shape[1]):
            a, b, c = q[0, j], q[1, j], q[2, j]
            p = v[0] * a + v[1] * b + v[2] * c
            h = np.rint(p)
            if abs(p - h) < limit:
                n += 1
                matrix[0, 0] += a * a
                matrix[1, 0] += a * b
                matrix[2, 0] += a * c
                matrix[1, 1] += b * b
                matrix[2, 1] += b * c
                matrix[2, 2] += c * c
                x[0] += a * h
                x[1] += b * h
                x[2] += c * h
        if n < 5 or not solve_positive(matrix, 3, x):
            return -1.0
        v[:] = x
    total = 0.0
    for j in range(q.shape[1]):
        p = v[0] * q[0, j] + v[1] * q[1, j] + v[2] * q[2, j]
        t = 1.0 - 2.0 * abs(p - np.rint(p))
        t = t * t
        t = t * t
        total += t * t
    return total


@njit(cache=True, fastmath=FAST)
def refine_axes(candidates, directions, length, q, tolerance, limits, axes, scores):
    """Refine the candidate directions, drop wrong lengths and duplicates; returns how many are in `axes`, `scores`.

    candidates (K,) indices into directions (3, N); length angstrom; tolerance relative; axes (K, 3), scores (K,).
    """
    n, v, matrix, x = 0, np.empty(3), np.empty((3, 3)), np.empty(3)
    for i in candidates:
        v[0], v[1], v[2] = directions[0, i] * length, directions[1, i] * length, directions[2, i] * length
        score = refine_axis(v, q, limits, matrix, x)
        size = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        if score < 0.0 or abs(size - length) > tolerance * length:
            continue
        twin = -1
        for k in range(n):
            plus = (axes[k, 0] - v[0]) ** 2 + (axes[k, 1] - v[1]) ** 2 + (axes[k, 2] - v[2]) ** 2
            minus = (axes[k, 0] + v[0]) ** 2 + (axes[k, 1] + v[1]) ** 2 + (axes[k, 2] + v[2]) ** 2
            if min(plus, minus) < (0.01 * length) ** 2:
                twin = k
                break
        if twin < 0:
            twin = n
            n += 1
            scores[twin] = -1.0
        if score > scores[twin]:
            scores[twin] = score
            axes[twin, 0], axes[twin, 1], axes[twin, 2] = v[0], v[1], v[2]
    return n


@njit(cache=True, fastmath=FAST)
def axis_frame(v, sign, frame):
    """Right-handed orthonormal rows with the third along sign * v, into `frame` (3, 3)."""
    size = sign / np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    z0, z1, z2 = v[0] * size, v[1] * size, v[2] * size
    if abs(z0) < 0.8:
        x0, x1, x2 = 1.0 - z0 * z0, -z0 * z1, -z0 * z2
    else:
        x0, x1, x2 = -z1 * z0, 1.0 - z1 * z1, -z1 * z2
    size = 1.0 / np.sqrt(x0 * x0 + x1 * x1 + x2 * x2)
    x0, x1, x2 = x0 * size, x1 * size, x2 * size
    frame[0, 0], frame[0, 1], frame[0, 2] = x0, x1, x2
    frame[1, 0], frame[1, 1], frame[1, 2] = z1 * x2 - z2 * x1, z2 * x0 - z0 * x2, z0 * x1 - z1 * x0
    frame[2, 0], frame[2, 1], frame[2, 2] = z0, z1, z2


@njit(cache=True, fastmath=True)
def turn_scores(frame, others, q, limit, length, cosines, sines, out):
    """Score of each turn of the known cell about the axis frame[2].

    frame (3, 3) rows; others (2, 3) the other two axes in a frame whose z is the axis; q (3, M) float32; spots farther
    than `limit` cycles from an integer of the axis (`length` angstrom) are left out; cosines, sines (T,) float32 of
    the turns; out (T,) float32. Returns the number of spots used.
    """
    out[:] = f32(0.0)
    used = 0
    b0, b1, b2, c0, c1, c2 = others[0, 0], others[0, 1], others[0, 2], others[1, 0], others[1, 1], others[1, 2]
    for j in range(q.shape[1]):
        z = frame[2, 0] * q[0, j] + frame[2, 1] * q[1, j] + frame[2, 2] * q[2, j]
        if abs(z * length - np.rint(z * length)) > limit:
            continue
        used += 1
        x = frame[0, 0] * q[0, j] + frame[0, 1] * q[1, j] + frame[0, 2] * q[2, j]
        y = frame[1, 0] * q[0, j] + frame[1, 1] * q[1, j] + frame[1, 2] * q[2, j]
        cb, sb, kb = f32(b0 * x + b1 * y), f32(b0 * y - b1 * x), f32(b2 * z)
        cc, sc, kc = f32(c0 * x + c1 * y), f32(c0 * y - c1 * x), f32(c2 * z)
        for a in range(out.size):
            p = cb * cosines[a] + sb * sines[a] + kb
            t = f32(1.0) - f32(2.0) * abs(p - np.rint(p))
            r = cc * cosines[a] + sc * sines[a] + kc
            t *= f32(1.0) - f32(2.0) * abs(r - np.rint(r))
            t = t * t
            out[a] += t * t
    return used


@njit(cache=True, fastmath=FAST)
def turns_about_axes(axes, order, signs, reference, length, q, limit, cosines, sines, work, keep, scores, rotations):
    """The best turns of the known cell about each axis.

    axes (K, 3); order (n,) which of them; signs (1 or 2,) +1 and -1 where they differ; reference (3, 3): rotation
    from the crystal's Cartesian frame to one with the scanned axis along z, followed by rows 3, 4 (2, 3) `others` of
    `turn_scores`, so (5, 3); work (T,) float32; keep: turns kept per axis; scores (n * signs * keep,), rotations
    (same, 3, 3): crystal to laboratory. Returns the number of rows filled.
    """
    frame, n = np.empty((3, 3)), 0
    turns = work.size
    for i in order:
        for sign in signs:
            axis_frame(axes[i], sign, frame)
            turn_scores(frame, reference[3:], q, limit, length, cosines, sines, work)
            for _ in range(keep):
                best = 0
                for a in range(1, turns):
                    if work[a] > work[best]:
                        best = a
                scores[n] = work[best]
                _rotation(frame, cosines[best], sines[best], reference, rotations[n])
                n += 1
                for a in range(best - 2, best + 3):
                    work[a % turns] = f32(-1.0)
    return n


@njit(cache=True, fastmath=FAST)
def _rotation(frame, c, s, reference, out):
    # crystal -> axis frame -> turned by the angle -> laboratory
    for j in range(3):
        x = c * reference[0, j] - s * reference[1, j]
        y = s * reference[0, j] + c * reference[1, j]
        z = reference[2, j]
        for i in range(3):
            out[i, j] = frame[0, i] * x + frame[1, i] * y + frame[2, i] * z
