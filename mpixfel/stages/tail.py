"""The tail of photon statistics: how far chance reaches."""
import numpy as np
from scipy.special import gammainc


class Tail:
    """How far a Poisson variable must lie above its mean to be improbable, for any mean.

    Made continuous by the incomplete gamma function: P(n >= x; m) = gammainc(x, m). With read-out noise or spread
    photons, a Poisson variable of the same variance and quantum, shifted to the same mean, takes its place: its third
    moment is at least the true one, so the bar is rather too high than too low.
    """

    def __init__(self, probability):
        self.means = np.geomspace(1e-6, 1e6, 481)
        low, high = np.zeros_like(self.means), self.means + 40 * np.sqrt(self.means) + 60
        for _ in range(60):
            middle = 0.5 * (low + high)
            likely = gammainc(middle, self.means) > probability
            low, high = np.where(likely, middle, low), np.where(likely, high, middle)
        self.log_means, self.over = np.log(self.means), high - self.means

    def bar(self, variance, quantum):
        """Least improbable excess over the mean, given the variance (array) and the quantum, in the image's units."""
        mean = np.clip(variance / quantum ** 2, self.means[0], self.means[-1])
        return quantum * np.interp(np.log(mean), self.log_means, self.over)
