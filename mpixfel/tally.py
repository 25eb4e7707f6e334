"""What each rank counts while it works: progress, what modules sum up, and what ends a run before its events do."""
import time

import numpy as np

from mpixfel.io.run_file import STAGES
from mpixfel.io.totals import read_totals
from mpixfel.model.event import Outcome, Reason
from mpixfel.parallel.collect import join
from mpixfel.parallel.deadline import EndSignals
from mpixfel.parallel.schedule import BUSY_US, BYTES, DONE, OWN_COUNTERS, STOP

# Counters beside the schedule's own: events by outcome and by reason, microseconds by stage, lattices and the sums of
# their cells in 1/10000 angstrom or degree.
OUTCOMES = slice(OWN_COUNTERS, OWN_COUNTERS + len(Outcome))
REASONS = slice(OUTCOMES.stop, OUTCOMES.stop + 1 + max(Reason))
TIMES = slice(REASONS.stop, REASONS.stop + len(STAGES))
LATTICES = TIMES.stop
CELL = slice(LATTICES + 1, LATTICES + 7)
N_COUNTERS = CELL.stop
CELL_UNITS = 10000
SEGMENTS_OF_A_RUN = 50


class Tally:
    """Counters of one rank, as `parallel.schedule` takes them, and the wish to end early.

    Attributes
    ----------
    counters : (N_COUNTERS,) int64
    signals : EndSignals
        To be entered while the run runs.
    error : MpixfelError or None
        What ended the work on this rank, after `agree`: on any.
    signal_name : str
        The signal that ended the run, after `agree`; empty for none.
    """

    def __init__(self):
        self.counters = np.zeros(N_COUNTERS, np.int64)
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
        c[OUTCOMES.start + record.outcome] += 1
        c[REASONS.start + (record.skip.reason if record.skip is not None else Reason.none)] += 1
        for k, stage in enumerate(STAGES):
            c[TIMES.start + k] += int(1e6 * record.seconds.get(stage, 0.0))
        if len(record.lattices):
            c[LATTICES] += len(record.lattices)
            c[CELL] += np.rint(CELL_UNITS * record.lattices["cell"]).astype(np.int64).sum(axis=0)

    def take_over(self, events, lattices):
        """Count what an earlier start of the run did; on rank 0."""
        c = self.counters
        c[DONE] = len(events)
        c[OUTCOMES] = np.bincount(events["outcome"], minlength=len(Outcome))
        c[REASONS] = np.bincount(events["reason"], minlength=1 + max(Reason))
        c[TIMES] = [int(1e6 * events[f"time_{stage}"].sum(dtype=float)) for stage in STAGES]
        c[BUSY_US] = c[TIMES].sum()
        c[LATTICES] = len(lattices)
        c[CELL] = np.rint(CELL_UNITS * lattices["cell"]).astype(np.int64).sum(axis=0)

    def agree(self, comm):
        """Let all ranks know of errors and signals of any; collective. Raises the first error."""
        told = comm.allgather((self.error, self.signals.caught))
        self.signal_name = next((name for _, name in told if name), "")
        self.error = next((error for error, _ in told if error is not None), None)
        if self.error is not None:
            raise self.error


def running_values(sums):
    """What `status.json` says, of counters summed over ranks."""
    outcomes, lattices = sums[OUTCOMES], int(sums[LATTICES])
    cell = sums[CELL] / (CELL_UNITS * lattices) if lattices else []
    return {"done": int(sums[DONE]), "hits": int(outcomes[Outcome.hit] + outcomes[Outcome.indexed]),
            "indexed": int(outcomes[Outcome.indexed]), "failed": int(outcomes[Outcome.failed]), "outcomes": {o.name: int(outcomes[o]) for o in Outcome},
            "reasons": {r.name: int(n) for r, n in zip(Reason, sums[REASONS]) if n and r != Reason.none},
            "seconds_by_stage": {stage: float(t) / 1e6 for stage, t in zip(STAGES, sums[TIMES])},
            "lattices": lattices, "cell_mean": [round(float(x), 4) for x in cell]}


def failures(sums):
    """Failed events, of counters summed over ranks."""
    return int(sums[OUTCOMES][Outcome.failed])


class FlushDue:
    """Asked on rank 0 whether a segment is to be written: by time, events or bytes held.

    The time grows with the run, to a fiftieth of what it has lasted: so the number of segments does not, and a crash
    costs at most 2 % of the run.
    """

    def __init__(self, options, done=0, clock=time.monotonic):
        self.interval_s, self.events, self.bytes = options.flush_interval_s, options.flush_events, options.flush_bytes
        self.clock = clock
        self.began = self.last = clock()
        self.done = done

    def __call__(self, sums, largest):
        moment, new = self.clock(), int(sums[DONE]) - self.done
        interval = max(self.interval_s, (moment - self.began) / SEGMENTS_OF_A_RUN)
        due = new > 0 and (moment - self.last >= interval or new >= self.events or largest[BYTES] >= self.bytes)
        if due:
            self.last, self.done = moment, int(sums[DONE])
        return due


class Totals:
    """What modules sum up, over all ranks and all starts of the run. Call it on all ranks: rank 0 gets the sums.

    Parameters
    ----------
    modules : sequence of Module
    folder : path
        The run directory, in which an earlier start of the run may have left its sums.
    """

    def __init__(self, modules, folder, comm):
        self.modules, self.comm = modules, comm
        self.before = read_totals(folder) if comm.rank == 0 else {}

    def __call__(self):
        found = {}
        for module in self.modules:
            totals = join(self.comm, module.totals(), module.merge)
            if totals and self.before.get(module.name):
                totals = module.merge(self.before[module.name], totals)
            if self.comm.rank == 0:
                found[module.name] = totals or self.before.get(module.name, {})
        return found
