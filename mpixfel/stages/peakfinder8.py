"""peakfinder8: peaks above the clipped statistics of their radius (Barty et al., J. Appl. Cryst. 47 (2014) 1118).

The parameters are CrystFEL's, and mean the same: `min_snr` is a peak's sum over the sigma of one pixel nearby, not of
the sum. `exact` takes every pixel into the radial statistics and truncates coordinates as CrystFEL 0.12 does; without
it, 64 fixed pixels of each radius tell the statistics, at a tenth of the cost.
"""
from dataclasses import dataclass

import numpy as np

from mpixfel.kernels import peakfinder8 as kernel
from mpixfel.model import tables
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.peak_table import resolution
from mpixfel.stages.rings import moved

FLOOR_PHOTONS = 4.0   # the clipped sigma of a thin background is below a photon, and every photon would be a peak
SAMPLES = 64          # pixels of a radial bin that are looked at
ROOM = 1 << 18        # candidate pixels of an image
MAX_AREA = 1 << 14    # pixels of a peak that can be counted


@dataclass(frozen=True)
class Peakfinder8:
    """Radial thresholds, flood fill, local background."""

    threshold: float | None = option(None, "least value of a peak's pixels (CrystFEL's default: 800); none: four photons",
                                     "ADU")
    min_snr: float = option(5.0, "least sum of a peak over the sigma of a background pixel; also where the radial "
                                 "statistics are clipped", low=0.0)
    min_pix_count: int = option(2, "least number of pixels of a peak", low=1)
    max_pix_count: int = option(200, "largest number of pixels of a peak", low=1, high=MAX_AREA)
    local_bg_radius: int = option(3, "half of the radius within which a peak's background is taken", "pixels", low=1)
    min_res: float = option(0.0, "least distance from the beam", "pixels", low=0.0)
    max_res: float = option(0.0, "largest distance from the beam; 0: no limit", "pixels", low=0.0)
    max_peaks: int = option(2048, "largest number of peaks of an image", low=1)
    use_saturated: bool = option(True, "keep peaks whose largest pixel above the background exceeds max_adu")
    exact: bool = option(False, "behave as CrystFEL 0.12 to the letter")

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Tables and buffers; the radial bins are made with the first shot's geometry."""
        return Prepared(self, context)

    def __call__(self, image, shot, prepared):
        """PEAK table of the image, strongest first."""
        prepared.sort(shot.geometry)
        data = prepared.in_adu(image.photons, shot.gain)
        # In one gain for all panels, the threshold is brought to the image; otherwise the image to ADU.
        unit = 1.0 if data is not image.photons else float(shot.gain[0])
        floor = FLOOR_PHOTONS * float(np.median(shot.gain)) if self.threshold is None else self.threshold
        upper = prepared.thresholds(data, np.float32(self.min_snr), np.float32(floor / unit))
        found = prepared.peaks(self, data, upper)
        if not self.use_saturated:
            limit = np.array([p.max_adu for p in prepared.detector.panels])[found[:, 0].astype(int)]
            found = found[found[:, 7] * unit <= limit]
        gain = 1.0 if data is image.photons else shot.gain[found[:, 0].astype(int)]
        table = peak_rows(found, gain)
        table["resolution"] = resolution(table, shot)
        return table[np.argsort(-table["snr"], kind="stable")]


def peak_rows(found, gain):
    """PEAK rows of `kernels.peakfinder8.find`'s result (n, 9) in units of `gain` per photon, without resolution."""
    table = np.zeros(len(found), tables.PEAK)
    table["panel"], table["n_pixels"] = found[:, 0], found[:, 6]
    table["ss"], table["fs"] = found[:, 1] + 0.5, found[:, 2] + 0.5
    table["intensity"], table["background"] = found[:, 3] / gain, found[:, 4] / gain
    table["max_pixel"] = found[:, 7] / gain
    noise = found[:, 6] * (found[:, 5] / gain) ** 2 * (1 + found[:, 6] / np.maximum(found[:, 8], 1))
    table["sigma"] = np.sqrt(noise + np.maximum(table["intensity"], 0))
    table["snr"] = found[:, 3] / np.maximum(found[:, 5], 1e-9)
    table["lattice"] = -1
    return table


class Prepared:
    """Radial bins, sampled pixels and buffers."""

    def __init__(self, options, context):
        self.options, self.detector = options, context.detector
        self.stack = context.detector.stack_shape
        self.shape = np.array([p.shape for p in context.detector.panels], np.int64)
        self.bad = np.ones(self.stack, bool)
        for i, (ss, fs) in enumerate(self.shape):
            self.bad[i, :ss, :fs] = False if context.mask is None else context.mask[i, :ss, :fs]
        size = int(np.prod(self.stack))
        blocks = -(-size // kernel.BLOCK)
        # Whole blocks: the last one may reach beyond the image, so the image is copied only where it must be.
        self.padded = np.full(blocks * kernel.BLOCK, np.nan, np.float32) if blocks * kernel.BLOCK != size else None
        self.scaled = None
        self.bins = np.zeros(blocks * kernel.BLOCK, np.uint16)
        self.limits = np.empty(blocks, np.float32)
        self.index, self.state = np.empty(ROOM, np.int64), np.zeros(self.stack, np.uint8)
        self.pixels, self.offset = np.empty(MAX_AREA, np.int64), np.empty(MAX_AREA, np.float32)
        self.out = np.empty((options.max_peaks, 9))
        self.geometry = None

    def sort(self, geometry):
        """Sort pixels into radial bins, unless that was done for this geometry (to a part in a thousand)."""
        if not moved(self.geometry, geometry):
            return
        self.geometry = geometry
        radius = self._radius(geometry)
        out = self.bad | ~(radius > self.options.min_res)
        if self.options.max_res > 0:
            out |= ~(radius < self.options.max_res)
        last = int(np.rint(radius).max()) + 1
        self.bins[:] = last                               # the last bin never has a threshold
        self.bins[:out.size] = np.where(out, last, np.rint(radius)).ravel()
        self.mean, self.sigma, self.upper = (np.empty(last + 1, np.float32) for _ in range(3))
        folded = self.bins.reshape(-1, kernel.BLOCK).astype(np.int64)
        self.first_bin = np.where(folded < last, folded, last + 1).min(axis=1)
        self.last_bin = np.where(folded < last, folded, -1).max(axis=1)
        # A block without good pixels has no bins.
        span = self.last_bin - self.first_bin + 1
        self.level = np.where(span > 0, np.log2(np.maximum(span, 1)).astype(np.int64), -1)
        self.least = np.empty((int(self.level.max(initial=0)) + 1, last + 1), np.float32)
        self._sample(last)

    def _radius(self, geometry):
        """(P, SS, FS) distance from the beam in pixels; truncated coordinates of the corner where exact."""
        ss, fs = np.mgrid[:self.stack[1], :self.stack[2]]
        radius = np.empty(self.stack)
        for p in range(len(self.shape)):
            half = 0.0 if self.options.exact else 0.5
            pixel = np.linalg.norm(geometry.fs_axis[p])
            origin, along, across = geometry.origin[p], geometry.fs_axis[p], geometry.ss_axis[p]
            x, y = ((origin[k] + (fs + half) * along[k] + (ss + half) * across[k]) / pixel for k in (0, 1))
            # Rounding to a millionth of a pixel first: 3.0 must not be truncated to 2.
            x, y = (np.trunc(np.round(c, 6)) for c in (x, y)) if self.options.exact else (x, y)
            radius[p] = np.hypot(x, y)
        return radius

    def _sample(self, last):
        """Flat indices of the pixels that tell each bin's statistics, sorted by bin."""
        order = np.argsort(self.bins, kind="stable")
        bins = self.bins[order]
        start = np.searchsorted(bins, np.arange(last + 1))
        if not self.options.exact:
            count = np.diff(start)
            take = np.minimum(count, SAMPLES)
            within = np.arange(take.sum()) - np.repeat(np.cumsum(take) - take, take)
            # Evenly through the bin: the pixels of a bin are in the order of the image.
            pick = (within + 0.5) * np.repeat(count / np.maximum(take, 1), take)
            order = order[np.repeat(start[:-1], take) + pick.astype(np.int64)]
            start = np.concatenate([[0], np.cumsum(take)])
        self.sample = order[:start[last]].astype(np.int64)
        self.start = np.append(start, start[last])
        self.values = np.empty(len(self.sample), np.float32)

    def in_adu(self, photons, gain):
        """The image itself where all gains are equal, otherwise an image in ADU: all panels share the radial bins."""
        if np.ptp(gain) == 0:
            return photons
        if self.scaled is None:
            self.scaled = np.empty(self.stack, np.float32)
        return np.multiply(photons, gain[:, None, None].astype(np.float32), out=self.scaled)

    def thresholds(self, data, min_snr, floor):
        """(B,) threshold of each radial bin."""
        # Any mode but "raise" lets numpy write into `values` itself; the indices are in range.
        np.take(data.reshape(-1), self.sample, out=self.values, mode="clip")
        kernel.radial_statistics(self.values, self.start, min_snr, floor, self.mean, self.sigma, self.upper)
        return self.upper

    def peaks(self, options, data, upper):
        """(n, 9) rows of `kernels.peakfinder8.find`."""
        kernel.block_limits(self.first_bin, self.last_bin, self.level, upper, self.least, self.limits)
        flat = data.reshape(-1)
        if self.padded is not None:
            self.padded[:flat.size] = flat
            flat = self.padded
        n = kernel.candidates(flat, self.limits, self.bins, upper, self.index)
        bins = self.bins[:data.size].reshape(self.stack)
        found = kernel.find(data, bins, self.mean, upper, self.shape, self.index[:min(n, ROOM)], options.min_pix_count,
                            options.max_pix_count, options.min_snr, 2 * options.local_bg_radius, self.state,
                            self.pixels, self.offset, self.out)
        return self.out[:min(found, len(self.out))]
