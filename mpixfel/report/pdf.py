"""The report on one printed page."""
import numpy as np

from mpixfel.report.figures import BLUE, DARK, GREEN, ORANGE, OUTCOME_COLOURS, SKY, STAGE_COLOURS
from mpixfel.report.images import draw_stack
from mpixfel.report.page import state_line
from mpixfel.report.status import percent

A4 = (8.27, 11.69)
STYLE = {"font.size": 7, "axes.titlesize": 8, "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
         "lines.linewidth": 1.0, "legend.fontsize": 6, "legend.frameon": False, "pdf.fonttype": 42}


def save_pdf(path, digest, results, stats):
    """Write one A4 page of a digest."""
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=A4)
        FigureCanvasPdf(page)
        header(page, digest)
        grid = page.add_gridspec(5, 3, left=0.07, right=0.945, top=0.865, bottom=0.045, hspace=0.5, wspace=0.52)
        draw = (rates, spots, times, *(cell(k) for k in range(3)), resolution, strength, mosaicity, residual_arrows,
                residual_radius, beam)
        for k, function in enumerate(draw):
            panel(page.add_subplot(grid[k // 3, k % 3]), function, digest)
        panel(page.add_subplot(grid[4, :2]), powder, digest)
        powder_picture(page.add_subplot(grid[4, 2]), results, stats)
        page.savefig(path, format="pdf")


def panel(axes, function, digest):
    """Draw, or say that there is nothing to draw."""
    if function(axes, digest) is False:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", color="#888888")


def header(page, digest):
    """Name, state, key numbers, cells, reasons."""
    s, run = digest["summary"], digest["run"]
    name = run["run"] if len(run["run"]) < 80 else "…" + run["run"][-79:]
    page.text(0.05, 0.965, name, fontsize=12, weight="bold", va="center")
    page.text(0.05, 0.947, state_line(run), fontsize=8, color="#555555", va="center")
    lines = [f"{s['events']} events, {s['hits']} hits ({percent(s['hit_rate'])}), {s['outcomes']['indexed']} indexed "
             f"({percent(s['indexing_rate'])} of hits), {s['lattices']} lattices, {s['reflections']} reflections"]
    for form in digest["cells"][:3]:
        values = "   ".join(f"{m:.3f}" if fixed else f"{m:.3f} ± {d:.3f}"
                            for m, d, fixed in zip(form["mean"], form["spread"], form["fixed"]))
        lines.append(f"cell of {form['lattices']} lattices: {values}")
    if s["reasons"]:
        lines.append("not indexed: "
                     + ", ".join(f"{r['outcome']}, {r['reason']} {r['events']}" for r in s["reasons"][:4]))
    page.text(0.05, 0.932, "\n".join(lines), fontsize=8, va="top", linespacing=1.5)


def rates(axes, digest):
    along = digest["along"]
    x = along.get("seconds") or along["events"]
    axes.plot(x, np.array(along["hit_rate"], float) * 100, "--", color=ORANGE, label="hits")
    axes.plot(x, np.array(along["indexed_rate"], float) * 100, color=BLUE, label="indexed")
    axes.set(xlabel="time since the first event (s)" if "seconds" in along else "event", ylabel="share of events (%)",
             ylim=(0, None), title="Along the run")
    axes.legend()


def spots(axes, digest):
    s, base = digest["spots"], 0
    edges = np.array(s["edges"])
    for name in ("miss", "hit", "indexed"):
        axes.bar(edges[:-1], s[name], np.diff(edges), base, align="edge", color=OUTCOME_COLOURS[name], label=name)
        base = base + np.array(s[name])
    axes.set(xlabel="peaks in an event", ylabel="events", title="Peaks")
    axes.legend()


def times(axes, digest):
    time, left = digest["time"], 0.0
    for k, (stage, ms) in enumerate(zip(time["stages"], time["ms_an_event"])):
        if ms:
            axes.barh(k, ms, color=STAGE_COLOURS[k])
            axes.annotate(f" {ms:.3g}", (ms, k), va="center", fontsize=6)
            left = max(left, ms)
    axes.set_yticks(range(len(time["stages"])), time["stages"])
    axes.invert_yaxis()
    axes.set(xlabel="ms an event", title="Time", xlim=(0, 1.2 * left or 1))


def cell(k):
    """A function that draws the k-th edge of the first form."""
    def draw(axes, digest):
        if not digest["cells"]:
            return False
        form = max(digest["cells"], key=lambda f: f["lattices"])
        name, edges, counts = form["names"][k], np.array(form["edges"][k]), form["counts"][k]
        mean, sigma = form["mean"][k], form["spread"][k]
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SKY)
        if sigma > 0:
            x = np.linspace(edges[0], edges[-1], 200)
            area = form["lattices"] * (edges[1] - edges[0]) / (sigma * np.sqrt(2 * np.pi))
            axes.plot(x, area * np.exp(-0.5 * ((x - mean) / sigma) ** 2), color=ORANGE)
        axes.locator_params(axis="x", nbins=4)
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.set(xlabel=f"{name} (Å)", ylabel="lattices", title=f"{name} = {mean:.3f} ± {sigma:.3f} Å")
        return True
    return draw


def inverse_ticks(axes, low, high):
    """Ticks that say d in angstrom on an axis of 1/d."""
    from mpixfel.report.figures import inverse_axis

    ticks = inverse_axis(low, high)
    axes.set_xticks(ticks["tickvals"], ticks["ticktext"], fontsize=6)
    axes.set_xlim(low, high)
    axes.set_xlabel("resolution d (Å)")


def resolution(axes, digest):
    s = digest["shells"]
    if not s or not sum(s["peaks"]):
        return False
    edges = np.array(s["edges"])
    last = 1 + max(np.flatnonzero(np.array(s["peaks"]) + np.array(s["lattices"])))
    axes.bar(edges[:last], s["peaks"][:last], np.diff(edges[:last + 1]), align="edge", color="#c8c8c8")
    axes.set(ylabel="peaks (grey)", title="Resolution")
    other = axes.twinx()
    other.step(edges[:last], s["lattices"][:last], where="post", color=BLUE)
    other.set_ylabel("lattices by limit (line)", color=BLUE)
    other.set_ylim(0, None)
    inverse_ticks(axes, 0, edges[last])
    return True


def strength(axes, digest):
    s = digest["shells"]
    if not s or not sum(s["reflections"]):
        return False
    edges = np.array(s["edges"])
    last = 1 + max(np.flatnonzero(s["reflections"]))
    axes.bar(edges[:last], s["reflections"][:last], np.diff(edges[:last + 1]), align="edge", color="#c8c8c8")
    axes.set(ylabel="reflections (grey)", title="Integrated reflections")
    other = axes.twinx()
    other.plot(0.5 * (edges[:last] + edges[1:last + 1]), np.array(s["mean_snr"][:last], float), ".-", color=ORANGE)
    other.set_ylabel("mean I/σ (line)", color=ORANGE)
    other.set_ylim(0, None)
    inverse_ticks(axes, 0, edges[last])
    return True


def mosaicity(axes, digest):
    h = digest["crystals"]["half_mosaicity"]
    if not h["n"]:
        return False
    edges = np.array(h["edges"])
    axes.bar(edges[:-1], h["counts"], np.diff(edges), align="edge", color=GREEN)
    axes.locator_params(axis="x", nbins=4)
    axes.set(xlabel="half mosaic spread (°)", ylabel="lattices", title=f"Mosaicity, median {h['median']:.3g}°")
    return True


def residual_arrows(axes, digest):
    r = digest["residuals"]
    if not r:
        return False
    dx, dy = np.array(r["dx_px"]), np.array(r["dy_px"])
    typical = float(np.percentile(np.hypot(dx, dy), 90)) or 1.0
    spacing = np.sqrt(max(np.ptp(r["x_mm"]), 1) * max(np.ptp(r["y_mm"]), 1) / len(dx))
    axes.quiver(r["x_mm"], r["y_mm"], dx, dy, angles="xy", scale_units="xy", scale=typical / spacing, width=0.004,
                color=DARK)
    axes.set_aspect("equal", "datalim")
    axes.invert_xaxis()
    axes.set(xlabel="x (mm), looking along the beam", ylabel="y (mm)",
             title=f"Residuals, longest about {typical:.2g} px")
    return True


def residual_radius(axes, digest):
    r = digest["residuals"]
    if not r:
        return False
    for key, name, style in (("rms", "r.m.s. length", "-"), ("radial", "mean outwards", "--"),
                             ("tangential", "mean tangential", ":")):
        axes.plot(r["by_radius"]["radius_mm"], np.array(r["by_radius"][key], float), style, marker=".", ms=3,
                  label=name,
                  color={"-": DARK, "--": ORANGE, ":": BLUE}[style])
    axes.axhline(0, color="#bbbbbb", lw=0.5)
    axes.set(xlabel="distance from the beam (mm)", ylabel="pixels", title="Residuals by radius")
    axes.legend()
    return True


def beam(axes, digest):
    b = digest["beam"]
    if not b["n"]:
        return False
    axes.plot(b["shift_um"]["x"], b["shift_um"]["y"], ".", ms=2.5, color=BLUE, alpha=0.6, mew=0)
    axes.set_aspect("equal", "datalim")
    axes.invert_xaxis()
    mean = b["mean_um"]
    axes.set(xlabel="x (µm)", ylabel="y (µm)", title=f"Beam shift, median {mean[0]:.1f}, {mean[1]:.1f} µm")
    return True


def powder(axes, digest):
    p = digest["powder"]
    if not p:
        return False
    x = np.array(p["inverse_d"])
    axes.plot(x, np.array(p["sum"], float) / p["n_images"], color=BLUE, label="mean")
    axes.set(ylabel="mean, photons a pixel", ylim=(0, None), title=f"Radial profile of {p['n_images']} images")
    other = axes.twinx()
    other.plot(x, np.array(p["max"], float), ":", color=DARK, label="maximum")
    other.set_ylabel("maximum, photons (dotted)")
    other.set_ylim(0, None)
    inverse_ticks(axes, 0, x[-1])
    return True


def powder_picture(axes, results, stats):
    """The maximum of the images, assembled."""
    from mpixfel.report.digest import typical_shot

    patterns, shot = stats.get("powder"), typical_shot(results)
    if shot is None or not patterns or not patterns["n_images"]:
        axes.set_axis_off()
        return
    draw_stack(axes, patterns["max"], shot, f"Maximum of {int(patterns['n_images'])} images", max_edge=600)
