"""From measured spots to the table of reflections: flags, corrections."""
import numpy as np
from scipy.spatial import cKDTree

from mpixfel.kernels.geometry import scattering_vectors
from mpixfel.model.tables import REFLECTION, Flag

NEAR_SATURATION_PIXELS = 2.5
SATURATED_SHARE = 0.05    # of a saturated spot must lie on other pixels: even its outskirts say that it is strong
MUCH = 0.05       # share of a spot that others claim from which it is flagged
EDGE_SIGMAS = 3.0  # widths of a spot from the edge of its panel within which it is flagged
WHOLE = 0.93      # share of a usual spot's foreground below which pixels are missing


def reflection_table(seen, image, shot, peaks, beam, tally, min_share):
    """REFLECTION table, sorted by lattice, of the spots that were measured well enough."""
    rows, spots = seen.rows, seen.measured
    cut = near_saturation(rows, image)
    good = np.isfinite(spots.intensity) & (spots.share >= np.where(cut, SATURATED_SHARE, min_share)) & (spots.sigma > 0)
    out = np.zeros(good.sum(), REFLECTION)
    for name, column in (("intensity", spots.intensity), ("sigma", spots.sigma), ("intensity_sum", spots.total),
                         ("sigma_sum", spots.total_sigma), ("background", spots.background),
                         ("background_sigma", spots.background_sigma), ("peak", spots.peak), ("hkl", rows.hkl),
                         ("panel", rows.panel), ("partiality", rows.partiality),
                         ("excitation_error", rows.excitation), ("resolution", rows.resolution),
                         ("lattice", seen.lattice)):
        out[name] = column[good]
    factor = tally(rows.excitation[good] / rows.width[good])
    out["intensity"] *= factor
    out["sigma"] *= factor
    out["fs"], out["ss"] = rows.place[good].T
    out["correction"] = polarisation_factor(out, shot, beam)
    out["flags"] = flags(out, spots, rows, good, shot, peaks)
    out["flags"][cut[good]] |= Flag.saturated
    return out


def flags(table, spots, rows, good, shot, peaks):
    """(n,) uint16 bit fields, but for saturation."""
    bits = np.full(len(table), Flag.profile_fitted, np.uint16)
    bits[spots.claimed[good] > MUCH] |= Flag.overlap
    extent = EDGE_SIGMAS * np.sqrt(rows.shape[good][:, [0, 2]] + 1.0 / 12.0)
    size = shot.geometry.shape[table["panel"]]
    edge = ((table["fs"] < extent[:, 0]) | (table["fs"] > size[:, 1] - extent[:, 0])
            | (table["ss"] < extent[:, 1]) | (table["ss"] > size[:, 0] - extent[:, 1]))
    bits[edge] |= Flag.edge
    bits[~edge & (spots.share[good] < WHOLE * np.median(spots.share[good]) if len(table) else edge)] |= Flag.masked
    explained = peaks["lattice"] >= 0
    found = keys(peaks["lattice"][explained], peaks["hkl"][explained])
    bits[np.isin(keys(table["lattice"], table["hkl"]), found)] |= Flag.indexed_peak
    return bits


def keys(lattice, hkl):
    """(n,) int64: one number for each lattice and reflection."""
    h, k, l = (hkl.astype(np.int64) + (1 << 15)).T
    return (lattice.astype(np.int64) << 48) | (h << 32) | (k << 16) | l


def near_saturation(rows, image):
    """(n,) bool: predicted spots with a saturated pixel near their centre."""
    if not len(image.saturated) or not len(rows.panel):
        return np.zeros(len(rows.panel), bool)
    panel, ss, fs = np.unravel_index(image.saturated, image.photons.shape)
    apart = 2 * max(image.photons.shape)   # panels side by side, with room between them
    tree = cKDTree(np.column_stack([fs + 0.5 + apart * panel, ss + 0.5]))
    places = rows.place + np.column_stack([apart * rows.panel, np.zeros(len(rows.panel))])
    return np.isfinite(tree.query(places, p=np.inf, distance_upper_bound=NEAR_SATURATION_PIXELS)[0])


def polarisation_factor(table, shot, beam):
    """(n,) 1 over the polarisation factor (Kahn et al., J. Appl. Cryst. 15 (1982) 330).

    All photons of a spot are counted, whatever angle its pixels fill, and a still has no Lorentz factor: both are 1.
    """
    q = scattering_vectors(shot.geometry, table["panel"], table["fs"], table["ss"], 1.0)
    q[:, 2] += 1.0
    electric = np.asarray(beam.polarisation_axis, float)
    electric = electric / np.linalg.norm(electric)
    magnetic = np.cross([0.0, 0.0, 1.0], electric)
    share = beam.polarisation_fraction
    return 1.0 / np.maximum(share * (1 - (q @ electric) ** 2) + (1 - share) * (1 - (q @ magnetic) ** 2), 1e-3)
