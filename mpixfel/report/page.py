"""The report as one HTML page that needs nothing else: neither a network nor files beside it."""
import json
from html import escape
from importlib.util import find_spec
from pathlib import Path

from mpixfel.errors import MpixfelError
from mpixfel.report.progress import time_text
from mpixfel.report.status import percent, size_text

WEB = Path(__file__).parent / "web"
POLICY = ("default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
          "base-uri 'none'; form-action 'none'")


def plotly_script():
    """Plotly's script, out of its package (which itself is not imported: that takes a second)."""
    spec = find_spec("plotly")
    path = spec and Path(spec.submodule_search_locations[0], "package_data", "plotly.min.js")
    if not path or not path.is_file():
        raise MpixfelError("the package plotly is not installed", "mpixfel report", "install it: pip install plotly")
    return path.read_text(encoding="utf-8")


def page(digest, figures, samples, powders):
    """The page's text.

    Parameters
    ----------
    digest : of `digest.digest`, with the "advice" of `advice.advise` where there is a diagnosis
    figures : of `figures.figures`
    samples, powders : [{"title", "text", "svg"}]
    """
    data = json.dumps(figures, separators=(",", ":")).replace("<", "\\u003c")
    sections = [("Summary", tiles(digest) + outcome_table(digest["summary"])),
                ("Advice", advice(digest.get("advice"))),
                ("Plots", '<div class="grid">' + "".join(map(slot, figures)) + "</div>"),
                ("Events", toggles() + pictures(samples) if samples else ""),
                ("Powder patterns", pictures(powders) if powders else ""),
                ("How it was run", facts_table(digest)),
                ("Configuration", configuration_tables(digest["configuration"]))]
    body = "".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in sections if text)
    run = digest["run"]
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(str(run['run']))} - mpixfel report</title><style>{web('report.css')}</style></head><body>"
            f"<h1>{escape(str(run['run']))}</h1><p class='where'>{escape(state_line(run))}</p>{body}"
            f'<script type="application/json" id="figures">{data}</script><script>{plotly_script()}</script>'
            f"<script>{web('report.js')}</script></body></html>\n")


def web(name):
    """A file of the folder `web`."""
    return (WEB / name).read_text(encoding="utf-8")


def state_line(run):
    """done, 60 of 60 events, 9 s on 2 ranks of HOST."""
    parts = [str(run["state"]), f"{run['done']} of {run['total']} events"]
    if run["started"] and run["updated"]:
        parts.append(f"{time_text(run['updated'] - run['started'])} on {run['n_ranks']} ranks of {run['host']}")
    return ", ".join(parts)


def tiles(digest):
    """The key numbers, large."""
    s = digest["summary"]
    limit, rmsd = digest["crystals"]["resolution_limit"], digest["crystals"]["rmsd"]
    values = [(f"{s['events']}", "events"), (f"{s['hits']}", f"hits, {percent(s['hit_rate'])} of events"),
              (f"{s['outcomes']['indexed']}", f"indexed, {percent(s['indexing_rate'])} of hits"),
              (f"{s['lattices']}", "lattices"), (f"{s['reflections']}", "reflections"),
              (f"{1 / limit['median']:.2f} Å" if limit["n"] and limit["median"] else "-", "resolution limit, median"),
              (f"{rmsd['median']:.2f} px" if rmsd["n"] else "-", "peaks to predictions, r.m.s., median")]
    return "<div class='tiles'>" + "".join(f"<div class='tile'><b>{escape(v)}</b><span>{escape(t)}</span></div>"
                                           for v, t in values) + "</div>" + cell_table(digest["cells"])


def cell_table(forms):
    """Means and spreads of the cells."""
    if not forms:
        return ""
    head = "".join(f"<th class='n'>{n}</th>" for n in ("a (Å)", "b (Å)", "c (Å)", "α (°)", "β (°)", "γ (°)"))
    rows = "".join(
        f"<tr><td>{escape(f['space_group'] or f['lattice_type'] or 'form ' + str(f['form'] + 1))}</td><td "
        f"class='n'>{f['lattices']}</td>"
        + "".join(f"<td class='n'>{m:.3f}{'' if fixed else f' ± {s:.3f}'}</td>"
                  for m, s, fixed in zip(f["mean"], f["spread"], f["fixed"])) + "</tr>" for f in forms)
    return f"<table><tr><th>cell</th><th class='n'>lattices</th>{head}</tr>{rows}</table>"


def outcome_table(summary):
    """How many events ended where and why, with an example of each."""
    total = max(1, summary["events"])
    rows = [f"<tr><td>indexed</td><td></td><td class='n'>{summary['outcomes']['indexed']}</td>"
            f"<td class='n'>{100 * summary['outcomes']['indexed'] / total:.1f} %</td><td></td></tr>"]
    for r in summary["reasons"]:
        first, _, rest = r["sample_message"].partition("\n")
        example = f"event {r['sample_row']} ({r['sample_name']}): {first}"
        more = f"<details><summary>more</summary><pre>{escape(rest)}</pre></details>" if rest else ""
        rows.append(f"<tr><td>{escape(r['outcome'])}: {escape(r['reason'])}</td><td>{escape(r['instance'])}</td>"
                    f"<td class='n'>{r['events']}</td><td class='n'>{100 * r['events'] / total:.1f} %</td>"
                    f"<td class='text'>{escape(example)}{more}</td></tr>")
    return ("<h3 style='margin-top:18px'>How events ended</h3><table><tr><th>outcome</th><th>stopped by</th>"
            f"<th class='n'>events</th><th class='n'>share</th><th>an example</th></tr>{''.join(rows)}</table>")


def advice(findings):
    """What is suspected to cost lattices, most likely first; "" without a diagnosis."""
    if findings is None:
        return ""
    if not findings:
        return "<p>Nothing is wrong that can be seen from here.</p>"
    rows = "".join(f"<li><b>{escape(f['title'])}</b> <span class='soft'>likelihood {f['likelihood']:.2f}</span><br>"
                   f"{escape(f['text'])}</li>" for f in findings)
    return f"<ol class='advice'>{rows}</ol>"


def slot(figure):
    """Where a figure will be drawn."""
    wide = " wide" if figure["layout"].get("wide") else ""
    return (f"<div class='figure{wide}'><h3>{escape(figure['title'])}</h3>"
            f"<div id='plot-{figure['name']}' style='height:{figure['layout']['height']}px'></div></div>")


def toggles():
    """Switches of the marks on pictures."""
    names = (("peaks", "peaks (squares)"), ("predictions", "predictions (circles, a colour a lattice)"),
             ("rings", "rings"))
    return "<p class='toggles'>" + "".join(f"<label><input type='checkbox' checked value='{n}'> {t}</label>"
                                           for n, t in names) + "click a picture to enlarge it</p>"


def pictures(items):
    """Pictures with their captions."""
    return "<div class='pictures'>" + "".join(
        f"<figure class='picture'><h3>{escape(i['title'])}</h3>{i['svg']}"
        f"<figcaption>{escape(i['text'])}</figcaption></figure>"
        for i in items) + "</div>"


def facts_table(digest):
    """Command, sources, size, warnings."""
    run = digest["run"]
    sources = run["sources"]
    rows = [("command", run["command"]),
            ("sources", ", ".join(sources[:20]) + (f" and {len(sources) - 20} more" * (len(sources) > 20))),
            ("size", size_text(run["bytes"])), ("program", f"mpixfel {digest['program']['version']}"),
            *(("warning", w) for w in run["warnings"])]
    return "<table>" + "".join(f"<tr><td>{n}</td><td class='text'>{escape(str(v))}</td></tr>"
                               for n, v in rows) + "</table>"


def configuration_tables(configuration):
    """Every option with its value and origin; those that are not defaults in bold."""
    out = []
    for section, options in configuration.items():
        if not options:
            continue
        rows = "".join(f"<tr{' class=changed' if item['origin'] not in ('default', '') else ''}><td>{escape(name)}</td>"
                       f"<td class='text'>{escape(shown(item['value']))}</td>"
                       f"<td>{escape(str(item['origin']))}</td></tr>"
                       for name, item in options.items())
        given = sum(item["origin"] not in ("default", "") for item in options.values())
        out.append(f"<details{' open' if given else ''}><summary>[{escape(section)}], {given} of {len(options)} "
                   f"given</summary><table><tr><th>option</th><th>value</th><th>from</th></tr>{rows}</table></details>")
    return "".join(out)


def shown(value):
    """A value as one would write it."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else "" if value is None else str(value)
