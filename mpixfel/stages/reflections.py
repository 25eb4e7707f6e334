"""From measured spots to the table of reflections: flags, corrections."""
import numpy as np
from scipy.spatial import cKDTree

from mpixfel.kernels.geometry import scattering_vectors
from mpixfel.kernels.predict import fill_among, fill_keys
from mpixfel.model.tables import REFLECTION, Flag

NEAR_SATURATION_PIXELS = 2.5
SATURATED_SHARE = 0.05    # of a saturated spot must lie on other pixels: even its outskirts say that it is strong
MUCH = 0.05       # share of a spot that others claim from which it is flagged
EDGE_SIGMAS = 3.0  # widths of a spot from the edge of its panel within which it is flagged
WHOLE = 0.93      # share of a usual spot's foreground below which pixels are missing

ROWS = {"hkl", "panel", "place", "shape", "excitation", "width", "partiality", "resolution"}    # of `Predictions`
SPOTS = {"intensity", "sigma", "total", "total_sigma", "background", "background_sigma", "peak", "share",
         "claimed"}    # and of `Spots`, that a table needs


def reflection_table(seen, image, shot, peaks, beam, tally, min_share, recentred):
    """REFLECTION table, sorted by lattice, of the spots that were measured well enough; `recentred`: sorted `keys`."""
    cut = near_saturation(seen.rows, image)
    good = np.flatnonzero(np.isfinite(seen.measured.intensity) & (seen.measured.sigma > 0)
                          & (seen.measured.share >= np.where(cut, SATURATED_SHARE, min_share)))
    rows, spots = chosen(seen.rows, ROWS, good), chosen(seen.measured, SPOTS, good)
    factor = tally(rows.excitation / rows.width)
    out = np.zeros(len(good), REFLECTION)
    for name, column in (("intensity", spots.intensity * factor), ("sigma", spots.sigma * factor),
                         ("intensity_sum", spots.total), ("sigma_sum", spots.total_sigma),
                         ("background", spots.background), ("background_sigma", spots.background_sigma),
                         ("peak", spots.peak), ("hkl", rows.hkl), ("panel", rows.panel), ("partiality", rows.partiality),
                         ("excitation_error", rows.excitation), ("resolution", rows.resolution),
                         ("lattice", seen.lattice[good]), ("fs", rows.place[:, 0]), ("ss", rows.place[:, 1])):
        out[name] = column
    out["correction"] = polarisation_factor(out, shot, beam)
    out["flags"] = flags(rows, spots, seen.lattice[good], shot, peaks, recentred)
    out["flags"][cut[good]] |= Flag.saturated
    return out


def chosen(table, names, good):
    """A NamedTuple of arrays with those named cut to the rows `good`, and nothing in place of the others."""
    return type(table)(*(column.take(good, axis=0) if name in names else None for name, column in table._asdict().items()))


def flags(rows, spots, lattice, shot, peaks, recentred):
    """(n,) uint16 bit fields, but for saturation."""
    bits = np.full(len(lattice), Flag.profile_fitted, np.uint16)
    if not len(bits):
        return bits
    bits[spots.claimed > MUCH] |= Flag.overlap
    extent = EDGE_SIGMAS * np.sqrt(rows.shape[:, [0, 2]] + 1.0 / 12.0)
    size = shot.geometry.shape[rows.panel][:, ::-1]
    edge = ((rows.place < extent) | (rows.place > size - extent)).any(axis=1)
    bits[edge] |= Flag.edge
    bits[~edge & (spots.share < WHOLE * np.median(spots.share))] |= Flag.masked
    own, explained = keys(lattice, rows.hkl), peaks["lattice"] >= 0
    bits[among(own, np.sort(keys(peaks["lattice"][explained], peaks["hkl"][explained])))] |= Flag.indexed_peak
    bits[among(own, recentred)] |= Flag.recentred
    return bits


def among(numbers, known):
    """(n,) bool: which numbers are in the sorted array `known`."""
    out = np.empty(len(numbers), bool)
    fill_among(numbers, known, out)
    return out


def keys(lattice, hkl):
    """(n,) int64: one number for each lattice and reflection."""
    out = np.empty(len(hkl), np.int64)
    fill_keys(np.ascontiguousarray(lattice, np.int64), np.ascontiguousarray(hkl, np.int16), out)
    return out


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
    magnetic = np.array([-electric[1], electric[0], 0.0])   # along the beam x electric
    share = beam.polarisation_fraction
    return 1.0 / np.maximum(share * (1 - (q @ electric) ** 2) + (1 - share) * (1 - (q @ magnetic) ** 2), 1e-3)
