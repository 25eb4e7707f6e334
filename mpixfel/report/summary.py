"""What people see of a run at its end: one table, whose numbers are those of `/stats`."""
import numpy as np

from mpixfel.io.run_file import STAGES
from mpixfel.model.event import Outcome, Reason
from mpixfel.report.progress import WIDTH, time_text

CELL_NAMES = ("a", "b", "c", "alpha", "beta", "gamma")


def table(numbers, instances, seconds, n_ranks, path, notes=()):
    """The table at the end, as text: at most 80 columns. `numbers`: of `report.statistics.key_figures`."""
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
    lines.append(f"{total} events in {time_text(seconds)} on {n_ranks} rank{'s' * (n_ranks != 1)} ({rate:.1f} "
                 "events/s)")
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
