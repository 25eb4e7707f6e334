"""What people see of a run at its end: one table, whose numbers are those of `/stats`."""
import numpy as np

from mpixfel.model.event import Outcome, Reason
from mpixfel.report.progress import WIDTH, time_text

STAGES = ("read", "calibrate", "hitfind", "index", "refine", "integrate", "write")
CELL_NAMES = ("a", "b", "c", "alpha", "beta", "gamma")


def robust_mean(values):
    """(mean, spread) of each column, without the far tails: median and 1.4826 median absolute deviations bound them."""
    values = np.atleast_2d(values)
    median = np.median(values, axis=0)
    mad = 1.4826 * np.median(np.abs(values - median), axis=0)
    near = np.all(np.abs(values - median) <= np.maximum(5 * mad, 1e-3 * np.abs(median) + 1e-9), axis=1)
    kept = values[near] if near.any() else values
    return kept.mean(axis=0), kept.std(axis=0)


def summarise(events, lattices, instances):
    """The numbers of the table, as `/stats` keeps them: {name: array}.

    Parameters
    ----------
    events : EVENT (n,)
    lattices : LATTICE (m,)
    instances : sequence of str
        Names that `stopped_by` numbers.
    """
    outcomes = np.bincount(events["outcome"], minlength=len(Outcome)).astype(np.int64)
    reasons = np.zeros((len(instances), len(Outcome), 1 + max(Reason)), np.int64)
    np.add.at(reasons, (events["stopped_by"], events["outcome"], events["reason"]), 1)
    hits = int(outcomes[Outcome.hit] + outcomes[Outcome.indexed])
    cells = [robust_mean(lattices["cell"][lattices["form"] == form]) + (int((lattices["form"] == form).sum()),)
             for form in np.unique(lattices["form"])]
    return {
        "events_by_outcome": outcomes, "events_by_reason": reasons,
        "hit_rate": hits / max(1, len(events)), "indexing_rate": outcomes[Outcome.indexed] / max(1, hits),
        "n_lattices": len(lattices), "n_reflections": int(lattices["n_reflections"].sum()),
        "cell_mean": np.array([c[0] for c in cells]).reshape(-1, 6),
        "cell_spread": np.array([c[1] for c in cells]).reshape(-1, 6),
        "cell_count": np.array([c[2] for c in cells], np.int64),
        "time_by_stage": np.array([float(events[f"time_{s}"].sum(dtype=float)) for s in STAGES]),
    }


def table(numbers, instances, seconds, n_ranks, path, notes=()):
    """The table at the end, as text: at most 80 columns."""
    outcomes = numbers["events_by_outcome"]
    total = int(outcomes.sum())
    lines = ["", f"{'events':<44}{total:>10}"]
    for outcome in (Outcome.miss, Outcome.hit, Outcome.indexed, Outcome.filtered, Outcome.failed):
        if outcomes[outcome]:
            lines.append(row(f"  {LABEL[outcome]}", outcomes[outcome], total))
        lines += [row(f"    {why}", count, total) for why, count in reason_rows(numbers, instances, outcome)]
    hits = int(outcomes[Outcome.hit] + outcomes[Outcome.indexed])
    lines += ["", row("hits", hits, total), row("indexed of hits", outcomes[Outcome.indexed], hits)]
    lines.append(f"{'lattices':<44}{numbers['n_lattices']:>10}")
    lines.append(f"{'reflections':<44}{numbers['n_reflections']:>10}")
    for mean, spread, count in zip(numbers["cell_mean"], numbers["cell_spread"], numbers["cell_count"]):
        lines += cell_lines(mean, spread, count)
    lines += ["", time_line(numbers["time_by_stage"], total)]
    rate = total / seconds if seconds > 0 else 0.0
    lines.append(f"{total} events in {time_text(seconds)} on {n_ranks} rank{'s' * (n_ranks != 1)} ({rate:.1f} events/s)")
    lines += [*notes, f"results: {path}"]
    return "\n".join(lines)


LABEL = {Outcome.miss: "misses", Outcome.hit: "hits without lattice", Outcome.indexed: "indexed",
         Outcome.filtered: "filtered", Outcome.failed: "failed"}


def reason_rows(numbers, instances, outcome):
    """(text, count) of why events ended with an outcome, most frequent first."""
    counts = numbers["events_by_reason"][:, outcome]
    rows = [(f"{Reason(r).name.replace('_', ' ')}{' (' + instances[k] + ')' if k else ''}", int(counts[k, r]))
            for k, r in zip(*np.nonzero(counts)) if r != Reason.none]
    return sorted(rows, key=lambda pair: -pair[1])


def row(text, count, whole):
    """One line: text, count, share of the whole."""
    share = f"{100.0 * count / whole:>8.1f} %" if whole else ""
    return f"{text:<44.44}{int(count):>10}{share}"


def cell_lines(mean, spread, count):
    """Mean cell and its spread in two lines."""
    return [f"{f'cell, {count} lattices':<22.22}" + "".join(f"{name:>9}" for name in CELL_NAMES),
            f"{'  mean':<22}" + "".join(f"{x:>9.3f}" for x in mean),
            f"{'  spread':<22}" + "".join(f"{x:>9.3f}" for x in spread)]


def time_line(seconds, n_events):
    """Milliseconds an event by stage, in one or two lines."""
    parts = [f"{stage} {1e3 * s / max(1, n_events):.2f}" for stage, s in zip(STAGES, seconds) if s > 0]
    head = "ms an event: "
    lines, line = [], head
    for part in parts:
        if len(line) + len(part) + 2 > WIDTH - 1:
            lines.append(line.rstrip(", "))
            line = " " * len(head)
        line += part + ", "
    return "\n".join(lines + [line.rstrip(", ")])
