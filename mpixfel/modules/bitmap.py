"""mod_dump_bitmap and mod_view: pictures of the events that reach them."""
import os
from dataclasses import dataclass

import numpy as np

from mpixfel.io.exports.bitmap import SCHEMES, picture, write_bitmap
from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.names import check_basename, event_stem
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class BitmapOptions(ShotOptions):
    """Options of mod_dump_bitmap."""

    out_dirname: str = option("out", "folder of the pictures", unit="path")
    out_basename: str = option("", "what their names begin with")
    binning: int = option(1, "pixels joined along each edge; the largest of them is shown", low=1)
    brightness: float = option(1.0, "the largest value shown is 2.5 times the 90th percentile over this", low=1e-3)
    color_scheme: str = option("greyscale", "colours", choices=tuple(SCHEMES))
    format: str = option("png", "format of the files", choices=("png",))

    def __post_init__(self):
        super().__post_init__()
        check_basename(self.out_basename, "out_basename")


class ModDumpBitmap(Calibrated):
    """One instance of mod_dump_bitmap: a picture for each event."""

    Options = BitmapOptions

    def event(self, event, record, context):
        record, shot = self.calibrated(event, record, context)
        if record.skip is None:
            o = self.options
            path = os.path.join(o.out_dirname, f"{o.out_basename}{event_stem(record.id)}.{o.format}")
            write_bitmap(path, picture(record.image.photons, shot.geometry, o.brightness, o.binning), o.color_scheme)
        return record


@dataclass(frozen=True)
class ViewOptions(ShotOptions):
    """Options of mod_view."""

    out_dirname: str = option("out", "folder of the picture", unit="path")
    out_basename: str = option("view", "its name; .png is added")
    n_collate: int | None = option(None, "shots shown together: the largest value of each pixel; none: as n_update",
                                   low=1)
    n_update: int = option(120, "shots of a rank between two pictures", low=1)

    def __post_init__(self):
        super().__post_init__()
        check_basename(self.out_basename, "out_basename")


class ModView(Calibrated):
    """One instance of mod_view: one picture, which the rank that has seen enough shots replaces."""

    Options = ViewOptions

    def begin(self, context):
        super().begin(context)
        self.seen, self.largest = 0, None

    def event(self, event, record, context):
        record, shot = self.calibrated(event, record, context)
        if record.skip:
            return record
        o = self.options
        self.seen += 1
        left = o.n_update - (self.seen - 1) % o.n_update          # shots to the next picture, with this one
        if left <= (o.n_collate or o.n_update):
            photons = record.image.photons
            self.largest = photons.copy() if self.largest is None else np.fmax(self.largest, photons)
        if left == 1:
            path = os.path.join(o.out_dirname, o.out_basename + ".png")
            write_bitmap(path, picture(self.largest, shot.geometry))
            self.largest = None
        return record
