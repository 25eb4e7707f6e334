"""One run, from settings to the run file; and the way of one event. Read `process_event` first."""
import time
import traceback

import numpy as np

from mpixfel import rounds
from mpixfel.conclusion import conclude
from mpixfel.errors import BadData, MpixfelError
from mpixfel.io.learnt import read_learnt, write_learnt
from mpixfel.io.run_file import RunFile, open_output
from mpixfel.job import copy_inputs, open_job, refuse_other_job
from mpixfel.model.event import EventId, Outcome, Reason, Record, Skip
from mpixfel.parallel.collect import on_root, reduce_arrays
from mpixfel.parallel.deadline import Deadline, TooLong
from mpixfel.parallel.schedule import Schedule
from mpixfel.parallel.world import host
from mpixfel.report.explain import explain
from mpixfel.report.progress import Counts, Progress
from mpixfel.tally import FlushDue, Tally


def process_event(event, chain, context):
    """Take one event as far as it goes. Read this first."""
    record = Record(event.id, event.photon_energy_ev, context.detector.distance_m(event.clen_m))
    for module in chain:
        record = module.event(event, record, context)
        if record.skip:
            return record.but(stopped_by=module.name)
    return record


def run(settings, comm):
    """Process a run as its settings say; every rank returns the same exit code."""
    return process(on_root(comm, open_run, settings), comm)


def process(job, comm):
    """Process every event of the job that is not on disk yet; every rank returns the same exit code."""
    began, tally = time.perf_counter(), Tally()
    with tally.signals, job.source:
        chain, context = prepare(job, comm)
        run_file = RunFile(job.output, comm, job.instances(), len(job.source))
        progress = Progress(job.output, Counts(*on_root(comm, run_file.done)), comm.size, job.settings.verbosity < 0)
        for index in plan(job, comm, run_file, tally, progress):
            take(index, job, chain, context, run_file, tally)
        run_file.flush()
        tally.agree(comm)
        totals = reduce_arrays(comm, {f"{m.name}/{k}": v for m in chain for k, v in m.totals().items()})
        return on_root(comm, conclude, job, context, run_file, totals, tally, progress, time.perf_counter() - began)


def open_run(settings):
    """The `Job` of settings and its output directory; on rank 0."""
    job = open_job(settings)
    open_output(job.output, settings.resume, settings.overwrite)
    if settings.resume:
        refuse_other_job(job)
    copy_inputs(job)
    return job


def prepare(job, comm):
    """The chain of module instances, and the context with what the run has learnt or learns now."""
    chain, context = job.chain(), job.context()
    learnt = on_root(comm, read_learnt, job.output)
    if learnt is not None:
        context = context.wiser(learnt)
        rounds.begin(chain, context)
        return chain, context
    context = rounds.learnt_context(job, chain, context, comm, lambda i, wiser: attempt(i, job, chain, wiser))
    on_root(comm, write_learnt, job.output, context.learnt)
    return chain, context


def plan(job, comm, run_file, tally, progress):
    """The iterator over the positions that this rank is to do."""
    options = job.settings.run
    return Schedule(comm, run_file.missing(), tally.counters, run_file.flush, FlushDue(options),
                    lambda sums: progress.update(*Tally.counts(sums)),
                    lambda sums: Tally.failures(sums) > options.max_failures,
                    job.source.events_per_chunk, options.chunk)


def take(index, job, chain, context, run_file, tally):
    """Do one event and keep its record. An error that the user can repair ends the run, on all ranks in order."""
    began = time.perf_counter()
    try:
        record = attempt(index, job, chain, context)
    except MpixfelError as error:
        tally.end(error)
        return
    run_file.add(record, index)
    tally.count(record, run_file.bytes, time.perf_counter() - began)


def attempt(index, job, chain, context):
    """The record of one event; a failure becomes one, too. Raises `MpixfelError` where no event would fare better."""
    event_id = EventId(-1, -1, f"event {index}")
    began = time.perf_counter()
    try:
        event_id = job.source.event_id(index)
        with Deadline(job.settings.run.event_timeout_s):
            event = job.source.event(index)
            seconds = time.perf_counter() - began
            return consistent(process_event(event, chain, context)).timed("read", seconds)
    except BadData as error:
        return failed(event_id, Reason.bad_data, str(error))
    except TooLong:
        limit = job.settings.run.event_timeout_s
        return failed(event_id, Reason.timeout, f"took longer than {limit:g} s", traceback.format_exc())
    except MpixfelError:
        raise
    except Exception as error:
        where = f"event {event_id.name} (number {index}) on rank {host()}"
        return failed(event_id, Reason.exception, f"{type(error).__name__}: {error}; {where}", traceback.format_exc())


def consistent(record):
    """The record, if its tables refer to each other as they should: a module's mistake must fail its event alone."""
    n, rows = len(record.lattices), record.lattices["n_reflections"]
    if (record.peaks["lattice"].max(initial=-1) >= n or rows.sum() != len(record.reflections)
            or (record.lattices["first_reflection"] != np.cumsum(rows) - rows).any()
            or (record.reflections["lattice"] != np.repeat(np.arange(n), rows)).any()):
        raise ValueError("lattices, peaks and reflections do not refer to each other")
    return record


def failed(event_id, reason, detail, text=""):
    """The record of an event that failed."""
    return Record(event_id, outcome=Outcome.failed, skip=Skip("run", reason, detail), traceback=text)


def explain_event(settings, index):
    """Process one event and tell each step on the terminal; returns the exit code."""
    job = open_job(settings)
    with job.source as source:
        if not 0 <= index < len(source):
            raise MpixfelError(f"there is no event {index}", "--event", f"the run has {len(source)}, counted from 0")
        learnt = read_learnt(job.output)
        context = job.context() if learnt is None else job.context().wiser(learnt)
        chain = job.chain()
        rounds.begin(chain, context)
        explain(source.event(index), chain, context, learnt is not None)
    return 0
