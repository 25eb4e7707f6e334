"""mod_dump: the corrected image of each event that reaches it."""
import os
from dataclasses import dataclass

from mpixfel.errors import MpixfelError
from mpixfel.io import metrology
from mpixfel.io.exports import images, parts, stack
from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.names import check_basename, event_stem
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_dump."""

    out_dirname: str = option("out", "folder of the images", unit="path")
    out_basename: str = option("", "what their names begin with")
    out_format: str = option("h5", "format of an image file", choices=images.FORMATS)
    stack: bool = option(False, "gather all images in one CXI file (out_basename + `stack.cxi`), with a geometry "
                                "beside it")
    assembled: bool = option(False, "CSPAD: write the image of old, 1765 x 1765 pixels, the ASICs in whole pixels and "
                                    "right angles, as calib_dir (or else the geometry) places them")

    def __post_init__(self):
        super().__post_init__()
        check_basename(self.out_basename, "out_basename")
        if self.assembled and self.stack:
            raise MpixfelError("assembled images do not fit a stack's geometry", "assembled", "give stack or assembled")


class ModDump(Calibrated):
    """Write images, one file each or all in one CXI file."""

    Options = Options

    part = None

    def begin(self, context):
        super().begin(context)
        self.detector, self.beam = context.detector, context.beam
        if self.options.stack and not self.settings.resume:
            parts.forget(self._path("stack.cxi"))
        if self.options.assembled and not metrology.is_cspad(self.detector):
            raise MpixfelError("assembled images are those of a CSPAD with panels q0a0 ... q3a15", self.name,
                               "take assembled away")
        self.metrology = None

    def event(self, event, record, context):
        record, shot = self.calibrated(event, record, context)
        if record.skip:
            return record
        image = images.corrected_image(record, shot, self.detector, self.options.address)
        if self.options.assembled:
            image = images.as_of_old(image, record.image.photons, self.detector, self._metrology())
        if self.options.stack:
            self.part = self.part or stack.Part(self._path("stack.cxi"), image.block.shape)
            self.part.add(image, record)
        else:
            name = event_stem(record.id) + images.SUFFIX[self.options.out_format]
            images.write_image(self._path(name), image, self.options.out_format)
        return record

    def _metrology(self):
        """Where the ASICs are; read when the first image comes."""
        if self.metrology is None:
            run = self.settings.run
            self.metrology = metrology.of_run(run) if run.calib_dir else metrology.metrology_of(self.detector)
        return self.metrology

    def totals(self):
        """Nothing to add up; but what a segment says is done must be on disk, so the stack's part ends here."""
        self.finish()
        return {}

    def finish(self):
        """Close this rank's part of the stack, before the totals are reduced."""
        if self.part is not None:
            self.part.close()
            self.part = None

    def end(self, totals, context):
        if self.options.stack:
            stack.join(self._path("stack.cxi"), self.detector, self.beam)

    def _path(self, name):
        return os.path.join(self.options.out_dirname, self.options.out_basename + name)
