"""Arithmetic of 3-vectors, 3x3 matrices and small symmetric systems, for use inside other kernels.

numba has no linear algebra without SciPy, and for such sizes plain loops are faster anyway.
"""
import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, fastmath=FAST)
def determinant(m):
    """Determinant of a 3x3 matrix."""
    return (m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]) - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
            + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]))


@njit(cache=True, fastmath=FAST)
def invert(m, out):
    """Inverse of a 3x3 matrix into `out` (not `m` itself); returns the determinant, 0 leaves `out` untouched."""
    det = determinant(m)
    if det == 0.0:
        return 0.0
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            out[j, i] = (m[i1, j1] * m[i2, j2] - m[i1, j2] * m[i2, j1]) / det
    return det


@njit(cache=True, fastmath=FAST)
def multiply(a, b, out):
    """Product of two 3x3 matrices into `out` (neither `a` nor `b`)."""
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@njit(cache=True, fastmath=FAST)
def turn(u, x, y, z, out):
    """`u` turned by the rotation vector (x, y, z), radians, laboratory frame: R(x, y, z) u into `out` (Rodrigues)."""
    angle = np.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        s, c = 1.0, 0.5
    else:
        s, c = np.sin(angle) / angle, (1.0 - np.cos(angle)) / (angle * angle)
    for j in range(3):
        a, b, d = u[0, j], u[1, j], u[2, j]
        along = x * a + y * b + z * d
        square = angle * angle
        out[0, j] = a + s * (y * d - z * b) + c * (x * along - square * a)
        out[1, j] = b + s * (z * a - x * d) + c * (y * along - square * b)
        out[2, j] = d + s * (x * b - y * a) + c * (z * along - square * d)


@njit(cache=True, fastmath=FAST)
def solve_positive(m, n, x):
    """Solve the leading n x n system m x = x in place by Cholesky factors; returns False where m is not positive."""
    for i in range(n):
        for j in range(i + 1):
            s = m[i, j]
            for k in range(j):
                s -= m[i, k] * m[j, k]
            if i == j:
                if s <= 0.0:
                    return False
                m[i, i] = np.sqrt(s)
            else:
                m[i, j] = s / m[j, j]
    for i in range(n):
        s = x[i]
        for k in range(i):
            s -= m[i, k] * x[k]
        x[i] = s / m[i, i]
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s -= m[k, i] * x[k]
        x[i] = s / m[i, i]
    return True


@njit(cache=True, fastmath=FAST)
def keep_best(score, index, best):
    """Indices of the largest scores into `index`, best first, their scores into `best`; returns how many."""
    room, n = index.size, 0
    for i in range(score.size):
        s = score[i]
        if n == room and s <= best[n - 1]:
            continue
        k = n if n < room else n - 1
        n += n < room
        while k > 0 and best[k - 1] < s:
            best[k], index[k] = best[k - 1], index[k - 1]
            k -= 1
        best[k], index[k] = s, i
    return n
