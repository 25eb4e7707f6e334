"""Pictures of detector images: peaks, predictions coloured by lattice, resolution rings, zoomed spots."""
import numpy as np

from mpixfel.report.assemble import assemble, outline_mm, position_mm

# Okabe and Ito's colours, told apart with any colour vision.
LATTICE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def contrast(image, low_percent=1.0, high_percent=99.7):
    """(vmin, vmax) that show weak spots above the background: percentiles of the good pixels.

    White is 0, so that the background is seen, unless the image stands on a pedestal or a strong background.
    """
    good = image[np.isfinite(image)]
    if not good.size:
        return 0.0, 1.0
    low, high = np.percentile(good, (low_percent, high_percent))
    high = max(high, low + 4 * np.sqrt(max(np.median(good), 0.25)))
    return float(0.0 if 0 < low < high / 4 else low), float(high)


def ring_resolutions_angstrom(geometry, wavelength_angstrom, n=4):
    """Round numbers in angstrom for rings spread evenly over the detector, coarse to fine, within reach."""
    radius = np.hypot(*(outline_mm(geometry).reshape(-1, 2).T)).max() * 1e-3
    distance = abs(geometry.origin[:, 2].mean())
    edge = wavelength_angstrom / (2 * np.sin(0.5 * np.arctan2(radius, distance)))
    nice = np.array([1, 1.2, 1.5, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60])
    reach = radius * np.arange(1, n + 1) / (n + 0.4)
    wanted = wavelength_angstrom / (2 * np.sin(0.5 * np.arctan2(reach, distance)))
    rings = {float(nice[np.abs(np.log(nice / d)).argmin()]) for d in wanted if d >= edge}
    return sorted(rings, reverse=True)


def ring_radius_mm(resolution_angstrom, wavelength_angstrom, distance_m):
    """Radius in mm of a resolution ring on a flat detector normal to the beam; NaN beyond reach."""
    sine = wavelength_angstrom / (2 * resolution_angstrom)
    if sine >= np.sin(np.pi / 4):
        return float("nan")
    return 1e3 * distance_m * np.tan(2 * np.arcsin(sine))


def draw_image(axes, image, shot, peaks=None, reflections=None, title="", names=(), window_mm=None, max_edge=2400,
               cell_axes=None, limits=None, show_mask=False):
    """Draw one assembled image on matplotlib axes.

    Parameters
    ----------
    axes : matplotlib Axes
    image : (P, SS, FS) array
        Photons, NaN where bad.
    shot : Shot
    peaks, reflections : PEAK and REFLECTION tables, optional
        Peaks are drawn as squares, predictions as circles in their lattice's colour.
    names : panel names, optional
    window_mm : (x low, x high, y low, y high), optional
    cell_axes : (n, 3, 3), optional
        Reciprocal axes of the lattices, drawn as arrows from the beam's centre.
    limits : (vmin, vmax), optional
        Contrast in photons; chosen from the image where not given.
    show_mask : bool
        Bad pixels are orange; otherwise they look like the gaps between panels.
    """
    picture = assemble(image, shot.geometry, max_edge, window_mm)
    vmin, vmax = limits or contrast(image)
    axes.set_facecolor("#e8e4da")
    axes.imshow(np.ma.masked_invalid(picture.image), extent=picture.extent_mm, cmap="gray_r", vmin=vmin, vmax=vmax,
                interpolation="nearest", origin="upper", aspect="equal")
    if show_mask:
        from matplotlib.colors import ListedColormap

        bad = assemble(np.isnan(image).astype(np.float32), shot.geometry, max_edge, window_mm).image > 0
        axes.imshow(np.ma.masked_equal(bad, False), extent=picture.extent_mm, cmap=ListedColormap(["#E69F00"]),
                    interpolation="nearest", origin="upper", aspect="equal")
    _draw_rings(axes, shot, picture.extent_mm)
    if reflections is not None and len(reflections):
        xy = position_mm(shot.geometry, reflections["panel"], reflections["fs"], reflections["ss"])
        for k in np.unique(reflections["lattice"]):
            mine = reflections["lattice"] == k
            axes.plot(*xy[mine].T, ls="none", marker="o", ms=5, mew=0.6, mfc="none",
                      mec=LATTICE_COLOURS[int(k) % len(LATTICE_COLOURS)], label=f"lattice {int(k) + 1}")
    if peaks is not None and len(peaks):
        xy = position_mm(shot.geometry, peaks["panel"], peaks["fs"], peaks["ss"])
        axes.plot(*xy.T, ls="none", marker="s", ms=7, mew=0.6, mfc="none", mec="black", label="peaks")
    if cell_axes is not None:
        _draw_axes(axes, cell_axes, picture.extent_mm)
    for name, corners in zip(names, outline_mm(shot.geometry)):
        axes.annotate(name, corners[:4].mean(0), fontsize=5, ha="center", va="center",
                      color="#005f73").set_clip_on(True)
    axes.plot(0, 0, "+", color="#7a5195", ms=8)
    axes.set_xlim(picture.extent_mm[0], picture.extent_mm[1])
    axes.set_ylim(picture.extent_mm[2], picture.extent_mm[3])
    axes.set_xlabel("x (mm), looking along the beam")
    axes.set_ylabel("y (mm)")
    axes.set_title(title, fontsize=9)


def _draw_rings(axes, shot, extent_mm):
    """Resolution rings, each with its label where it lies inside the picture."""
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    distance = abs(shot.geometry.origin[:, 2].mean())
    left, right, bottom, top = extent_mm
    for d in ring_resolutions_angstrom(shot.geometry, shot.wavelength_angstrom):
        radius = ring_radius_mm(d, shot.wavelength_angstrom, distance)
        axes.add_patch(Circle((0, 0), radius, fill=False, lw=0.6, ls=(0, (4, 4)), color="#7a5195", alpha=0.9))
        for degrees in (45, 135, 225, 315, 0, 90, 180, 270):
            x, y = -radius * np.cos(np.radians(degrees)), radius * np.sin(np.radians(degrees))
            if right + 0.07 * (left - right) < x < left and bottom < y < top - 0.03 * (top - bottom):
                axes.annotate(f"{d:g} Å", (x, y), fontsize=7, color="#5b2a86", weight="bold",
                              path_effects=[withStroke(linewidth=2, foreground="white")])
                break


def save_profile_picture(path, inverse_d, lines, title):
    """Radial profiles as a PNG; `lines`: {name: photons a pixel against 1/d}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = ("-", "--", ":", "-.")
    for k, (name, values) in enumerate(lines.items()):
        axes.plot(inverse_d, values, styles[k // 7 % 4], lw=1.2, color=LATTICE_COLOURS[k % 7],
                  label=name if k < 12 else None)
    axes.set(xlabel="1/d (1/Å)", ylabel="mean photons a pixel", title=title, xlim=(0, inverse_d[-1]), ylim=(0, None))
    above = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    ticks = [d for d in (20, 10, 6, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1) if 1 / d < inverse_d[-1]]
    above.set_xticks([1 / d for d in ticks], [f"{d:g}" for d in ticks], fontsize=8)
    above.set_xlabel("d (Å)")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def draw_stack(axes, stack, shot, title="", max_edge=1200, percents=(1.0, 99.5)):
    """A panel stack (a sum, a maximum, a map) in its true geometry, with rings."""
    limits = contrast(assemble(stack, shot.geometry, max_edge).image, *percents)
    draw_image(axes, stack, shot, title=title, max_edge=max_edge, limits=limits)


def _draw_axes(axes, cell_axes, extent_mm):
    """Directions of a*, b*, c* of the first lattices, seen along the beam."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    span = 0.18 * abs(extent_mm[0] - extent_mm[1])
    for k, rows in enumerate(np.asarray(cell_axes).reshape(-1, 3, 3)[:3]):
        for name, row in zip(("a*", "b*", "c*"), rows):
            tip = span * row[:2] / np.linalg.norm(row)
            axes.annotate(name, (0, 0), tip, fontsize=9, weight="bold", color=LATTICE_COLOURS[k], zorder=9, ha="center",
                          va="center", path_effects=halo, arrowprops=dict(
                              arrowstyle="<-", color=LATTICE_COLOURS[k], lw=1.5, path_effects=halo, shrinkA=7))


def draw_insets(figure, image, reflections, top, half_width=7, n=6):
    """Zoomed pixels around the strongest and around weak predicted spots: one row each, below `top` of the figure."""
    signal = reflections["intensity"] / np.maximum(reflections["sigma"], 1e-6)
    clean = np.flatnonzero(np.isfinite(signal) & ((reflections["flags"] & 15) == 0))
    order = clean[np.argsort(-signal[clean])]
    weak = order[(signal[order] < 4) & (signal[order] > 1)]
    width, height = figure.get_size_inches()
    side = min(0.92 * width / n, 0.46 * top * height) * 0.82
    for row, chosen in enumerate((order[:n], weak[:: max(1, len(weak) // n)][:n])):
        for column, k in enumerate(chosen):
            left = 0.06 + 0.92 * (column + 0.08) / n
            bottom = top * (0.5 * (1 - row) + 0.02)
            axes = figure.add_axes((left, bottom, side / width, side / height))
            _draw_zoom(axes, image, reflections[k], half_width)


def _draw_zoom(axes, image, reflection, half_width):
    """One spot in its panel's own pixels, a circle at the prediction."""
    fs, ss = int(reflection["fs"]), int(reflection["ss"])
    panel = image[reflection["panel"]]
    box = panel[max(ss - half_width, 0): ss + half_width + 1, max(fs - half_width, 0): fs + half_width + 1]
    left, top = max(fs - half_width, 0), max(ss - half_width, 0)
    vmin, vmax = contrast(box, 5, 99.5)
    axes.imshow(np.ma.masked_invalid(box), extent=(left, left + box.shape[1], top + box.shape[0], top), cmap="gray_r",
                vmin=vmin, vmax=vmax, interpolation="nearest")
    colour = LATTICE_COLOURS[int(reflection["lattice"]) % len(LATTICE_COLOURS)]
    axes.plot(reflection["fs"], reflection["ss"], "o", ms=14, mfc="none", mec=colour, mew=1)
    axes.set_xticks([])
    axes.set_yticks([])
    h, k, l = reflection["hkl"]
    axes.set_title(f"{h} {k} {l}   {reflection['intensity']:.0f}±{reflection['sigma']:.0f}", fontsize=6, pad=2)


def save_event_picture(path, image, shot, peaks=None, reflections=None, title="", dpi=160, **options):
    """One event as a PNG: the whole detector and, where there are reflections, zoomed insets below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    outline = outline_mm(shot.geometry).reshape(-1, 2)
    wide, high = outline.max(0) - outline.min(0)
    insets = 3.0 if reflections is not None and len(reflections) else 0.0
    main = float(np.clip(7.3 * high / wide, 2.5, 9.0))
    figure = Figure(figsize=(8, main + 0.9 + insets))
    FigureCanvasAgg(figure)
    total = main + 0.9 + insets
    axes = figure.add_axes((0.08, (insets + 0.5) / total, 0.9, main / total))
    draw_image(axes, image, shot, peaks, reflections, title, **options)
    if insets or (peaks is not None and len(peaks)):
        axes.legend(loc="upper right", fontsize=7, framealpha=0.8)
    if insets:
        draw_insets(figure, image, reflections, (insets - 0.1) / total)
    figure.savefig(path, dpi=dpi)
