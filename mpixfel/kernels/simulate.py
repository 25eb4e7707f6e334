"""Spots of a crystal drawn on panels, and photons turned into detector words.

A reflection's diffracting volume is a sum of Gaussians in reciprocal space around its lattice point q0. Each has the
covariance (Nave, Acta Cryst. D54 (1998) 848; Parkhurst et al., IUCrJ 7 (2020) 1044 for Gaussians cut by the sphere)

    C = s_b^2 1 + eta^2 (|q0|^2 1 - q0 q0') + s_l^2 q0 q0' + (s_d / lambda)^2 (1 - z z') + s_p^2 J J'

with the width s_b of the block transform, the mosaic spread eta (rotations about x, y and z, one sigma each), the
relative bandwidth s_l, the divergence s_d, and the point spread s_p in pixels (J = dq/d(fs, ss)). A pixel in the
direction u that covers the solid angle dO receives

    photons = strength N(q - q0; C) dO,   q = (u - z) / lambda,

so partiality, radial streaks (eta against s_l) and round spots (s_b) all come from where the Ewald sphere cuts C.
"""
import math

import numpy as np
from numba import njit

from mpixfel.kernels.geometry import ray_on_panel

REACH = 4.5            # how many sigma of a Gaussian are drawn: 4e-5 of the photons fall outside
FAINTEST_PIXEL = 5e-4  # photons: pixels that a Gaussian would give less are not drawn
MAX_OVERSAMPLING = 12  # sub-pixels along an edge, enough for spots of 1/12 pixel (one sigma)


@njit(cache=True)
def near_sphere(axes, limits, k0, q_min, q_max, block, mosaic, band, hkl, excitation):
    """Reflections within reach of the Ewald sphere.

    Parameters
    ----------
    axes : (3, 3) columns a*, b*, c*, 1/angstrom
    limits : (3,) largest |h|, |k|, |l|
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
                error = s2 / (math.sqrt(k0 * k0 + s2) + k0) if k0 * k0 + s2 > 0.0 else -k0
                if abs(error) > block + mosaic * math.sqrt(q2) + band * q2 / (2.0 * k0):
                    continue
                if n < room:
                    hkl[n, 0], hkl[n, 1], hkl[n, 2] = h, k, l
                    excitation[n] = error
                n += 1
    return n


@njit(cache=True, inline="always")
def invert_symmetric(xx, xy, xz, yy, yz, zz):
    """Inverse of a symmetric 3x3 matrix and its determinant: (xx, xy, xz, yy, yz, zz, det)."""
    a = yy * zz - yz * yz
    b = xz * yz - xy * zz
    c = xy * yz - xz * yy
    det = xx * a + xy * b + xz * c
    return (a / det, b / det, c / det, (xx * zz - xz * xz) / det, (xy * xz - xx * yz) / det,
            (xx * yy - xy * xy) / det, det)


@njit(cache=True, inline="always")
def pixel_vector(geometry, p, fs, ss, k0):
    """(qx, qy, qz, r, ux, uy, uz) of a point on panel p: scattering vector, distance (m) and direction."""
    x = geometry.origin[p, 0] + fs * geometry.fs_axis[p, 0] + ss * geometry.ss_axis[p, 0]
    y = geometry.origin[p, 1] + fs * geometry.fs_axis[p, 1] + ss * geometry.ss_axis[p, 1]
    z = geometry.origin[p, 2] + fs * geometry.fs_axis[p, 2] + ss * geometry.ss_axis[p, 2]
    r = math.sqrt(x * x + y * y + z * z)
    ux, uy, uz = x / r, y / r, z / r
    # u_z - 1 without the loss of digits
    return ux * k0, uy * k0, -(ux * ux + uy * uy) / (1.0 + uz) * k0, r, ux, uy, uz


@njit(cache=True)
def gaussian(geometry, p, q0, k0, block, eta, band, divergence, spread, fs, ss, form):
    """Covariance at the lattice point q0 seen from (fs, ss) of panel p; `form` gets its inverse (6,); returns det C."""
    q2 = q0[0] * q0[0] + q0[1] * q0[1] + q0[2] * q0[2]
    round_part = block * block + eta * eta * q2
    along = band * band - eta * eta
    d2 = divergence * divergence * k0 * k0
    xx = round_part + along * q0[0] * q0[0] + d2
    yy = round_part + along * q0[1] * q0[1] + d2
    zz = round_part + along * q0[2] * q0[2]
    xy, xz, yz = along * q0[0] * q0[1], along * q0[0] * q0[2], along * q0[1] * q0[2]
    if spread > 0.0:
        _, _, _, r, ux, uy, uz = pixel_vector(geometry, p, fs, ss, k0)
        for axes in (geometry.fs_axis, geometry.ss_axis):
            dot = axes[p, 0] * ux + axes[p, 1] * uy + axes[p, 2] * uz
            scale = spread * k0 / r
            jx, jy, jz = (axes[p, 0] - dot * ux) * scale, (axes[p, 1] - dot * uy) * scale, (axes[p, 2] - dot * uz) * scale
            xx += jx * jx
            yy += jy * jy
            zz += jz * jz
            xy += jx * jy
            xz += jx * jz
            yz += jy * jz
    form[0], form[1], form[2], form[3], form[4], form[5], det = invert_symmetric(xx, xy, xz, yy, yz, zz)
    return det


@njit(cache=True)
def footprint(geometry, p, q0, k0, stretch, form, centre, spot):
    """Where the sphere cuts a Gaussian on panel p.

    `centre` (fs, ss) comes in as a guess and is improved by Gauss-Newton on the Mahalanobis distance; `spot` gets the
    inverse covariance on the detector (ff, fs, ss), 1/pixel^2. Returns the squared distance left over.
    """
    for _ in range(4):
        qx, qy, qz, r, ux, uy, uz = pixel_vector(geometry, p, centre[0], centre[1], k0)
        dx, dy, dz = qx * stretch - q0[0], qy * stretch - q0[1], qz * stretch - q0[2]
        scale = k0 * stretch / r
        f, s = geometry.fs_axis[p], geometry.ss_axis[p]
        dot_f = f[0] * ux + f[1] * uy + f[2] * uz
        dot_s = s[0] * ux + s[1] * uy + s[2] * uz
        fx, fy, fz = (f[0] - dot_f * ux) * scale, (f[1] - dot_f * uy) * scale, (f[2] - dot_f * uz) * scale
        sx, sy, sz = (s[0] - dot_s * ux) * scale, (s[1] - dot_s * uy) * scale, (s[2] - dot_s * uz) * scale
        wx = form[0] * dx + form[1] * dy + form[2] * dz
        wy = form[1] * dx + form[3] * dy + form[4] * dz
        wz = form[2] * dx + form[4] * dy + form[5] * dz
        ax = form[0] * fx + form[1] * fy + form[2] * fz
        ay = form[1] * fx + form[3] * fy + form[4] * fz
        az = form[2] * fx + form[4] * fy + form[5] * fz
        spot[0] = fx * ax + fy * ay + fz * az
        spot[1] = sx * ax + sy * ay + sz * az
        spot[2] = (sx * (form[0] * sx + form[1] * sy + form[2] * sz) + sy * (form[1] * sx + form[3] * sy + form[4] * sz)
                   + sz * (form[2] * sx + form[4] * sy + form[5] * sz))
        left = dx * wx + dy * wy + dz * wz
        gf, gs = fx * wx + fy * wy + fz * wz, sx * wx + sy * wy + sz * wz
        det = spot[0] * spot[2] - spot[1] * spot[1]
        step_f, step_s = -(spot[2] * gf - spot[1] * gs) / det, -(spot[0] * gs - spot[1] * gf) / det
        centre[0] += step_f
        centre[1] += step_s
        if abs(step_f) + abs(step_s) < 1e-3:
            break
    return left


@njit(cache=True)
def fill_patch(geometry, p, q0, k0, stretch, form, amplitude, area, box, oversampling, low_ss, low_fs, patch):
    """Add one Gaussian to `patch`, whose first pixel is (low_ss, low_fs); box = (first ss, end, first fs, end)."""
    step = 1.0 / oversampling
    weight = amplitude * area * step * step
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            total = 0.0
            for a in range(oversampling):
                for b in range(oversampling):
                    qx, qy, qz, r, ux, uy, uz = pixel_vector(geometry, p, j + (b + 0.5) * step, i + (a + 0.5) * step, k0)
                    x, y, z = qx * stretch - q0[0], qy * stretch - q0[1], qz * stretch - q0[2]
                    m = (form[0] * x * x + form[3] * y * y + form[5] * z * z
                         + 2.0 * (form[1] * x * y + form[2] * x * z + form[4] * y * z))
                    if m < 40.0:
                        cosine = abs(geometry_normal(geometry, p, ux, uy, uz))
                        total += math.exp(-0.5 * m) * cosine / (r * r)
            patch[i - low_ss, j - low_fs] += weight * total


@njit(cache=True, inline="always")
def geometry_normal(geometry, p, ux, uy, uz):
    """Cosine between a direction and panel p's normal, times |fs x ss| (m^2): the projected area of a pixel."""
    f, s = geometry.fs_axis[p], geometry.ss_axis[p]
    return ((f[1] * s[2] - f[2] * s[1]) * ux + (f[2] * s[0] - f[0] * s[2]) * uy + (f[0] * s[1] - f[1] * s[0]) * uz)


@njit(cache=True)
def draw_spots(geometry, inverse, k0, q0, strength, blocks, spectrum, eta, divergence, spread, faintest,
               first, pixel, photons, patch):
    """Expected photons of reflections, as lists of pixels.

    Parameters
    ----------
    geometry : PanelGeometry;  inverse : (P, 3, 3) of `kernels.geometry.panel_inverses`
    k0 : 1 / wavelength, 1/angstrom
    q0 : (n, 3) lattice points, 1/angstrom
    strength : (n,) photons angstrom^-3: what is multiplied with N(q - q0; C) dO
    blocks : (m, 2) weight and width (1/angstrom) of the Gaussians that make up the block transform
    spectrum : (s, 3) weight, relative wavelength (lambda / mean) and relative width of the lines of the spectrum
    eta, divergence : rad, one sigma;  spread : point spread, pixels, one sigma
    faintest : photons; a Gaussian that would add less to a panel is not drawn
    first : (n + 1,) filled: reflection i owns pixel[first[i]:first[i + 1]]
    pixel, photons : flat index into the image stack and expected photons, filled
    patch : (SS, FS) float64 work space, larger than any spot

    Returns
    -------
    Number of pixels needed; if more than there is room for, the lists are incomplete.
    """
    stack_ss, stack_fs = 0, 0
    for p in range(geometry.shape.shape[0]):
        stack_ss, stack_fs = max(stack_ss, geometry.shape[p, 0]), max(stack_fs, geometry.shape[p, 1])
    n_parts = blocks.shape[0] * spectrum.shape[0]
    form, spot, centre = np.empty((n_parts, 6)), np.empty(3), np.empty(2)
    boxes, oversampling = np.zeros((n_parts, 4), np.int64), np.zeros(n_parts, np.int64)
    amplitude = np.zeros(n_parts)
    used = 0
    first[0] = 0
    for i in range(q0.shape[0]):
        for p in range(geometry.shape.shape[0]):
            fs, ss, ahead = ray_on_panel(inverse, p, q0[i, 0], q0[i, 1], q0[i, 2] + k0)
            far_ss, far_fs = 0.5 * patch.shape[0], 0.5 * patch.shape[1]
            if not (ahead and -far_fs < fs < geometry.shape[p, 1] + far_fs and -far_ss < ss < geometry.shape[p, 0] + far_ss):
                continue
            low_ss, end_ss, low_fs, end_fs = 1 << 30, 0, 1 << 30, 0
            for part in range(n_parts):
                b, line = part % blocks.shape[0], part // blocks.shape[0]
                amplitude[part] = 0.0
                stretch = 1.0 / spectrum[line, 1]
                centre[0], centre[1] = fs, ss
                det = gaussian(geometry, p, q0[i], k0, blocks[b, 1], eta, spectrum[line, 2], divergence, spread, fs, ss,
                               form[part])
                left = footprint(geometry, p, q0[i], k0, stretch, form[part], centre, spot)
                flat = spot[0] * spot[2] - spot[1] * spot[1]
                if not (left < 60.0 and flat > 0.0):
                    continue
                r, ux, uy, uz = pixel_vector(geometry, p, centre[0], centre[1], k0)[3:]
                peak = (strength[i] * blocks[b, 0] * spectrum[line, 0] * abs(geometry_normal(geometry, p, ux, uy, uz))
                        / (r * r) / math.sqrt((2.0 * math.pi) ** 3 * det))
                if peak * math.exp(-0.5 * left) * 2.0 * math.pi / math.sqrt(flat) < faintest:
                    continue
                reach = min(REACH, math.sqrt(max(1.0, 2.0 * math.log(peak / FAINTEST_PIXEL) - left)))
                reach_fs, reach_ss = reach * math.sqrt(spot[2] / flat), reach * math.sqrt(spot[0] / flat)
                box = boxes[part]
                box[0] = max(0, int(math.floor(centre[1] - reach_ss)))
                box[1] = min(geometry.shape[p, 0], int(math.floor(centre[1] + reach_ss)) + 1)
                box[2] = max(0, int(math.floor(centre[0] - reach_fs)))
                box[3] = min(geometry.shape[p, 1], int(math.floor(centre[0] + reach_fs)) + 1)
                if box[0] >= box[1] or box[2] >= box[3]:
                    continue
                half = 0.5 * (spot[0] + spot[2])
                sharpest = half + math.sqrt(max(0.0, half * half - flat))
                oversampling[part] = min(MAX_OVERSAMPLING, max(1, int(math.ceil(1.2 * math.sqrt(sharpest)))))
                amplitude[part] = strength[i] * blocks[b, 0] * spectrum[line, 0] / math.sqrt((2.0 * math.pi) ** 3 * det)
                low_ss, low_fs = min(low_ss, box[0]), min(low_fs, box[2])
                end_ss, end_fs = max(end_ss, box[1]), max(end_fs, box[3])
            end_ss, end_fs = min(end_ss, low_ss + patch.shape[0]), min(end_fs, low_fs + patch.shape[1])
            if end_ss <= low_ss or end_fs <= low_fs:
                continue
            patch[:end_ss - low_ss, :end_fs - low_fs] = 0.0
            for part in range(n_parts):
                if amplitude[part] > 0.0:
                    boxes[part, 1], boxes[part, 3] = min(boxes[part, 1], end_ss), min(boxes[part, 3], end_fs)
                    fill_patch(geometry, p, q0[i], k0, 1.0 / spectrum[part // blocks.shape[0], 1], form[part],
                               amplitude[part], 1.0, boxes[part], oversampling[part], low_ss, low_fs, patch)
            used = store_patch(patch, p, low_ss, end_ss, low_fs, end_fs, stack_ss, stack_fs, used, pixel, photons)
        first[i + 1] = used
    return used


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


@njit(cache=True)
def add_spots(pixel, photons, image):
    """Add lists of pixels to a flat image."""
    for i in range(pixel.size):
        image[pixel[i]] += photons[i]


@njit(cache=True)
def measure_spots(first, pixel, photons, expected, good, readout_variance, stack_ss, stack_fs, rows):
    """Truth of each reflection: rows (n, 5) get photons, panel, fs, ss (centroid on that panel), least sigma.

    The panel is the one with most of the photons. The least sigma that an unbiased estimate can have is the Fisher
    bound 1 / sqrt(sum P^2 / v) over good pixels, P the share of the photons in a pixel, v the expected photons (all
    spots and background) plus read-out variance.
    """
    size = stack_ss * stack_fs
    for i in range(first.size - 1):
        total, bound = 0.0, 0.0
        best, best_total, best_fs, best_ss = -1, -1.0, 0.0, 0.0
        a = first[i]
        while a < first[i + 1]:
            p = pixel[a] // size
            here, sum_fs, sum_ss = 0.0, 0.0, 0.0
            while a < first[i + 1] and pixel[a] // size == p:
                value = photons[a]
                here += value
                sum_fs += value * (pixel[a] % stack_fs + 0.5)
                sum_ss += value * (pixel[a] // stack_fs % stack_ss + 0.5)
                if good[pixel[a]]:
                    bound += value * value / (expected[pixel[a]] + readout_variance[pixel[a]])
                a += 1
            total += here
            if here > best_total:
                best, best_total, best_fs, best_ss = p, here, sum_fs / here, sum_ss / here
        rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3] = total, best, best_fs, best_ss
        rows[i, 4] = total / math.sqrt(bound) if bound > 0.0 else np.inf


@njit(cache=True)
def count_photons(rng, expected, counted):
    """Poisson numbers of photons; expected (n,) float32, counted (n,) int32."""
    for i in range(expected.size):
        counted[i] = rng.poisson(expected[i]) if expected[i] > 0.0 else 0


@njit(cache=True)
def read_out(rng, counted, gain, pedestal, noise, low, high, words):
    """Words of a linear detector: round(photons * gain + pedestal + noise), clipped to [low, high].

    counted (n,) int32 photons; gain, pedestal, noise (n,) float32, ADU; words (n,) of any integer type.
    """
    for i in range(counted.size):
        value = counted[i] * gain[i] + pedestal[i]
        if noise[i] > 0.0:
            value += noise[i] * rng.standard_normal()
        words[i] = min(max(math.floor(value + 0.5), low), high)
