"""Arithmetic of 3-vectors, 3x3 matrices and small symmetric systems, for use inside other kernels.

numba has no linear algebra without SciPy, and for such sizes plain loops are faster anyway.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH


def kernel(function, **options):
    """Compile with reordering allowed and without the check for division by 0, which keeps loops from vectorising.

    References to arrays are not counted (that costs each call of another kernel two locked instructions for every array):
    what makes arrays itself is compiled `with_arrays`.
    """
    return njit(cache=True, fastmath=FASTMATH, error_model="numpy", **{"_nrt": False, **options})(function)


def with_arrays(function):
    """As `kernel`, of one that makes arrays."""
    return kernel(function, _nrt=True)


def inlined(function):
    """As `kernel`, pasted into its callers: a loop that calls is not vectorised."""
    return kernel(function, inline="always")


@kernel
def determinant(m):
    """Determinant of a 3x3 matrix."""
    return (m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]) - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
            + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]))


@kernel
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


@kernel
def multiply(a, b, out):
    """Product of two 3x3 matrices into `out` (neither `a` nor `b`)."""
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@kernel
def nine(matrix):
    """A 3x3 matrix as 9 numbers."""
    return (matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[1, 0], matrix[1, 1], matrix[1, 2],
            matrix[2, 0], matrix[2, 1], matrix[2, 2])


@kernel
def cofactors(numbers):
    """The nine cofactors of a 3x3 matrix given as `nine` numbers: the inverse's transpose times the determinant."""
    a, b, c, d, e, f, g, h, k = numbers
    return (e * k - f * h, f * g - d * k, d * h - e * g, c * h - b * k, a * k - c * g, b * g - a * h,
            b * f - c * e, c * d - a * f, a * e - b * d)


@kernel
def nearest_rotation(m, out):
    """The rotation nearest to a matrix near one, into `out` (not `m` itself); returns False where it is near none.

    Newton's iteration for the orthogonal factor, the mean of a matrix and its inverse's transpose (Higham, SIAM J. Sci.
    Stat. Comput. 7 (1986) 1160).
    """
    for i in range(3):
        for j in range(3):
            out[i, j] = m[i, j]
    moved = 1.0
    for _ in range(30):
        det = determinant(out)
        if not 0.05 < det < 20.0:
            return False
        old = nine(out)
        transposed = cofactors(old)
        moved = 0.0
        for i in range(3):
            for j in range(3):
                out[i, j] = 0.5 * old[3 * i + j] + 0.5 / det * transposed[3 * i + j]
                moved += abs(out[i, j] - old[3 * i + j])
        if moved < 1e-14:
            return True
    return moved < 1e-9


@kernel
def cell_of(reciprocal, out):
    """Cell constants (6,), angstrom and degrees, of (3, 3) rows a*, b*, c*, into `out`; NaN where they lie in a plane."""
    det = determinant(reciprocal)
    if det == 0.0:
        out[:] = np.nan
        return
    # Rows of the direct axes, times the determinant.
    ax, ay, az, bx, by, bz, cx, cy, cz = cofactors(nine(reciprocal))
    aa, bb, cc = np.sqrt(ax * ax + ay * ay + az * az), np.sqrt(bx * bx + by * by + bz * bz), np.sqrt(cx * cx + cy * cy + cz * cz)
    out[0], out[1], out[2] = aa / abs(det), bb / abs(det), cc / abs(det)
    out[3] = np.degrees(np.arccos(min(max((bx * cx + by * cy + bz * cz) / (bb * cc), -1.0), 1.0)))
    out[4] = np.degrees(np.arccos(min(max((cx * ax + cy * ay + cz * az) / (cc * aa), -1.0), 1.0)))
    out[5] = np.degrees(np.arccos(min(max((ax * bx + ay * by + az * bz) / (aa * bb), -1.0), 1.0)))


@kernel
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


@kernel
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


@kernel
def keep_best(score, block, index, best):
    """Indices of large scores into `index` (in no order), their scores into `best`; returns how many.

    At most one of each `block` of consecutive scores is kept: their maxima are found with vector instructions, and
    only these pass through the heap, whose top is the least that is kept.
    """
    room, n = index.size, 0
    for first in range(0, score.size - block + 1, block):
        s = score[first]
        for i in range(block):
            s = max(s, score[first + i])
        if n < room:
            c = n
            n += 1
            while c > 0 and best[(c - 1) // 2] > s:
                best[c], index[c] = best[(c - 1) // 2], index[(c - 1) // 2]
                c = (c - 1) // 2
            best[c], index[c] = s, first
        elif s > best[0]:
            c = 0
            while 2 * c + 1 < room:
                child = 2 * c + 1
                if child + 1 < room and best[child + 1] < best[child]:
                    child += 1
                if best[child] >= s:
                    break
                best[c], index[c] = best[child], index[child]
                c = child
            best[c], index[c] = s, first
    for k in range(n):
        i = index[k]
        while score[i] != best[k]:
            i += 1
        index[k] = i
    return n


@kernel
def keep_distinct(rotations, scores, order, kept):
    """Indices of the best rotations into `kept`, best first: none twice, none that is out of the race; how many.

    rotations (n, 3, 3); scores (n,); order (n,): their indices by descending score; kept (most,). Two rotations by less
    than a third of a degree from each other converge to the same; half of the best's score less 10 is out of the race.
    """
    n = 0
    for i in order:
        if n == kept.size or (n > 0 and scores[i] < 0.5 * scores[kept[0]] - 10.0):
            break
        new = scores[i] > -np.inf
        for k in range(n):
            trace = 0.0
            for a in range(3):
                for b in range(3):
                    trace += rotations[i, a, b] * rotations[kept[k], a, b]
            if trace >= 3.0 - 3e-5:
                new = False
                break
        if new or n == 0:
            kept[n] = i
            n += 1
    return n
