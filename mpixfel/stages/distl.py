"""DISTL, the spotfinder of LABELIT (Zhang et al., J. Appl. Cryst. 39 (2006) 112), on every panel.

Boxes of 101, 51 and 51 pixels within a panel; in each pass a plane through the pixels that the pass before calls
background. Spots are connected pixels above `minimum_spot_height` sigma that hold a maximum; they are screened by ice
rings, area, height and compactness. The defaults are those for CXI's CSPAD; names are those of the PHIL scope `distl`.

`legacy_distl` brings back the old program's choices: values rounded to whole ADU, the eight panels nearest to the beam
if there are more, no boxes on panels narrower than a box, an area that must exceed its minimum, and values of 0 and
less taken for no background.
"""
from dataclasses import dataclass

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.kernels import distl as kernel
from mpixfel.kernels import distl_ice, distl_maxima, distl_spots
from mpixfel.kernels.geometry import radii
from mpixfel.model import tables
from mpixfel.stages import distl_screen
from mpixfel.stages.check import check_options
from mpixfel.stages.distl_boxes import make_boxes
from mpixfel.stages.distl_screen import ICE_WIDTH
from mpixfel.stages.interface import option
from mpixfel.stages.peak_table import resolution
from mpixfel.stages.rings import moved

ROOM, MAX_SPOTS, MAX_AREA = 1 << 20, 1 << 16, 1 << 14
ICE_RANGE_ANGSTROM = (8.0, 1.0)        # from, to
ICE_SHARES, ICE_CUTOFFS = (0.45, 0.80), (0.0, 1.5)   # percentiles of Z in a ring, and what they must reach
NEAREST = 8


@dataclass(frozen=True)
class Distl:
    """Background planes, ice rings, maxima, growth, and screens."""

    minimum_signal_height: float | None = option(None, "pixels below are background; none: 1.5", "sigma", low=0.0)
    minimum_spot_height: float | None = option(None, "pixels above belong to spots; none: 3.5; never below "
                                                     "minimum_signal_height", "sigma", low=0.0)
    minimum_spot_area: int = option(3, "least number of pixels of a spot", low=1)
    spot_area_maximum_factor: float = option(5.0, "largest area, in units of minimum_spot_area", low=0.0)
    peak_intensity_maximum_factor: float = option(10000.0, "top height: median + this times (95th - 5th percentile)",
                                                  low=0.0)
    peripheral_margin: int = option(1, "width of the margin of each panel", "pixels", low=0)
    scanbox_windows: tuple[int, int, int] = option((101, 51, 51), "edges of the boxes in the three passes", "pixels")
    compactness_filter: bool = option(True, "drop spots that are not compact")
    res_outer: float | None = option(None, "high-resolution limit", "angstrom", low=0.0)
    res_inner: float | None = option(None, "low-resolution limit", "angstrom", low=0.0)
    tile_flags: tuple[int, ...] = option((), "panels searched, 0 or 1 each; none: all")
    spot_list: str = option("spots_total", "which list is handed on", choices=distl_screen.LISTS)
    method2_cutoff_percentage: float = option(5.0, "share of spots in a shell at which the resolution limit lies",
                                              "percent", low=0.1, high=100.0)
    force_method2_resolution_limit: float | None = option(None, "spots are used at least to here", "angstrom", low=0.0)
    profile_bumpiness: int = option(2, "most maxima of a good spot", low=1)
    overlapping_spot_criterion: float = option(1.2, "distance of good spots, in units of their major axis", low=0.0)
    legacy_distl: bool = option(False, "the old program's choices, to the letter")

    def __post_init__(self):
        check_options(self)
        if len(self.scanbox_windows) != 3 or not 4 <= min(self.scanbox_windows) <= max(self.scanbox_windows) <= 500:
            raise MpixfelError(f"{self.scanbox_windows} as boxes", "spotfinder.scanbox_windows",
                               "give three numbers from 4 to 500")

    @property
    def heights(self):
        """(signal, spot) cuts in sigma."""
        signal = 1.5 if self.minimum_signal_height is None else self.minimum_signal_height
        return signal, max(signal, 3.5 if self.minimum_spot_height is None else self.minimum_spot_height)

    def prepare(self, context):
        """Boxes and buffers; rings and the nearest panels are found with the first shot's geometry."""
        return Prepared(self, context)

    def __call__(self, image, shot, prepared):
        """PEAK table of the list asked for, highest first."""
        prepared.sort(shot)
        data, gain, low = prepared.data(image, shot)
        spots, icy = prepared.spots(data, low, shot)
        spots = distl_screen.screen(spots, self)
        radius = radii(shot.geometry, spots["panel"], spots["f"], spots["s"]) * prepared.pixel_mm
        keep = distl_screen.choose(self, spots, radius, np.flatnonzero(icy) * ICE_WIDTH * prepared.pixel_mm,
                                   prepared.view(shot))
        table = peak_rows(spots[keep], gain)
        table["resolution"] = resolution(table, shot)
        table = table[self._within(table["resolution"])]
        return table[np.argsort(-table["snr"], kind="stable")]

    def _within(self, q):
        """(n,) bool: within the resolution limits."""
        outer, inner = self.res_outer, self.res_inner
        return (q <= (1 / outer if outer else np.inf)) & (q >= (1 / inner if inner else 0.0))


def peak_rows(spots, gain):
    """PEAK rows of SPOT rows; `gain` (P,) turns their units to photons."""
    table = np.zeros(len(spots), tables.PEAK)
    unit = gain[spots["panel"]]
    table["panel"], table["n_pixels"] = spots["panel"], spots["area"]
    table["ss"], table["fs"] = spots["ss"] + 0.5, spots["fs"] + 0.5
    table["intensity"], table["background"] = spots["mass"] / unit, spots["background"] / unit
    table["max_pixel"], table["snr"], table["lattice"] = spots["height"] / unit, spots["z"], -1
    noise = spots["area"] * (spots["sigma"] / unit) ** 2
    table["sigma"] = np.sqrt(noise + np.maximum(table["intensity"], 0))
    return table


class Prepared:
    """Boxes of the three passes, rings, and buffers."""

    def __init__(self, options, context):
        self.options, self.detector = options, context.detector
        self.stack = context.detector.stack_shape
        self.shape = np.array([p.shape for p in context.detector.panels], np.int64)
        flags = options.tile_flags
        if flags and len(flags) != len(self.shape):
            raise MpixfelError(f"{len(flags)} flags for {len(self.shape)} panels", "spotfinder.tile_flags",
                               "give one number for each panel")
        self.wanted = np.array(flags, bool) if flags else np.ones(len(self.shape), bool)
        words = -(-self.stack[2] // distl_maxima.WORD)
        width = words * distl_maxima.WORD
        self.limits, self.words = np.empty((2, width), np.float32), np.empty((3, words), np.uint64)
        self.found = np.empty(ROOM, np.int64)
        # The old program's sums are exact for whole numbers.
        kind = np.float64 if options.legacy_distl else np.float32
        self.work = (np.empty((3, self.stack[2]), kind), np.empty(self.stack[2], np.uint32),
                     np.empty((6, self.stack[2]), kind))
        self.body, self.pixels = np.zeros((*self.stack[:2], width), np.uint8), np.empty(MAX_AREA, np.int64)
        self.out = np.zeros(MAX_SPOTS, distl_spots.SPOT)
        self.rounded = np.empty(self.stack, np.float32) if options.legacy_distl else None
        self.geometry = None

    def sort(self, shot):
        """Boxes and rings for a geometry, unless they are made for it already (to a part in a thousand)."""
        geometry = shot.geometry
        if not moved(self.geometry, geometry):
            return
        self.geometry = geometry
        options = self.options
        panels = self.wanted.copy()
        if options.legacy_distl and not options.tile_flags and len(panels) > NEAREST:
            panels &= np.isin(np.arange(len(panels)), nearest_panels(geometry, NEAREST))
        self.passes = [make_boxes(self.shape, self.stack, options.peripheral_margin, width, panels,
                                  not options.legacy_distl) for width in options.scanbox_windows]
        self.pixel_mm = 1e3 * float(np.linalg.norm(geometry.fs_axis[0]))
        self.distance_mm = 1e3 * float(geometry.origin[:, 2].mean())
        ss, fs = np.mgrid[:self.stack[1], :self.stack[2]].reshape(2, -1)
        half = 0.0 if options.legacy_distl else 0.5
        self.rings = np.empty(self.stack, np.uint16)
        self.corner_mm = 0.0
        for p in range(len(self.shape)):
            radius = radii(geometry, np.full(len(ss), p), fs + half, ss + half, options.legacy_distl)
            on = (ss < self.shape[p, 0]) & (fs < self.shape[p, 1])
            self.corner_mm = max(self.corner_mm, float(radius[on].max()) * self.pixel_mm)
            self.rings[p] = np.minimum(radius / ICE_WIDTH, 65535).astype(np.uint16).reshape(self.stack[1:])

    def data(self, image, shot):
        """(image to search, its units per photon (P,), largest value that is no signal at all)."""
        if not self.options.legacy_distl:
            return image.photons, np.ones(len(shot.gain)), np.float32(-np.inf)
        np.rint(image.photons * shot.gain[:, None, None].astype(np.float32), out=self.rounded)
        return self.rounded, shot.gain, np.float32(0)

    def view(self, shot):
        """What the screens need to know of the shot."""
        return distl_screen.View(shot.wavelength_angstrom, self.distance_mm, self.pixel_mm, self.corner_mm)

    def spots(self, data, low, shot):
        """(SPOT table, icy (n,) bool): all connected spots off the ice, and which rings are ice."""
        signal, height = self.options.heights
        before = self.passes[0]
        for k, (boxes, grid) in enumerate(self.passes):
            kernel.fit_planes(data, self.shape, boxes, grid, *before, signal, low, k == 0, *self.work)
            before = boxes, grid
        boxes, grid = before
        icy = self._ice(data, boxes, shot)
        least = self.options.minimum_spot_area
        margin = self.options.peripheral_margin + 1 if self.options.legacy_distl else self.options.peripheral_margin
        n = distl_maxima.maxima(data, self.shape, boxes, grid, height, low, min(least, 5), margin, self.limits,
                                self.words, self.body, self.found)
        n = distl_spots.spots(data, boxes, grid, self.shape, self.found[:min(n, ROOM)], least, self.rings,
                              icy if icy.any() else icy[:0], self.body, self.pixels, self.out)
        return self.out[:min(n, MAX_SPOTS)], icy

    def _ice(self, data, boxes, shot):
        """(n,) bool: rings whose 45th and 80th percentile of Z are too high for background."""
        view = self.view(shot)
        start = view.radius_mm(ICE_RANGE_ANGSTROM[0]) / self.pixel_mm
        stop = view.radius_mm(max(ICE_RANGE_ANGSTROM[1], shot.wavelength_angstrom / 2)) / self.pixel_mm
        n_rings = int(min(stop, self.corner_mm / self.pixel_mm) / ICE_WIDTH + 1)
        counts = np.zeros((n_rings, 3), np.int64)
        step = 1 if self.options.legacy_distl else 4
        distl_ice.ring_counts(data, boxes, self.rings, step, np.array(ICE_CUTOFFS), counts)
        icy = np.ones(len(counts), bool)
        for below, share in zip(counts.T[1:], ICE_SHARES):
            rank = (counts[:, 0] * share).astype(np.int64)
            icy &= (rank > 0) & (below <= rank)
        icy[:int(start / ICE_WIDTH)] = False
        icy[n_rings - 1:] = False
        return icy


def nearest_panels(geometry, n):
    """The `n` panels whose centres lie nearest to the beam."""
    centre = (geometry.origin + 0.5 * geometry.shape[:, 1:] * geometry.fs_axis
              + 0.5 * geometry.shape[:, :1] * geometry.ss_axis)
    return np.argsort(np.hypot(centre[:, 0], centre[:, 1]), kind="stable")[:n]
