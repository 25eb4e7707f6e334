"""One run, from settings to the run file; and the way of one event. Read `process_event` first."""
import os
import sys
import time
import traceback
from dataclasses import replace

import numpy as np

from mpixfel import rounds
from mpixfel.conclusion import ENDED_EARLY, conclude
from mpixfel.errors import BadData, MpixfelError
from mpixfel.growth import Growth, wait_for_first
from mpixfel.io.disk import CannotWrite
from mpixfel.io.learnt import read_learnt, write_learnt
from mpixfel.io.run_file import RunFile, is_complete, open_output
from mpixfel.io.segments import Storage, segment_paths
from mpixfel.job import copy_inputs, open_job, refuse_other_job, shared_context
from mpixfel.kernels import ahead
from mpixfel.model.event import EventId, Outcome, Reason, Record, Skip
from mpixfel.modules.powder import IMAGES, Powder
from mpixfel.parallel.collect import on_each, on_root, one_per_node_first, shared_by_node
from mpixfel.parallel.deadline import Deadline, TooLong
from mpixfel.parallel.schedule import DONE, Schedule
from mpixfel.parallel.survive import somebody_died, survivors
from mpixfel.parallel.world import abort, hints, host, leave
from mpixfel.report import log
from mpixfel.report.cells_found import clusters_line
from mpixfel.report.explain import explain
from mpixfel.report.log import Log
from mpixfel.report.progress import Progress
from mpixfel.tally import FlushDue, Tally, Totals, failures, running_values


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
    job = on_root(comm, open_run, settings)
    return process(job, comm) if job is not None else 0


def process(job, comm):
    """Process every event of the job; every rank returns the same exit code.

    When a rank dies and MPI survives it, the others begin again from what is on disk.
    """
    n_ranks = comm.size
    while True:
        try:
            if comm.size < n_ranks and job.grows:
                job = comm.bcast(job, root=0)   # of news some may have heard, and some not
            code = process_missing(job, comm, n_ranks - comm.size)
            break
        except Exception as error:
            if not somebody_died(comm, error):
                end_if_not_writable(error, comm)
                raise
            comm = survivors(comm, job.settings.run.event_timeout_s, ENDED_EARLY)
            if comm.rank == 0:
                print(f"mpixfel: {n_ranks - comm.size} of {n_ranks} ranks died; the others go on", file=sys.stderr, flush=True)
    if comm.size < n_ranks:
        leave(comm, code)
    return code


def end_if_not_writable(error, comm):
    """A file that cannot be written ends all ranks at once, with exit code 2."""
    if isinstance(error, CannotWrite):
        print(f"mpixfel: error: {error}", file=sys.stderr, flush=True)
        abort(comm, 2)


def process_missing(job, comm, n_lost=0):
    """Process every event of the job that is not on disk yet; `n_lost` ranks have died before."""
    began, tally, options = time.perf_counter(), Tally(), job.settings
    with tally.signals, job.source, Log(job.output, comm.rank, options.run.log_format, options.verbosity < 0):
        log.LOGGER.info("%d events of %s on %d ranks, host %s, process %d", len(job.source), ", ".join(job.source.paths[:3]),
                        comm.size, host(), os.getpid())
        chain, context = prepare(job, comm)
        powder = Powder(rounds.spread(len(job.source))[:IMAGES], job.geometry.detector.stack_shape)
        totals = Totals((*chain, powder), job.output, comm)
        run_file = RunFile(job.output, comm, job.instances(), len(job.source), panel_shapes(job), totals,
                           Storage(alignment=options.run.write_alignment, hints=hints(options.run.write_hints)))
        progress = take_over(job, comm, run_file, tally)
        progress.n_lost = n_lost
        schedule = plan(job, comm, run_file, tally, progress)
        for index in schedule:
            take(index, job, chain, context, run_file, tally, powder)
        log.LOGGER.info("rank 0 waited %.2f s, wrote for %.2f s", schedule.waited_s, run_file.write_s)
        return finish(job, comm, chain, context, run_file, tally, progress, began)


def finish(job, comm, chain, context, run_file, tally, progress, began):
    """Write what is left, sum up over ranks, conclude."""
    run_file.flush()
    tally.agree(comm)
    for module in chain:
        on_each(comm, module.finish)
    totals, sums = run_file.totals(), comm.reduce(tally.counters, root=0)
    for module in chain:
        on_root(comm, lambda: module.end(totals[module.name], context))
    return on_root(comm, conclude, job, comm, context, totals, tally, progress, time.perf_counter() - began, sums)


def open_run(settings):
    """The `Job` of settings, with its output directory; None where it is done already. On rank 0."""
    job = open_job(settings)
    open_output(job.output, settings.resume, settings.overwrite)
    if settings.resume:
        refuse_other_job(job)
        if is_complete(job.output) and not (settings.run.follow and segment_paths(job.output)):
            print(f"{job.output} is complete")
            return None
    if job.grows and settings.run.follow:
        wait_for_first(job, read_learnt(job.output) is not None)
    copy_inputs(job)
    return job


def prepare(job, comm):
    """The chain of module instances, and the context with what the run has learnt or learns now."""
    chain, context = on_each(comm, job.chain), shared_context(job, comm)
    learnt = on_root(comm, read_learnt, job.output)
    progress = Progress(job.output, len(job.source), 0, comm.size, job.settings.verbosity < 0)
    if learnt is None and comm.rank == 0:
        progress.learning("loading the compiled kernels")
    if any(module.learns for module in chain):
        compile_ahead(comm)
    one_per_node_first(comm, lambda: compile_kernels(job, chain, context))
    if learnt is None:
        learnt = rounds.learn_from_first(job, chain, context, comm, lambda i, some, wiser: attempt(i, job, some, wiser),
                                         progress.learning)
        on_root(comm, write_learnt, job.output, learnt)
        log.LOGGER.info("learnt from %d events, %d lattices\n%s", learnt.n_events, learnt.n_lattices, clusters_line(learnt))
    context = context.wiser(learnt)
    rounds.begin(chain, context)
    return chain, context


def compile_ahead(comm):
    """Compile the kernels that runs call: each rank of a machine others, for the cache from which all load them."""
    kernels = ahead.listed()
    shared_by_node(comm, len(kernels), lambda number: ahead.compile_kernel(*kernels[number]))


def compile_kernels(job, chain, context):
    """Process an event and forget it: what it calls beside the kernels that are known ahead stands in the cache, too."""
    some, context = [module for module in chain if module.learns], replace(context, rehearsal=True)
    rounds.begin(some, context)
    if some and len(job.source):
        attempt(0, job, some, context)


def take_over(job, comm, run_file, tally):
    """Count what an earlier start has left on disk, on rank 0; the `Progress` from there."""
    events, lattices = on_root(comm, run_file.on_disk)
    if comm.rank == 0:
        tally.take_over(events, lattices)
    return Progress(job.output, len(job.source), len(events), comm.size, job.settings.verbosity < 0)


def plan(job, comm, run_file, tally, progress):
    """The iterator over the positions that this rank is to do."""
    options, failed_before = job.settings.run, failures(tally.counters)
    return Schedule(comm, run_file.missing(), tally.counters, run_file.flush, FlushDue(options, progress.before),
                    lambda sums: progress.update(int(sums[DONE]), lambda: running_values(sums)),
                    lambda sums: failures(sums) - failed_before > options.max_failures,
                    job.source.events_per_chunk, options.chunk,
                    growth=Growth(job, comm, progress) if job.grows else None)


def panel_shapes(job):
    """(P, 2) pixels of each panel in ss, fs."""
    return np.array([p.shape for p in job.geometry.detector.panels], np.int64)


def take(index, job, chain, context, run_file, tally, powder):
    """Do one event and keep its record. An error that the user can repair ends the run, on all ranks in order."""
    began = time.perf_counter()
    try:
        record = attempt(index, job, chain, context)
    except MpixfelError as error:
        tally.end(error)
        return
    powder.add(index, record)
    run_file.add(record, index)
    tell(record, index, job.settings, run_file.comm.rank)
    tally.count(record, run_file.bytes, time.perf_counter() - began)


def decision(settings):
    """What decides on hits: the stage of the first instance that has its own, or that of all."""
    own = next((spec for spec in settings.modules if "hitfinding" in spec.stages), None)
    return (settings.seen_by(own) if own else settings).stage("hitfinding")


def tell(record, index, settings, rank):
    """A failure goes to the log; on request, or with --verbose, there is a line for each event."""
    if record.outcome == Outcome.failed:
        log.EVENTS.warning("%s failed: %s: %s\n%s", record.id.name, record.skip.reason.name, record.skip.detail,
                           record.traceback)
    if settings.run.event_lines:
        print(log.event_line(record, index, rank, decision(settings).least_peaks, settings.run.log_format), flush=True)
    elif settings.verbosity > 0:
        why = f"{record.skip.reason.name} {record.skip.detail}" if record.skip else ""
        print(f"{record.id.name}: {record.outcome.name}, {len(record.peaks)} peaks, {len(record.lattices)} lattices {why}",
              flush=True)


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
    if not n and not len(record.peaks) and not len(record.reflections):
        return record
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
