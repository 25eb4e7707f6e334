"""Search for one axis of a known length, and for the turn of the known cell about it.

A real-space vector v of the lattice gives integers q.v for every spot of the lattice. The score of a vector is the
sum over spots of (1 - 2 f)^4, f the distance of q.v from the nearest integer: smooth, wide enough for a coarse grid,
without branches or transcendental functions. What the score would be at random azimuths about the beam is subtracted:
q.v is small for every vector near the beam, which proves nothing.
"""
import numpy as np

from mpixfel.kernels.vectors import inlined, kernel, with_arrays

f32 = np.float32
BLOCK = 512     # directions whose scores stay in the nearest cache
COSINES = np.cos(np.pi * (np.arange(16) + 0.5) / 16)   # of azimuths; those beyond 180 degrees repeat them


@kernel
def expected_scores(length, q, out):
    """Mean score of vectors of `length` (angstrom) by their angle to the beam, over all azimuths about it.

    q (3, M) float32; out (B,) float32: vectors whose z is (b + 0.5) / B of their length.
    """
    steps = 16
    for b in range(out.size):
        cosine = (b + 0.5) / out.size
        along, across = length * cosine, length * np.sqrt(1.0 - cosine * cosine)
        total = 0.0
        for j in range(q.shape[1]):
            centre, reach = along * q[2, j], across * np.sqrt(q[0, j] * q[0, j] + q[1, j] * q[1, j])
            for k in range(steps):
                p = centre + reach * COSINES[k]
                t = 1.0 - 2.0 * abs(p - np.rint(p))
                t = t * t
                total += t * t
        out[b] = total / steps


@kernel
def scan_directions(directions, length, q, expected, out):
    """Score of `length` along each unit vector, less what is expected.

    directions (3, N) float32, z >= 0; length angstrom; q (3, M) float32 1/angstrom, zeros as padding, M a multiple of 4;
    expected (B,) float32: see `expected_scores`; out (N,) float32.
    """
    scale, bins = f32(length), expected.size
    for first in range(0, out.size, BLOCK):
        scores = out[first:first + BLOCK]
        x, y, z = directions[0, first:first + BLOCK], directions[1, first:first + BLOCK], directions[2, first:first + BLOCK]
        for i in range(scores.size):
            scores[i] = -expected[min(int(z[i] * bins), bins - 1)]
        for j in range(0, q.shape[1], 4):
            _add_scores(x, y, z, q, j, scale, scores)


@inlined
def score(p):
    t = f32(1.0) - f32(2.0) * abs(p - np.rint(p))
    t = t * t
    return t * t


@kernel
def _add_scores(x, y, z, q, j, scale, out):
    # Along the directions rather than the spots, and four spots at a time, no sum over lanes is left and few loads.
    a0, b0, c0, a1, b1, c1 = q[0, j], q[1, j], q[2, j], q[0, j + 1], q[1, j + 1], q[2, j + 1]
    a2, b2, c2, a3, b3, c3 = q[0, j + 2], q[1, j + 2], q[2, j + 2], q[0, j + 3], q[1, j + 3], q[2, j + 3]
    for i in range(np.uint64(out.size)):
        u, v, w = scale * x[i], scale * y[i], scale * z[i]
        out[i] += ((score(u * a0 + v * b0 + w * c0) + score(u * a1 + v * b1 + w * c1))
                   + (score(u * a2 + v * b2 + w * c2) + score(u * a3 + v * b3 + w * c3)))


@kernel
def refine_axis(x, y, z, q, count, limit):
    """One round of least squares of a real-space vector (x, y, z) against the first `count` of q (3, M) float32: the
    vector and how many spots lie within `limit` cycles of an integer; (0, 0, 0, 0) where the equations have no solution."""
    a00 = a01 = a02 = a11 = a12 = a22 = b0 = b1 = b2 = n = f32(0.0)
    for j in range(count):
        a, b, c = q[0, j], q[1, j], q[2, j]
        p = x * a + y * b + z * c
        h = np.rint(p)
        w = f32(1.0) if abs(p - h) < limit else f32(0.0)
        n += w
        wa, wb, wc = w * a, w * b, w * c
        a00 += wa * a
        a01 += wa * b
        a02 += wa * c
        a11 += wb * b
        a12 += wb * c
        a22 += wc * c
        b0 += wa * h
        b1 += wb * h
        b2 += wc * h
    # Cofactors; in double, for q of low resolution lie almost in a plane.
    c0 = float(a11) * a22 - float(a12) * a12
    c1 = float(a02) * a12 - float(a01) * a22
    c2 = float(a01) * a12 - float(a02) * a11
    det = a00 * c0 + a01 * c1 + a02 * c2
    if not det > 1e-9 * float(a00) * a11 * a22:
        return f32(0.0), f32(0.0), f32(0.0), f32(0.0)
    c3, c4, c5 = float(a00) * a22 - float(a02) * a02, float(a01) * a02 - float(a00) * a12, float(a00) * a11 - float(a01) * a01
    return (f32((c0 * b0 + c1 * b1 + c2 * b2) / det), f32((c1 * b0 + c3 * b1 + c4 * b2) / det),
            f32((c2 * b0 + c4 * b1 + c5 * b2) / det), n)


@kernel
def axis_score(x, y, z, q):
    """Sum of (1 - 2 f)^8: sharper than the scan's score."""
    total = f32(0.0)
    for j in range(q.shape[1]):
        p = x * q[0, j] + y * q[1, j] + z * q[2, j]
        t = f32(1.0) - f32(2.0) * abs(p - np.rint(p))
        t = t * t
        t = t * t
        total += t * t
    return total


@kernel
def refine_axes(candidates, directions, length, q, tolerance, limits, least, axes, scores):
    """Refine the candidate directions, drop wrong lengths and duplicates; returns how many are in `axes`, `scores`.

    candidates (K,) indices into directions (3, N); length angstrom; q (3, M) float32; tolerance relative; limits
    cycles, falling; least number of spots (padding counts); axes (K, 3), scores (K,).
    """
    n = 0
    for i in candidates:
        x, y, z = directions[0, i] * f32(length), directions[1, i] * f32(length), directions[2, i] * f32(length)
        used = f32(0.0)
        for limit in limits:
            x, y, z, used = refine_axis(x, y, z, q, q.shape[1], limit)
        size = np.sqrt(x * x + y * y + z * z)
        if used < least or abs(size - length) > tolerance * length:
            continue
        score = axis_score(x, y, z, q)
        twin = n
        for k in range(n):
            plus = (axes[k, 0] - x) ** 2 + (axes[k, 1] - y) ** 2 + (axes[k, 2] - z) ** 2
            minus = (axes[k, 0] + x) ** 2 + (axes[k, 1] + y) ** 2 + (axes[k, 2] + z) ** 2
            if min(plus, minus) < (0.01 * length) ** 2:
                twin = k
                break
        if twin == n:
            n += 1
        elif score <= scores[twin]:
            continue
        scores[twin] = score
        axes[twin, 0], axes[twin, 1], axes[twin, 2] = x, y, z
    return n


@kernel
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


@kernel
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


@with_arrays
def turns_about_axes(axes, order, signs, reference, scale, q, limit, cosines, sines, work, keep, scores, rotations,
                     lengths):
    """The best turns of the known cell about each axis.

    axes (K, 3); order (n,) which of them; signs (1 or 2,) +1 and -1 where they differ; reference (3, 3): rotation
    from the crystal's Cartesian frame to one with the scanned axis along z, followed by rows 3, 4 (2, 3) `others` of
    `turn_scores`, so (5, 3); scale of these; work (T,) float32; keep: turns kept per axis. Filled, one row for each
    turn kept: scores, rotations (3, 3) from crystal to laboratory, and lengths of the axis. Returns how many.
    """
    frame, others, n = np.empty((3, 3)), reference[3:] * scale, 0
    turns = work.size
    for i in order:
        length = np.sqrt(axes[i, 0] ** 2 + axes[i, 1] ** 2 + axes[i, 2] ** 2)
        for sign in signs:
            axis_frame(axes[i], sign, frame)
            turn_scores(frame, others, q, limit, length, cosines, sines, work)
            for _ in range(keep):
                best = 0
                for a in range(1, turns):
                    if work[a] > work[best]:
                        best = a
                scores[n], lengths[n] = work[best], length
                _rotation(frame, cosines[best], sines[best], reference, rotations[n])
                n += 1
                for a in range(best - 2, best + 3):
                    work[a % turns] = f32(-1.0)
    return n


@kernel
def _rotation(frame, c, s, reference, out):
    # crystal -> axis frame -> turned by the angle -> laboratory
    for j in range(3):
        x = c * reference[0, j] - s * reference[1, j]
        y = s * reference[0, j] + c * reference[1, j]
        z = reference[2, j]
        for i in range(3):
            out[i, j] = frame[0, i] * x + frame[1, i] * y + frame[2, i] * z
