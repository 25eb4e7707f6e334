"""Hit or miss."""
import re
from dataclasses import dataclass

import numpy as np
from scipy.stats import poisson

from mpixfel.errors import MpixfelError
from mpixfel.model.event import Reason, Skip
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option

ROI = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*$")
# A pixel of the old program's grey scale is at its end where it exceeds this multiple of the 90th percentile.
RESTRICTIVE = 2.5 * 255 / 256


@dataclass(frozen=True)
class HitFinding:
    """Which finder is used, and what makes a hit: so many of its peaks, or a bright pixel."""

    finder: str = option("robust", "hit finder: robust, peakfinder8, distl, or another one found by entry point")
    min_peaks: int = option(4, "least number of peaks of a hit", low=0)
    min_snr: float = option(0.0, "only peaks of at least this significance count", low=0.0)
    finest_angstrom: float = option(0.0, "only peaks at this resolution and lower count; 0: all", "angstrom", low=0.0)
    max_chance: float | None = option(None, "a hit has more peaks than background alone makes with this probability, "
                                            "if that is more than min_peaks", low=1e-300, high=1.0)
    chance_peaks: float = option(0.3, "peaks that background alone makes in an image, on average; for max_chance",
                                 low=1e-6)
    threshold_adu: float | None = option(None, "with distl_flags: peaks count whose largest pixel is above this; without: "
                                               "an image is a hit whose largest pixel (in roi) reaches this", "ADU")
    roi: str = option("", "pixels of the data block that threshold_adu looks at: fast_low:fast_high,slow_low:slow_high")
    distl_flags: str = option("", "which peaks count: permissive, above threshold_adu; restrictive, also above 2.5 times "
                                  "the 90th percentile of the pixels", choices=("", "permissive", "restrictive"))

    def __post_init__(self):
        check_options(self)
        if self.roi and not ROI.match(self.roi):
            raise MpixfelError(f"{self.roi!r} is not a region", "hitfinding.roi",
                               "write fast_low:fast_high,slow_low:slow_high")
        if self.roi and self.threshold_adu is None:
            raise MpixfelError("roi without threshold", "hitfinding.roi", "add threshold = ADU, or take roi away")
        if self.roi and self.distl_flags:
            raise MpixfelError("roi and distl_flags exclude each other", "hitfinding.roi", "take one of them away")

    def prepare(self, context):
        """(P, SS, FS) bool: the pixels of `roi`; None for all."""
        if not self.roi:
            return None
        f0, f1, s0, s1 = map(int, ROI.match(self.roi).groups())
        region = np.zeros(context.detector.stack_shape, bool)
        for i, p in enumerate(context.detector.panels):
            ss, fs = p.min_ss + np.arange(p.shape[0]), p.min_fs + np.arange(p.shape[1])
            region[i, :p.shape[0], :p.shape[1]] = np.outer((ss >= s0) & (ss < s1), (fs >= f0) & (fs < f1))
        if not region.any():
            raise MpixfelError(f"there is no pixel in {self.roi}", "hitfinding.roi",
                               "give pixels of the data block, as min_fs ... max_ss of the geometry count them")
        return region

    def decide(self, peaks, image, shot, region=None):
        """The peaks of a hit, or the `Skip` of a miss; `region` is what `prepare` gave."""
        if self.threshold_adu is not None and not self.distl_flags:
            return self._bright(peaks, image, shot, region)
        n, least = int(self._counts(peaks, image, shot).sum()), self.least_peaks
        if n < least:
            return Skip("hitfinding", Reason.too_few_peaks, f"{n} peaks, {least} make a hit", {"peaks": n})
        return peaks

    @property
    def least_peaks(self):
        """How many peaks make a hit: `min_peaks`, or what background alone makes no more often than `max_chance`."""
        if self.max_chance is None:
            return self.min_peaks
        return max(self.min_peaks, int(poisson.isf(self.max_chance, self.chance_peaks)) + 1)

    def _bright(self, peaks, image, shot, region):
        """A hit by its largest pixel alone."""
        adu = image.photons * shot.gain[:, None, None].astype(np.float32)
        largest = np.fmax.reduce(adu if region is None else adu[region], axis=None)
        if not largest >= self.threshold_adu:
            return Skip("hitfinding", Reason.below_threshold, f"largest pixel {largest:.6g} ADU, threshold "
                        f"{self.threshold_adu:g}", {"largest": float(largest), "peaks": len(peaks)})
        return peaks

    def _counts(self, peaks, image, shot):
        """(n,) bool: the peaks that count."""
        strong = peaks["snr"] >= self.min_snr
        if self.finest_angstrom:
            strong &= peaks["resolution"] <= 1.0 / self.finest_angstrom
        return strong & self._above(peaks, image, shot) if self.distl_flags else strong

    def _above(self, peaks, image, shot):
        """(n,) bool: peaks whose largest pixel, with what lies below it as of old, is above the thresholds."""
        value = np.rint((peaks["max_pixel"] + peaks["background"]) * shot.gain[peaks["panel"]])
        counts = value > (-np.inf if self.threshold_adu is None else self.threshold_adu)
        if self.distl_flags == "restrictive":
            adu = image.photons * shot.gain[:, None, None].astype(np.float32)
            bright = np.percentile(adu[np.isfinite(adu)], 90)
            if bright > 0:
                counts &= value > RESTRICTIVE * bright
        return counts
