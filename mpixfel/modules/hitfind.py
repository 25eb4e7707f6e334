"""mod_hitfind: calibrate, find peaks, decide; with `dispatch = index` also index, refine and integrate.

Thin: what is decided, and how, stands in the stages. Here they only follow each other, and their times are taken.
"""
import os
import time
from dataclasses import dataclass, replace

import numpy as np

from mpixfel import registry
from mpixfel.errors import BadData, MpixfelError
from mpixfel.io.exports import crystals, images
from mpixfel.model.event import Outcome, Reason, Skip
from mpixfel.modules.interface import Module
from mpixfel.modules.names import check_basename, event_stem, long_stem
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.indexing import spots_from_peaks
from mpixfel.stages.interface import option
from mpixfel.stages.pixels import EXCESS, HOT, PixelWatch, conclude_excess, conclude_pixels, observe_pixels
from mpixfel.stages.quantiles import middle

# The background of an event is the median of every so many pixels: enough for three digits, and free of charge.
BACKGROUND_STRIDE = 997


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_hitfind."""

    dispatch: str = option("nop", "what is done with a hit: nop (nothing more), index (index and integrate), "
                                  "write_dict (its image is written, as mod_dump does)",
                           choices=("nop", "index", "write_dict"))
    negate_hits: bool = option(False, "let the misses pass, and stop the hits")
    out_dirname: str = option("out", "write_dict: folder of the images", unit="path")
    out_basename: str = option("", "write_dict: what their names begin with")
    integration_dirname: str = option("", "folder of one file for each indexed image, beside the run file", unit="path")
    integration_basename: str = option("", "what their names begin with; the timestamp follows")
    integration_format: str = option("h5", "their format; expt: an experiment list and reflections that DIALS reads",
                                     choices=crystals.FORMATS)

    def __post_init__(self):
        super().__post_init__()
        check_basename(self.integration_basename, "integration_basename")
        check_basename(self.out_basename, "out_basename")
        if self.integration_basename and not self.integration_dirname:
            raise MpixfelError("integration_basename without integration_dirname", "integration_basename",
                               "give integration_dirname")


class ModHitfind(Module):
    """One instance of mod_hitfind."""

    Options = Options
    learns = True

    def __init__(self, name, options, settings):
        super().__init__(name, options, settings)
        self.calibration, self.decision = settings.stage("calibration"), settings.stage("hitfinding")
        self.finder = self._finder(settings)
        self.key = (self.calibration, self.finder)
        self.crystal_stages = {}
        if options.dispatch == "index":
            self.crystal_stages = {name: settings.stage(name) for name in ("indexing", "refinement", "integration")}

    def _finder(self, settings):
        """The finder's stage; one from elsewhere (an entry point without section) has its defaults."""
        name = self.decision.finder
        section = {"distl": "spotfinder"}.get(name, name)
        if section in settings.stages:
            return settings.stage(section)
        return registry.load("hit_finders", name, "hitfinding.finder")()

    def begin(self, context):
        self.prepared_finder, self.region = self.finder.prepare(context), self.decision.prepare(context)
        boxes = self.prepared_finder.boxes if getattr(self.finder, "wants_glance", False) else None
        self.prepared_calibration = self.calibration.prepare(context.calibrated_by(self.calibration), boxes)
        self.prepared = {name: stage.prepare(context) for name, stage in self.crystal_stages.items()}
        self.watch = None

    def event(self, event, record, context):
        record, shot = self.options.shot(event, record, context)
        if record.skip is None and record.image_key != self.key:
            record = self._look(event, record, shot)
        if record.skip is None:
            record = self._decide(record, shot)
        if record.skip is None and self.crystal_stages:
            record = self._crystals(record, shot, context.rng(event.id))
        if not context.rehearsal:
            self._write(record, shot, context)
        return record

    def _write(self, record, shot, context):
        """The files of one event, where they are wanted."""
        o = self.options
        if len(record.lattices) and o.integration_dirname:
            path = os.path.join(o.integration_dirname, o.integration_basename + long_stem(record.id))
            crystals.write_crystals(path, record, shot, context, o.integration_format, o.address)
        if record.skip is None and o.dispatch == "write_dict":
            image = images.corrected_image(record, shot, context.detector, o.address)
            images.write_image(os.path.join(o.out_dirname, f"{o.out_basename}{event_stem(record.id)}.h5"), image, "h5")

    def observe(self, event, record, context):
        """How often each pixel stands out and how the others scatter, until the run has learnt it."""
        if HOT in context.learnt.extra:
            return {}
        image = self.calibration(event, context.shot(event), self.prepared_calibration)
        self.watch = self.watch or PixelWatch(context)
        return {} if isinstance(image, Skip) else observe_pixels(image, self.watch)

    def conclude(self, observed, context):
        if not observed:
            return context.learnt
        hot = conclude_pixels(observed, PixelWatch(context))
        extra = {**context.learnt.extra, HOT: hot, EXCESS: np.array(conclude_excess(observed))}
        return replace(context.learnt, extra=extra)

    def find_cells(self, records, context):
        find = getattr(self.crystal_stages.get("indexing"), "find_cells", None)
        return find([r.skip for r in records if r.skip is not None], context) if find else None

    def _look(self, event, record, shot):
        """Image and peaks; an instance with the same calibration and finder takes them over."""
        clock = Clock()
        image = record.image
        if image is None or record.image_key[0] != self.calibration:
            image = self.calibration(event, shot, self.prepared_calibration)
            record = record.timed("calibrate", clock.lap())
        if isinstance(image, Skip):
            return record.but(skip=image, outcome=Outcome.filtered)
        background = median_background(image.photons)
        if np.isnan(background) and not np.isfinite(image.photons).any():
            raise BadData("no pixel of the image is good", event.id.name, "look at the data, and at masks and darks")
        peaks = self.finder(image, shot, self.prepared_finder)
        record = record.but(image=image, image_key=self.key, peaks=peaks, resolution=diffraction_limit(peaks),
                            background=background,
                            max_intensity=float(peaks["max_pixel"].max()) if len(peaks) else float("nan"))
        return record.timed("hitfind", clock.lap())

    def _decide(self, record, shot):
        """Hit or miss; what is kept goes on."""
        verdict = self.decision.decide(record.peaks, record.image, shot, self.region)
        miss = isinstance(verdict, Skip)
        record = record.but(outcome=Outcome.miss if miss else Outcome.hit, peaks=record.peaks if miss else verdict)
        if miss != self.options.negate_hits:
            return record.but(skip=verdict if miss else Skip("hitfinding", Reason.negated, "hits are not wanted"))
        return record

    def _crystals(self, record, shot, rng):
        """Lattices and reflections of a hit."""
        clock = Clock()
        found = self.crystal_stages["indexing"](spots_from_peaks(record.peaks, shot), shot, self.prepared["indexing"],
                                                rng)
        record = record.timed("index", clock.lap())
        if isinstance(found, Skip):
            return record.but(skip=found)
        refined = self.crystal_stages["refinement"](found, record.peaks, shot, self.prepared["refinement"])
        record = record.timed("refine", clock.lap())
        if isinstance(refined, Skip):
            return record.but(skip=refined)
        lattices, peaks = refined
        lattices["event"] = np.arange(len(lattices))   # a label that tells afterwards which of them were kept
        integrated = self.crystal_stages["integration"](record.image, shot, lattices, peaks,
                                                        self.prepared["integration"])
        record = record.timed("integrate", clock.lap())
        if isinstance(integrated, Skip):
            return record.but(skip=integrated)
        lattices, reflections = integrated
        return record.but(lattices=lattices, peaks=relabelled(peaks, lattices["event"]), reflections=reflections,
                          outcome=Outcome.indexed)


def relabelled(peaks, kept):
    """Peaks whose `lattice` counts the lattices that were `kept`; those of others belong to none."""
    new = np.full(1 + max(peaks["lattice"].max(initial=-1), kept.max(initial=-1)) + 1, -1, np.int32)   # the last: none
    new[kept] = np.arange(len(kept))
    peaks = peaks.copy()
    peaks["lattice"] = new[peaks["lattice"]]
    peaks["hkl"][peaks["lattice"] < 0] = 0
    return peaks


class Clock:
    """Seconds since the last lap."""

    def __init__(self):
        self.began = time.perf_counter()

    def lap(self):
        began, self.began = self.began, time.perf_counter()
        return self.began - began


def median_background(photons):
    """Median of a sample of the good pixels, photons per pixel; NaN where there is none."""
    sample = photons.reshape(-1)[::BACKGROUND_STRIDE]
    sample = sample[np.isfinite(sample)]
    return middle(sample) if len(sample) else float("nan")


def diffraction_limit(peaks):
    """1/d in 1/angstrom within which 95 % of the peaks lie; NaN without peaks."""
    return middle(peaks["resolution"], 0.95) if len(peaks) else float("nan")
