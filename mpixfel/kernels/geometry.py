"""From pixels to scattering vectors and back, for panels of any position and tilt.

Laboratory frame, +z along the beam; lengths in metres, reciprocal lengths in 1/angstrom (no 2 pi). A point (fs, ss) of
panel p lies at origin[p] + fs * fs_axis[p] + ss * ss_axis[p]; its scattering vector is (unit(point) - z) / wavelength.
"""
import numpy as np
from numba import njit

from mpixfel.kernels.vectors import invert, with_arrays


def scattering_vectors(geometry, panel, fs, ss, wavelength_angstrom):
    """(n, 3) float64 scattering vectors, 1/angstrom, of n points on the detector.

    Parameters
    ----------
    geometry : PanelGeometry
    panel : (n,) int
    fs, ss : (n,) float, pixels from the corner of the panel's first pixel
    wavelength_angstrom : float
    """
    q = np.empty((len(panel), 3))
    fill_scattering_vectors(geometry, *points(panel, fs, ss), 1.0 / wavelength_angstrom, q)
    return q


def project(geometry, q, wavelength_angstrom):
    """Where the rays of scattering vectors meet the detector.

    The ray of q runs along k = z / wavelength + q, also where q is a little off the Ewald sphere.

    Returns
    -------
    panel : (n,) int64, -1 where the ray meets none
    fs, ss : (n,) float64, pixels; NaN where the ray meets no panel
    """
    q = np.ascontiguousarray(q, dtype=np.float64).reshape(-1, 3)
    panel = np.empty(len(q), np.int64)
    fs, ss = np.empty(len(q)), np.empty(len(q))
    fill_projections(geometry.shape, panel_inverses(geometry), q, 1.0 / wavelength_angstrom, panel, fs, ss)
    return panel, fs, ss


def lengths_of_q(geometry, panel, fs, ss, wavelength_angstrom):
    """(n,) 1/angstrom: lengths of the scattering vectors of points, given as to `scattering_vectors`."""
    out = np.empty(len(panel))
    fill_lengths_of_q(geometry, *points(panel, fs, ss), 1.0 / wavelength_angstrom, out)
    return out


def radii(geometry, panel, fs, ss, rounded=False):
    """(n,) pixels: distances of points from the beam, see `fill_radii`."""
    out = np.empty(len(panel))
    fill_radii(geometry, *points(panel, fs, ss), rounded, out)
    return out


def points(panel, fs, ss):
    """Panels and places as kernels take them."""
    return (np.ascontiguousarray(panel, np.int64), np.ascontiguousarray(fs, np.float64),
            np.ascontiguousarray(ss, np.float64))


def panel_inverses(geometry):
    """(P, 3, 3) inverses of the matrices with columns fs_axis, ss_axis, origin.

    For a ray k, w = inverse @ k gives fs = w[0] / w[2], ss = w[1] / w[2], and w[2] > 0 if the panel lies ahead.
    """
    out = np.empty((len(geometry.origin), 3, 3))
    fill_panel_inverses(geometry, out)
    return out


@with_arrays
def fill_panel_inverses(geometry, out):
    """Fill out (P, 3, 3), see `panel_inverses`."""
    columns = np.empty((3, 3))
    for p in range(out.shape[0]):
        columns[:, 0], columns[:, 1], columns[:, 2] = geometry.fs_axis[p], geometry.ss_axis[p], geometry.origin[p]
        invert(columns, out[p])


@njit(cache=True, error_model="numpy")
def fill_scattering_vectors(geometry, panel, fs, ss, k0, q):
    """Fill q (n, 3); k0 = 1 / wavelength."""
    for i in range(panel.size):
        x, y, z = point_on_panel(geometry, panel[i], fs[i], ss[i])
        scale = k0 / np.sqrt(x * x + y * y + z * z)
        q[i, 0] = x * scale
        q[i, 1] = y * scale
        # z / r - 1 loses digits at small angles: -(x^2 + y^2) / (r (r + z)) is the same number.
        q[i, 2] = -(x * x + y * y) * scale / (k0 / scale + z) if z > 0 else z * scale - k0


@njit(cache=True, error_model="numpy", inline="always")
def point_on_panel(geometry, p, fs, ss):
    """(x, y, z) of a point of panel p, metres."""
    return (geometry.origin[p, 0] + fs * geometry.fs_axis[p, 0] + ss * geometry.ss_axis[p, 0],
            geometry.origin[p, 1] + fs * geometry.fs_axis[p, 1] + ss * geometry.ss_axis[p, 1],
            geometry.origin[p, 2] + fs * geometry.fs_axis[p, 2] + ss * geometry.ss_axis[p, 2])


@njit(cache=True, error_model="numpy", inline="always")
def length_of_q(geometry, p, fs, ss, k0):
    """Length of the scattering vector of a point of panel p; k0 = 1 / wavelength."""
    x, y, z = point_on_panel(geometry, p, fs, ss)
    r = np.sqrt(x * x + y * y + z * z)
    # z - r loses digits near the beam: -(x^2 + y^2) / (r + z) is the same number.
    along = (x * x + y * y) / (r + z) if z > 0.0 else r - z
    return k0 * np.sqrt(x * x + y * y + along * along) / r


@njit(cache=True, error_model="numpy")
def fill_lengths_of_q(geometry, panel, fs, ss, k0, out):
    """Fill out (n,) with `length_of_q` of points."""
    for i in range(panel.size):
        out[i] = length_of_q(geometry, panel[i], fs[i], ss[i], k0)


@njit(cache=True, error_model="numpy")
def fill_radii(geometry, panel, fs, ss, rounded, out):
    """Fill out (n,) with how far from the beam, in pixels of the first panel, rays to points meet a plane at the panels'
    mean distance; `rounded`: of the whole pixel there."""
    axis, other, distance = geometry.fs_axis[0], geometry.ss_axis[0], np.mean(geometry.origin[:, 2])
    pixel = np.sqrt(np.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2) * np.sqrt(other[0] ** 2 + other[1] ** 2 + other[2] ** 2))
    for i in range(panel.size):
        x, y, z = point_on_panel(geometry, panel[i], fs[i], ss[i])
        scale = distance / (z * pixel)
        x, y = x * scale, y * scale
        if rounded:
            x, y = np.rint(x), np.rint(y)
        out[i] = np.sqrt(x * x + y * y)


@njit(cache=True, error_model="numpy", inline="always")
def ray_on_panel(inverse, p, kx, ky, kz):
    """(fs, ss, ahead) of the ray k on the infinite plane of panel p."""
    w0 = inverse[p, 0, 0] * kx + inverse[p, 0, 1] * ky + inverse[p, 0, 2] * kz
    w1 = inverse[p, 1, 0] * kx + inverse[p, 1, 1] * ky + inverse[p, 1, 2] * kz
    w2 = inverse[p, 2, 0] * kx + inverse[p, 2, 1] * ky + inverse[p, 2, 2] * kz
    if w2 <= 0.0:
        return 0.0, 0.0, False
    return w0 / w2, w1 / w2, True


@njit(cache=True, error_model="numpy", inline="always")
def slope_on_panel(inverse, p, fs, ss, kx, ky, kz, dx, dy, dz):
    """Derivatives (fs, ss) of where the ray k meets the plane of panel p by a step of the ray along d."""
    inverse_w2 = 1.0 / (inverse[p, 2, 0] * kx + inverse[p, 2, 1] * ky + inverse[p, 2, 2] * kz)
    w2 = inverse[p, 2, 0] * dx + inverse[p, 2, 1] * dy + inverse[p, 2, 2] * dz
    w0 = inverse[p, 0, 0] * dx + inverse[p, 0, 1] * dy + inverse[p, 0, 2] * dz
    w1 = inverse[p, 1, 0] * dx + inverse[p, 1, 1] * dy + inverse[p, 1, 2] * dz
    return (w0 - fs * w2) * inverse_w2, (w1 - ss * w2) * inverse_w2


@njit(cache=True, error_model="numpy")
def find_panel(shape, inverse, kx, ky, kz, first):
    """(panel, fs, ss) of the ray k, trying panel `first` before the others; panel -1 where it meets none."""
    n = shape.shape[0]
    for step in range(n):
        p = first + step
        if p >= n:
            p -= n
        fs, ss, ahead = ray_on_panel(inverse, p, kx, ky, kz)
        if ahead and 0.0 <= fs < shape[p, 1] and 0.0 <= ss < shape[p, 0]:
            return p, fs, ss
    return -1, np.nan, np.nan


@njit(cache=True, error_model="numpy")
def fill_projections(shape, inverse, q, k0, panel, fs, ss):
    """Fill panel, fs, ss (n,) of scattering vectors q (n, 3)."""
    last = 0
    for i in range(q.shape[0]):
        panel[i], fs[i], ss[i] = find_panel(shape, inverse, q[i, 0], q[i, 1], q[i, 2] + k0, last)
        last = max(panel[i], 0)
