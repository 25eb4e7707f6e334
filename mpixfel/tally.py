"""What each rank counts while it works: progress, and what ends a run before its events do."""
import time

import numpy as np

from mpixfel.model.event import Outcome, Reason
from mpixfel.parallel.deadline import EndSignals
from mpixfel.parallel.schedule import BUSY_US, BYTES, DONE, OWN_COUNTERS, STOP

HITS, INDEXED, FAILED, DEFECTS = range(OWN_COUNTERS, OWN_COUNTERS + 4)


class Tally:
    """Counters of one rank, as `parallel.schedule` takes them, and the wish to end early.

    Attributes
    ----------
    counters : (8,) int64
    signals : EndSignals
        To be entered while the run runs.
    error : MpixfelError or None
        What ended the work on this rank, after `agree`: on any.
    signal_name : str
        The signal that ended the run, after `agree`; empty for none.
    """

    def __init__(self):
        self.counters = np.zeros(OWN_COUNTERS + 4, np.int64)
        self.signals = EndSignals(self.wish_end)
        self.error, self.signal_name = None, ""

    def wish_end(self):
        self.counters[STOP] = 1

    def end(self, error):
        """Let the run end with this error."""
        self.error = self.error or error
        self.wish_end()

    def count(self, record, bytes_held, seconds):
        """Count one event's record."""
        c = self.counters
        c[DONE] += 1
        c[BYTES] = bytes_held
        c[BUSY_US] += int(1e6 * seconds)
        c[HITS] += record.outcome in (Outcome.hit, Outcome.indexed)
        c[INDEXED] += record.outcome == Outcome.indexed
        c[FAILED] += record.outcome == Outcome.failed
        c[DEFECTS] += record.skip is not None and record.skip.reason == Reason.exception

    def agree(self, comm):
        """Let all ranks know of errors and signals of any; collective. Raises the first error."""
        told = comm.allgather((self.error, self.signals.caught))
        self.signal_name = next((name for _, name in told if name), "")
        self.error = next((error for error, _ in told if error is not None), None)
        if self.error is not None:
            raise self.error

    @staticmethod
    def counts(sums):
        """(done, hits, indexed, failed) of counters summed over ranks."""
        return int(sums[DONE]), int(sums[HITS]), int(sums[INDEXED]), int(sums[FAILED])

    @staticmethod
    def failures(sums):
        return sums[FAILED]


class FlushDue:
    """Asked on rank 0 whether a segment is to be written: by time, events or bytes held."""

    def __init__(self, options, clock=time.monotonic):
        self.interval_s, self.events, self.bytes = options.flush_interval_s, options.flush_events, options.flush_bytes
        self.clock = clock
        self.last, self.done = clock(), 0

    def __call__(self, sums, largest):
        moment, new = self.clock(), int(sums[DONE]) - self.done
        due = new > 0 and (moment - self.last >= self.interval_s or new >= self.events or largest[BYTES] >= self.bytes)
        if due:
            self.last, self.done = moment, int(sums[DONE])
        return due
