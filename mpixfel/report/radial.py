"""Radial profiles: means over pixels at the same scattering angle, against 1/d."""
from typing import NamedTuple

import numpy as np

MOST_PIXELS = 4_000_000   # rows of larger detectors are taken at a stride: so many pixels make a smooth profile
SHELLS = 400


class Profile(NamedTuple):
    """A radial profile."""

    inverse_d: np.ndarray     # (n,) centres of the shells, 1/angstrom
    means: dict               # {name: (n,) mean over the good pixels of each shell, NaN where there is none}


def profile(shot, **stacks):
    """`Profile` of panel stacks (P, SS, FS) of one shot's geometry; NaN marks bad pixels."""
    geometry = shot.geometry
    stride = max(1, -(-int(geometry.shape.prod(axis=1).sum()) // MOST_PIXELS))
    top = max(inverse_d(geometry, p, np.array([0, 0, s, s]), np.array([0, f, 0, f]), shot.wavelength_angstrom).max()
              for p, (s, f) in enumerate(geometry.shape))
    sums = {name: np.zeros(SHELLS) for name in stacks}
    counts = {name: np.zeros(SHELLS) for name in stacks}
    for panel, (n_ss, n_fs) in enumerate(geometry.shape):
        ss, fs = np.arange(0, n_ss, stride)[:, None], np.arange(n_fs)[None]
        shell = inverse_d(geometry, panel, ss + 0.5, fs + 0.5, shot.wavelength_angstrom) * (SHELLS / top)
        shell = np.minimum(shell.astype(np.int64), SHELLS - 1).ravel()
        for name, stack in stacks.items():
            values = np.asarray(stack[panel][:n_ss:stride, :n_fs], float).ravel()
            good = np.isfinite(values)
            sums[name] += np.bincount(shell[good], values[good], SHELLS)
            counts[name] += np.bincount(shell[good], minlength=SHELLS)
    means = {name: sums[name] / np.where(counts[name], counts[name], np.nan) for name in stacks}
    return Profile((np.arange(SHELLS) + 0.5) * top / SHELLS, means)


def inverse_d(geometry, panel, ss, fs, wavelength_angstrom):
    """1/d in 1/angstrom of points of a panel, `ss` and `fs` in pixels from its corner (any shapes that broadcast)."""
    x, y, z = (geometry.origin[panel, k] + fs * geometry.fs_axis[panel, k] + ss * geometry.ss_axis[panel, k]
               for k in range(3))
    cosine = z / np.sqrt(x * x + y * y + z * z)
    return np.sqrt(np.maximum(2 - 2 * cosine, 0)) / wavelength_angstrom
