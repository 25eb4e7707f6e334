"""Raw detector words to photons.

There is one definition of gain: ADU per photon at the shot's photon energy (`Panel.gain`). A gain map multiplies: it
holds by how much a pixel's ADU must be stretched to be those of the nominal gain. Gain-switching detectors have maps
of their own gain per stage instead. Polarisation and solid angle are corrected where intensities are made, not here.
"""
from dataclasses import dataclass

import numpy as np

from mpixfel.errors import BadData, MpixfelError
from mpixfel.kernels import calibrate
from mpixfel.kernels.background import NO_SAMPLES
from mpixfel.kernels.highs import highs_of, room
from mpixfel.model.event import Image
from mpixfel.stages.check import check_options
from mpixfel.stages.common_mode import METHODS, make_common_mode, subtract_waves
from mpixfel.stages.detector_tables import Tables
from mpixfel.stages.interface import option
from mpixfel.stages.pixels import HOT

SWITCHING = {"none": calibrate.NONE, "jungfrau": calibrate.JUNGFRAU, "agipd": calibrate.AGIPD}


@dataclass(frozen=True)
class Calibration:
    """Cut the panels out of the raw blocks and convert them to photons."""

    dark_path: str | None = option(None, "average dark image: HDF5 (FILE.h5 or FILE.h5:/dataset), NumPy, old pickle",
                                   "path")
    dark_stddev_path: str | None = option(None, "standard deviation of the dark image; required with dark_path", "path")
    gain_map_path: str | None = option(None, "gain map", "path")
    gain_map_unit: str = option("factor", "what the gain map holds; a factor multiplies ADU",
                                choices=("factor", "adu_per_photon", "adu_per_kev"))
    gain_map_level: float | None = option(None, "the gain map holds 0 for low gain, 1 for high gain: the factor for 0",
                                          low=0.0)
    mask_path: str | None = option(None, "bad pixels: not 0 in HDF5 and NumPy, -2 or -100000 in old pickles", "path")
    gain_switching: str = option("none", "how pixels tell their gain stage", choices=tuple(SWITCHING))
    memory_cell: str = option("memory_cell", "name of the event's value that numbers the memory cell")
    common_mode: str = option("robust", "common mode of each section, if a dark is given", choices=METHODS)
    common_mode_sections: tuple[int, int] = option((1, 1), "sections of a panel with a common mode of their own: along "
                                                           "ss and fs")
    mask_edge_pixels: int = option(0, "outermost pixels of each panel that are masked", "pixels", low=0)
    photon_threshold: float | None = option(None, "photon counting: corrected pixels below this are 0, others 1 or 2 photons",
                                            "ADU")
    two_photon_threshold: float | None = option(None, "photon counting: pixels from here on are 2 photons, never more", "ADU")
    noisy_factor: float = option(5.0, "a pixel is noisy whose noise in the dark is so many times its panel's median",
                                 low=1.0)

    def __post_init__(self):
        check_options(self)
        if self.dark_path and not self.dark_stddev_path and self.gain_switching == "none":
            raise MpixfelError("dark_path without dark_stddev_path", "calibration", "give dark_stddev_path")
        if (self.photon_threshold is None) != (self.two_photon_threshold is None):
            raise MpixfelError("only one of photon_threshold and two_photon_threshold", "calibration.photon_threshold",
                               "give both")
        if min(self.common_mode_sections) < 1:
            raise MpixfelError(f"{self.common_mode_sections} sections", "calibration.common_mode_sections",
                               "give two numbers of at least 1")

    def prepare(self, context, boxes=None):
        """Tables, maps and buffers for `context`; made once per rank, reused for every event.

        boxes : `stages.boxes.Boxes` of a finder that wants an image's highs, and samples of these boxes
        """
        return Prepared(self, context, boxes)

    def __call__(self, event, shot, prepared):
        """`Image` of the event; its arrays are `prepared`'s buffers and last until the next call.

        Raises
        ------
        BadData
            If a block is missing or smaller than its panels, or the memory cell is out of range.
        """
        cell = self._cell(event, prepared)
        scale, masks, n = prepared.scale(shot), dict(event.masks), 0
        for block, panels in enumerate(prepared.tables.panels_of_block):
            raw, gains = prepared.tables.block(event.raw, block, self.gain_switching == "agipd")
            offset = prepared.common_mode(raw, panels, cell, shot)
            first, n = n, prepared.convert(raw, gains, panels, cell, scale, offset, n)
            if block in masks:
                n = prepared.mask(masks[block], panels, first, n)
        as_converted = not masks
        if self.common_mode == "chebyshev" and prepared.pedestal.size > 1:
            subtract_waves(prepared.photons, prepared.tables.layout.shape, self.common_mode_sections)
            as_converted = False
        if self.photon_threshold is not None:
            count_photons(prepared.photons, self.photon_threshold / shot.gain, self.two_photon_threshold / shot.gain)
            as_converted = False
        saturated = prepared.saturated[:min(n, prepared.saturated.size)]
        if len(prepared.tables.panels_of_block) > 1:
            saturated.sort()
        glance = (prepared.glance.highs, prepared.glance.samples.values) if prepared.glance.highs.size and as_converted else ()
        return Image(prepared.photons, saturated, prepared.readout_sigma(scale), *glance)

    def _cell(self, event, prepared):
        cell = int(event.extra.get(self.memory_cell, 0)) if prepared.n_cells > 1 else 0
        if not 0 <= cell < prepared.n_cells:
            raise BadData(f"memory cell {cell}, but the constants have {prepared.n_cells}", event.id.name)
        return cell


class Prepared:
    """What calibration needs besides the event: tables and maps in the kernel's form, and the output buffers."""

    def __init__(self, options, context, boxes):
        constants = context.constants
        self.kind = SWITCHING[options.gain_switching]
        given = constants is not None and constants.pedestal is not None and constants.factor is not None
        if self.kind != calibrate.NONE and not given:
            raise MpixfelError("a gain-switching detector needs pedestals and gains of three stages", "calibration",
                               "give dark_path and gain_map_path")
        self.unit = constants.unit if constants is not None else "adu"
        bad = bad_pixels(options, context)
        self.tables = Tables(context.detector, bad)
        self.pedestal, self.factor, self.threshold = (constant(getattr(constants, name, None), 5)
                                                      for name in ("pedestal", "factor", "threshold"))
        self.n_cells = max(self.pedestal.shape[0], self.factor.shape[0], self.threshold.shape[0])
        saturation = context.saturation_adu
        self.saturation = constant(saturation, 3)
        self.noise = constants.noise if constants is not None else None
        self.common_mode = make_common_mode(options, self, context.detector)
        self.photons = np.full(context.detector.stack_shape, np.nan, np.float32)
        self.saturated = np.empty(self.photons.size, np.int64)
        stack = context.detector.stack_shape
        highs, samples = (highs_of(stack), boxes.samples) if boxes is not None else (np.zeros((0, 0, 0), np.float32), NO_SAMPLES)
        self.glance = calibrate.Glance(highs, room(stack), samples)
        self._sigma = self._sigma_scale = None

    def scale(self, shot):
        """(P,) float32: photons per unit of what the maps yield."""
        if self.unit == "adu":
            return (1.0 / shot.gain).astype(np.float32)
        return np.full(len(shot.gain), 1.0 if self.unit == "photon" else 1e3 / shot.photon_energy_ev, np.float32)

    def readout_sigma(self, scale):
        """Read-out noise in photons, (P, SS, FS), or NaN where no dark tells it."""
        if self.noise is None:
            return float("nan")
        if self._sigma is None:
            self._adu_sigma = self.noise * np.abs(self.factor[0, 0]) if self.factor.size > 1 else self.noise
            self._sigma = np.empty_like(self.noise)
        if not np.array_equal(self._sigma_scale, scale):      # photon energies vary from shot to shot
            self._sigma_scale = scale.copy()
            np.multiply(self._adu_sigma, scale[:, None, None], out=self._sigma)
        return self._sigma

    def convert(self, raw, gains, panels, cell, scale, offset, n):
        """Convert one block into `photons`; returns the number of saturated pixels so far."""
        pick = lambda maps: maps[min(cell, maps.shape[0] - 1)]
        maps = calibrate.Maps(pick(self.pedestal), pick(self.factor), pick(self.threshold), self.saturation)
        if self.kind == calibrate.NONE:
            return calibrate.convert(raw, panels, self.tables.layout, maps, self.tables.watch(raw.dtype),
                                     raw.dtype.kind == "f", scale, offset, self.photons, self.glance, self.saturated, n)
        return calibrate.convert_switching(raw, gains, panels, self.tables.layout, maps, scale, offset, self.kind,
                                           self.photons, self.glance, self.saturated, n)

    def mask(self, bad, panels, first, n):
        """Take out what is bad in this event alone; returns the number of saturated pixels that are left."""
        need = (self.tables.layout.corner[panels] + self.tables.layout.shape[panels]).max(axis=0)
        if (bad.shape < need).any():
            raise BadData(f"a mask of shape {bad.shape} cannot hold panels that reach to {tuple(map(int, need))}",
                          "the event's mask", "check mask_data in the geometry")
        return calibrate.mask_block(bad, panels, self.tables.layout, self.photons, self.saturated, first, n)


def count_photons(photons, one, two):
    """Round an image (P, SS, FS) in place to 0, 1 or 2 photons; `one` and `two` are each panel's (P,) least values."""
    below = 1 - 4 * np.finfo(np.float32).eps       # so that a pixel of just the threshold's ADU is not rounded past it
    for image, least, more in zip(photons, one * below, two * below):
        known = ~np.isnan(image)
        image[known] = (image[known] >= least).astype(np.float32) + (image[known] >= more)


def constant(given, n_axes):
    """A float32 map as kernels take it, one number where none is given: not a copy, if it can be helped, and read only.

    Ranks share such maps, and a kernel is compiled anew for an array that may be written to.
    """
    values = np.zeros((1,) * n_axes, np.float32) if given is None else np.ascontiguousarray(given, np.float32).view()
    values.flags.writeable = False
    return values


def bad_pixels(options, context):
    """(P, SS, FS) bool: the static mask, with what the constants, the darks and the first images tell."""
    bad = np.zeros(context.detector.stack_shape, bool)
    for mask in (context.mask, getattr(context.constants, "bad", None), context.learnt.extra.get(HOT)):
        if mask is not None:
            bad |= np.asarray(mask, bool)
    if context.constants is not None:
        bad |= bad_in_darks(context.constants, context.detector, options.noisy_factor)
    edge = options.mask_edge_pixels
    if edge:
        for i, panel in enumerate(context.detector.panels):
            ss, fs = panel.shape
            bad[i, :edge], bad[i, ss - edge:ss], bad[i, :, :edge], bad[i, :, fs - edge:fs] = True, True, True, True
    return bad


def bad_in_darks(constants, detector, noisy_factor):
    """Pixels that are dead (no noise), noisy, or without a finite pedestal or gain in the constants."""
    bad = np.zeros(detector.stack_shape, bool)
    if constants.noise is not None:
        bad |= ~(constants.noise > 0)
        for i, panel in enumerate(detector.panels):
            sigma = constants.noise[i, :panel.shape[0], :panel.shape[1]]
            alive = sigma[sigma > 0]
            if alive.size:
                bad[i] |= constants.noise[i] > noisy_factor * np.median(alive)
    for values in (constants.pedestal, constants.factor):
        if values is not None:
            bad |= ~np.isfinite(values[:, 0]).all(axis=0)
    return bad
