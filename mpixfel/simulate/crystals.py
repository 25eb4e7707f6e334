"""Random crystals: orientation, cell, size; and the model of their mosaic blocks."""
import numpy as np

from mpixfel.model.crystal import UnitCell

# The transform of a spherical block of diameter D, (3 (sin u - u cos u) / u^3)^2 with u = pi D q, as a sum of Gaussians:
# weight and width times D. The height at q = 0 is the sphere's, and the share of the integral within |q| agrees within
# 7 % up to 3 / D. The fringes are washed out, as they are where blocks differ in size, and so is what lies beyond.
SPHERE = ((0.83, 0.465), (0.17, 1.60))
# One Gaussian with the same volume and the same height: (6 / pi)^(1/3) / sqrt(2 pi).
GAUSSIAN = ((1.0, 0.4950),)


def block_transform(shape, diameter_angstrom):
    """(m, 2) weights and widths (1/angstrom) of the Gaussians for a block shape, "sphere" or "gaussian"."""
    table = np.array(SPHERE if shape == "sphere" else GAUSSIAN)
    return np.ascontiguousarray(table * [1.0, 1.0 / diameter_angstrom])


def random_rotation(rng):
    """(3, 3) uniformly distributed rotation (Shoemake, Graphics Gems III (1992) 124)."""
    w, x, y, z = _unit(rng.standard_normal(4))
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def _unit(v):
    return v / np.linalg.norm(v)


def jittered_cell(cell, sigma, rng):
    """The cell with axes scaled by 1 + sigma N(0, 1); axes that the lattice makes equal stay equal, angles stay."""
    groups = _axis_groups(cell)
    factors = 1.0 + sigma * rng.standard_normal(3)
    a, b, c = (x * factors[g] for x, g in zip(cell.parameters[:3], groups))
    return UnitCell(a, b, c, cell.alpha, cell.beta, cell.gamma, cell.lattice_type, cell.centring, cell.unique_axis)


def _axis_groups(cell):
    """Which of three jitters each axis takes."""
    if cell.lattice_type == "cubic" or (cell.lattice_type == "rhombohedral" and cell.centring != "H"):
        return (0, 0, 0)
    if cell.lattice_type in ("tetragonal", "hexagonal", "rhombohedral"):
        return {"a": (0, 1, 1), "b": (1, 0, 1)}.get(cell.unique_axis, (1, 1, 0))
    return (0, 1, 2)


def spectrum_lines(kind, bandwidth_fwhm, rng):
    """(s, 3) weight, relative wavelength and relative width of the lines of one shot's spectrum.

    "gaussian": one line; "flat": a top hat of that full width; "sase": random spikes under a Gaussian, as each shot of a
    self-amplified source has them.
    """
    sigma = bandwidth_fwhm / 2.3548
    if kind == "gaussian" or bandwidth_fwhm <= 0:
        return np.array([[1.0, 1.0, sigma]])
    n = 16
    if kind == "flat":
        at = (np.arange(n) + 0.5) / n - 0.5
        return np.stack([np.full(n, 1.0 / n), 1.0 + bandwidth_fwhm * at, np.full(n, 0.7 * bandwidth_fwhm / n)], axis=1)
    at = sigma * rng.standard_normal(n)
    weight = rng.gamma(1.0, size=n)
    weight /= weight.sum()
    return np.stack([weight, 1.0 + at, np.full(n, 0.1 * sigma)], axis=1)
