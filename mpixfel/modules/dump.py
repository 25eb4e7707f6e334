"""mod_dump: the corrected image of each event that reaches it."""
import os
from dataclasses import dataclass

from mpixfel.errors import MpixfelError
from mpixfel.io.exports import images, stack
from mpixfel.model import timestamp
from mpixfel.modules.interface import Module
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options:
    """Options of mod_dump."""

    address: str = option("", "detector address, written into the files")
    out_dirname: str = option("out", "folder of the images", unit="path")
    out_basename: str = option("", "what their names begin with")
    out_format: str = option("h5", "format of an image file", choices=images.FORMATS)
    stack: bool = option(False, "gather all images in one CXI file (out_basename + `stack.cxi`), with a geometry beside it")

    def __post_init__(self):
        check_options(self)
        if "/" in self.out_basename or os.sep in self.out_basename or self.out_basename.startswith("."):
            raise MpixfelError(f"{self.out_basename!r} is not a base name", "mod_dump.out_basename",
                               "give the folder in out_dirname")


def file_stem(event_id):
    """What the name of an event's file ends in: the 17-digit timestamp, or source and index where there is none."""
    if event_id.timestamp_ns >= 0:
        return timestamp.digits(event_id.timestamp_ns)
    return f"{event_id.source:03d}-{event_id.index:07d}"


class ModDump(Module):
    """Write images, one file each or all in one CXI file."""

    Options = Options

    def begin(self, context):
        self.detector, self.beam = context.detector, context.beam
        self.part = getattr(self, "part", None)

    def event(self, event, record, context):
        if record.image is None:
            raise MpixfelError("no calibrated image reaches this module", self.name,
                               "put a mod_hitfind before it in `modules`")
        shot = context.shot(event)
        image = images.corrected_image(record, shot, self.detector, self.options.address)
        if self.options.stack:
            self.part = self.part or stack.Part(self._path("stack.cxi"), image.block.shape)
            self.part.add(image, record)
        else:
            name = file_stem(record.id) + images.SUFFIX[self.options.out_format]
            images.write_image(self._path(name), image, self.options.out_format)
        return record

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
