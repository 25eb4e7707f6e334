"""mod_hdf5: the corrected images of the events that reach it in one HDF5 file, a group for each timestamp."""
from dataclasses import dataclass

from mpixfel.errors import MpixfelError
from mpixfel.io.exports import groups, images, parts
from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.names import event_stem
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_hdf5."""

    path: str = option("", "file to write", unit="path")

    def __post_init__(self):
        super().__post_init__()
        if not self.path:
            raise MpixfelError("no path", "path", "write path = FILE.h5")


class ModHdf5(Calibrated):
    """One instance of mod_hdf5."""

    Options = Options
    part = None

    def begin(self, context):
        super().begin(context)
        if not self.settings.resume:
            parts.forget(self.options.path)

    def event(self, event, record, context):
        record, shot = self.calibrated(event, record, context)
        if record.skip:
            return record
        self.part = self.part or groups.Part(self.options.path)
        self.part.add(event_stem(record.id),
                      images.corrected_image(record, shot, context.detector, self.options.address))
        return record

    def totals(self):
        """Nothing to add up; but what a segment says is done must be on disk, so the part ends here."""
        self.finish()
        return {}

    def finish(self):
        if self.part is not None:
            self.part.close()
            self.part = None

    def end(self, totals, context):
        groups.join(self.options.path)
