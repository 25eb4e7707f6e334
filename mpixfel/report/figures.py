"""Figures of a digest in Plotly's own terms: plain dicts, so that neither page nor server need more than its script."""
import numpy as np

from mpixfel.report.images import LATTICE_COLOURS

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = LATTICE_COLOURS[:6]
GREY, DARK = "#9a9a9a", "#333333"
STAGE_COLOURS = (GREY, SKY, BLUE, ORANGE, PINK, GREEN, YELLOW)
OUTCOME_COLOURS = {"miss": "#c8c8c8", "hit": ORANGE, "indexed": BLUE}
FONT = {"family": "system-ui, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif", "size": 13, "color": DARK}


def axis(title, **more):
    """An axis with its title, ticks outside, a light grid."""
    return {"title": {"text": title, "standoff": 8}, "ticks": "outside", "ticklen": 4, "automargin": True,
            "gridcolor": "#ececec", "linecolor": DARK, "zerolinecolor": "#cccccc", "showline": True,
            "exponentformat": "power",
            "minexponent": 5, **more}


def figure(name, title, data, x, y, **layout):
    """{"name", "title", "data", "layout"}."""
    base = {"font": FONT, "paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff", "xaxis": x, "yaxis": y, "height": 340,
            "margin": {"l": 60, "r": 16, "t": 34, "b": 48}, "hovermode": "closest",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}}}
    return {"name": name, "title": title, "data": data, "layout": {**base, **layout}}


def figures(digest):
    """All figures that a digest has numbers for, in the order of the page."""
    made = [rates(digest["along"]), spots(digest["spots"]), *cells(digest["cells"]), *shells(digest["shells"]),
            *residuals(digest["residuals"]), *beam(digest["beam"]), *crystals(digest["crystals"]),
            powder(digest["powder"]), stages(digest["time"]), ranks(digest["time"])]
    return [f for f in made if f]


def rates(along):
    """Hit and indexing rate along the run."""
    seconds = along.get("seconds")
    unit, factor = ("min", 60) if seconds and max(seconds) > 300 else ("s", 1)
    x = [s / factor for s in seconds] if seconds else along["events"]
    line = lambda key, name, colour, dash: {
        "type": "scatter", "mode": "lines+markers" if len(x) < 60 else "lines", "x": x, "name": name,
        "marker": {"size": 5},
        "y": [None if v is None else 100 * v for v in along[key]], "line": {"color": colour, "dash": dash, "width": 2}}
    return figure("rates", "Hits and indexed events along the run",
                  [line("hit_rate", "hits", ORANGE, "dash"), line("indexed_rate", "indexed", BLUE, "solid")],
                  axis(f"time since the first event ({unit})" if seconds else "event"),
                  axis("share of events (%)", rangemode="tozero"))


def bars(edges, counts, name, colour, **more):
    """Histogram bars between edges."""
    edges = np.asarray(edges, float)
    return {"type": "bar", "x": (0.5 * (edges[1:] + edges[:-1])).tolist(), "y": counts,
            "width": np.diff(edges).tolist(),
            "name": name, "marker": {"color": colour, "line": {"width": 0}}, **more}


def spots(spots):
    """Peaks an event, by outcome."""
    data = [bars(spots["edges"], spots[o], o, OUTCOME_COLOURS[o]) for o in ("miss", "hit", "indexed") if sum(spots[o])]
    return figure("spots", "Peaks found in an event", data, axis("peaks (the last bin holds all beyond)"),
                  axis("events"),
                  barmode="stack", bargap=0)


def cells(forms):
    """Histograms of the cell parameters with the fit, and a scatter of cells."""
    return [f for form in forms for f in (cell_histograms(form), cell_scatter(form)) if f]


def cell_histograms(form):
    """Histograms in a grid; parameters that symmetry fixes are named in the title, or leave their place empty."""
    data, notes, layout = [], [], {}
    flat = all(form["fixed"][3:])
    high = 1.0 if flat else 0.42
    for k, name in enumerate(form["names"][:3] if flat else form["names"]):
        suffix = "" if k == 0 else str(k + 1)
        row, column = divmod(k, 3)
        unit = "Å" if k < 3 else "°"
        label = name if k < 3 else {"alpha": "α", "beta": "β", "gamma": "γ"}[name]
        x0, y0 = column * 0.345, 0.0 if flat else 0.56 * (1 - row)
        layout["xaxis" + suffix] = axis(f"{label} ({unit})", domain=[x0, x0 + 0.31], anchor="y" + suffix, nticks=5)
        layout["yaxis" + suffix] = axis("lattices" if column == 0 else "", domain=[y0, y0 + high], anchor="x" + suffix,
                                        rangemode="tozero", nticks=5)
        if form["fixed"][k]:
            notes.append({"text": f"{label} = {form['mean'][k]:g}{unit}, fixed", "showarrow": False, "xref": "paper",
                          "yref": "paper", "x": x0 + 0.155, "y": y0 + 0.21})
            for axes in ("xaxis", "yaxis"):
                layout[axes + suffix]["visible"] = False
            continue
        edges, mean, sigma = np.asarray(form["edges"][k]), form["mean"][k], form["spread"][k]
        data.append(bars(edges, form["counts"][k], label, SKY, xaxis="x" + suffix, yaxis="y" + suffix,
                         showlegend=False))
        grid = np.linspace(edges[0], edges[-1], 161)
        width = edges[1] - edges[0]
        curve = form["lattices"] * width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((grid - mean) / sigma) ** 2)
        data.append({"type": "scatter", "mode": "lines", "x": grid.tolist(), "y": curve.round(3).tolist(),
                     "showlegend": False,
                     "line": {"color": ORANGE, "width": 2}, "hoverinfo": "skip", "xaxis": "x" + suffix,
                     "yaxis": "y" + suffix})
        notes.append({"text": f"{mean:.3f} ± {sigma:.3f}", "showarrow": False, "xref": "paper", "yref": "paper",
                      "x": x0 + 0.005, "y": y0 + high, "xanchor": "left", "yanchor": "bottom", "font": {"size": 12}})
    extra = f", {form['space_group'] or form['lattice_type']}" if form["space_group"] or form["lattice_type"] else ""
    if flat:
        extra += ", " + ", ".join(f"{n} = {m:g}°" for n, m in zip("αβγ", form["mean"][3:]))
    return figure(f"cell-{form['form']}", f"Unit cells of {form['lattices']} lattices{extra}, with the normal fit",
                  data,
                  layout.pop("xaxis"), layout.pop("yaxis"), annotations=notes, height=270 if flat else 430, bargap=0,
                  wide=True, **layout)


def cell_scatter(form):
    """a against b, a against c: clusters show here."""
    a, b, c = form["points"][:3]
    if len(a) < 2:
        return None
    dots = lambda x, y, name, colour, symbol: {"type": "scattergl" if len(x) > 5000 else "scatter", "mode": "markers",
                                               "x": x, "y": y, "name": name,
                                               "marker": {"color": colour, "size": 5 if len(x) > 100 else 7,
                                                          "opacity": 0.6,
                                                          "symbol": symbol}}
    same = np.abs(np.subtract(a, b)).max() < 1e-6 * max(a)
    data = [dots(a, c, "c" if same else "c against a", ORANGE, "circle")]
    if not same:
        data.append({**dots(a, b, "b against a", BLUE, "diamond"), "yaxis": "y2"})
    more = {} if same else {"yaxis2": axis("b (Å)", overlaying="y", side="right", showgrid=False, tickmode="auto")}
    return figure(f"clusters-{form['form']}", "Cells, one point a lattice", data,
                  axis("a = b (Å)" if same else "a (Å)"),
                  axis("c (Å)"), showlegend=not same, **more)


def inverse_axis(low, high):
    """An axis of 1/d whose ticks say d in angstrom."""
    nice = [d for d in (40, 20, 10, 6, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9, 0.8, 0.7,
                        0.6)
            if low <= 1 / d <= high]
    kept = []
    for d in nice:
        if not kept or 1 / d - 1 / kept[-1] > (high - low) / 14:
            kept.append(d)
    ticks, texts = [1 / d for d in kept], [f"{d:g}" for d in kept]
    if len(ticks) < 4:
        ticks = np.linspace(low, high, 9)[1:-1].tolist()
        texts = [f"{1 / t:.2f}" for t in ticks]
    return axis("resolution d (Å)", tickvals=ticks, ticktext=texts, range=[low, high])


def shells(shells):
    """Peaks, crystals and strength by resolution."""
    if not shells or not sum(shells["peaks"]):
        return []
    edges = shells["edges"]
    last = 1 + max(k for name in ("peaks", "reflections", "lattices")
                   for k, n in enumerate(shells[name]) if n or k == 0)
    x = inverse_axis(0, edges[last])
    cut = lambda name: shells[name][:last]
    found = [figure("resolution", "Where peaks are, and how far crystals diffract",
                    [bars(edges[:last + 1], cut("peaks"), "peaks", "#c8c8c8"),
                     {**bars(edges[:last + 1], cut("lattices"), "lattices, by resolution limit", BLUE), "yaxis": "y2",
                      "opacity": 0.75}], x, axis("peaks"), barmode="overlay", bargap=0,
                    yaxis2=axis("lattices", overlaying="y", side="right", showgrid=False, tickmode="auto",
                                rangemode="tozero"))]
    if sum(shells["reflections"]):
        middle = [0.5 * (a + b) for a, b in zip(edges[:last], edges[1:last + 1])]
        found.append(figure("strength", "Integrated reflections by resolution", [
            bars(edges[:last + 1], cut("reflections"), "reflections", "#c8c8c8"),
            {"type": "scatter", "mode": "lines+markers", "x": middle, "y": cut("mean_snr"), "name": "mean I/σ",
             "yaxis": "y2",
             "line": {"color": ORANGE, "width": 2}, "marker": {"size": 5}}], x, axis("reflections"), bargap=0,
            yaxis2=axis("mean I/σ", overlaying="y", side="right", showgrid=False, tickmode="auto", rangemode="tozero")))
    return found


def residuals(residuals):
    """Arrows over the detector, and means by radius."""
    if not residuals:
        return []
    x, y, dx, dy = (np.asarray(residuals[k], float) for k in ("x_mm", "y_mm", "dx_px", "dy_px"))
    length = np.hypot(dx, dy)
    typical = float(np.percentile(length, 90)) or 1.0
    spacing = np.sqrt(max(np.ptp(x), 1) * max(np.ptp(y), 1) / max(len(x), 1))
    factor = spacing / typical
    nan = np.full(len(x), np.nan)
    interleave = lambda a, b: [None if not np.isfinite(v) else round(float(v), 3)
                               for v in np.column_stack([a, b, nan]).ravel()]
    text = [f"{p}: {l:.3f} px, r.m.s. {r:.3f} px, {n} peaks"
            for p, l, r, n in zip(residuals["panel"], length, residuals["rms_px"], residuals["peaks"])]
    data = [{"type": "scatter", "mode": "lines", "x": interleave(x, x + factor * dx),
             "y": interleave(y, y + factor * dy),
             "line": {"color": DARK, "width": 1.5}, "hoverinfo": "skip", "showlegend": False},
            {"type": "scatter", "mode": "markers", "x": x.tolist(), "y": y.tolist(), "text": text, "hoverinfo": "text",
             "showlegend": False,
             "marker": {"size": 8, "color": residuals["rms_px"], "colorscale": "Viridis", "reversescale": True,
                        "colorbar": {"title": {"text": "r.m.s. (px)", "side": "right"}, "thickness": 12}}}]
    title = f"Peaks minus predictions: lines from the dots, {typical:.2g} px drawn as {typical * factor:.1f} mm"
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.06 * (high - low) + spacing
    arrows = figure("residuals", title, data,
                    axis("x (mm), looking along the beam", range=[x.max() + margin, x.min() - margin]),
                    axis("y (mm)", scaleanchor="x"), height=460)
    radius = residuals["by_radius"]
    line = lambda key, name, colour, dash, symbol: {
        "type": "scatter", "mode": "lines+markers", "x": radius["radius_mm"], "y": radius[key], "name": name,
        "line": {"color": colour, "dash": dash}, "marker": {"size": 6, "symbol": symbol}}
    return [arrows, figure("residuals-radius", "Residuals by radius", [
        line("rms", "r.m.s. length", DARK, "solid", "circle"),
        line("radial", "mean outwards", ORANGE, "dash", "square"),
        line("tangential", "mean tangential", BLUE, "dot", "diamond")], axis("distance from the beam (mm)"),
                           axis("pixels"),
        height=460)]


def beam(beam):
    """Shift of the pattern, lattice by lattice, and of the distance."""
    if not beam["n"]:
        return []
    shift = beam["shift_um"]
    mean, spread = beam["mean_um"], beam["spread_um"]
    found = [figure("beam",
                    f"Beam-centre shift, x {mean[0]:.1f} ± {spread[0]:.1f} µm, y {mean[1]:.1f} ± {spread[1]:.1f} µm", [
        {"type": "scatter", "mode": "markers", "x": shift["x"], "y": shift["y"], "showlegend": False,
         "text": [f"event {e:g}" for e in beam["event"]],
         "marker": {"color": BLUE, "size": 5 if len(shift["x"]) > 100 else 7, "opacity": 0.5}}],
        axis("x (µm), looking along the beam", autorange="reversed"), axis("y (µm)", scaleanchor="x"))]
    distance = beam["distance_percent"]
    if distance["n"] > 1:
        found.append(one_histogram("distance", distance, GREEN))
    return found


def one_histogram(name, histogram, colour):
    """A histogram of lattices with its median as a line."""
    unit = f" ({histogram['unit']})" if histogram["unit"] else ""
    title = histogram["title"][0].upper() + histogram["title"][1:]
    x = axis(histogram["title"] + unit)
    if name == "resolution_limit":
        edges = histogram["edges"]
        x, title = inverse_axis(edges[0], edges[-1]), f"Resolution limit, median {1 / histogram['median']:.2f} Å"
    else:
        title += f", median {histogram['median']:.4g} {histogram['unit']}".rstrip()
    line = {"type": "line", "x0": histogram["median"], "x1": histogram["median"], "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": DARK, "dash": "dot", "width": 1.5}}
    return figure(name, title, [bars(histogram["edges"], histogram["counts"], "lattices", colour)], x, axis("lattices"),
                  shapes=[line], height=260, bargap=0)


def crystals(crystals):
    """Histograms of what each lattice was found to be."""
    return [one_histogram(name, h, SKY) for name, h in crystals.items() if h["n"] > 1]


def powder(powder):
    """Radial profiles."""
    if not powder:
        return None
    x, n = powder["inverse_d"], powder["n_images"]
    mean = [None if v is None else v / n for v in powder["sum"]]
    lines = [("mean of the images", mean, BLUE, "solid", "y"),
             ("mean of the maximum", powder["max"], DARK, "dot", "y2")]
    data = [{"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "yaxis": ax,
             "line": {"color": colour, "dash": dash, "width": 1.5}} for name, y, colour, dash, ax in lines]
    if powder.get("peaks") and max(v or 0 for v in powder["peaks"]):
        top, scale = max(v or 0 for v in powder["peaks"]), max(v or 0 for v in mean)
        data.append({"type": "scatter", "mode": "lines", "x": x, "name": "peaks, on a scale of their own",
                     "y": [None if v is None else v * scale / top for v in powder["peaks"]], "hoverinfo": "skip",
                     "line": {"color": ORANGE, "width": 1}})
    return figure("powder", f"Radial profile of {n} images", data, inverse_axis(0, x[-1]),
                  axis("photons a pixel", rangemode="tozero"),
                  yaxis2=axis("maximum (photons)", overlaying="y", side="right", showgrid=False, tickmode="auto",
                              rangemode="tozero"), wide=True)


def stages(time):
    """Milliseconds an event by stage."""
    shown = [k for k, v in enumerate(time["ms_an_event"]) if v]
    return figure("stages", f"Time by stage, {sum(time['ms_an_event']):.1f} ms an event", [
        {"type": "bar", "orientation": "h", "y": [time["stages"][k] for k in shown],
         "x": [time["ms_an_event"][k] for k in shown],
         "text": [f"{time['ms_an_event'][k]:.3g}" for k in shown], "textposition": "auto",
         "marker": {"color": [STAGE_COLOURS[k] for k in shown]}}],
        axis("ms an event"), axis("", autorange="reversed"), showlegend=False)


def ranks(time):
    """Milliseconds an event by rank, stacked by stage; the slowest on the right."""
    ranks = time["ranks"]
    data = [{"type": "bar", "x": [f"{r}" for r in ranks["rank"]], "y": [row[k] for row in ranks["ms_an_event"]],
             "name": stage,
             "marker": {"color": STAGE_COLOURS[k]}} for k, stage in enumerate(time["stages"])
            if any(row[k] for row in ranks["ms_an_event"])]
    return figure("ranks", "Time an event by rank, the slowest last", data, axis("rank", type="category", nticks=20),
                  axis("ms an event"), barmode="stack")
