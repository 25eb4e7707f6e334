"""DISTL's screens and LABELIT's heuristics: from all spots to those that are good to index.

Each list is part of the one before: spots_total, spots_non-ice (0.4 mm from ice rings of pixels),
hi_pass_resolution_spots (beyond 50 angstrom), ice_free_resolution_spots (off rings of many spots), spots_resolution (within the method-2 limit),
spots_unimodal (few maxima), spots_low_skew, spots_good_intensity (within 5 sigma), inlier_spots (isolated).
"""
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mpixfel.stages.distl_resolution import method2_limit, spot_rings

LISTS = ("spots_total", "spots_non-ice", "hi_pass_resolution_spots", "ice_free_resolution_spots", "spots_resolution",
         "spots_unimodal", "spots_low_skew", "spots_good_intensity", "inlier_spots")
ICE_GUARD_MM, LOW_RESOLUTION_ANGSTROM = 0.4, 50.0
ICE_WIDTH = 4      # of the rings that are asked for ice, pixels
SKEW, INTENSITY_SIGMA = 0.45, 5.0
FEW = 20             # of fewer spots the 5th and 95th percentile may be one and the same, and tell nothing
EDGES = np.array([0, -1, 0, 2, 4, 5, 7, 9, 12])    # a spot of n pixels has more edges between them than this


class View(NamedTuple):
    """Wavelength (angstrom), and in mm: distance, pixel edge, farthest corner from the beam."""

    wavelength: float
    distance: float
    pixel: float
    corner: float

    def radius_mm(self, resolution):
        """Radius on the detector of a resolution in angstrom."""
        return self.distance * np.tan(2 * np.arcsin(np.minimum(self.wavelength / 2 / resolution, 0.7071)))

    def resolution(self, radius):
        """Resolution (angstrom) of radii in mm, none closer to the beam than a pixel."""
        return self.wavelength / 2 / np.sin(0.5 * np.arctan2(np.maximum(radius, self.pixel), self.distance))


def screen(spots, options):
    """SPOT rows without those that are too small, too large, too high or not compact."""
    least = options.minimum_spot_area
    spots = spots[spots["area"] >= least]
    if len(spots) == 0:
        return spots
    keep = spots["area"] <= least * max(options.spot_area_maximum_factor, 1.0)
    if options.legacy_distl or len(spots) >= FEW:
        low, median, high = _percentiles(spots["z"])
        keep &= spots["z"] <= median + options.peak_intensity_maximum_factor * (high - low)
    if options.legacy_distl:
        keep &= spots["area"] > least       # as it was, though "minimum" says otherwise
    if options.compactness_filter:
        keep &= compact(spots["area"], spots["edges"])
    return spots[keep]


def _percentiles(values):
    """5th, 50th and 95th percentile, each one of the values."""
    ordered = np.sort(values)
    return (ordered[int((len(ordered) - 1) * share)] for share in (0.05, 0.50, 0.95))


def compact(area, edges):
    """(n,) bool: spots whose pixels have many common edges, counting diagonal ones."""
    return np.where(area >= 9, edges > 2.0 * area, edges > EDGES[np.minimum(area, 8)])


def choose(options, spots, radius, icy, view):
    """(n,) bool: which spots are on the list `options.spot_list`.

    `radius` (n,) mm from the beam; `icy` (m,) inner radii of the ice rings, mm.
    """
    keep = np.ones(len(spots), bool)
    resolution = view.resolution(radius)
    steps = {"spots_non-ice": lambda k: off_ice(radius, icy, ICE_WIDTH * view.pixel),
             "hi_pass_resolution_spots": lambda k: radius > view.radius_mm(LOW_RESOLUTION_ANGSTROM),
             "ice_free_resolution_spots": lambda k: ~spot_rings(resolution, k, view),
             "spots_resolution": lambda k: resolution >= method2_limit(resolution, k, view, options),
             "spots_unimodal": lambda k: spots["maxima"] <= options.profile_bumpiness,
             "spots_low_skew": lambda k: _low_skew(spots, k),
             "spots_good_intensity": lambda k: _inlying(spots["z"], k),
             "inlier_spots": lambda k: isolated(spots, options)}
    for name in LISTS[1:LISTS.index(options.spot_list) + 1]:
        keep &= steps[name](keep)
    return keep


def off_ice(radius, icy, width):
    """(n,) bool: farther than the guard from every ring."""
    on = (radius[:, None] > icy - ICE_GUARD_MM) & (radius[:, None] < icy + width + ICE_GUARD_MM)
    return ~on.any(axis=1)


def skewness(spots):
    """(n,) distance of maximum and centroid in whole pixels, over the semi-major axis of the spot's ellipse."""
    moved = np.floor(np.hypot(spots["ss"] - spots["s"], spots["fs"] - spots["f"]))
    half, split = 0.5 * (spots["mss"] + spots["mff"]), np.hypot(0.5 * (spots["mss"] - spots["mff"]), spots["msf"])
    return moved / np.sqrt(4 * np.maximum(half + split, 1.0) / np.maximum(spots["mass"], 1e-9))


def _low_skew(spots, keep):
    skew = skewness(spots)
    if keep.sum() < 3:
        return np.ones(len(spots), bool)
    return skew <= min(SKEW, skew[keep].mean() + 2 * skew[keep].std(ddof=1))


def _inlying(values, keep):
    if keep.sum() < 3:
        return np.ones(len(values), bool)
    return np.abs(values - values[keep].mean()) < INTENSITY_SIGMA * values[keep].std(ddof=1) + 1e-12


def isolated(spots, options):
    """(n,) bool: spots whose nearest neighbour on the same panel is farther than their own major axis allows."""
    keep = np.ones(len(spots), bool)
    for p in np.unique(spots["panel"]):
        on = np.flatnonzero(spots["panel"] == p)
        if len(on) < 2:
            continue
        at = np.column_stack([spots["ss"][on], spots["fs"][on]])
        nearest = cKDTree(at).query(at, k=2)[0][:, 1]
        keep[on] = options.overlapping_spot_criterion * spots["major"][on] <= nearest
    return keep
