"""How far a run is: one line on a terminal, lines in a log, `status.json` for other programs."""
import json
import os
import sys
import time
from pathlib import Path

SECONDS_BETWEEN_LINES = 0.5
SECONDS_BETWEEN_LOG_LINES = 30.0
SECONDS_BETWEEN_STATUS = 2.0
WIDTH = 80


class Progress:
    """Tells of a run while it runs; made on every rank, speaks on rank 0.

    Parameters
    ----------
    folder : path
        The run directory.
    total, before : int
        Events of the run, and how many of them an earlier start did.
    quiet : bool
        Print nothing; `status.json` is written all the same.
    """

    def __init__(self, folder, total, before=0, n_ranks=1, quiet=False, stream=None, clock=time.monotonic):
        self.path, self.total, self.before = Path(folder, "status.json"), total, before
        self.n_ranks, self.quiet, self.clock, self.stream = n_ranks, quiet, clock, stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.began = self.shown = clock()
        self.stored = float("-inf")
        self.started = time.time()
        self.n_lost = 0    # ranks that have died
        self.done, self.values = before, {"done": before, "hits": 0, "indexed": 0, "failed": 0}

    def update(self, done, values):
        """New counts; shown and stored if it is time. `values()` gives what there is to tell, by name."""
        moment, self.done = self.clock(), done
        store, show = moment - self.stored >= SECONDS_BETWEEN_STATUS, moment - self.shown >= self.interval()
        if store or show and not self.quiet:
            self.values = values()
        if store:
            self.stored = moment
            self.store("running")
        if show and not self.quiet:
            self.shown = moment
            self.show()

    def learning(self, words):
        """What the run learns just now from its first events, before any is processed for good."""
        moment, self.values = self.clock(), {**self.values, "learning": words}
        self.store("learning")
        if not self.quiet and (self.terminal or moment - self.shown >= self.interval()):
            self.shown = moment
            self._write(f"learning: {words}")

    def interval(self):
        return SECONDS_BETWEEN_LINES if self.terminal else SECONDS_BETWEEN_LOG_LINES

    def rate(self):
        """Events a second since this start."""
        seconds = self.clock() - self.began
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    def show(self):
        self._write(progress_line(self.total, self.values, self.rate()))

    def _write(self, line):
        self.stream.write(f"\r{line:<{WIDTH - 1}}" if self.terminal else line + "\n")
        self.stream.flush()

    def close(self, state, values):
        """The last word."""
        self.done, self.values = values["done"], values
        if self.terminal and not self.quiet:
            self.show()
            self.stream.write("\n")
        self.store(state)

    def store(self, state):
        """Replace `status.json`; a reader sees the old or the new one, never half of it."""
        rate, left = self.rate(), self.total - self.done
        text = json.dumps({"state": state, "total": self.total, **self.values, "events_per_second": round(rate, 3),
                           "seconds_left": round(left / rate) if rate > 0 else None, "started": self.started,
                           "updated": time.time(), "n_ranks": self.n_ranks, "host": os.uname().nodename,
                           "pid": os.getpid()}, indent=1)
        temporary = self.path.with_suffix(".json.part")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError:   # a full disk is found out, and told, where results are written
            pass


def progress_line(total, values, rate):
    """Events, hits, indexed, rate, time left."""
    done, failed = values["done"], values["failed"]
    share = 100.0 * done / total if total else 100.0
    parts = [f"{done}/{total} events ({share:.0f} %)", f"{values['hits']} hits", f"{values['indexed']} indexed"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{rate:.1f}/s"] + ([f"{time_text((total - done) / rate)} left"] if rate > 0 and total > done else [])
    return ", ".join(parts)


def time_text(seconds):
    """12 s, 3 min 20 s, 2 h 5 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
