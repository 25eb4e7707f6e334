"""The rounds in which a run learns from its first events, before everything is processed afresh.

Round 0 looks at images spread over the run: sums of integers, the same for any number of ranks. Rounds 1 and 2 process
events in a fixed order until enough lattices are there, and hand their tables to `stages.learning`. What was learnt is
then frozen. Events are processed in batches that may be larger on more ranks, but what is learnt from ends at the first
event that makes the lattices enough: so the answer does not depend on the number of ranks. Where no cell was given,
what the first hits share comes before: their cells, with which round 1 takes them up again.
"""
from dataclasses import replace

import numpy as np

from mpixfel.errors import BadData, MpixfelError
from mpixfel.model import tables
from mpixfel.model.event import Outcome
from mpixfel.modules.interface import Module
from mpixfel.parallel.collect import join, on_each, on_root
from mpixfel.parallel.schedule import DONE, OWN_COUNTERS, STOP, Schedule
from mpixfel.stages.learning import Tables, learn

IMAGES_OBSERVED = 64
ROUNDS = 2
BATCH = 32
# A run without hits must end its learning, too: so many events for one lattice that is wanted.
EVENTS_PER_LATTICE = 10


def spread(n_events):
    """All positions of a run in an order of which each beginning is spread over the whole run: bit reversal."""
    bits = max(1, int(n_events - 1).bit_length())
    numbers = np.arange(1 << bits)
    reversed_ = np.zeros_like(numbers)
    for b in range(bits):
        reversed_ |= ((numbers >> b) & 1) << (bits - 1 - b)
    return reversed_[reversed_ < n_events]


def learn_from_first(job, chain, context, comm, process, tell=lambda words: None):
    """What the run learns from its first events: a `Learnt`; collective, the same on every rank.

    Parameters
    ----------
    process : callable of position, chain, context -> Record
        `pipeline.attempt` for this run.
    tell : callable of text
        Is told on rank 0 how far it is.
    """
    chain = [module for module in chain if module.learns]
    if not chain:
        return context.learnt
    context = replace(context, rehearsal=True)
    order = spread(len(job.source)) if len(job.source) else np.zeros(0, np.int64)
    if comm.rank == 0:
        tell(f"looking at {min(IMAGES_OBSERVED, len(order))} images for hot and dead pixels")
    context = _observe(job, chain, context, comm, order[:IMAGES_OBSERVED])
    wanted = job.settings.run.learn_hits
    order = order[:EVENTS_PER_LATTICE * wanted]
    if wanted and not context.best_cells:
        begin(chain, context)
        told = lambda events, hits: tell(f"finding the cell: {events} events, {hits} of {wanted} hits")
        records = _process(order, wanted, comm, lambda i: process(i, chain, context), _is_hit, told)
        learnt = on_root(comm, _find_cells, records, chain, context)
        context = context.wiser(learnt) if learnt is not None else context
    for turn in range(ROUNDS if wanted and context.best_cells else 0):
        begin(chain, context)
        told = lambda events, found: tell(f"round {turn + 1} of {ROUNDS}: {events} events, {found} of {wanted} lattices")
        records = _process(order, wanted, comm, lambda i: process(i, chain, context), _lattices, told)
        learnt = on_root(comm, _learn, records, context)
        if learnt is None:
            break
        context = context.wiser(learnt)
    return context.learnt


def begin(chain, context):
    """Let every module prepare itself for the context."""
    for module in chain:
        module.begin(context)


def _observe(job, chain, context, comm, positions):
    """The context with what the modules that observe conclude from images at these positions."""
    for module in chain:
        if type(module).observe is Module.observe:
            continue
        begin(chain, context)
        sums = join(comm, on_each(comm, _observed, module, job.source, positions[comm.rank::comm.size], context), _added)
        context = context.wiser(on_root(comm, lambda: module.conclude(sums, context)))
    return context


def _observed(module, source, positions, context):
    """What a module observes in this rank's share of the images; images that cannot be read teach nothing."""
    sums = {}
    for position in positions:
        try:
            sums = _added(sums, module.observe(source.event(int(position)), None, context))
        except BadData:
            continue
    return sums


def _added(mine, theirs):
    """Sums by name; either may lack a name."""
    return {name: mine[name] + theirs[name] if name in mine and name in theirs else mine.get(name, theirs.get(name))
            for name in {**mine, **theirs}}


def _lattices(record):
    return len(record.lattices)


def _is_hit(record):
    return int(record.outcome is Outcome.hit)


def _process(order, wanted, comm, process, count, told):
    """Records of the beginning of `order` whose `count` adds up to `wanted`, on rank 0, in that order.

    `told(events, counted)` is called on rank 0 before each batch.
    """
    kept, n_counted, first = [], 0, 0
    size = max(BATCH, 4 * comm.size)
    while first < len(order) and n_counted < wanted:
        batch = order[first:first + size]
        if comm.rank == 0:
            told(first, n_counted)
        mine = _my_part(batch, comm, process)
        gathered = comm.gather(mine, root=0)
        if comm.rank == 0:
            for k, record in sorted((pair for part in gathered for pair in part), key=lambda pair: pair[0]):
                if n_counted < wanted:
                    kept.append((int(batch[k]), record))
                    n_counted += count(record)
        n_counted = comm.bcast(n_counted, root=0)
        first += size
    return kept


def _my_part(batch, comm, process):
    """[(place in the batch, record)] of what this rank did of a batch. An error on any rank is raised on all."""
    tally, mine, errors = np.zeros(OWN_COUNTERS, np.int64), [], []
    for k in Schedule(comm, np.arange(len(batch)), tally, largest=1):
        try:
            mine.append((k, lean(process(int(batch[k])))))
        except MpixfelError as error:
            errors.append(error)
            tally[STOP] = 1
        tally[DONE] += 1
    on_each(comm, _raise_first, errors)
    return mine


def _raise_first(errors):
    if errors:
        raise errors[0]


def lean(record):
    """The record without its image."""
    return record.but(image=None, image_key=None)


def _find_cells(records, chain, context):
    """What the first module that finds cells in the records, in event order, makes of them; None where none does."""
    records = [record for _, record in sorted(records, key=lambda pair: pair[0])]
    found = (module.find_cells(records, context) for module in chain)
    return next((learnt for learnt in found if learnt is not None), None)


def _learn(records, context):
    """What `stages.learning` makes of the records in event order; None where there is nothing to learn from."""
    records = [record for _, record in sorted(records, key=lambda pair: pair[0])]
    if not any(len(r.lattices) for r in records):
        return None
    return learn(linked(records), context)


def linked(records):
    """`Tables` of records, with rows that refer to each other as in the run file."""
    events = np.zeros(len(records), tables.EVENT)
    parts = {"peaks": [np.zeros(0, tables.PEAK)], "lattices": [np.zeros(0, tables.LATTICE)],
             "reflections": [np.zeros(0, tables.REFLECTION)]}
    counts = dict.fromkeys(parts, 0)
    for row, record in enumerate(records):
        event = events[row]
        event["source"], event["index"], event["outcome"] = record.id.source, record.id.index, record.outcome
        event["photon_energy"], event["distance"] = record.photon_energy_ev, record.distance_m
        event["n_peaks"], event["n_lattices"] = len(record.peaks), len(record.lattices)
        event["first_peak"], event["first_lattice"] = counts["peaks"], counts["lattices"]
        event["background"], event["resolution"] = record.background, record.resolution
        peaks, lattices, reflections = record.peaks.copy(), record.lattices.copy(), record.reflections.copy()
        peaks["lattice"][peaks["lattice"] >= 0] += counts["lattices"]
        lattices["event"] = row
        lattices["first_reflection"] += counts["reflections"]
        reflections["lattice"] += counts["lattices"]
        for name, rows in (("peaks", peaks), ("lattices", lattices), ("reflections", reflections)):
            parts[name].append(rows)
            counts[name] += len(rows)
    return Tables(events, *(np.concatenate(parts[name]) for name in ("peaks", "lattices", "reflections")))
