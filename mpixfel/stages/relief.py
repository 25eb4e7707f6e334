"""How the mean intensity of a run's reflections departs from the simplest expectation.

Expected are exp(log scale - B / (2 d^2)) x excited density photons. Real crystals have more at some resolutions than at
others (solvent, secondary structure), and the model of the excitation is not perfect in its far wings. Both departures
are common to the shots of a run: two smooth factors, one of the resolution, one of the excitation error over its width,
learnt from the first lattices and then applied to all. Crystals whose blocks have no sharp faces have no tails at all: that
is learnt, too, and changes the shape of their spots.
"""
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import gamma

from mpixfel.kernels.spots import ellipses, excited_all
from mpixfel.model.tables import Flag
from mpixfel.stages.spread import known_tail, spread_of
from mpixfel.units import wavelength_angstrom

N_RESOLUTION = 12
ERROR_EDGES = np.array([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0])   # excitation error / its width
FEWEST = 30            # reflections that a factor rests on
BRIGHTEST = 7.0        # intensities count as at most this many times their mean
LOWEST = 0.02
TAIL_ERRORS = (4.0, 6.0)    # excitation errors over their widths at which there is little but tails
NO_BALLS = 0.4              # of the light of balls there, with three errors: less, and the blocks are none
TYPICAL_SCATTER, SCATTER_LIMITS = 1.5, (1.0, 4.0)
TALLY_EDGES = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0, 15.0])


class Relief(NamedTuple):
    """Factors on expected intensities, to be interpolated between their abscissae."""

    resolution: np.ndarray        # (n,) 1/angstrom
    by_resolution: np.ndarray     # (n,)
    error: np.ndarray             # (m,) excitation error over its standard deviation in the model
    by_error: np.ndarray          # (m,)

    def __call__(self, resolution, error):
        """(n,) factors for resolutions (1/angstrom) and excitation errors over their widths."""
        return (np.interp(resolution, self.resolution, self.by_resolution)
                * np.interp(np.abs(error), self.error, self.by_error))


class Tally(NamedTuple):
    """Factors by which profile fits are multiplied, to be interpolated: what summation finds over what they find.

    A profile that is a little too narrow or too wide errs by some per cent in the same direction wherever a spot has
    the same shape, which is where its excitation error over its width is the same.
    """

    error: np.ndarray     # (n,) excitation error over its standard deviation in the model
    factor: np.ndarray    # (n,)

    def __call__(self, error):
        """(n,) factors for excitation errors over their widths."""
        return np.interp(np.abs(error), self.error, self.factor)


EVEN = Tally(np.array([0.0, 1.0]), np.ones(2))
FLAT = Relief(np.array([0.0, 1.0]), np.ones(2), np.array([0.0, 1.0]), np.ones(2))


def known_relief(context):
    """`Relief` of the run as far as it has been learnt."""
    extra = context.learnt.extra
    names = [f"relief_{name}" for name in Relief._fields]
    return Relief(*(extra[name] for name in names)) if all(name in extra for name in names) else FLAT


def known_shape(context):
    """Shape of the Weibull distribution whose variance, in squared means, is that of the run's intensities."""
    scatter = float(context.learnt.extra.get("scatter", TYPICAL_SCATTER))
    excess = lambda shape: gamma(1.0 + 2.0 / shape) / gamma(1.0 + 1.0 / shape) ** 2 - 1.0 - scatter
    return float(brentq(excess, 0.4, 1.2))


def known_tally(context):
    """`Tally` of the run as far as it has been learnt."""
    extra = context.learnt.extra
    return Tally(extra["tally_error"], extra["tally_factor"]) if "tally_error" in extra else EVEN


def expected_photons(tables, context):
    """(n,) photons that each reflection of the tables should show in the mean, before any `Relief`; (n,) widths."""
    lattices, reflections = tables.lattices, tables.reflections
    mean, width = np.zeros(len(reflections)), np.ones(len(reflections))
    for i, row in enumerate(lattices):
        own = np.flatnonzero(reflections["lattice"] == i)
        k0 = 1.0 / wavelength_angstrom(tables.events["photon_energy"][row["event"]])
        spread = spread_of(row["domain_size"], row["half_mosaicity"], row["bandwidth"], context.beam.divergence_rad,
                           known_tail(context))
        q = reflections["hkl"][own].astype(float) @ row["reciprocal_axes"]
        scale = row["overall_scale"] / density_at_origin(spread)
        mean[own] = scale * np.exp(-0.5 * row["b_factor"] * np.sum(q * q, axis=1)) * excited_all(q, k0, spread)
        width[own] = np.sqrt(ellipses(q, k0, spread)[1])
    return mean, width


def density_at_origin(spread):
    """Excited density of a reflection on the sphere at very low resolution: makes a scale into photons."""
    return float(excited_all(np.array([[1e-6, 0.0, 0.0]]), 1.0, spread)[0])


def learn_relief(tables, context):
    """{name: array} of a `Relief` from the reflections of a run's first lattices; empty where there are too few."""
    rows = tables.reflections
    mean, width = expected_photons(tables, context)
    use = _clean(rows) & (mean > 0) & np.isfinite(rows["intensity"])
    if use.sum() < 10 * FEWEST:
        return {}
    mean, sigma = mean[use], rows["sigma"][use].astype(float)
    seen = capped(rows["intensity"][use], mean, sigma)
    resolution, error = rows["resolution"][use].astype(float), np.abs(rows["excitation_error"][use]) / width[use]
    edges = np.quantile(resolution, np.linspace(0, 1, N_RESOLUTION + 1))
    near = error < 2.0
    radial = _factors(resolution[near], edges, seen[near], mean[near], sigma[near])
    across = _factors(error, ERROR_EDGES, *(seen, mean * np.interp(resolution, *radial), sigma))
    found = Relief(*radial, across[0], across[1] / across[1][0])
    mean = mean * found(resolution, error)
    return {**{f"relief_{name}": table for name, table in found._asdict().items()},
            "scatter": np.array(_scatter(rows["intensity"][use].astype(float), sigma, mean))}


def learn_tail(tables, context):
    """Weight of the tails over that of balls: 1, unless what is seen where there is nothing else speaks against balls.

    Real tails of balls go up and down and are smoothed by mosaicity: half or twice as much as the model has is no surprise.
    """
    rows, known = tables.reflections, known_tail(context)
    mean, width = expected_photons(tables, context)
    error, use = np.abs(rows["excitation_error"]) / width, _clean(rows) & (mean > 0) & np.isfinite(rows["intensity"])
    near, far = use & (error < 1.5), use & (error >= TAIL_ERRORS[0]) & (error < TAIL_ERRORS[1])
    if min(near.sum(), far.sum()) < FEWEST:
        return known
    sigma = rows["sigma"].astype(float)
    seen = capped(rows["intensity"], mean, sigma)
    scale, _ = mean_ratio(seen[near], mean[near], sigma[near])
    share, its_error = mean_ratio(seen[far], mean[far], sigma[far])
    most = known * max(share + 3.0 * its_error, 0.1 * scale) / scale
    return most if most < NO_BALLS else 1.0


def capped(intensity, mean, sigma):
    """(n,) intensities, none of which outweighs many others."""
    return np.minimum(intensity, BRIGHTEST * mean + 3.0 * sigma)


def mean_ratio(seen, mean, sigma):
    """(measured over expected intensity, each reflection weighted by 1 / (mean^2 + sigma^2), its error)."""
    weight = mean / (mean ** 2 + sigma ** 2)
    whole = np.sum(weight * mean)
    return float(np.sum(weight * seen) / whole), float(np.sqrt(np.sum(weight * mean)) / whole)


def _scatter(intensity, sigma, mean):
    """Variance of intensities about their means in squared means, the noise taken off: 1 for Wilson's distribution."""
    bright = mean > 2.0 * np.median(sigma)
    if bright.sum() < FEWEST:
        return TYPICAL_SCATTER
    ratio, noise = intensity[bright] / mean[bright], sigma[bright] / mean[bright]
    return float(np.clip(np.mean((ratio - 1.0) ** 2 - noise ** 2), *SCATTER_LIMITS))


def learn_tally(tables, context):
    """{name: array} of a `Tally` from the reflections of a run's first lattices; empty where there are too few.

    Each range's ratio counts for what it differs from one by more than two errors of its own. Reflections count by what
    is expected of them, not by what was found, or the luckier of the two measurements would count for more.
    """
    rows = tables.reflections
    mean, width = expected_photons(tables, context)
    use = (_clean(rows) & (mean > 0) & np.isfinite(rows["intensity"]) & np.isfinite(rows["intensity_sum"])
           & ((rows["flags"] & Flag.profile_fitted) > 0))
    if use.sum() < 10 * FEWEST:
        return {}
    rows, mean, error = rows[use], mean[use], np.abs(rows["excitation_error"][use]) / width[use]
    before = known_tally(context)
    weight = mean / (rows["sigma_sum"].astype(float) ** 2 + mean)
    noise2 = np.maximum(rows["sigma_sum"].astype(float) ** 2 - rows["sigma"].astype(float) ** 2, 0.0)
    where, factors = [], []
    for low, high in zip(TALLY_EDGES[:-1], TALLY_EDGES[1:]):
        own = (error >= low) & (error < high)
        if own.sum() < FEWEST:
            continue
        bottom = np.sum(weight[own] * rows["intensity"][own])
        ratio, sigma = np.sum(weight[own] * rows["intensity_sum"][own]) / bottom, np.sqrt(np.sum((weight ** 2 * noise2)[own]))
        where.append(float(np.mean(error[own])))
        excess = before(where[-1:])[0] * ratio - 1.0
        factors.append(1.0 + np.sign(excess) * max(abs(excess) - 2.0 * sigma / bottom, 0.0))
    return {"tally_error": np.array(where), "tally_factor": np.clip(factors, 0.5, 2.0)} if where else {}


def _clean(rows):
    return (rows["flags"] & (Flag.saturated | Flag.overlap | Flag.edge | Flag.masked)) == 0


def _factors(abscissa, edges, seen, mean, sigma):
    """(abscissae, factors): `mean_ratio` of what was measured to what was expected between edges."""
    where, factors = [], []
    for low, high in zip(edges[:-1], edges[1:]):
        own = (abscissa >= low) & (abscissa <= high)
        if own.sum() >= FEWEST:
            where.append(float(np.mean(abscissa[own])))
            factors.append(max(mean_ratio(seen[own], mean[own], sigma[own])[0], LOWEST))
    return (np.array(where), np.array(factors)) if where else (np.array([0.0, 1.0]), np.ones(2))
