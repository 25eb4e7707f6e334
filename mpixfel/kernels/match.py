"""How well a lattice explains spots: the error model, the fit of a known cell, the odds against chance.

A spot is observed on the Ewald sphere; its lattice point lies off it. So the distance d between observed and
predicted vector has its own variance along three directions: within the sphere (centroid error), normal to it
(size of the lattice point, mosaicity) and along q (bandwidth). The chance that a random spot lies as near is the
share of the reciprocal cell that this ellipsoid fills, hundreds of times less than for a sphere that holds it.

The odds of a lattice against chance are a mixture over spots: prod (1 - w + w V* t(d)), with w the share of spots that
the lattice explains, V* the volume of the reciprocal cell and t a Student density with 4 degrees of freedom in three
dimensions (Lange, Little and Taylor, J. Am. Stat. Assoc. 84 (1989) 881), which forgives outliers.

Spots are a table (ROWS, n), n a multiple of 8: one row for each number, so that loops over spots become vector
instructions. Columns past the last spot have weight 0.
"""
import numpy as np


from mpixfel.kernels.vectors import determinant, inlined, kernel, nine

# Rows of a spot table: q; two directions in which the error is wider than the centroid's; variances along them and
# elsewhere, 1/angstrom^2; change of q by a shift of the pattern in x, in y (per radian of shift / distance); |q|^2;
# 1 for a spot, 0 for padding.
Q, U1, U2, VARIANCE, SHIFT, Q2, WEIGHT, ROWS = 0, 3, 6, 9, 12, 18, 19, 20
N_PARAMETERS = 11   # rotation (3), shift of the pattern (2), strain of the cell (6)
FREEDOM = 4.0
# Student density at 0 in three dimensions, 4 degrees of freedom: gamma(7/2) / (gamma(2) (4 pi)^(3/2)).
PEAK_DENSITY = 3.3233509704478426 / 44.546623974653656
ROOT_HALF = np.sqrt(0.5)


@kernel
def fill_spots(q, sigma, wavelength, radius, mosaicity, bandwidth, spots):
    """Fill a spot table from q (n, 3) 1/angstrom, laboratory frame, +z along the beam.

    sigma (n,) centroid error and radius of the lattice point, 1/angstrom; wavelength, angstrom; mosaicity, radians;
    bandwidth, relative: all as one standard deviation. spots (ROWS, m >= n).
    """
    k = 1.0 / wavelength
    spots[:] = 0.0
    spots[VARIANCE:VARIANCE + 3] = 1.0
    for i in range(q.shape[0]):
        x, y, z = q[i, 0], q[i, 1], q[i, 2]
        q2 = x * x + y * y + z * z
        spots[Q, i], spots[Q + 1, i], spots[Q + 2, i], spots[Q2, i], spots[WEIGHT, i] = x, y, z, q2, 1.0
        size = 1.0 / np.sqrt(x * x + y * y + (z + k) * (z + k))
        nx, ny, nz = x * size, y * size, (z + k) * size
        along = nx * x + ny * y + nz * z
        px, py, pz = x - along * nx, y - along * ny, z - along * nz
        across = np.sqrt(px * px + py * py + pz * pz)
        if across > 0.0:
            px, py, pz = px / across, py / across, pz / across
        streak = bandwidth * bandwidth
        normal = radius * radius + mosaicity * mosaicity * q2 + streak * along * along
        tangent, both = streak * across * across, streak * along * across
        half, mean = 0.5 * (normal - tangent), 0.5 * (normal + tangent)
        root = np.sqrt(half * half + both * both)
        c, s = 1.0, 0.0
        if root > 0.0:
            c = np.sqrt(max(0.0, 0.5 * (1.0 + half / root)))
            s = np.copysign(np.sqrt(max(0.0, 0.5 * (1.0 - half / root))), both)
        spots[U1, i], spots[U1 + 1, i], spots[U1 + 2, i] = c * nx + s * px, c * ny + s * py, c * nz + s * pz
        spots[U2, i], spots[U2 + 1, i], spots[U2 + 2, i] = c * px - s * nx, c * py - s * ny, c * pz - s * nz
        blur = sigma[i] * sigma[i]
        spots[VARIANCE, i], spots[VARIANCE + 1, i] = blur + mean + root, blur + max(mean - root, 0.0)
        spots[VARIANCE + 2, i] = blur
        # d(unit ray) / d(shift) = (1 - ray ray^T) / length, and distance / length is the ray's z.
        rx, ry, rz = nx, ny, nz
        spots[SHIFT, i], spots[SHIFT + 1, i], spots[SHIFT + 2, i] = (
            rz * k * (1.0 - rx * rx), -rz * k * rx * ry, -rz * k * rx * rz)
        spots[SHIFT + 3, i], spots[SHIFT + 4, i], spots[SHIFT + 5, i] = (
            -rz * k * rx * ry, rz * k * (1.0 - ry * ry), -rz * k * ry * rz)


@kernel
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


@inlined
def compare(spots, i, m, n, tx, ty, scale, wide, wide_q):
    """Spot i beside its nearest lattice point: what loops over spots need, as plain numbers (so that they stay in
    registers; a loop that stores more than one of them is not vectorised).

    m, n: 9 numbers of the matrix from h to q and of its inverse; tx, ty shift, radians; scale: V* times the density
    at 0; wide (1/angstrom^2) and wide_q add to the variances. Returns the indices, the predicted vector, its
    difference from the observed one, inverse variances, chi square's Student weight, odds.
    """
    x = spots[0, i] - spots[12, i] * tx - spots[15, i] * ty
    y = spots[1, i] - spots[13, i] * tx - spots[16, i] * ty
    z = spots[2, i] - spots[14, i] * tx - spots[17, i] * ty
    h = np.rint(n[0] * x + n[1] * y + n[2] * z)
    k = np.rint(n[3] * x + n[4] * y + n[5] * z)
    l = np.rint(n[6] * x + n[7] * y + n[8] * z)
    px, py, pz = m[0] * h + m[1] * k + m[2] * l, m[3] * h + m[4] * k + m[5] * l, m[6] * h + m[7] * k + m[8] * l
    dx, dy, dz = px - x, py - y, pz - z
    more = wide + wide_q * spots[18, i]
    i1, i2, i3 = 1.0 / (spots[9, i] + more), 1.0 / (spots[10, i] + more), 1.0 / (spots[11, i] + more)
    r1 = dx * spots[3, i] + dy * spots[4, i] + dz * spots[5, i]
    r2 = dx * spots[6, i] + dy * spots[7, i] + dz * spots[8, i]
    chi2 = (i1 - i3) * r1 * r1 + (i2 - i3) * r2 * r2 + i3 * (dx * dx + dy * dy + dz * dz)
    t = 1.0 / (1.0 + chi2 * (1.0 / FREEDOM))
    # The point 0 0 0 explains nothing.
    odds = scale * t * t * t * np.sqrt(t * i1 * i2 * i3) * min(1.0, abs(h) + abs(k) + abs(l))
    return h, k, l, px, py, pz, dx, dy, dz, i1, i2, i3, r1, r2, t, odds


@kernel
def log_product(spots, matrix, inverse, shift, share, wide, wide_q):
    """Log odds of a lattice at a given share of spots explained; repeated claims on a lattice point all count."""
    m, n = nine(matrix), nine(inverse)
    scale = PEAK_DENSITY * abs(determinant(matrix))
    tx, ty, wide, wide_q, total = shift[0], shift[1], wide * wide, wide_q * wide_q, 0.0
    # One logarithm for 64 spots: two lanes of 32 odds below 1e9 cannot overflow.
    for first in range(0, spots.shape[1], 64):
        product = 1.0
        for i in range(first, min(first + 64, spots.shape[1])):
            odds = compare(spots, i, m, n, tx, ty, scale, wide, wide_q)[15]
            product *= 1.0 + spots[19, i] * share * (odds - 1.0)
        total += np.log(product)
    return total


@kernel
def fill_odds(spots, matrix, inverse, shift, odds, indices):
    """Odds (n,) and nearest indices (n, 3) int64 of each spot; n may be smaller than the table."""
    m, n = nine(matrix), nine(inverse)
    scale = PEAK_DENSITY * abs(determinant(matrix))
    for i in range(odds.size):
        got = compare(spots, i, m, n, shift[0], shift[1], scale, 0.0, 0.0)
        indices[i, 0], indices[i, 1], indices[i, 2] = int(got[0]), int(got[1]), int(got[2])
        odds[i] = got[15]


def spot_table(q, sigma, wavelength, radius, mosaicity, bandwidth):
    """(ROWS, m) spot table of q (n, 3); arguments as `fill_spots`, `sigma` may be a scalar."""
    spots = np.empty((ROWS, 8 * ((len(q) + 7) // 8)))
    sigma = np.broadcast_to(np.asarray(sigma, float), len(q))
    fill_spots(np.ascontiguousarray(q, float), np.ascontiguousarray(sigma), float(wavelength), float(radius),
               float(mosaicity), float(bandwidth), spots)
    return spots


def subset(spots, keep):
    """Spot table of some spots, by index."""
    out = np.zeros((ROWS, 8 * ((len(keep) + 7) // 8)))
    out[VARIANCE:VARIANCE + 3] = 1.0
    out[:, :len(keep)] = spots[:, keep]
    return out
