"""The model of crystal and beam in the units of the kernels."""
import numpy as np

from mpixfel.kernels.spots import Spread

FWHM = 2.3548200450309493        # full width at half maximum of a normal distribution of unit sigma
# A ball of diameter D scatters as (3 j1(x) / x)^2, x = pi D q. Its cut by planes, smoothed a little, is followed best
# by 0.6 of a normal distribution of variance 1.75 and 0.4 of a Cauchy distribution of half width 1.95, in x. The size
# of a domain is the edge of the cube of the ball's volume.
BALL = (6.0 / np.pi) ** (1.0 / 3.0)
DOMAIN_VARIANCE = 1.75 / (np.pi * BALL) ** 2
TAIL_RADIUS = 1.95 / (np.pi * BALL)
TAIL_WEIGHT = 0.4
# Within the half mosaicity lie 95 % of the orientations about any one axis: two standard deviations.
MOSAIC_VARIANCE = 1.0 / 4.0
TYPICAL_DOMAIN_ANGSTROM = 1000.0
TYPICAL_HALF_MOSAICITY_DEG = 0.1
TYPICAL_BANDWIDTH = 1e-3
UNKNOWN = 1.0            # standard deviation of the logarithm of a width that the run has not learnt
BROAD = 0.01             # bandwidth from which a spectrum is flat
TAIL = "tail"            # name in Learnt.extra of the weight of tails over that of balls


def spread_of(domain_size_angstrom, half_mosaicity_deg, bandwidth_fwhm, divergence_rad=0.0, tail=1.0):
    """`Spread` of a domain size, half mosaicity, bandwidth and divergence (full widths at half maximum).

    tail : weight of the tails over that of balls

    A bandwidth above `BROAD` is what mirrors or multilayers let through: a top hat; below it is taken as Gaussian.
    """
    flat = 0.5 * bandwidth_fwhm if bandwidth_fwhm > BROAD else 0.0
    return Spread(DOMAIN_VARIANCE / domain_size_angstrom ** 2,
                  MOSAIC_VARIANCE * np.radians(half_mosaicity_deg) ** 2,
                  flat ** 2 / 3.0 if flat else (bandwidth_fwhm / FWHM) ** 2, flat, (divergence_rad / FWHM) ** 2,
                  tail * TAIL_WEIGHT * TAIL_RADIUS / domain_size_angstrom, TAIL_RADIUS / domain_size_angstrom)


def known_spread(context):
    """`Spread` as far as the run knows it; what it does not know is typical."""
    learnt = context.learnt
    known = lambda value, typical: value if np.isfinite(value) and value > 0 else typical
    return spread_of(known(learnt.domain_size_angstrom, TYPICAL_DOMAIN_ANGSTROM),
                     known(learnt.half_mosaicity_deg, TYPICAL_HALF_MOSAICITY_DEG),
                     known(learnt.bandwidth_fwhm, known(context.beam.bandwidth_fwhm, TYPICAL_BANDWIDTH)),
                     context.beam.divergence_rad, known_tail(context))


def known_tail(context):
    """Weight of the tails over that of balls, as far as the run has learnt it."""
    return float(context.learnt.extra.get(TAIL, 1.0))


def width_prior(context):
    """(3,) how far the logarithms of a shot's domain size, mosaicity and bandwidth may be from `known_spread`."""
    return np.asarray(context.learnt.extra.get("width_sigma", (UNKNOWN,) * 3), float)


def describe(spread):
    """(domain size in angstrom, half mosaicity in degrees, bandwidth as relative full width) of a `Spread`."""
    return (np.sqrt(DOMAIN_VARIANCE / spread.domain), np.degrees(np.sqrt(spread.mosaic / MOSAIC_VARIANCE)),
            2.0 * spread.flat or FWHM * np.sqrt(spread.bandwidth))
