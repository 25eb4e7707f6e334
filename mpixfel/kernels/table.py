"""From predictions and measurements to the rows of a table of reflections."""
import numpy as np
from numba import njit

from mpixfel.kernels.geometry import point_on_panel
from mpixfel.kernels.known import key, row_of
from mpixfel.kernels.likely import variance_of_none


@njit(cache=True, _nrt=False, error_model="numpy")
def between(x, abscissae, ordinates):
    """The value at x of what is linear between some points, and even beyond them."""
    at = 0
    for i in range(1, abscissae.size):    # without branches, which nobody could predict
        at += x >= abscissae[i]
    if x <= abscissae[0] or at == abscissae.size - 1:
        return ordinates[at]
    share = (x - abscissae[at]) / (abscissae[at + 1] - abscissae[at])
    return ordinates[at] + share * (ordinates[at + 1] - ordinates[at])


@njit(cache=True, _nrt=False, error_model="numpy")
def choose(spots, cut, least, least_cut, good):
    """Fill `good` with the indices of spots that were measured well enough; returns how many there are.

    cut : (n,) bool: whether a spot is saturated; least, least_cut : share of it, and of a saturated one, on good pixels
    """
    n = 0
    for i in range(cut.size):
        if (np.isfinite(spots.intensity[i]) and spots.sigma[i] > 0.0
                and spots.share[i] >= (least_cut if cut[i] else least)):
            good[n] = i
            n += 1
    return n


@njit(cache=True, _nrt=False, error_model="numpy")
def polarisation(geometry, p, fs, ss, electric, magnetic, fraction):
    """1 over the polarisation factor (Kahn et al., J. Appl. Cryst. 15 (1982) 330) of a point on the detector.

    electric, magnetic : (3,) directions of the field; fraction : of the light polarised along the first
    """
    x, y, z = point_on_panel(geometry, p, fs, ss)
    r2 = x * x + y * y + z * z
    along = (x * electric[0] + y * electric[1] + z * electric[2]) ** 2 / r2
    across = (x * magnetic[0] + y * magnetic[1] + z * magnetic[2]) ** 2 / r2
    return 1.0 / max(fraction * (1.0 - along) + (1.0 - fraction) * (1.0 - across), 1e-3)


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_rows(rows, spots, lattice, good, tally_error, tally_factor, geometry, beam, out):
    """Fill out (n,) REFLECTION, but for flags, from the spots `good` (n,).

    tally_error, tally_factor : factor on profile fits by the excitation error over its width
    beam : electric and magnetic direction, polarised fraction, see `polarisation`
    """
    for j in range(good.size):
        i, row = good[j], out[j]
        factor = between(abs(rows.excitation[i] / rows.width[i]), tally_error, tally_factor)
        row["lattice"], row["panel"] = lattice[i], rows.panel[i]
        for k in range(3):
            row["hkl"][k] = rows.hkl[i, k]
        row["intensity"], row["sigma"] = factor * spots.intensity[i], factor * spots.sigma[i]
        row["intensity_sum"], row["sigma_sum"] = spots.total[i], spots.total_sigma[i]
        row["background"], row["background_sigma"] = spots.background[i], spots.background_sigma[i]
        row["peak"], row["partiality"], row["resolution"] = spots.peak[i], rows.partiality[i], rows.resolution[i]
        row["excitation_error"], row["fs"], row["ss"] = rows.excitation[i], rows.place[i, 0], rows.place[i, 1]
        row["correction"] = polarisation(geometry, rows.panel[i], rows.place[i, 0], rows.place[i, 1], beam[0], beam[1], beam[2])


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_flags(rows, spots, lattice, good, cut, shape, limits, bits, explained, recentred, out):
    """Fill the flags of out (n,) REFLECTION.

    cut : (m,) bool of all spots: saturated; shape : (P, 2) of the panels
    limits : share of a spot that others claim from which it is flagged; widths of a spot from its panel's edge within
        which it is; share of a spot on good pixels below which some are missing
    bits : profile fitted, saturated, overlap, edge, masked, indexed peak, recentred
    explained, recentred : Known: reflections that were found as peaks; whose places had a say
    """
    fitted, saturated, overlap, edge, masked, indexed, moved = bits
    for j in range(good.size):
        i = good[j]
        found = fitted | (saturated if cut[i] else 0) | (overlap if spots.claimed[i] > limits[0] else 0)
        x, y, p = rows.place[i, 0], rows.place[i, 1], rows.panel[i]
        reach_x = limits[1] * np.sqrt(rows.shape[i, 0] + 1.0 / 12.0)
        reach_y = limits[1] * np.sqrt(rows.shape[i, 2] + 1.0 / 12.0)
        if x < reach_x or y < reach_y or x > shape[p, 1] - reach_x or y > shape[p, 0] - reach_y:
            found |= edge
        elif spots.share[i] < limits[2]:
            found |= masked
        number = key(lattice[i], rows.hkl[i, 0], rows.hkl[i, 1], rows.hkl[i, 2])
        found |= (indexed if row_of(number, explained) >= 0 else 0) | (moved if row_of(number, recentred) >= 0 else 0)
        out[j]["flags"] = found


@njit(cache=True, _nrt=False, error_model="numpy")
def fill_variances(own, out):
    """Fill out (n,) with `likely.variance_of_none` of REFLECTION rows."""
    for i in range(out.size):
        out[i] = variance_of_none(own[i]["intensity"], own[i]["sigma"])


@njit(cache=True, _nrt=False, error_model="numpy")
def significance(own, enough, saturated, usual):
    """How many standard errors the summed signal of REFLECTION rows stands above nothing, see `stages.quality`.

    enough : errors of its own that one counts for at most; saturated : bit of the flags; usual : greatest variance of those
    """
    total, weights = 0.0, 0.0
    for i in range(own.size):
        variance = variance_of_none(own[i]["intensity"], own[i]["sigma"])
        if own[i]["flags"] & saturated:
            variance = min(variance, usual)
        error = np.sqrt(variance)
        weight = own[i]["partiality"] / error
        total += weight * min(own[i]["intensity"] / error, enough)
        weights += weight * weight
    return total / np.sqrt(weights)


@njit(cache=True, _nrt=False, error_model="numpy")
def seen_fraction(own, expected, expected_sigmas, seen_sigmas):
    """Share of the REFLECTION rows `expected` (n,) photons to stand so many sigma high that do so many; NaN where none is
    expected to."""
    strong, seen = 0, 0
    for i in range(own.size):
        noise2 = variance_of_none(own[i]["intensity"], own[i]["sigma"]) + expected[i]
        if expected[i] > expected_sigmas * np.sqrt(noise2):
            strong += 1
            seen += own[i]["intensity"] > seen_sigmas * own[i]["sigma"]
    return seen / strong if strong > 0 else np.nan


@njit(cache=True, _nrt=False, error_model="numpy")
def relieve(rows, n, resolution, by_resolution, error, by_error):
    """Multiply what the first n predictions expect by a `stages.relief.Relief`."""
    for i in range(n):
        rows.expected[i] *= (between(rows.resolution[i], resolution, by_resolution)
                             * between(abs(rows.excitation[i] / rows.width[i]), error, by_error))
