"""When to believe a lattice: the odds that chance reaches, measured on random spots.

The best log odds that the search finds among spots that follow no lattice is an extreme value, so its distribution is
Gumbel's. Location and scale depend on the cell, the errors and the number of spots; they are measured at the start on
lists of random spots that keep the lengths of scattering vectors and lose everything else.
"""
from typing import NamedTuple

import numpy as np

EULER = 0.5772156649015329


class Null(NamedTuple):
    """What chance reaches: Gumbel location and scale of the best log odds, at some numbers of spots."""

    n_spots: np.ndarray
    location: np.ndarray
    scale: float

    def bound(self, n, rate):
        """Log odds that chance exceeds with probability `rate` for n spots."""
        return self.at(n) - self.scale * np.log(-np.log1p(-rate))

    def at(self, n):
        """Location for n spots."""
        return float(np.interp(np.log(n), np.log(self.n_spots), self.location))

    def log10_odds(self, value, n):
        """-log10 of the probability that chance reaches `value` among n spots."""
        x = (value - self.at(n)) / self.scale
        return float(x / np.log(10) if x > 20 else -np.log10(-np.expm1(-np.exp(-x))))


def measure(best_odds, n_spots, repeats):
    """`Null` from best_odds(n, i): the best log odds of the i-th random list of n spots (-inf: nothing found)."""
    location, spread = [], []
    for n in n_spots:
        values = np.array([best_odds(n, i) for i in range(repeats)])
        values = np.maximum(values, 0.0)
        location.append(values.mean())
        spread.append(values.std(ddof=1))
    scale = max(1.0, float(np.sqrt(np.mean(np.square(spread))) * np.sqrt(6) / np.pi))
    return Null(np.array(n_spots, float), np.array(location) - EULER * scale, scale)


def on_ewald_sphere(norms, wavelength, rng):
    """(n, 3) vectors of those lengths (1/angstrom) on the Ewald sphere, at random azimuths."""
    z = -0.5 * wavelength * norms ** 2
    r = np.sqrt(np.maximum(norms ** 2 - z ** 2, 0.0))
    angle = rng.uniform(0, 2 * np.pi, len(norms))
    return np.column_stack([r * np.cos(angle), r * np.sin(angle), z])
