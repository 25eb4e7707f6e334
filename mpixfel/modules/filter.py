"""mod_filter, mod_illumination_filter: which shots go on, by their time or by the state of the lasers."""
from dataclasses import dataclass

from mpixfel.errors import MpixfelError
from mpixfel.model import timestamp
from mpixfel.model.event import Outcome, Reason, Skip
from mpixfel.model.timestamp import MILLISECOND_NS
from mpixfel.modules.interface import Module
from mpixfel.modules.shots import LASER, LASER_WAIT_MS, known
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options:
    """Options of mod_filter."""

    timestamps_path: str = option("", "file with a timestamp in each line: 2013-03-01T06:08Z58.401 or "
                                      "20130301060858401",
                                  unit="path")
    timestamps_interval: tuple[str, ...] = option((), "first and last timestamp that go on; None for an open end")
    negate: bool = option(False, "stop what is listed, instead of all else")

    def __post_init__(self):
        check_options(self)
        if bool(self.timestamps_path) == bool(self.timestamps_interval):
            raise MpixfelError("give one of timestamps_path and timestamps_interval", "timestamps_path", "write it")
        if self.timestamps_interval and len(self.timestamps_interval) != 2:
            raise MpixfelError(f"{len(self.timestamps_interval)} timestamps", "timestamps_interval",
                               "give two, or None")


class ModFilter(Module):
    """One instance of mod_filter. Times are compared as the old form has them, in whole milliseconds."""

    Options = Options
    learns = True

    def __init__(self, name, options, settings):
        super().__init__(name, options, settings)
        if options.timestamps_path:
            self.listed = frozenset(t // MILLISECOND_NS for t in read_timestamps(options.timestamps_path))
        else:
            ends = [None if t.lower() == "none" else timestamp.parse(t) // MILLISECOND_NS
                    for t in options.timestamps_interval]
            self.first, self.last = ends

    def event(self, event, record, context):
        if record.id.timestamp_ns < 0:
            raise MpixfelError("the events have no timestamps", self.name,
                               "take mod_filter away, or filter by events = ...")
        moment = record.id.timestamp_ns // MILLISECOND_NS
        if self.options.timestamps_path:
            within = moment in self.listed
        else:
            within = (self.first is None or self.first <= moment) and (self.last is None or moment <= self.last)
        if within == self.options.negate:
            return record.but(skip=Skip("filter", Reason.filtered, timestamp.long_form(record.id.timestamp_ns)),
                              outcome=Outcome.filtered)
        return record


def read_timestamps(path):
    """ns since 1970 of each line; what follows a blank, and lines that begin with #, are left out."""
    try:
        with open(path, encoding="utf-8") as f:
            lines = [line.split() for line in f]
    except OSError as e:
        raise MpixfelError(f"cannot be read: {e.strerror}", path, "check timestamps_path") from None
    found = []
    for number, words in enumerate(lines, 1):
        if words and not words[0].startswith("#"):
            try:
                found.append(timestamp.parse(words[0]))
            except MpixfelError as e:
                raise MpixfelError(e.what, f"{path}:{number}", e.remedy) from None
    return found


@dataclass(frozen=True)
class IlluminationOptions:
    """Options of mod_illumination_filter."""

    illumination: str = option("light", "which shots go on: dark, all lasers off; light, one on; other, neither for "
                                        "long enough", choices=("dark", "light", "other"))
    laser_wait_time: float = option(2000.0, "how long a laser's state must have lasted, where the source tells it",
                                    "ms",
                                    low=0.0)

    def __post_init__(self):
        check_options(self)


class ModIlluminationFilter(Module):
    """One instance of mod_illumination_filter."""

    Options = IlluminationOptions
    learns = True

    def event(self, event, record, context):
        lasers = [n for n in (1, 4) if LASER.format(n) in event.extra]
        if not lasers:
            known(event, LASER.format(1))                 # says what the source has instead
        states = [bool(event.extra[LASER.format(n)]) for n in lasers]
        settled = all(event.extra.get(LASER_WAIT_MS.format(n), float("inf")) >= self.options.laser_wait_time
                      for n in lasers)
        found = "other" if not settled else "light" if any(states) else "dark"
        if found != self.options.illumination:
            return record.but(skip=Skip("illumination", Reason.filtered, found), outcome=Outcome.filtered)
        return record
