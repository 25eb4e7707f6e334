"""From expected photons to detector words, and the truth of the spots on the way."""
import math

import numpy as np
from numba import njit


@njit(cache=True)
def add_spots(pixel, photons, image):
    """Add lists of pixels to a flat image."""
    for i in range(pixel.size):
        image[pixel[i]] += photons[i]


@njit(cache=True)
def measure_spots(first, pixel, photons, expected, good, readout_variance, stack_ss, stack_fs, rows):
    """Truth of each reflection: rows (n, 5) get photons, panel, fs, ss (centroid on that panel), least sigma.

    The panel is the one with most of the photons. The least sigma that an unbiased estimate can have is the bound of
    Cramer and Rao, 1 / sqrt(sum P^2 / v) over good pixels, P the share of the photons in a pixel, v the expected
    photons (all spots and background) plus read-out variance.
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
            if here > best_total and here > 0.0:
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
    """Words of a linear detector: photons * gain + pedestal + noise, rounded and clipped to [low, high].

    counted (n,) int32; pedestal (n,) float32 ADU; gain ADU per photon and noise ADU (one sigma); words (n,) integers.
    """
    for i in range(counted.size):
        value = counted[i] * gain + pedestal[i]
        if noise > 0.0:
            value += noise * rng.standard_normal()
        words[i] = min(max(math.floor(value + 0.5), low), high)


@njit(cache=True)
def read_out_stages(rng, counted, gain, pedestal, noise, code, high, low, forced, words):
    """Words of a detector that switches its gain: the stage's code in the two high bits, 14 bits of ADC below.

    Parameters
    ----------
    counted : (n,) int32 photons
    gain, noise, code : (3,) of the stages, ADU per photon (negative in the later two), ADU, and the two bits
    pedestal : (3, n) float32 ADU
    high, low : ADU; the first stage gives way above `high`, the second below `low`
    forced : -1, or the stage that is read whatever the charge
    words : (n,) uint16, filled
    """
    for i in range(counted.size):
        stage = max(forced, 0)
        if forced < 0:
            if counted[i] * gain[0] + pedestal[0, i] > high:
                stage = 1 if counted[i] * gain[1] + pedestal[1, i] >= low else 2
        value = counted[i] * gain[stage] + pedestal[stage, i] + noise[stage] * rng.standard_normal()
        words[i] = (code[stage] << 14) | min(max(int(math.floor(value + 0.5)), 0), 16383)
