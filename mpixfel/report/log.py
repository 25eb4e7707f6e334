"""The log of a run: `OUT/log/run.log` by rank 0, `OUT/log/warnings.log` for the warnings of the others."""
import json
import logging
import sys
from pathlib import Path

from mpixfel.model.event import Outcome
from mpixfel.model.timestamp import long_form

LOGGER = logging.getLogger("mpixfel")
EVENTS = logging.getLogger("mpixfel.event")   # what happens to single events: in the log, not on the terminal


class Log:
    """While entered, what `logging` hears from mpixfel is written to the run's log.

    Parameters
    ----------
    folder : path
        The run directory.
    rank : int
    form : str
        text, or json: one object a line.
    quiet : bool
        Warnings are not shown on the terminal.
    """

    def __init__(self, folder, rank, form="text", quiet=False):
        path = Path(folder, "log", "run.log" if rank == 0 else "warnings.log")
        file = logging.FileHandler(path, encoding="utf-8", delay=rank != 0)
        file.setLevel(logging.INFO if rank == 0 else logging.WARNING)
        file.setFormatter(Lines(rank) if form == "text" else Objects(rank))
        self.handlers = [file]
        if rank == 0 and not quiet:
            terminal = logging.StreamHandler(sys.stderr)
            terminal.setLevel(logging.WARNING)
            terminal.addFilter(lambda record: record.name != EVENTS.name)
            terminal.setFormatter(logging.Formatter("mpixfel: %(message)s"))
            self.handlers.append(terminal)

    def __enter__(self):
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
        for handler in self.handlers:
            LOGGER.addHandler(handler)
        return self

    def __exit__(self, *exception):
        for handler in self.handlers:
            LOGGER.removeHandler(handler)
            handler.close()
        LOGGER.propagate = True


class Lines(logging.Formatter):
    """Time, rank, level, message; further lines of a message are indented."""

    def __init__(self, rank):
        super().__init__(f"%(asctime)s rank {rank} %(levelname)s %(message)s")

    def format(self, record):
        return super().format(record).rstrip().replace("\n", "\n    ")


class Objects(logging.Formatter):
    """The same as one JSON object a line."""

    def __init__(self, rank):
        super().__init__()
        self.rank = rank

    def format(self, record):
        return json.dumps({"time": self.formatTime(record), "rank": self.rank, "level": record.levelname,
                           "message": record.getMessage()})


def event_line(record, number, rank, threshold, form="text"):
    """One event in one line, for those who grep: in the old system's words, or as a JSON object.

    Parameters
    ----------
    record : Record
    number : int
        The event's position in the run.
    threshold : int
        Least number of peaks of a hit.
    """
    hit = record.outcome in (Outcome.hit, Outcome.indexed)
    if form == "text":
        n = (record.skip.numbers if record.skip else {}).get("peaks", len(record.peaks))   # of a miss, those that count
        moment = long_form(record.id.timestamp_ns) if record.id.timestamp_ns >= 0 else record.id.name
        return (f"Subprocess {rank:02d}: Spotfinder {'YES HIT' if hit else 'NO  HIT'} image #{number:05d} @ {moment}; "
                f"{n} spots {'>=' if n >= threshold else '<'} {threshold}"
                + (f"; {len(record.lattices)} lattices" if len(record.lattices) else ""))
    return json.dumps({"event": number, "name": record.id.name, "rank": rank, "outcome": record.outcome.name,
                       "reason": record.skip.reason.name if record.skip else "none", "stopped_by": record.stopped_by,
                       "peaks": len(record.peaks), "lattices": len(record.lattices),
                       "reflections": len(record.reflections), "seconds": round(sum(record.seconds.values()), 6)})
