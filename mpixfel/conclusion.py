"""The end of a run: `run.h5`, the statistics, the table, the exit code."""
import json
import textwrap

from mpixfel.io.assemble import assemble
from mpixfel.io.disk import writing
from mpixfel.io.pack import pack
from mpixfel.io.totals import forget_totals
from mpixfel.job import geometry_text
from mpixfel.model.event import Outcome, Reason
from mpixfel.modules.powder import patterns
from mpixfel.parallel.world import host
from mpixfel.report import statistics, summary
from mpixfel.report.cells_found import clusters_line
from mpixfel.report.log import LOGGER
from mpixfel.report.progress import WIDTH
from mpixfel.tally import running_values

PICTURE_SECONDS = 1.0    # pictures of events for the report are made for so long: short runs end soon
ALL_DONE, DEFECT, ENDED_EARLY = 0, 1, 3
STATES = {ALL_DONE: "done", DEFECT: "failed", ENDED_EARLY: "ended early"}


def conclude(job, comm, context, totals, tally, progress, seconds, sums):
    """Write `run.h5`, print the table; returns the exit code. On rank 0.

    Parameters
    ----------
    totals : {module: {name: array}}
    sums : (N_COUNTERS,) int64
        The tally's counters summed over ranks.
    """
    instances, shape = job.instances(), job.geometry.detector.stack_shape
    made = lambda events, lattices, counts, places: {
        **statistics.statistics(events, lattices, counts, instances),
        **statistics.powder(places, *patterns(totals.get("powder", {}), shape), shape)}
    # Of a run that is asked to end while it follows its sources, nobody knows how many events are still to come.
    n_events = -1 if job.grows and tally.signal_name else len(job.source)
    with writing(job.output / "run.h5", comm):
        events, lattices = assemble(job.output, instances, context, geometry_text(job),
                                    described_groups(job, progress.n_ranks), made, n_events, job.grows)
    complete = len(events) == n_events
    if complete:
        forget_totals(job.output)
        if job.settings.run.pack:
            pack(job.output)
    code = exit_code(events, complete, tally)
    progress.close("done" if complete else STATES[code], running_values(sums))
    notes = () if complete else (early_note(tally, len(events), len(job.source)),)
    if progress.n_lost:
        notes += (f"{progress.n_lost} of {progress.n_lost + progress.n_ranks} ranks died; the others did their events",)
    notes += tuple(textwrap.wrap(clusters_line(context.learnt), WIDTH))
    report = write_report(job) if job.settings.run.report else ""
    table = summary.table(statistics.key_figures(events, lattices, instances), instances, seconds, progress.n_ranks,
                          job.output / "run.h5", notes)
    table += f"\nreport: {report}" if report else ""
    LOGGER.info("ended with code %d%s", code, table)
    if job.settings.verbosity >= 0:
        print(table, flush=True)
    return code


def write_report(job):
    """The path of the report; "" where it could not be made: a good run does not fail for its report."""
    try:
        from mpixfel.report.write import write_report as write
        return write(job.output, picture_seconds=PICTURE_SECONDS)
    except Exception as error:
        LOGGER.warning("no report: %s: %s; mpixfel report %s tries again", type(error).__name__, error, job.output)
        return ""


def exit_code(events, complete, tally):
    """0 all done; 1 defects or too many failures; 3 ended early in order."""
    failed = events["outcome"] == Outcome.failed
    if (failed & (events["reason"] == Reason.exception)).any() or not (complete or tally.signal_name):
        return DEFECT
    return ALL_DONE if complete else ENDED_EARLY


def early_note(tally, done, total):
    """Why the run ended before its events did."""
    why = f"by {tally.signal_name}" if tally.signal_name else "because too many events failed"
    return f"ended early {why}: {done} of {total} events are done; --resume goes on"


def described_groups(job, n_ranks):
    """`/config` and `/sources`."""
    settings = job.settings
    names = list(settings.texts)
    return {
        "sources": {"path": (list(map(str, job.source.paths)), "", "files, as `source` numbers them")},
        "config": {
            "run_cfg": (settings.texts[names[0]] if names else "", "", "configuration as given"),
            "resolved": (json.dumps(settings.resolved(), default=str), "", "JSON: every option, its value and origin"),
            "phil": {name: (settings.texts[name], "", "PHIL file as given") for name in names[1:]},
            "argv": (list(settings.argv), "", "command line"),
            "n_ranks": (n_ranks, "", "number of MPI ranks that ended the run"),
            "host": (host(), "", "host of rank 0")}}
