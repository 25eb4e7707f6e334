"""Writes CrystFEL geometry files that read back to the same panels."""
import numpy as np

from mpixfel.io.geometry.layout import Block, Layout, PanelLayout, Quantity
from mpixfel.io.geometry.reader import FWHM_PER_SIGMA

# Said for each panel, though they may be equal: a panel exists by being mentioned.
OWN_KEYS = {"min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss"}


def write_geometry(detector, beam, clen_m, photon_energy_ev, layout=None):
    """The text of a CrystFEL geometry.

    Parameters
    ----------
    detector : Detector
    beam : Beam
    clen_m, photon_energy_ev : float or None
        Literal values; None: what `layout` says (a path in the data files, or its own literal).
    layout : Layout, optional
        Where data, masks and per-event values are. Without it: `/entry/data/data`, events along the first axis, and
        the block's number along the second where there are several blocks.

    Returns
    -------
    str
    """
    layout = layout or _plain_layout(detector)
    lines = [*_beam_lines(beam, clen_m, photon_energy_ev, layout)]
    for name, members in layout.groups.items():
        lines.append(f"group_{name} = {','.join(members)}")
    pixel_m = float(np.linalg.norm(detector.panels[0].fs_axis_m))
    panels = {panel.name: _panel_keys(panel, where, layout, pixel_m)
              for panel, where in zip(detector.panels, layout.panels, strict=True)}
    # What all panels share is said once, above them.
    shared = set(dict(set.intersection(*(set(keys.items()) for keys in panels.values())))) - OWN_KEYS
    first = next(iter(panels.values()))
    lines += ["", *(f"{key} = {value}" for key, value in first.items() if key in shared)]
    for name, keys in panels.items():
        lines += ["", *(f"{name}/{key} = {keys[key]}" for key in keys if key not in shared)]
    for region in layout.regions:
        lines += ["", *_region_lines(region)]
    return "\n".join(lines) + "\n"


def _plain_layout(detector):
    count = 1 + max(panel.block for panel in detector.panels)
    dims = [("%", "ss", "fs") if count == 1 else ("%", block, "ss", "fs") for block in range(count)]
    return Layout(tuple(Block("/entry/data/data", d) for d in dims), tuple(PanelLayout() for _ in detector.panels),
                  Quantity(), Quantity())


def _number(value):
    """The shortest text that reads back to the same float."""
    return repr(float(value))


def _quantity(literal, literal_unit, quantity):
    if literal is not None:
        return f"{_number(literal)} {literal_unit}"
    return f"{quantity.path or _number(quantity.number)} {quantity.unit}"


def _beam_lines(beam, clen_m, photon_energy_ev, layout):
    word = "photon_energy"
    if photon_energy_ev is None and layout.photon_energy.is_wavelength:
        word = "wavelength"
    yield f"{word} = {_quantity(photon_energy_ev, 'eV', layout.photon_energy)}"
    yield f"clen = {_quantity(clen_m, 'm', layout.clen)}"
    if beam.bandwidth_fwhm > 0:
        yield f"bandwidth = {_number(beam.bandwidth_fwhm / FWHM_PER_SIGMA)}"
    # A literal shift is in the panels' origins already.
    for axis, shift in (("x", layout.shift_x), ("y", layout.shift_y)):
        if shift.path:
            yield f"detector_shift_{axis} = {shift.path} {shift.unit}"
    if layout.peak_list:
        yield f"peak_list = {layout.peak_list}"
    if layout.peak_list_type:
        yield f"peak_list_type = {layout.peak_list_type}"


def _vector(axis, res):
    return " ".join(f"{component * res:+.17g}{name}" for component, name in zip(axis, "xyz"))


def _panel_keys(panel, where, layout, pixel_m):
    # Any scale would do, as fs and ss are not normalised: that of the first panel, where pixels are about as large.
    own_m = float(np.linalg.norm(panel.fs_axis_m))
    res = 1.0 / (pixel_m if abs(own_m / pixel_m - 1) < 1e-3 else own_m)
    block = layout.blocks[panel.block]
    keys = {
        "data": block.path, **{f"dim{n}": axis for n, axis in enumerate(block.dims)},
        "min_fs": panel.min_fs, "max_fs": panel.min_fs + panel.shape[1] - 1,
        "min_ss": panel.min_ss, "max_ss": panel.min_ss + panel.shape[0] - 1,
        "res": _number(res), "corner_x": _number(panel.origin_m[0] * res), "corner_y": _number(panel.origin_m[1] * res),
        "coffset": _number(panel.origin_m[2]), "fs": _vector(panel.fs_axis_m, res), "ss": _vector(panel.ss_axis_m, res),
    }
    if panel.adu_per_photon is not None:
        keys["adu_per_photon"] = _number(panel.adu_per_photon)
    else:
        keys["adu_per_eV"] = _number(panel.adu_per_ev)
    for key, value, absent in (("max_adu", panel.max_adu, np.inf), ("flag_lessthan", panel.flag_less_than, -np.inf),
                               ("flag_morethan", panel.flag_more_than, np.inf)):
        if value != absent:
            keys[key] = _number(value)
    if not np.isnan(panel.flag_equal):
        keys["flag_equal"] = _number(panel.flag_equal)
    keys.update(_layout_keys(where))
    return keys


def _layout_keys(where):
    keys = {}
    for n, mask in zip(where.mask_numbers, where.masks):
        keys[f"mask{n}_data"] = mask.path
        if mask.file:
            keys[f"mask{n}_file"] = mask.file
        keys[f"mask{n}_goodbits"], keys[f"mask{n}_badbits"] = hex(mask.good), hex(mask.bad)
    if where.saturation_path:
        keys["saturation_map"] = where.saturation_path
    if where.saturation_file:
        keys["saturation_map_file"] = where.saturation_file
    if where.edge_pixels:
        keys["mask_edge_pixels"] = where.edge_pixels
    if where.ignored:
        keys["no_index"] = 1
    return keys


def _region_lines(region):
    axes = ("x", "y") if region.in_lab else ("ss", "fs")
    if region.panel:
        yield f"{region.name}/panel = {region.panel}"
    write = _number if region.in_lab else int
    for axis, low, high in zip(axes, region.low, region.high):
        yield f"{region.name}/min_{axis} = {write(low)}"
        yield f"{region.name}/max_{axis} = {write(high)}"
