"""What would be done: the resolved configuration with the origin of each value, the events, the detector."""
import numpy as np

WIDTH = 80


def dry_run(settings):
    """Print it all; returns the exit code 0. Raises `MpixfelError` for inputs that cannot be read."""
    print("\n".join(configuration_lines(settings)))
    from mpixfel.io.geometry import read_geometry
    from mpixfel.io.sources import open_source
    run = settings.run
    geometry = read_geometry(run.geometry)
    with open_source(run.source, geometry, source=run.source_format, events=run.event_range) as source:
        print(f"\nevents: {len(source)} to process, in {len(source.paths)} file{'s' * (len(source.paths) != 1)}")
        if len(source):
            event = source.event(0)
            lines = detector_lines(geometry.detector, event.clen_m, event.photon_energy_ev)
            print("\n" + "\n".join(["detector and beam, as in the first event:", *lines]))
    return 0


def configuration_lines(settings):
    """`key = value  # origin` of every option, by section; the origins stand under each other."""
    lines = []
    for section, rows in settings.resolved().items():
        lines.append(f"[{section}]")
        for key, row in rows.items():
            left = f"{key} = {as_text(row['value'])}"
            lines.append(f"{left:<{WIDTH // 2}}  # {row['origin']}")
        lines.append("")
    return lines[:-1]


def as_text(value):
    """A value as it is written in a configuration."""
    if isinstance(value, list):
        return " ".join(f'"{v}"' if any(c.isspace() for c in str(v)) else str(v) for v in value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def detector_lines(detector, clen_m, photon_energy_ev):
    """Panels, pixel size, distance, beam centre, and the resolution at the detector's edge and corner."""
    from mpixfel.units import wavelength_angstrom
    wavelength = wavelength_angstrom(photon_energy_ev)
    geometry = detector.geometry(clen_m)
    corners = panel_corners(geometry)
    edge, corner = resolution_limits(corners, wavelength)
    shapes = sorted({tuple(map(int, s)) for s in geometry.shape})
    return [f"  panels         {len(geometry.shape)} of " + ", ".join(f"{fs} x {ss}" for ss, fs in shapes)
            + " pixels (fs x ss)",
            f"  pixel size     {detector.pixel_size_m() * 1e6:.2f} um",
            f"  distance       {corners[:, 2].mean() * 1e3:.3f} mm (mean z of the panels)",
            f"  beam centre    {beam_centre(detector, geometry)}",
            f"  photon energy  {photon_energy_ev:.1f} eV, wavelength {wavelength:.5f} A",
            f"  resolution     {edge:.2f} A at the edge, {corner:.2f} A at the corner" if np.isfinite(edge) else
            f"  resolution     {corner:.2f} A at the corner; the beam passes beside the detector"]


def panel_corners(geometry):
    """(4 P, 3) corners of the panels, m."""
    ss, fs = geometry.shape[:, 0, None], geometry.shape[:, 1, None]
    far_fs, far_ss = geometry.origin + fs * geometry.fs_axis, geometry.origin + ss * geometry.ss_axis
    return np.concatenate([geometry.origin, far_fs, far_ss, far_fs + ss * geometry.ss_axis])


def resolution_limits(corners, wavelength_angstrom):
    """(d at the nearest outer side of the detector, NaN where the beam passes beside it; d at its farthest corner)."""
    def spacing(point):
        angle = np.arctan2(np.hypot(point[0], point[1]), point[2])
        return wavelength_angstrom / (2 * np.sin(angle / 2))

    low, high = corners.min(axis=0), corners.max(axis=0)
    sides = np.array([-low[0], high[0], -low[1], high[1]])
    edge = spacing((sides.min(), 0.0, corners[:, 2].mean())) if sides.min() > 0 else float("nan")
    return edge, min(map(spacing, corners))


def beam_centre(detector, geometry):
    """Where the beam meets the detector, in the pixels of the panel that it hits, or of the nearest."""
    places = []
    for p, panel in enumerate(detector.panels):
        axes = np.column_stack([geometry.fs_axis[p], geometry.ss_axis[p], [0.0, 0.0, -1.0]])
        fs, ss, _ = np.linalg.solve(axes, -geometry.origin[p])
        outside = np.hypot(max(-fs, fs - panel.shape[1], 0.0), max(-ss, ss - panel.shape[0], 0.0))
        places.append((outside, p, fs, ss))
    outside, p, fs, ss = min(places)
    name = f" of panel {detector.panels[p].name}" if len(places) > 1 or outside else ""
    return f"fs {fs:.2f}, ss {ss:.2f}{name}" + (f", {outside:.1f} pixels beside it" if outside else "")
