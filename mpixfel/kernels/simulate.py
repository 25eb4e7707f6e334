"""Spots of a crystal drawn on panels, as the Ewald sphere cuts the reflections' profiles.

A reflection's profile is a sum of Gaussians in reciprocal space around its lattice point q0. Each has the covariance

    C = s_b^2 1 + eta^2 (|q0|^2 1 - q0 q0') + s_l^2 q0 q0' + (s_d / lambda)^2 (1 - z z') + s_p^2 J J'

with the width s_b of the block transform, the mosaic spread eta (rotations about x, y and z), the relative bandwidth
s_l, the divergence s_d and the point spread s_p in pixels (J = dq/d(fs, ss)), one sigma each. These are the four causes
of Nave, Acta Cryst. D54 (1998) 848, for stills as in Kabsch, Acta Cryst. D70 (2014) 2204. C is exact to first order in
the spreads; where the sphere cuts it is worked out pixel by pixel. A pixel in the direction u, of solid angle dO, gets

    photons = strength N(q - q0; C) dO,   q = (u - z) / lambda,

so partiality, radial streaks (eta with s_l) and round spots (s_b) all come from where the sphere cuts C.
"""
import math
from typing import NamedTuple

import numpy as np
from numba import njit

from mpixfel.kernels.geometry import ray_on_panel

REACH = 4.5            # how many sigma of a Gaussian are drawn: 4e-5 of the photons fall outside,
FAINTEST_PIXEL = 5e-4  # but not where it would give a pixel fewer photons than this
MAX_OVERSAMPLING = 12  # sub-pixels along an edge, enough for spots of 1/15 pixel (one sigma)
NODE = 2.0 / math.sqrt(3.0) - 1.0    # outward shift of the two points from the middles of a sub-pixel's halves


class Profile(NamedTuple):
    """What makes the profile of every reflection of a crystal in one shot; spreads are one sigma."""

    blocks: np.ndarray     # (m, 2) weight and width (1/angstrom) of the Gaussians that make up the block transform
    spectrum: np.ndarray   # (s, 3) weight, relative wavelength (lambda / mean) and relative width of its lines
    eta: float             # mosaic spread, rad
    divergence: float      # rad
    spread: float          # point spread of the detector, pixels


@njit(cache=True)
def near_sphere(axes, limits, k0, q_min, q_max, block, mosaic, band, hkl, excitation):
    """Reflections within reach of the Ewald sphere.

    Parameters
    ----------
    axes : (3, 3) columns a*, b*, c*, 1/angstrom
    limits : (3,) largest |h|, |k|, |l|
    k0 : 1 / wavelength, 1/angstrom
    block, mosaic, band : reach of the block transform (1/angstrom), of the mosaic spread (rad), of the bandwidth (half,
        relative)
    hkl : (n, 3) int32, excitation : (n,) float64, 1/angstrom, positive outside the sphere; both filled

    Returns
    -------
    Number of reflections found; only the first n are stored.
    """
    n, room = 0, hkl.shape[0]
    for h in range(-limits[0], limits[0] + 1):
        for k in range(-limits[1], limits[1] + 1):
            x0 = axes[0, 0] * h + axes[0, 1] * k
            y0 = axes[1, 0] * h + axes[1, 1] * k
            z0 = axes[2, 0] * h + axes[2, 1] * k
            for l in range(-limits[2], limits[2] + 1):
                x, y, z = x0 + axes[0, 2] * l, y0 + axes[1, 2] * l, z0 + axes[2, 2] * l
                q2 = x * x + y * y + z * z
                if q2 > q_max * q_max or q2 < q_min * q_min:
                    continue
                # |k + q| - k0, without the loss of digits
                s2 = 2.0 * k0 * z + q2
                error = s2 / (math.sqrt(max(0.0, k0 * k0 + s2)) + k0)
                if abs(error) > block + mosaic * math.sqrt(q2) + band * q2 / (2.0 * k0):
                    continue
                if n < room:
                    hkl[n, 0], hkl[n, 1], hkl[n, 2] = h, k, l
                    excitation[n] = error
                n += 1
    return n


@njit(cache=True)
def draw_spots(geometry, inverse, k0, q0, strength, profile, faintest, first, pixel, photons, patch):
    """Expected photons of reflections, as lists of pixels.

    Parameters
    ----------
    geometry : PanelGeometry;  inverse : (P, 3, 3) of `kernels.geometry.panel_inverses`
    k0 : 1 / wavelength, 1/angstrom
    q0 : (n, 3) lattice points, 1/angstrom
    strength : (n,) photons angstrom^-3, what is multiplied with N(q - q0; C) dO
    profile : Profile
    faintest : photons; a Gaussian that would add less to a panel is not drawn
    first : (n + 1,) filled: reflection i owns pixel[first[i]:first[i + 1]], ascending by panel
    pixel, photons : flat index into the image stack and expected photons, filled
    patch : (SS, FS) float64 work space; what is farther apart in one spot is cut off

    Returns
    -------
    Number of pixels needed; if more than there is room for, the lists are incomplete.
    """
    stack_ss, stack_fs = np.max(geometry.shape[:, 0]), np.max(geometry.shape[:, 1])
    n_parts = profile.blocks.shape[0] * profile.spectrum.shape[0]
    form, amplitude = np.empty((n_parts, 6)), np.empty(n_parts)
    boxes, oversampling = np.empty((n_parts, 4), np.int64), np.empty(n_parts, np.int64)
    round_width, radial_width = largest_widths(k0, profile)
    per_pixel = pixel_steps(geometry, k0)
    used, first[0] = 0, 0
    for i in range(q0.shape[0]):
        length = math.sqrt(q0[i, 0] * q0[i, 0] + q0[i, 1] * q0[i, 1] + q0[i, 2] * q0[i, 2])
        reach = 2.0 * REACH * (round_width + length * radial_width)
        for p in range(geometry.shape.shape[0]):
            fs, ss, ahead = ray_on_panel(inverse, p, q0[i, 0], q0[i, 1], q0[i, 2] + k0)
            # Generous, as a panel's first pixel stands for all of it: hence the factor of 2 in the reach.
            margin = 6.0 + 2.0 * REACH * profile.spread + reach / per_pixel[p]
            if not (ahead and -margin < fs < geometry.shape[p, 1] + margin
                    and -margin < ss < geometry.shape[p, 0] + margin):
                continue
            for part in range(n_parts):
                amplitude[part], oversampling[part] = plan_part(geometry, inverse, p, k0, q0[i], strength[i], profile,
                                                                part, faintest, form[part], boxes[part])
            low_ss, end_ss, low_fs, end_fs = bounds(amplitude, boxes, patch.shape)
            if end_ss <= low_ss:
                continue
            patch[:end_ss - low_ss, :end_fs - low_fs] = 0.0
            for part in range(n_parts):
                if amplitude[part] > 0.0:
                    stretch = 1.0 / profile.spectrum[part // profile.blocks.shape[0], 1]
                    fill_patch(geometry, p, q0[i], k0, stretch, form[part], amplitude[part], boxes[part],
                               oversampling[part], low_ss, low_fs, patch)
            used = store_patch(patch, p, low_ss, end_ss, low_fs, end_fs, stack_ss, stack_fs, used, pixel, photons)
        first[i + 1] = used
    return used


@njit(cache=True)
def largest_widths(k0, profile):
    """Widest spread of the profiles, 1/angstrom: (the part that is the same for all, the part that grows with |q|)."""
    band = 0.0
    for line in range(profile.spectrum.shape[0]):
        band = max(band, abs(profile.spectrum[line, 1] - 1.0) / REACH + profile.spectrum[line, 2])
    return np.max(profile.blocks[:, 1]) + profile.divergence * k0, profile.eta + band


@njit(cache=True)
def pixel_steps(geometry, k0):
    """(P,) steps in q, 1/angstrom, of one pixel at each panel's first pixel."""
    steps = np.empty(geometry.shape.shape[0])
    for p in range(steps.size):
        steps[p] = k0 * math.sqrt(np.sum(geometry.fs_axis[p] ** 2) / np.sum(geometry.origin[p] ** 2))
    return steps


@njit(cache=True)
def plan_part(geometry, inverse, p, k0, q0, strength, profile, part, faintest, form, box):
    """Where and how finely one Gaussian of one reflection is to be drawn on panel p.

    Fills `form`, the inverse covariance (6,), and `box` (first ss, end, first fs, end). Returns (amplitude,
    oversampling); amplitude 0 if it does not show on this panel.
    """
    n_blocks = profile.blocks.shape[0]
    block, line = profile.blocks[part % n_blocks, 1], part // n_blocks
    stretch, band = 1.0 / profile.spectrum[line, 1], profile.spectrum[line, 2]
    fs, ss, ahead = ray_on_panel(inverse, p, q0[0], q0[1], q0[2] + k0 * stretch)
    if not ahead:
        return 0.0, 0
    det = covariance(geometry, p, q0, k0, block, band, profile, fs, ss, form)
    left, fs, ss, ff, mixed, sss = footprint(geometry, p, q0, k0, stretch, form, fs, ss)
    flat = ff * sss - mixed * mixed
    weight = profile.blocks[part % n_blocks, 0] * profile.spectrum[line, 0]
    amplitude = strength * weight / math.sqrt((2.0 * math.pi) ** 3 * det)
    peak = amplitude * solid_angle(geometry, p, fs, ss) * math.exp(-0.5 * left)
    if not (flat > 0.0 and peak * 2.0 * math.pi / math.sqrt(flat) >= faintest):
        return 0.0, 0
    reach = min(REACH, math.sqrt(2.0 * max(0.5, math.log(peak / FAINTEST_PIXEL))))
    reach_fs, reach_ss = reach * math.sqrt(sss / flat), reach * math.sqrt(ff / flat)
    box[0] = max(0, int(math.floor(ss - reach_ss)))
    box[1] = min(geometry.shape[p, 0], int(math.floor(ss + reach_ss)) + 1)
    box[2] = max(0, int(math.floor(fs - reach_fs)))
    box[3] = min(geometry.shape[p, 1], int(math.floor(fs + reach_fs)) + 1)
    if box[0] >= box[1] or box[2] >= box[3]:
        return 0.0, 0
    half = 0.5 * (ff + sss)
    sharpest = math.sqrt(half + math.sqrt(max(0.0, half * half - flat)))
    return amplitude, min(MAX_OVERSAMPLING, max(1, int(math.ceil(0.8 * sharpest))))


@njit(cache=True)
def bounds(amplitude, boxes, room):
    """(first ss, end, first fs, end) around all boxes that are drawn; they are cut where they exceed `room`."""
    low_ss, end_ss, low_fs, end_fs = 1 << 30, 0, 1 << 30, 0
    for part in range(amplitude.size):
        if amplitude[part] > 0.0:
            low_ss, end_ss = min(low_ss, boxes[part, 0]), max(end_ss, boxes[part, 1])
            low_fs, end_fs = min(low_fs, boxes[part, 2]), max(end_fs, boxes[part, 3])
    end_ss, end_fs = min(end_ss, low_ss + room[0]), min(end_fs, low_fs + room[1])
    for part in range(amplitude.size):
        boxes[part, 1], boxes[part, 3] = min(boxes[part, 1], end_ss), min(boxes[part, 3], end_fs)
    return low_ss, end_ss, low_fs, end_fs


@njit(cache=True, inline="always")
def direction(geometry, p, fs, ss):
    """(ux, uy, uz, r) unit vector to a point on panel p and its distance, m."""
    x = geometry.origin[p, 0] + fs * geometry.fs_axis[p, 0] + ss * geometry.ss_axis[p, 0]
    y = geometry.origin[p, 1] + fs * geometry.fs_axis[p, 1] + ss * geometry.ss_axis[p, 1]
    z = geometry.origin[p, 2] + fs * geometry.fs_axis[p, 2] + ss * geometry.ss_axis[p, 2]
    r = math.sqrt(x * x + y * y + z * z)
    return x / r, y / r, z / r, r


@njit(cache=True, inline="always")
def projected_area(geometry, p, ux, uy, uz):
    """Area of a pixel of panel p seen along a direction, m^2."""
    f, s = geometry.fs_axis[p], geometry.ss_axis[p]
    return abs((f[1] * s[2] - f[2] * s[1]) * ux + (f[2] * s[0] - f[0] * s[2]) * uy + (f[0] * s[1] - f[1] * s[0]) * uz)


@njit(cache=True)
def solid_angle(geometry, p, fs, ss):
    """Solid angle of the pixel around a point of panel p, steradian."""
    ux, uy, uz, r = direction(geometry, p, fs, ss)
    return projected_area(geometry, p, ux, uy, uz) / (r * r)


@njit(cache=True, inline="always")
def tangent(axis, ux, uy, uz, scale):
    """dq for a step of one pixel along `axis`: its part across the ray, times k0 / r."""
    dot = axis[0] * ux + axis[1] * uy + axis[2] * uz
    return (axis[0] - dot * ux) * scale, (axis[1] - dot * uy) * scale, (axis[2] - dot * uz) * scale


@njit(cache=True)
def covariance(geometry, p, q0, k0, block, band, profile, fs, ss, form):
    """C at the lattice point q0 seen from (fs, ss) of panel p; `form` (6,) gets its inverse; returns det C."""
    q2 = q0[0] * q0[0] + q0[1] * q0[1] + q0[2] * q0[2]
    eta2, d2 = profile.eta * profile.eta, (profile.divergence * k0) ** 2
    along = band * band - eta2
    xx = block * block + eta2 * q2 + along * q0[0] * q0[0] + d2
    yy = block * block + eta2 * q2 + along * q0[1] * q0[1] + d2
    zz = block * block + eta2 * q2 + along * q0[2] * q0[2]
    xy, xz, yz = along * q0[0] * q0[1], along * q0[0] * q0[2], along * q0[1] * q0[2]
    if profile.spread > 0.0:
        ux, uy, uz, r = direction(geometry, p, fs, ss)
        for axis in (geometry.fs_axis[p], geometry.ss_axis[p]):
            jx, jy, jz = tangent(axis, ux, uy, uz, profile.spread * k0 / r)
            xx, yy, zz = xx + jx * jx, yy + jy * jy, zz + jz * jz
            xy, xz, yz = xy + jx * jy, xz + jx * jz, yz + jy * jz
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    det = xx * a + xy * b + xz * c
    form[0], form[1], form[2] = a / det, b / det, c / det
    form[3], form[4], form[5] = (xx * zz - xz * xz) / det, (xy * xz - xx * yz) / det, (xx * yy - xy * xy) / det
    return det


@njit(cache=True, inline="always")
def product(form, ax, ay, az, bx, by, bz):
    """a' form b."""
    return (ax * (form[0] * bx + form[1] * by + form[2] * bz) + ay * (form[1] * bx + form[3] * by + form[4] * bz)
            + az * (form[2] * bx + form[4] * by + form[5] * bz))


@njit(cache=True)
def footprint(geometry, p, q0, k0, stretch, form, fs, ss):
    """Where the sphere cuts a Gaussian on panel p, by Gauss-Newton on the Mahalanobis distance from a guess (fs, ss).

    Returns the squared distance that is left, fs, ss, and the inverse covariance on the detector (ff, fs, ss),
    1/pixel^2.
    """
    left, ff, mixed, sss = np.inf, 1.0, 0.0, 1.0
    for _ in range(6):
        ux, uy, uz, r = direction(geometry, p, fs, ss)
        k = k0 * stretch
        dx, dy, dz = ux * k - q0[0], uy * k - q0[1], -(ux * ux + uy * uy) / (1.0 + uz) * k - q0[2]
        fx, fy, fz = tangent(geometry.fs_axis[p], ux, uy, uz, k / r)
        sx, sy, sz = tangent(geometry.ss_axis[p], ux, uy, uz, k / r)
        ff = product(form, fx, fy, fz, fx, fy, fz)
        mixed = product(form, fx, fy, fz, sx, sy, sz)
        sss = product(form, sx, sy, sz, sx, sy, sz)
        left = product(form, dx, dy, dz, dx, dy, dz)
        gf, gs = product(form, fx, fy, fz, dx, dy, dz), product(form, sx, sy, sz, dx, dy, dz)
        det = ff * sss - mixed * mixed
        step_fs, step_ss = (mixed * gs - sss * gf) / det, (mixed * gf - ff * gs) / det
        if abs(step_fs) + abs(step_ss) < 0.01:
            break
        fs, ss = fs + step_fs, ss + step_ss
    return left, fs, ss, ff, mixed, sss


@njit(cache=True)
def fill_patch(geometry, p, q0, k0, stretch, form, amplitude, box, oversampling, low_ss, low_fs, patch):
    """Add one Gaussian, integrated over pixels, to `patch`, whose first pixel is (low_ss, low_fs).

    Two points of Gauss and Legendre along each edge of a sub-pixel: they keep its variance, which the midpoint loses.
    With sub-pixels up to 1.25 sigma a pixel is good to 0.3 % of the highest, the sum to 1e-5.
    """
    n, step, k = 2 * oversampling, 0.5 / oversampling, k0 * stretch
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            total = 0.0
            for a in range(n):
                ss = i + (a + 0.5 + (a % 2 - 0.5) * NODE) * step
                for b in range(n):
                    fs = j + (b + 0.5 + (b % 2 - 0.5) * NODE) * step
                    ux, uy, uz, r = direction(geometry, p, fs, ss)
                    # u_z - 1 without the loss of digits
                    x, y, z = ux * k - q0[0], uy * k - q0[1], -(ux * ux + uy * uy) / (1.0 + uz) * k - q0[2]
                    m = product(form, x, y, z, x, y, z)
                    if m < 60.0:
                        total += math.exp(-0.5 * m) * projected_area(geometry, p, ux, uy, uz) / (r * r)
            patch[i - low_ss, j - low_fs] += amplitude * step * step * total


@njit(cache=True)
def store_patch(patch, p, low_ss, end_ss, low_fs, end_fs, stack_ss, stack_fs, used, pixel, photons):
    """Append the pixels of a patch that hold anything; returns the new length of the lists."""
    for i in range(low_ss, end_ss):
        for j in range(low_fs, end_fs):
            value = patch[i - low_ss, j - low_fs]
            if value > 1e-9:
                if used < pixel.size:
                    pixel[used] = (p * stack_ss + i) * stack_fs + j
                    photons[used] = value
                used += 1
    return used
