"""When to believe a lattice: the odds that chance reaches, measured on random spots.

The best log odds that the search finds among spots that follow no lattice is an extreme value, so its distribution is
Gumbel's. Its location depends on the cell, on the number of spots, and on the fineness, log(|q| / error of a spot),
for that says how many orientations differ; it is measured at the start on lists of random spots.
"""
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.match import FREEDOM, PEAK_DENSITY, VARIANCE

EULER = 0.5772156649015329


class Null(NamedTuple):
    """What chance reaches: Gumbel location at some log numbers of spots (m,) and two finenesses, and scale."""

    log_spots: np.ndarray       # (m,)
    fineness: np.ndarray        # (2,)
    location: np.ndarray        # (m, 2)
    scale: float

    def at(self, n, fineness):
        """Location for n spots; straight on beyond the finenesses that were measured."""
        low, high = (np.interp(np.log(n), self.log_spots, self.location[:, i]) for i in range(2))
        return float(low + (high - low) * (fineness - self.fineness[0]) / (self.fineness[1] - self.fineness[0]))

    def bound(self, n, fineness, rate):
        """Log odds that chance exceeds with probability `rate`."""
        return self.at(n, fineness) - self.scale * np.log(-np.log1p(-rate))

    def log10_odds(self, value, n, fineness):
        """-log10 of the probability that chance reaches `value`."""
        x = (value - self.at(n, fineness)) / self.scale
        return float(x / np.log(10) if x > 20 else -np.log10(-np.expm1(-np.exp(-x))))


def measure(best_odds, n_spots, finenesses, repeats):
    """`Null` from best_odds(n, fineness, i): the best log odds of the i-th random list of n spots."""
    values = np.maximum([[[best_odds(n, f, i) for i in range(repeats)] for f in finenesses] for n in n_spots], 0.0)
    scale = max(1.0, float(np.sqrt(np.mean(values.var(axis=2, ddof=1)))) * np.sqrt(6) / np.pi)
    return Null(np.log(n_spots), np.array(finenesses), values.mean(axis=2) - EULER * scale, scale)


def on_ewald_sphere(norms, wavelength, rng):
    """(n, 3) vectors of those lengths (1/angstrom) on the Ewald sphere, at random azimuths."""
    z = -0.5 * wavelength * norms ** 2
    r = np.sqrt(np.maximum(norms ** 2 - z ** 2, 0.0))
    angle = rng.uniform(0, 2 * np.pi, len(norms))
    return np.column_stack([r * np.cos(angle), r * np.sin(angle), z])


def best_possible(table, n, volume):
    """Log odds of a lattice (`volume` of its primitive cell, angstrom^3) that explains all n spots of a table, each
    with a typical error: chi square 2."""
    odds = PEAK_DENSITY / (volume * np.sqrt(np.prod(table[VARIANCE:VARIANCE + 3, :n], axis=0)))
    return float(np.sum(np.log(np.maximum(odds * (1 + 2 / FREEDOM) ** (-(FREEDOM + 3) / 2), 1.0))))
