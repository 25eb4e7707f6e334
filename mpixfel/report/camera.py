"""Calibrated images of a run's events, as the run had them."""
from dataclasses import fields

from mpixfel.errors import MpixfelError
from mpixfel.io.darks import load_constants
from mpixfel.model.event import Skip
from mpixfel.stages.calibration import Calibration


class Camera:
    """Called with a position in the source, returns (Image, Shot).

    Parameters
    ----------
    source : Source
    context : Context
    options : {option: value}
        Of `[calibration]`, as the run had them; {} for the defaults.
    """

    def __init__(self, source, context, options):
        known = {f.name for f in fields(Calibration)}
        self.stage = Calibration(**{name: value for name, value in options.items() if name in known})
        constants = load_constants(self.stage, context.detector)
        if constants is not None:
            from dataclasses import replace
            context = replace(context, constants=constants)
        self.source, self.context = source, context
        self.prepared = self.stage.prepare(context)

    def __call__(self, position):
        event = self.source.event(int(position))
        shot = self.context.shot(event)
        image = self.stage(event, shot, self.prepared)
        if isinstance(image, Skip):
            raise MpixfelError(f"event {position} has no image: {image.reason.name} {image.detail}", event.id.name,
                               "choose another event")
        return image, shot


def camera_of(results, source):
    """The `Camera` of a run."""
    return Camera(source, results.context(source), results.calibration)


def position_of(results, source, row):
    """The position in the source of a row of /events; they differ while a run goes on."""
    if "position" in (results.events.dtype.names or ()):
        return int(results.events["position"][row])
    return int(row) if len(results.events) == len(source) else locate(results.events[row], source)


def locate(event, source):
    """The position of an event in a source, by file and index."""
    for i in range(len(source)):
        ident = source.event_id(i)
        if (ident.source, ident.index) == (event["source"], event["index"]):
            return i
    raise MpixfelError(f"event {event['index']} of file {event['source']} is not in the source any more", "",
                       "restore the file")
