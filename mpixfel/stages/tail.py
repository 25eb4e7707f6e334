"""The tail of photon statistics: how far chance reaches."""
import numpy as np
from scipy.special import gammainc

from mpixfel.kernels.tail import MEANS, fill_reaches


class Tail:
    """How far a Poisson variable must lie above its mean to be improbable, for any mean.

    Made continuous by the incomplete gamma function: P(n >= x; m) = gammainc(x, m). With read-out noise or spread
    photons, a Poisson variable of the same variance and quantum, shifted to the same mean, takes its place: its third
    moment is at least the true one, so the bar is rather too high than too low.
    """

    def __init__(self, probability):
        low, high = np.zeros_like(MEANS), MEANS + 40 * np.sqrt(MEANS) + 60
        for _ in range(60):
            middle = 0.5 * (low + high)
            likely = gammainc(middle, MEANS) > probability
            low, high = np.where(likely, middle, low), np.where(likely, high, middle)
        self.over = high - MEANS

    def bar(self, variance, quantum, factor=1.0):
        """(n,) float32 least improbable excess over the mean, given the variance (n,) times a factor, and the quantum, in
        the image's units."""
        out = np.empty(len(variance), np.float32)
        fill_reaches(self.over, variance, factor, quantum, out)
        return out
