"""What is likely of a reflection's photons, where others of its resolution and excitation show some in the mean."""
import math

import numpy as np
from numba import njit

from mpixfel.kernels.known import key, row_of

LEAST_VARIANCE = 0.25   # photons^2: no measurement is better
LEAST_EXPECTED = 1e-6   # photons: fewer are as good as none
FAR_BELOW = -25.0       # standard deviations below zero from where on the first terms of a series tell the mean


@njit(cache=True, error_model="numpy", inline="always")
def variance_of_none(intensity, sigma):
    """Variance, photons^2, that a measured intensity would have if there were no photons but the background's."""
    error = np.float64(sigma)     # tables hold float32
    return max(error * error - max(np.float64(intensity), 0.0), LEAST_VARIANCE)


@njit(cache=True, error_model="numpy", inline="always")
def likely_photons(intensity, sigma, expected):
    """Photons that a reflection has in all likelihood; 0 where it was not measured.

    The mean of the exponential (Wilson) distribution about the expected intensity, narrowed by the measurement: a normal
    distribution about I - sigma^2 / expected, cut off at zero.
    """
    x = intensity / sigma - sigma / max(expected, LEAST_EXPECTED)
    if x > FAR_BELOW:
        # The ratio of normal density to distribution function.
        photons = sigma * (x + np.exp(-0.5 * x * x) / math.erfc(-x / np.sqrt(2.0)) * np.sqrt(2.0 / np.pi))
    else:
        photons = -sigma / x * (1.0 - 2.0 / (x * x))
    return max(photons, 0.0) if np.isfinite(intensity) else 0.0


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_likely(intensity, sigma, expected, out):
    """Fill out (n,) with `likely_photons` of each reflection."""
    for i in range(out.size):
        out[i] = likely_photons(intensity[i], sigma[i], expected[i])


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_likely_of(known, intensity, sigma, lattice, hkl, expected, out):
    """Fill out (n,) with `likely_photons` by what was measured of the same reflections; 0 where nothing was.

    known : Known, intensity, sigma : (m,) of those measured; lattice, hkl, expected : (n, ...) of those asked for
    """
    for i in range(out.size):
        row = row_of(key(lattice[i], hkl[i, 0], hkl[i, 1], hkl[i, 2]), known)
        out[i] = likely_photons(intensity[row], sigma[row], expected[i]) if row >= 0 else 0.0
