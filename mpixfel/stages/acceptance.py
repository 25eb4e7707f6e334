"""When to believe a lattice: the odds that chance reaches, measured on random spots and on spots of other lattices.

The best log odds that the search finds among spots that follow no lattice is an extreme value, so its distribution is
Gumbel's. Its location depends on the cell, on the number of spots, and on the fineness, log(|q| / error of a spot),
for that says how many orientations differ; it is measured at the start on lists of random spots.

Spots of some other lattice lie in planes and rows, and many of them are matched better than random ones. What a cell
reaches among these is measured, too: between the two bounds, a pattern is asked what cell it would prefer.
"""
import bisect
import math
from typing import NamedTuple

import numpy as np

from mpixfel.kernels.match import FREEDOM, PEAK_DENSITY, VARIANCE
from mpixfel.model.crystal import UnitCell

EULER = 0.5772156649015329
FEW = np.log(10)            # up to so many spots, other lattices are as good as random
OTHER_RATE = 0.005          # of other lattices that reach their bound


class Null(NamedTuple):
    """What chance reaches: Gumbel location at some log numbers of spots (m,) and two finenesses, and scale; location
    and scale for spots of other lattices."""

    log_spots: np.ndarray       # (m,)
    fineness: np.ndarray        # (2,)
    location: np.ndarray        # (m, 2)
    scale: float
    other_log_spots: float
    other_location: float
    other_scale: float

    def at(self, n, fineness):
        """Location for n random spots; straight on beyond the finenesses that were measured."""
        x, places = math.log(n), self.log_spots
        i = min(max(bisect.bisect_right(places, x) - 1, 0), len(places) - 2)
        share = min(max((x - places[i]) / (places[i + 1] - places[i]), 0.0), 1.0)
        low, high = self.location[i] + share * (self.location[i + 1] - self.location[i])
        return float(low + (high - low) * (fineness - self.fineness[0]) / (self.fineness[1] - self.fineness[0]))

    def bound(self, n, fineness, rate):
        """Log odds that random spots exceed with probability `rate`."""
        return self.at(n, fineness) - self.scale * np.log(-np.log1p(-rate))

    def bound_of_others(self, n, fineness, rate):
        """Log odds that spots of other lattices exceed with probability `OTHER_RATE`, at least `bound`."""
        bound = self.bound(n, fineness, rate)
        other = self.other_location - self.other_scale * np.log(-np.log1p(-OTHER_RATE))
        slope = max(0.0, other - bound) / (self.other_log_spots - FEW)
        return float(bound + slope * max(0.0, np.log(n) - FEW))

    def log10_odds(self, value, n, fineness):
        """-log10 of the probability that random spots reach `value`."""
        x = (value - self.at(n, fineness)) / self.scale
        return float(x / np.log(10) if x > 20 else -np.log10(-np.expm1(-np.exp(-x))))


def measure(best_odds, n_spots, finenesses, repeats, other_odds):
    """`Null` from best_odds(n, fineness, i), the best log odds of the i-th random list of n spots, and other_odds(i),
    (number of spots, best log odds) of the i-th list from another lattice."""
    values = np.maximum([[[best_odds(n, f, i) for i in range(repeats)] for f in finenesses] for n in n_spots], 0.0)
    # The scale of the number of spots with the larger one; both it and the location by what they may be more, for few
    # lists are measured: a standard error (of a Gumbel distribution's spread, 1.05 / sqrt(n)).
    spread = np.sqrt(values.var(axis=2, ddof=1).mean(axis=1).max())
    scale = max(1.0, float(spread) * np.sqrt(6) / np.pi * (1 + 1.05 / np.sqrt(len(finenesses) * repeats)))
    others = np.array([other_odds(i) for i in range(repeats)])
    other_scale = max(scale, float(others[:, 1].std(ddof=1)) * np.sqrt(6) / np.pi)
    return Null(np.log(n_spots), np.array(finenesses), values.mean(axis=2) - EULER * scale + spread / np.sqrt(repeats), scale,
                max(float(np.mean(np.log(others[:, 0]))), FEW + 0.5), float(others[:, 1].mean() - EULER * other_scale),
                other_scale)


def on_ewald_sphere(norms, wavelength, rng):
    """(n, 3) vectors of those lengths (1/angstrom) on the Ewald sphere, at random azimuths."""
    z = -0.5 * wavelength * norms ** 2
    r = np.sqrt(np.maximum(norms ** 2 - z ** 2, 0.0))
    angle = rng.uniform(0, 2 * np.pi, len(norms))
    return np.column_stack([r * np.cos(angle), r * np.sin(angle), z])


def of_a_lattice(n, volume, reach, wavelength, radius, rng):
    """At most n vectors within `reach` (1/angstrom) on the Ewald sphere, of a random lattice of about that volume.

    volume in angstrom^3; radius: distance from the sphere, one standard deviation, within which points give spots.
    """
    size = (volume * np.exp(rng.uniform(-0.5, 0.5))) ** (1 / 3)
    lengths, angles = size * np.exp(rng.normal(0, 0.3, 3)), rng.uniform(75, 110, 3)
    axes = UnitCell(*lengths, *angles).reciprocal_axes() @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    # Per row of points along the third axis only those near the sphere are looked at.
    spans = np.ceil(reach * np.linalg.norm(np.linalg.inv(axes), axis=0)).astype(int)
    near = []
    for h in range(-spans[0], spans[0] + 1):
        k, l = np.meshgrid(np.arange(-spans[1], spans[1] + 1), np.arange(-spans[2], spans[2] + 1))
        q = h * axes[0] + k.reshape(-1, 1) * axes[1] + l.reshape(-1, 1) * axes[2]
        ray = q + [0.0, 0.0, 1 / wavelength]
        error = np.linalg.norm(ray, axis=1) - 1 / wavelength
        good = (np.abs(error) < radius) & (np.linalg.norm(q, axis=1) < reach) & (np.linalg.norm(q, axis=1) > 0.01)
        near.append(ray[good])
    ray = np.concatenate(near)
    ray = ray[rng.permutation(len(ray))[:n]]
    return ray / np.linalg.norm(ray, axis=1, keepdims=True) / wavelength - [0.0, 0.0, 1 / wavelength]


def best_possible(table, n, volume):
    """Log odds of a lattice (`volume` of its primitive cell, angstrom^3) that explains all n spots of a table, each
    with a typical error: chi square 2."""
    v1, v2, v3 = table[VARIANCE:VARIANCE + 3, :n]
    least = (volume / PEAK_DENSITY * (1 + 2 / FREEDOM) ** ((FREEDOM + 3) / 2)) ** 2
    return -0.5 * float(np.log(np.minimum(v1 * v2 * v3 * least, 1.0)).sum())
