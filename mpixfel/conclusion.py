"""The end of a run: `run.h5`, the statistics, the table, the exit code."""
import json
import sys

import numpy as np

from mpixfel.io.assemble import assemble
from mpixfel.job import geometry_text
from mpixfel.parallel.world import host
from mpixfel.model.event import Outcome, Reason
from mpixfel.report import summary
from mpixfel.tally import DEFECTS, FAILED

ALL_DONE, DEFECT, ENDED_EARLY = 0, 1, 3


def conclude(job, context, run_file, totals, tally, progress, seconds):
    """Write `run.h5`, print the table; returns the exit code. On rank 0."""
    instances = job.instances()
    groups = {"config": config_group(job, progress.n_ranks), "sources": {"path": list(map(str, job.source.paths))}}
    path = job.output / "run.h5"
    events, lattices = assemble(job.output, instances, context, geometry_text(job), groups,
                                lambda e, l: summary.summarise(e, l, instances))
    numbers = summary.summarise(events, lattices, instances)
    complete = len(events) == len(job.source)
    code = exit_code(events, complete, tally, job.settings.run.max_failures)
    state = {ALL_DONE: "done", DEFECT: "done" if complete else "failed", ENDED_EARLY: "ended early"}[code]
    progress.close(state)
    if job.settings.verbosity >= 0:
        notes = () if complete else (early_note(tally, len(events), len(job.source)),)
        print(summary.table(numbers, instances, seconds, progress.n_ranks, path, notes), flush=True)
    return code


def exit_code(events, complete, tally, max_failures):
    """0 all done; 1 defects or too many failures; 3 ended early in order."""
    failed = events["outcome"] == Outcome.failed
    if (failed & (events["reason"] == Reason.exception)).any() or failed.sum() > max_failures:
        return DEFECT
    return ALL_DONE if complete else ENDED_EARLY


def early_note(tally, done, total):
    """Why the run ended before its events did."""
    why = f"by {tally.signal_name}" if tally.signal_name else "because too many events failed"
    return f"ended early {why}: {done} of {total} events are done; --resume goes on"


def config_group(job, n_ranks):
    """What `/config` holds."""
    settings = job.settings
    names = list(settings.texts)
    return {"run_cfg": settings.texts[names[0]] if names else "", "resolved": json.dumps(settings.resolved(), default=str),
            "phil": {name: settings.texts[name] for name in names[1:]}, "argv": list(settings.argv) or [""],
            "n_ranks": n_ranks, "host": host()}
