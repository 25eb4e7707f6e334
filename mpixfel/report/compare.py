"""Two runs side by side: what they found, how well, how fast, and with which settings."""
import json

import numpy as np

from mpixfel.model.event import Outcome
from mpixfel.report.digest import configuration, digest
from mpixfel.report.status import percent

CELL_UNITS = ("Å",) * 3 + ("°",) * 3
LISTED = 12          # events that only one run indexed: so many are named
OF_PLACE = ("output", "report")   # options that say where, not how


def compare(one, other):
    """{section: numbers} of two runs, ready for JSON.

    Parameters
    ----------
    one, other : io.results.Results
    """
    digests = [digest(r) for r in (one, other)]
    return {"runs": [d["run"]["run"] for d in digests], "numbers": numbers(*digests), "events": events(one, other),
            "settings": settings(*(configuration(r) for r in (one, other)))}


def numbers(*digests):
    """[(text, value, value)] of what can be held against each other."""
    get = lambda f: [f(d) for d in digests]
    rows = [("events", *get(lambda d: d["summary"]["events"])), ("hits", *get(lambda d: d["summary"]["hits"])),
            ("hit rate (%)", *get(lambda d: hundred(d["summary"]["hit_rate"]))),
            ("indexed", *get(lambda d: d["summary"]["outcomes"]["indexed"])),
            ("indexed of hits (%)", *get(lambda d: hundred(d["summary"]["indexing_rate"]))),
            ("failed", *get(lambda d: d["summary"]["outcomes"]["failed"])),
            ("lattices", *get(lambda d: d["summary"]["lattices"])),
            ("reflections", *get(lambda d: d["summary"]["reflections"])),
            ("reflections a lattice", *get(lambda d: median(d, "n_integrated"))),
            ("resolution limit, median (Å)", *get(lambda d: inverse(median(d, "resolution_limit")))),
            ("mean I/σ", *get(strength)), ("peaks to predictions (px)", *get(lambda d: median(d, "rmsd"))),
            ("half mosaic spread (°)", *get(lambda d: median(d, "half_mosaicity"))),
            ("mosaic block (Å)", *get(lambda d: median(d, "domain_size"))),
            ("Wilson-like B (Å²)", *get(lambda d: median(d, "b_factor")))]
    for k, (name, unit) in enumerate(zip(("a", "b", "c", "alpha", "beta", "gamma"), CELL_UNITS)):
        for what in ("mean", "spread"):
            rows.append((f"{name} {what} ({unit})", *get(lambda d: main_cell(d, what, k))))
    rows += [(f"{stage}, ms an event", *get(lambda d: d["time"]["ms_an_event"][k]))
             for k, stage in enumerate(digests[0]["time"]["stages"])]
    return rows + [("all stages, ms an event", *get(lambda d: sum(d["time"]["ms_an_event"]))),
                   ("ranks", *get(lambda d: d["run"]["n_ranks"])),
                   ("events a second", *get(lambda d: d["run"]["events_per_second"]))]


def hundred(share):
    return None if share is None else 100 * share


def inverse(value):
    return 1 / value if value else None


def median(digest, name):
    return digest["crystals"][name].get("median")


def main_cell(digest, what, k):
    """Of the form with the most lattices; no spread where symmetry fixes the value."""
    form = max(digest["cells"], key=lambda f: f["lattices"], default=None)
    return None if form is None or (what == "spread" and form["fixed"][k]) else form[what][k]


def strength(digest):
    """Mean I/sigma over all shells."""
    shells = digest["shells"] or {"reflections": [], "mean_snr": []}
    pairs = [(n, s) for n, s in zip(shells["reflections"], shells["mean_snr"]) if s is not None]
    total = sum(n for n, _ in pairs)
    return sum(n * s for n, s in pairs) / total if total else None


def events(one, other):
    """How the events of both ended: {"table": [(outcome, outcome, events)], "only": [names that one run alone
    indexed]}."""
    rows = [{(key, int(e["index"])): (int(e["outcome"]), row) for row, (e, key) in enumerate(zip(r.events, files(r)))}
            for r in (one, other)]
    common = sorted(set(rows[0]) & set(rows[1]))
    pairs = np.array([[rows[k][key][0] for k in (0, 1)] for key in common], int).reshape(-1, 2)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    only = [[r.told(rows[k][key][1])[0] + f" (event {rows[k][key][1]})" for key, pair in zip(common, pairs)
             if pair[k] == Outcome.indexed and pair[1 - k] != Outcome.indexed][:LISTED]
            for k, r in enumerate((one, other))]
    return {"common": len(common), "alone": [len(r) - len(common) for r in rows], "only": only,
            "table": [(Outcome(a).name, Outcome(b).name, int(n)) for (a, b), n in zip(kinds, counts)]}


def files(results):
    """The source file of each event, by name: runs may have been given the same files under other paths."""
    names = [str(p).rsplit("/", 1)[-1] for p in results.job["paths"]]
    return [names[k] if 0 <= k < len(names) else str(k) for k in results.events["source"]]


def settings(one, other):
    """[(section.option, value, value)] of what differs; an option that a run does not have is None."""
    flat = [{f"{section}.{name}": item["value"] for section, options in run.items() for name, item in options.items()
             if name not in OF_PLACE} for run in (one, other)]
    differ = lambda key: json.dumps(flat[0].get(key), default=str) != json.dumps(flat[1].get(key), default=str)
    return [(key, flat[0].get(key), flat[1].get(key)) for key in sorted(set(flat[0]) | set(flat[1])) if differ(key)]


def text(found, width=80):
    """The comparison as lines for a terminal."""
    names = [short(n, 22) for n in found["runs"]]
    lines = [f"{'':<30}{names[0]:>24}{names[1]:>24}"[:width]]
    for name, a, b in found["numbers"]:
        if a or b:
            lines.append(f"{name:<30}{number(a):>24}{number(b):>24}")
    lines += ["", f"{found['events']['common']} events in both"]
    for a, b, n in found["events"]["table"]:
        lines.append(f"  {f'{a} in both' if a == b else f'{a} in A, {b} in B':<40}{n:>10}")
    for which, rest in zip("AB", found["events"]["only"]):
        if rest:
            lines += [f"indexed in {which} alone, for example:"] + ["  " + short(n, width - 3) for n in rest[:LISTED]]
    lines += ["", "settings that differ" if found["settings"] else "the settings are the same"]
    for key, a, b in found["settings"]:
        lines += ["  " + key,
                  *(f"    {which}  " + short(shown(v), width - 8, end=True) for which, v in zip("AB", (a, b)))]
    common = max(1, found["events"]["common"])
    share = [percent(sum(row[2] for row in found["events"]["table"] if row[k] == "indexed") / common) for k in (0, 1)]
    return "\n".join([f"A  {found['runs'][0]}", f"B  {found['runs'][1]}", "", *lines, "",
                      f"indexed of the common events: A {share[0]}, B {share[1]}"])


def short(words, width, end=False):
    """At most so many characters; the beginning, or with `end` the end, is cut."""
    words = str(words)
    if len(words) <= width:
        return words
    return words[:width - 1] + "…" if end else "…" + words[1 - width:]


def shown(value):
    return " ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)


def number(value):
    """Five significant digits, whole numbers whole."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) >= 1 else f"{value:.4g}"
