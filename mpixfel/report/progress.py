"""How far a run is: one line on a terminal, lines in a log, `status.json` for other programs."""
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

SECONDS_BETWEEN_LINES = 0.5
SECONDS_BETWEEN_LOG_LINES = 30.0
SECONDS_BETWEEN_STATUS = 2.0
WIDTH = 80


class Counts(NamedTuple):
    """How far a run is; all counts include what an earlier start of the run did."""

    total: int
    done: int = 0
    hits: int = 0
    indexed: int = 0
    failed: int = 0


class Progress:
    """Tells of a run while it runs; made on every rank, speaks on rank 0.

    Parameters
    ----------
    folder : path
        The run directory.
    before : Counts
        What an earlier start of the run did.
    quiet : bool
        Print nothing; `status.json` is written all the same.
    """

    def __init__(self, folder, before, n_ranks=1, quiet=False, stream=None, clock=time.monotonic):
        self.path, self.before, self.n_ranks, self.quiet = Path(folder, "status.json"), before, n_ranks, quiet
        self.clock, self.stream = clock, stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.began = self.shown = clock()
        self.stored = -1e9
        self.started = time.time()
        self.counts = before

    def update(self, done, hits, indexed, failed, state="running"):
        """New counts since this start; shown and stored if it is time."""
        moment = self.clock()
        before = self.before
        self.counts = Counts(before.total, before.done + done, before.hits + hits, before.indexed + indexed,
                             before.failed + failed)
        if moment - self.stored >= SECONDS_BETWEEN_STATUS:
            self.stored = moment
            self.store(state)
        if not self.quiet and moment - self.shown >= self.interval():
            self.shown = moment
            self.show()

    def interval(self):
        return SECONDS_BETWEEN_LINES if self.terminal else SECONDS_BETWEEN_LOG_LINES

    def rate(self):
        """Events a second since this start."""
        seconds = self.clock() - self.began
        return (self.counts.done - self.before.done) / seconds if seconds > 0 else 0.0

    def show(self):
        line = progress_line(self.counts, self.rate())
        self.stream.write(f"\r{line:<{WIDTH - 1}}" if self.terminal else line + "\n")
        self.stream.flush()

    def close(self, state):
        """The last word."""
        if self.terminal and not self.quiet:
            self.show()
            self.stream.write("\n")
        self.store(state)

    def store(self, state, **more):
        """Replace `status.json`; a reader sees the old or the new one, never half of it."""
        rate, left = self.rate(), self.counts.total - self.counts.done
        text = json.dumps({"state": state, **self.counts._asdict(), "events_per_second": round(rate, 3),
                           "seconds_left": round(left / rate) if rate > 0 else None, "started": self.started,
                           "updated": time.time(), "n_ranks": self.n_ranks, "host": os.uname().nodename,
                           "pid": os.getpid(), **more}, indent=1)
        temporary = self.path.with_suffix(".json.part")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError:   # a full disk is found out, and told, where results are written
            pass


def progress_line(counts, rate):
    """Events, hits, indexed, rate, time left."""
    left = counts.total - counts.done
    share = 100.0 * counts.done / counts.total if counts.total else 100.0
    parts = [f"{counts.done}/{counts.total} events ({share:.0f} %)", f"{counts.hits} hits", f"{counts.indexed} indexed"]
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{rate:.1f}/s"] + ([f"{time_text(left / rate)} left"] if rate > 0 and left else [])
    return ", ".join(parts)


def time_text(seconds):
    """12 s, 3 min 20 s, 2 h 5 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
