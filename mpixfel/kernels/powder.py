"""Sum and maximum of images, in whole sixteenths of photons: the same for any order and number of ranks."""
from numba import njit

UNITS_PER_PHOTON = 16
# What 2**31 has room for in 256 images; brighter pixels count as this bright.
LARGEST_PHOTONS = 5.0e5


@njit(cache=True)
def add_to_powder(photons, total, largest):
    """Add one image; NaN pixels are left out.

    Parameters
    ----------
    photons : (n,) float32
    total : (n,) int32
        Sum in sixteenths of photons, in place.
    largest : (n,) float32
        Maximum in photons, in place; -inf where there was no value.
    """
    for i in range(photons.size):
        value = photons[i]
        if value == value:
            value = min(max(value, -LARGEST_PHOTONS), LARGEST_PHOTONS)
            total[i] += int(round(UNITS_PER_PHOTON * value))
            if photons[i] > largest[i]:
                largest[i] = photons[i]
