"""From measured spots to the table of reflections: flags, corrections."""
import numpy as np
from scipy.spatial import cKDTree

from mpixfel.kernels.known import fill_keys, known
from mpixfel.kernels.table import choose, fill_flags, fill_rows
from mpixfel.model.tables import REFLECTION, Flag

NEAR_SATURATION_PIXELS = 2.5
SATURATED_SHARE = 0.05    # of a saturated spot must lie on other pixels: even its outskirts say that it is strong
MUCH = 0.05       # share of a spot that others claim from which it is flagged
EDGE_SIGMAS = 3.0  # widths of a spot from the edge of its panel within which it is flagged
WHOLE = 0.95      # share of a spot's light on good pixels below which pixels are missing
BITS = (Flag.profile_fitted, Flag.saturated, Flag.overlap, Flag.edge, Flag.masked, Flag.indexed_peak, Flag.recentred)


def reflection_table(seen, image, shot, peaks, beam, tally, min_share, recentred):
    """(REFLECTION table, sorted by lattice, of the spots that were measured well enough, (n,) photons expected of each).

    recentred : `keys`
    """
    rows, spots, n = seen.rows, seen.measured, len(seen.lattice)
    cut, good = near_saturation(rows, image), np.empty(n, np.int64)
    good = good[:choose(spots, cut, min_share, SATURATED_SHARE, good)]
    out = np.zeros(len(good), REFLECTION)
    expected = rows.expected.take(good)
    if not len(good):
        return out, expected
    fill_rows(rows, spots, seen.lattice, good, tally.error, tally.factor, shot.geometry, polarised(beam), out)
    own = peaks["lattice"] >= 0
    explained = keys(peaks["lattice"][own], peaks["hkl"][own])
    limits = (MUCH, EDGE_SIGMAS, WHOLE)
    fill_flags(rows, spots, seen.lattice, good, cut, shot.geometry.shape, limits, BITS, known(explained),
               known(recentred), out)
    return out, expected


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


def polarised(beam):
    """(direction of the electric field, of the magnetic one, share of the light polarised so) of a `Beam`.

    All photons of a spot are counted, whatever angle its pixels fill, and a still has no Lorentz factor: both are 1.
    """
    electric = np.asarray(beam.polarisation_axis, float)
    electric = electric / np.linalg.norm(electric)
    return electric, np.array([-electric[1], electric[0], 0.0]), float(beam.polarisation_fraction)   # along beam x electric
