"""Which summits stand out of all that may look like a peak, and the rows of those that are kept."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.geometry import length_of_q
from mpixfel.kernels.tail import reach

POWDER = 1.0         # a ring this many standard deviations (of a pixel) bright all around is left out
LEAK = 0.05          # what a true spot gives to the eight pixels around its largest, at the very least
FEW = 16             # background pixels, at least, that a peak's own background counts as


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def stands_out(row, variance, excess, quantum, ring, usual, tails):
    """Whether a SUMMIT row stands above its own background, above every line through it, and in more than one pixel.

    variance, excess : per pixel, of its box; and its own background above that of the box
    ring : what a ring of powder adds there, standard deviations
    usual : (2,) what is usual along the edges of the panels, see `kernels.edges`
    tails : tables of how far chance reaches: sums, sums on a line, the pixels around the largest
    """
    # Where the own background is brighter than that of the box, so is its noise.
    variance = max(variance + quantum * max(excess, 0.0), usual[1])
    powder = 1.5 * ring * np.sqrt(variance)
    rise = max(max(row["level"], usual[0]) - row["background"], powder)
    line = 9.0 * rise + reach(tails[1], 9.0 * (variance + quantum * rise), quantum)
    others = row["core"] - row["core_max"]
    chance = 8.0 * powder + reach(tails[2], 8.0 * (variance + quantum * powder), quantum)
    single = others < chance or others < LEAK * row["core_max"]
    return row["core"] > reach(tails[0], 9.0 * variance, quantum) and row["core"] > line and not single


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def compact(row, max_pixels, max_extent):
    """Whether a SUMMIT row has neither too many pixels nor is too long, pixels."""
    half = 0.5 * (row["mss"] + row["mff"])
    longer = half + np.sqrt((0.5 * (row["mss"] - row["mff"])) ** 2 + row["msf"] * row["msf"])
    return row["n_pixels"] <= max_pixels and longer <= max_extent * max_extent and row["intensity"] > 0.0


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def choose(summits, mean, variance, quantum, usual, rings, radius, width, tails, max_pixels, max_extent, keep):
    """Fill keep (n,) bool: which summits may be peaks.

    Parameters
    ----------
    summits : (n,) SUMMIT
    mean, variance : (B,) float32, background of the boxes
    usual : (n, 2) see `kernels.edges`
    rings : (m,) what rings of powder add to the background, standard deviations
    radius : (n,) of each summit, pixels; rings are `width` wide
    tails : (3, 481) see `stands_out`
    """
    for i in range(summits.size):
        row = summits[i]
        ring = rings[min(int(radius[i] / width), rings.size - 1)]
        keep[i] = ring < POWDER and compact(row, max_pixels, max_extent) and stands_out(
            row, variance[row["box"]], row["background"] - mean[row["box"]], quantum, ring, usual[i], tails)


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def fill_peaks(summits, variance, quantum, geometry, k0, out):
    """Fill out (n,) PEAK from SUMMIT rows; pixel centres become whole numbers plus a half.

    variance : (B,) of the background of boxes; geometry : `PanelGeometry`; k0 = 1 / wavelength
    """
    for i in range(out.size):
        row, peak = summits[i], out[i]
        noise, n, p = variance[row["box"]], row["n_pixels"], row["panel"]
        peak["panel"], peak["n_pixels"], peak["lattice"] = p, n, -1
        peak["ss"], peak["fs"] = row["s"] + row["ds"] + 0.5, row["f"] + row["df"] + 0.5
        peak["intensity"], peak["background"], peak["max_pixel"] = row["intensity"], row["background"], row["max_pixel"]
        peak["sigma"] = np.sqrt(n * noise * (1.0 + n / max(row["n_background"], FEW)) + quantum * max(row["intensity"], 0.0))
        peak["snr"] = row["core"] / np.sqrt(max(row["core_pixels"] * noise, 1e-12))
        peak["resolution"] = length_of_q(geometry, p, peak["fs"], peak["ss"], k0)
