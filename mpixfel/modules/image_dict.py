"""mod_image_dict: sees to it that events have their corrected image, in `record.image`, for modules of one's own."""
from dataclasses import dataclass

from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.shots import ShotOptions


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_image_dict."""


class ModImageDict(Calibrated):
    """One instance of mod_image_dict."""

    Options = Options
    learns = True

    def event(self, event, record, context):
        return self.calibrated(event, record, context)[0]
