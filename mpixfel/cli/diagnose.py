"""mpixfel diagnose: why hits of a run were not indexed, and what to do about it, most likely first."""
import json
import shutil
import textwrap

HELP = "why hits were not indexed, and what to do about it"
BAR = 30
PANELS_SHOWN = 16
LEVELS = " .:-=+*#%@"


def add_arguments(parser):
    """Arguments of `mpixfel diagnose`."""
    parser.add_argument("run", metavar="OUT", help="run directory, of a run finished or not")
    parser.add_argument("--all", action="store_true", help="try other beam centres, distances and cells even where "
                                                           "nearly all hits were indexed")
    parser.add_argument("--json", action="store_true", help="for scripts")


def run(args):
    """Print the diagnosis; returns the exit code."""
    from mpixfel.io.results import Results
    from mpixfel.report.advice import diagnose

    results = Results(args.run)
    found = diagnose(results, args.all)
    if args.json:
        print(json.dumps({**found, "findings": [f._asdict() for f in found["findings"]]}, indent=1, default=str))
    else:
        print(text(found, results, max(60, min(120, shutil.get_terminal_size().columns))))
    return 0


def text(found, results, width=80):
    """The diagnosis as lines for a terminal."""
    lines = [f"{found['hits']} hits, {found['indexed']} indexed, {found['without_lattice']} without lattice"]
    lines += reasons(results, width) + shells(found["distributions"]) + panels(found["distributions"])
    lines += beam_map(found["beam_map"]) + scales(found["scale_scan"]) + cells(found["cells"])
    lines += ["", "advice, most likely first" if found["findings"] else "nothing is wrong that can be seen from here"]
    for k, finding in enumerate(found["findings"], 1):
        lines += [f"{k}. {finding.title} (likelihood {finding.likelihood:.2f})",
                  *textwrap.wrap(finding.text, width - 3, initial_indent="   ", subsequent_indent="   ")]
    return "\n".join(lines)


def reasons(results, width):
    """Reasons of the hits without lattice, each with an example."""
    import numpy as np

    from mpixfel.model.event import Outcome, Reason

    events = results.events
    rows = np.flatnonzero((events["outcome"] == Outcome.hit) & (events["reason"] > 0))
    lines = []
    for reason, count in sorted(zip(*np.unique(events["reason"][rows], return_counts=True)), key=lambda x: -x[1]):
        mine = rows[events["reason"][rows] == reason]
        row = int(mine[events["n_peaks"][mine].argmax()])
        name, message = results.told(row)
        first = (str(message).splitlines() or [""])[0]
        lines += [f"  {Reason(reason).name.replace('_', ' ')}: {count}",
                  *textwrap.wrap(f"such as {name}: {first}", width - 6, initial_indent="    ",
                                 subsequent_indent="      ")]
    return lines


def shells(found):
    """Peaks by resolution, and how many of them lattices explain."""
    if not found:
        return []
    rows, top = found["shells"], max(found["shells"]["peaks"]) or 1
    lines = ["", f"peaks of {found['events']} hits by resolution: {found['peaks']}, {found['explained']} explained (#)"]
    for s, n, e in zip(rows["inverse_d"], rows["peaks"], rows["explained"]):
        bar = "#" * round(BAR * e / top) + "." * (round(BAR * n / top) - round(BAR * e / top))
        lines.append(f"  {1 / s:7.2f} A  {bar:<{BAR}} {e:>6} of {n}")
    return lines


def panels(found):
    """The panels on which least is explained."""
    if not found or len(found["panels"]["name"]) < 2:
        return []
    rows = [(e / n, name, e, n)
            for name, n, e in zip(*(found["panels"][k] for k in ("name", "peaks", "explained"))) if n]
    lines = ["", f"peaks by panel, least explained first ({len(rows)} panels with peaks)"]
    return lines + [f"  {name:<16} {e:>6} of {n:<6} {100 * share:5.1f} %"
                    for share, name, e, n in sorted(rows)[:PANELS_SHOWN]]


def beam_map(found):
    """How well patterns are indexed at shifts of the beam, +y up and +x to the right."""
    if not found:
        return []
    score = found["score"]
    top = max(max(row) for row in score) or 1.0
    lines = ["", f"beam centre: score of {found['patterns']} patterns as a function of its shift, in pixels (@ = "
                 f"{top:.0f})"]
    for y, row in reversed(list(zip(found["y_px"], score))):
        lines.append(f"  {y:+7.1f}  " + " ".join(LEVELS[int(max(0.0, v) / top * (len(LEVELS) - 1))] for v in row))
    x = found["x_px"]
    lines.append(f"           x from {x[0]:+.1f} to {x[-1]:+.1f}; best at {found['best_px'][0]:+.2f}, "
                 f"{found['best_px'][1]:+.2f}: {found['indexed_best']} indexed, as given {found['indexed_given']}")
    return lines


def scales(found):
    """How well patterns are indexed at other distances."""
    if not found:
        return []
    top = max(found["score"]) or 1.0
    lines = ["", f"distance: score of {found['patterns']} patterns as a function of its scale (best "
                 f"{found['best']:.4f})"]
    return lines + [f"  {s:.3f}  {'#' * round(BAR * max(0.0, v) / top):<{BAR}} {v:8.1f}  {n} indexed"
                    for s, v, n in list(zip(found["scale"], found["score"], found["indexed"]))[::2]]


def cells(found):
    """Cells that hits without lattice share."""
    if not found:
        return []
    return ["", "cells that hits without lattice share"] + [
        "  " + " ".join(f"{x:8.2f}" for x in c["cell"]) + f"  {c['lattice_type']} {c['centring']}: {c['patterns']} hits"
        for c in found]
