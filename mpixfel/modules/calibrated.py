"""What all modules share that need the calibrated image: they take over that of an earlier instance, or make it."""
import time

from mpixfel.model.event import Outcome, Skip
from mpixfel.modules.interface import Module


class Calibrated(Module):
    """A module that sees the calibrated image of each event that reaches it, whether or not a mod_hitfind came before.

    An image that an earlier instance has made is taken over, unless this instance's section asks for another
    calibration. Options are `ShotOptions`; `self.calibration` is the stage.
    """

    def __init__(self, name, options, settings):
        super().__init__(name, options, settings)
        self.calibration = settings.stage("calibration")
        self.special = any(key.startswith("calibration.") for key in settings.origins.get(name, {}))
        self.context = self.prepared = None

    def begin(self, context):
        self.context, self.prepared = context.calibrated_by(self.calibration), None

    def calibrated(self, event, record, context):
        """(record with the image in it, or with `skip` set; `Shot`)."""
        record, shot = self.options.shot(event, record, context)
        if record.skip:
            return record, shot
        if record.image is not None and not (self.special and record.image_key[0] != self.calibration):
            return record, shot
        began = time.perf_counter()
        if self.prepared is None:                        # most instances never need it
            self.prepared = self.calibration.prepare(self.context)
        image = self.calibration(event, shot, self.prepared)
        record = record.timed("calibrate", time.perf_counter() - began)
        if isinstance(image, Skip):
            return record.but(skip=image, outcome=Outcome.filtered), shot
        return record.but(image=image, image_key=(self.calibration, None)), shot
