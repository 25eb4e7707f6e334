"""The state of runs, on one terminal page or one line each; from the run directory alone."""
import os
import shutil
import time

import numpy as np

from mpixfel.io.results import Results
from mpixfel.model.event import Outcome, Reason
from mpixfel.report.progress import time_text
from mpixfel.report.statistics import key_figures

# A run that has not been heard of for so long, and has not ended, is taken to be stuck or dead; what is learnt takes
# longer.
SILENT_S = {"running": 120.0, "learning": 900.0}
BARS = "▁▂▃▄▅▆▇█"
# No colours: blue is dim on black, yellow on white. What needs somebody is in reverse.
STATE_STYLE = {"ended early": "bold reverse", "failed": "bold reverse", "silent": "bold reverse"}


def state_of(run, now=None):
    """What is known of a run (its directory, or its `Results`), as plain numbers and texts: {name: value}, ready for
    JSON.

    Counts come from `status.json`, which is seconds old; cell, reasons and rates along the run from what is on disk.
    """
    results = run if isinstance(run, Results) else Results(run)
    status, events, lattices = results.status, results.events, results.lattices
    now = time.time() if now is None else now
    state = status.get("state", "done" if results.complete else "unknown")
    if now - status.get("updated", now) > SILENT_S.get(state, float("inf")):
        state = "silent"
    figures = key_figures(events, lattices, results.instances or stopped_by_names(events))
    done = status.get("done", len(events))
    hits = status.get("hits", int(np.isin(events["outcome"], (Outcome.hit, Outcome.indexed)).sum()))
    indexed = status.get("indexed", int((events["outcome"] == Outcome.indexed).sum()))
    return {
        "run": str(results.folder), "state": state,
        "learning": status.get("learning", "") if state == "learning" else "",
        "total": status.get("total", len(events)), "done": done,
        "on_disk": len(events), "hits": hits, "indexed": indexed,
        "failed": status.get("failed", int((events["outcome"] == Outcome.failed).sum())),
        "hit_rate": hits / done if done else None, "indexing_rate": indexed / hits if hits else None,
        "events_per_second": status.get("events_per_second"), "seconds_left": status.get("seconds_left"),
        "n_ranks": status.get("n_ranks"), "host": status.get("host"), "started": status.get("started"),
        "updated": status.get("updated"), "age_s": now - status["updated"] if "updated" in status else None,
        "cells": [{"mean": mean.tolist(), "spread": spread.tolist(), "lattices": int(count)} for mean, spread, count
                  in zip(figures["cell_mean"], figures["cell_spread"], figures["cell_count"])],
        "reasons": reasons(events), "along": along(events), "ranks": ranks(events),
        "speeds": speeds(results.written, status.get("started")),
        "warnings": last_warnings(results.folder), "bytes": folder_bytes(results.folder),
        "disk_free_bytes": shutil.disk_usage(results.folder).free,
    }


def stopped_by_names(events):
    """Names of module instances while the run file, which has them, is not there yet."""
    return ("", *(f"module {k}" for k in range(1, 1 + int(events["stopped_by"].max(initial=0)))))


def reasons(events):
    """[(reason, events)] of what did not end indexed, most frequent first."""
    counts = np.bincount(events["reason"], minlength=1)
    found = [(Reason(r).name.replace("_", " "), int(n)) for r, n in enumerate(counts) if n and r]
    return sorted(found, key=lambda pair: -pair[1])


def along(events, n_blocks=60):
    """Hit and indexing rate along the run: {"hits": [...], "indexed": [...]} as shares of events in equal blocks."""
    blocks = np.array_split(events["outcome"], min(n_blocks, max(1, len(events))))
    share = lambda outcomes: [float(np.isin(b, outcomes).mean()) if len(b) else 0.0 for b in blocks]
    return {"hits": share((Outcome.hit, Outcome.indexed)), "indexed": share((Outcome.indexed,))}


def ranks(events):
    """[{"rank", "events", "ms_an_event"}] of each rank; the time is that spent on events, all stages."""
    spent = sum(events[name].astype(float) for name in events.dtype.names if name.startswith("time_"))
    return [{"rank": int(r), "events": int(mine.sum()), "ms_an_event": float(1e3 * spent[mine].mean())}
            for r in np.unique(events["rank"]) for mine in (events["rank"] == r,)]


def speeds(written, started):
    """[events a second] while each segment was filled, oldest first."""
    out, before = [], started
    for moment, n_events in written:
        if before is not None and moment > before:
            out.append(n_events / (moment - before))
        before = moment
    return out


def last_warnings(folder, n=3):
    """The last lines of the run's logs that warn, oldest first."""
    lines = []
    for path in sorted((folder / "log").glob("*")) if (folder / "log").is_dir() else ():
        with open(path, "rb") as f:
            f.seek(max(0, os.path.getsize(path) - 65536))
            text = f.read().decode("utf-8", "replace")
        lines += [line for line in text.splitlines() if "WARNING" in line.upper() or "ERROR" in line.upper()]
    return lines[-n:]


def folder_bytes(folder):
    """Bytes of all files in a run directory."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def spark(values, width):
    """A line of bars, 0 to 1 full scale, at most `width` wide."""
    if not values:
        return ""
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    return "".join(BARS[min(7, int(8 * p.mean()))] for p in parts)


def size_text(n_bytes):
    """1.2 GB"""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000


def percent(share):
    """37.5 %, or - where there is nothing to count."""
    return "-" if share is None else f"{100 * share:.1f} %"


def one_line_each(states, width=80):
    """[text] of runs, a line each, their columns below each other."""
    told = [f"{s['state']:<11} {s['learning']}" if s["learning"] else shares(s) for s in states]
    room = max(8, width - 2 - max(60, *map(len, told)))
    names = [name if len(name) <= room else "…" + name[1 - room:] for name in (s["run"] for s in states)]
    return [f"{name:<{room}}  {text}" for name, text in zip(names, told)]


def shares(state):
    """What a line says of a run that has begun to process."""
    rate = f"{state['events_per_second']:.1f}/s" if state["events_per_second"] else ""
    left = f"{time_text(state['seconds_left'])} left" if state["state"] == "running" and state["seconds_left"] else ""
    share = 100 * state["done"] / state["total"] if state["total"] else 100.0
    return (f"{state['state']:<11} {share:3.0f} % of {state['total']}, hits {percent(state['hit_rate'])}, "
            f"indexed {percent(state['indexing_rate'])} {rate} {left}").rstrip()


def page(state, width=80):
    """A run as a rich renderable, at most `width` wide."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    inner = width - 2
    style = STATE_STYLE.get(state["state"], "bold")
    head = Text.assemble((state["run"], "bold"), "  ", (state["state"], style))
    if state["state"] == "silent":
        head.append(f"  nothing heard for {time_text(state['age_s'])}: look at the job, go on with --resume")
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, state["total"]), completed=state["done"], width=inner))
    parts = [head, bar, *([Text(state["learning"])] if state["learning"] else [])]
    counts = Table.grid(padding=(0, 2))
    counts.add_row("events", f"{state['done']} of {state['total']}", f"({state['on_disk']} on disk)")
    counts.add_row("hits", str(state["hits"]), percent(state["hit_rate"]))
    counts.add_row("indexed", str(state["indexed"]), f"{percent(state['indexing_rate'])} of hits")
    if state["failed"]:
        counts.add_row("failed", str(state["failed"]), "")
    speed = f"{state['events_per_second']:.1f} events/s" if state["events_per_second"] else "-"
    left = f"{time_text(state['seconds_left'])} left" if state["state"] == "running" and state["seconds_left"] else ""
    counts.add_row("rate", speed, left)
    parts.append(counts)
    bar_width = inner - 10
    if len(state["speeds"]) > 1:
        top = max(state["speeds"])
        parts.append(Text(f"{'speed':<9} {spark([s / top for s in state['speeds']], bar_width)}", no_wrap=True))
    for name in ("hits", "indexed") if state["on_disk"] else ():
        parts.append(Text(f"{name:<9} {spark(state['along'][name], bar_width)}", no_wrap=True))
    for cell in state["cells"]:
        values = "  ".join(f"{n} {m:.2f}±{s:.2f}" if s > 1e-6 * m else f"{n} {m:g}"
                           for n, m, s in zip(("a", "b", "c", "α", "β", "γ"), cell["mean"], cell["spread"]))
        parts.append(Text(f"cell ({cell['lattices']}): {values}"))
    if state["reasons"]:
        parts.append(Text("not indexed: " + ", ".join(f"{why} {n}" for why, n in state["reasons"][:6])))
    if state["ranks"]:
        times = [r["ms_an_event"] for r in state["ranks"]]
        if len(times) > 1:
            parts.append(Text(f"{'ranks, ms':<9} {spark([t / max(max(times), 1e-9) for t in times], bar_width)}",
                              no_wrap=True))
        slowest = max(state["ranks"], key=lambda r: r["ms_an_event"])
        parts.append(Text(f"{state['n_ranks'] or len(times)} ranks: {np.median(times):.1f} ms an event (median), "
                          f"slowest rank {slowest['rank']} with {slowest['ms_an_event']:.1f} ms"))
    parts += [Text(f"warning: {line}", overflow="ellipsis", no_wrap=True) for line in state["warnings"]]
    parts.append(Text(f"{size_text(state['bytes'])} written, {size_text(state['disk_free_bytes'])} free"))
    return Group(*parts)
