"""mod_average: mean, standard deviation and maximum of a run, in one pass. This is how darks are made.

What it writes is `dark_path`, `dark_stddev` and `mask_path` of the next run. Without a dark of its own it averages the
raw words; with one, the image less that dark, in ADU too.
"""
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mpixfel.errors import MpixfelError
from mpixfel.io import darks
from mpixfel.io.exports.blocks import stack_of
from mpixfel.io.exports.darks import bad_pixel_mask, file_image, write_run_image
from mpixfel.kernels.average import add_image, join_moments
from mpixfel.model.event import Outcome, Reason, Skip
from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.names import check_basename, given_path
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.interface import option

FLAGS = ("inactive", "noelastic", "nohot", "nonoise", "symnoise", "skew", "sigma_scaling")
LEAST_SKEW = 0.35           # of an image that has any signal
WORD = 0x3FFF               # what a word of a JUNGFRAU holds beside its gain stage


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_average."""

    avg_dirname: str = option("", "folder of the mean image", unit="path")
    avg_basename: str = option("", "its name; .h5 is added")
    stddev_dirname: str = option("", "folder of the image of standard deviations", unit="path")
    stddev_basename: str = option("", "its name; .h5 is added")
    max_dirname: str = option("", "folder of the image of maxima", unit="path")
    max_basename: str = option("", "its name; .h5 is added")
    mean_out: str = option("", "path of the mean image, instead of folder and name", unit="path")
    std_out: str = option("", "path of the image of standard deviations", unit="path")
    max_out: str = option("", "path of the image of maxima", unit="path")
    mask_out: str = option("", "path of a mask of bad pixels: 1 dead, 2 hot, 4 noisy, or sums of them", unit="path")
    quantity: str = option("auto", "what is averaged: raw words, or the image less its dark (ADU); auto: raw, unless "
                                   "this instance has a dark_path", choices=("auto", "raw", "corrected"))
    background_path: str = option("", "image to subtract from mean and maximum", unit="path")
    flags: tuple[str, ...] = option((), "what is set to 0 in corrected images: bad pixels (inactive), values above "
                                        "elastic_threshold (noelastic), hot pixels (nohot), values below "
                                        "noise_threshold (nonoise), values near 0 (symnoise); skew: images without "
                                        "signal are skipped; sigma_scaling: in units of the dark's standard deviation",
                                    choices=FLAGS)
    hot_threshold: float | None = option(None, "pixels whose dark is above this, times its median, are set to 0")
    gain_threshold: float | None = option(None, "pixels whose gain map is above this are set to 0")
    noise_threshold: float = option(7.0, "nonoise: values below this are set to 0", "ADU")
    elastic_threshold: float = option(9.0, "noelastic: values above this are set to 0", "ADU")
    symnoise_threshold: float = option(4.0, "symnoise: values nearer to 0 than this are set to 0", "ADU")
    hot_sigma: float = option(10.0, "mask: a pixel is hot whose mean is so many robust standard deviations above its "
                                    "panel's median", low=1.0)
    noisy_factor: float = option(5.0, "mask: a pixel is noisy whose standard deviation exceeds its panel's median by "
                                      "this factor", low=1.0)

    def __post_init__(self):
        super().__post_init__()
        for key in ("avg_basename", "stddev_basename", "max_basename"):
            check_basename(getattr(self, key), key)
        if "nohot" in self.flags and self.hot_threshold is None:
            raise MpixfelError("nohot without hot_threshold", "flags", "add hot_threshold = ...")


class ModAverage(Calibrated):
    """One instance of mod_average."""

    Options = Options

    def __init__(self, name, options, settings):
        super().__init__(name, options, settings)
        self.raw = options.quantity == "raw" or (options.quantity == "auto" and not self.calibration.dark_path)
        if self.raw and (options.flags or options.hot_threshold or options.gain_threshold):
            raise MpixfelError("flags and thresholds hold for corrected images only", name,
                               "give dark_path and dark_stddev, or take them away")
        self.moments = []

    def begin(self, context):
        super().begin(context)
        self.moments, self.images, self.distance_m, self.energy_ev = [], 0, 0.0, 0.0
        if not self.raw:
            self.zero = self._always_zero()

    def event(self, event, record, context):
        if self.raw:
            skip, images = self.options.unwanted(event), self._words(event)
            if skip:
                return record.but(skip=skip, outcome=Outcome.filtered)
        else:
            record, shot = self.calibrated(event, record, context)
            if record.skip:
                return record
            images = (self._cleaned(record.image.photons, shot),)
            skew = stats.skew(images[0], axis=None, nan_policy="omit") if "skew" in self.options.flags else LEAST_SKEW
            if skew < LEAST_SKEW:
                return record.but(skip=Skip("average", Reason.filtered, f"skewness {skew:.3g}"),
                                  outcome=Outcome.filtered)
        if not self.moments:
            self.moments = [Moments(image.shape) for image in images]
        for moments, image in zip(self.moments, images):
            moments.add(image)
        self.images += 1
        self.distance_m += record.distance_m
        self.energy_ev += record.photon_energy_ev
        return record

    def _words(self, event):
        """The event's raw blocks, without gain words and gain bits."""
        switching = self.calibration.gain_switching
        words = [block[0] if switching == "agipd" and block.ndim == 3 else block for block in event.raw]
        return [w & WORD if switching == "jungfrau" else w for w in words]

    def _always_zero(self):
        """(P, SS, FS) bool: pixels that thresholds for dark and gain map set to 0."""
        constants, o = self.context.constants, self.options
        zero = np.zeros(self.context.detector.stack_shape, bool)
        if o.hot_threshold is not None and constants is not None and constants.pedestal is not None:
            dark = constants.pedestal[0, 0]
            zero |= dark > o.hot_threshold * np.nanmedian(dark)
        if o.gain_threshold is not None and constants is not None and constants.factor is not None:
            zero |= constants.factor[0, 0] > o.gain_threshold
        return zero

    def _cleaned(self, photons, shot):
        """(P, SS, FS) float64 ADU, with what the flags set to 0."""
        o = self.options
        image = photons * shot.gain[:, None, None]
        if "noelastic" in o.flags:
            image[image > o.elastic_threshold] = 0
        image[self.zero] = 0
        if "nonoise" in o.flags:
            image[image < o.noise_threshold] = 0
        if "sigma_scaling" in o.flags and self.context.constants is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                image /= self.context.constants.noise
        if "symnoise" in o.flags:
            image[np.abs(image) < o.symnoise_threshold] = 0
        if "inactive" in o.flags:
            image[np.isnan(image)] = 0
        return image

    def totals(self):
        if not self.moments:
            return {}
        found = {"images": np.array(self.images), "distance_m": np.array(self.distance_m),
                 "energy_ev": np.array(self.energy_ev)}
        for b, moments in enumerate(self.moments):
            found.update({f"{name}_{b}": getattr(moments, name) for name in Moments.NAMES})
        return found

    @staticmethod
    def merge(mine, theirs):
        """Chan's sums; a rank that has seen no image has nothing to join."""
        if not mine or not theirs:
            return mine or theirs
        joined = {name: mine[name] + theirs[name] for name in ("images", "distance_m", "energy_ev")}
        for b, (moments, other) in enumerate(zip(moments_of(mine), moments_of(theirs))):
            moments.join(other)
            joined.update({f"{name}_{b}": getattr(moments, name) for name in Moments.NAMES})
        return joined

    def end(self, totals, context):
        if not totals:
            raise MpixfelError("no image has reached this module", self.name,
                               "look at what comes before it in `modules`")
        o, n, detector = self.options, int(totals["images"]), context.detector
        paths = {"mean": given_path(o.mean_out, o.avg_dirname, o.avg_basename, ".h5"),
                 "stddev": given_path(o.std_out, o.stddev_dirname, o.stddev_basename, ".h5"),
                 "largest": given_path(o.max_out, o.max_dirname, o.max_basename, ".h5")}
        facts = {"address": o.address, "n_images": n, "distance_m": float(totals["distance_m"]) / n,
                 "photon_energy_ev": float(totals["energy_ev"]) / n}
        background = self._background(detector)
        for name, path in paths.items():
            if path:
                image = self._image(totals, name, detector)
                if background is not None and name != "stddev":
                    image -= background
                write_run_image(path, file_image(image, detector), {**facts, "kind": name})
        if o.mask_out:
            mask = bad_pixel_mask(self._image(totals, "mean", detector), self._image(totals, "stddev", detector),
                                  detector, o.hot_sigma, o.noisy_factor)
            facts = {**facts, "kind": "mask: 1 dead, 2 hot, 4 noisy"}
            write_run_image(o.mask_out, file_image(mask, detector), facts, "")

    def _image(self, totals, name, detector):
        """(P, SS, FS) float64 ADU: mean, stddev or largest."""
        images = [getattr(moments, name + "_image")() for moments in moments_of(totals)]
        return stack_of(images, detector) if self.raw else images[0]

    def _background(self, detector):
        """(P, SS, FS) of `background_path`; None where it is not given."""
        path = self.options.background_path
        return darks.panels_of(darks.read_array(path), detector, path, 1)[0, 0] if path else None


def moments_of(totals):
    """`Moments` of each block, copied out of the totals."""
    count = sum(name.startswith("count_") for name in totals)
    return [Moments(arrays=[np.array(totals[f"{name}_{b}"]) for name in Moments.NAMES]) for b in range(count)]


class Moments:
    """Count, mean, squared deviations and maximum of each pixel."""

    NAMES = ("count", "mean", "squares", "max")

    def __init__(self, shape=None, arrays=None):
        if arrays is None:
            arrays = [np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf)]
        self.count, self.mean, self.squares, self.max = arrays

    def add(self, image):
        add_image(np.ascontiguousarray(image).reshape(-1), *(getattr(self, name).reshape(-1) for name in self.NAMES))

    def join(self, other):
        flat = lambda m: [getattr(m, name).reshape(-1) for name in ("count", "mean", "squares")]
        join_moments(*flat(self), *flat(other))
        np.maximum(self.max, other.max, out=self.max)

    def mean_image(self):
        """NaN where no image had a value."""
        return np.where(self.count > 0, self.mean, np.nan)

    def stddev_image(self):
        """Of the population that the images are drawn from (n - 1); 0 for one image."""
        return np.where(self.count > 0, np.sqrt(self.squares / np.maximum(self.count - 1, 1)), np.nan)

    def largest_image(self):
        return np.where(self.count > 0, self.max, np.nan)
