"""From the statements of a geometry file to panels, blocks and panel layouts."""
from dataclasses import replace

import numpy as np

from mpixfel.io.geometry.layout import Block, MaskRule, PanelLayout
from mpixfel.model.experiment import Panel

REQUIRED = ("min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss", "res")


def assemble(said):
    """(blocks, panels, panel layouts) of all panels; what is wrong is noted in `said`."""
    _refuse_missing(said)
    blocks, panels, layouts = {}, [], []
    for name, keys in said.panels.items():
        value = {key: v for key, (v, _) in keys.items()}
        if any(key not in value for key in REQUIRED) or not {"adu_per_photon", "adu_per_eV"} & set(value):
            continue
        dims = _dims(said, name, keys)
        if dims is None or not _is_sound(said, name, value, keys):
            continue
        block = blocks.setdefault(Block(value.get("data", "/data/data"), dims), len(blocks))
        panels.append(_panel(name, value, block))
        layouts.append(_panel_layout(said, name, value, keys))
    _refuse_unequal_events(said, blocks)
    return tuple(blocks), tuple(panels), tuple(layouts)


def shifted(panel, layout):
    """The panel with a detector shift that is the same for all events added to its origin."""
    shift = [q.value() if not q.path else 0.0 for q in (layout.shift_x, layout.shift_y)]
    x, y, z = panel.origin_m
    return replace(panel, origin_m=(x + shift[0], y + shift[1], z))


def _refuse_missing(said):
    """One error for each missing key, however many panels lack it."""
    lacking = {}
    for name, keys in said.panels.items():
        for key in REQUIRED:
            if key not in keys:
                lacking.setdefault(key, []).append(name)
        if not {"adu_per_photon", "adu_per_eV"} & set(keys):
            lacking.setdefault("adu_per_photon or adu_per_eV", []).append(name)
    for key, names in lacking.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        said.refuse(f"{key} is missing for panel {shown}", remedy="give it for the panel, or above all panels")


def _dims(said, name, keys):
    """The axes of the data block, as a tuple; None if they make no sense."""
    numbered = {int(key[3:]): v for key, (v, _) in keys.items() if key.startswith("dim")}
    line = max((line for key, (_, line) in keys.items() if key.startswith("dim")), default=None)
    if not numbered:
        return ("ss", "fs")
    dims = tuple(numbered.get(n) for n in range(max(numbered) + 1))
    if None in dims:
        return said.refuse(f"panel {name}: dim{dims.index(None)} is missing", line, "name every axis up to the last")
    if dims.count("ss") != 1 or dims.count("fs") != 1 or dims.index("fs") < dims.index("ss"):
        return said.refuse(f"panel {name}: axes {dims} need ss and fs once each, fs after ss", line)
    return dims


def _is_sound(said, name, value, keys):
    before = len(said.errors)
    for axis in ("fs", "ss"):
        if value[f"min_{axis}"] > value[f"max_{axis}"]:
            said.refuse(f"panel {name}: min_{axis} {value[f'min_{axis}']} is beyond max_{axis} {value[f'max_{axis}']}",
                        keys[f"max_{axis}"][1], "both are inclusive, min first")
    cross = np.linalg.norm(np.cross(value["fs"], value["ss"]))
    if cross < 1e-6 * np.linalg.norm(value["fs"]) * np.linalg.norm(value["ss"]):
        said.refuse(f"panel {name}: fs and ss are parallel", keys["ss"][1], "they must span the panel")
    if "adu_per_photon" in value and "adu_per_eV" in value:
        said.refuse(f"panel {name} has both adu_per_photon and adu_per_eV",
                    max(keys["adu_per_photon"][1], keys["adu_per_eV"][1]), "give one of them")
    return len(said.errors) == before


def _panel(name, value, block):
    res = value["res"]
    metres = lambda vector: tuple(component / res for component in vector)
    return Panel(
        name, (value["corner_x"] / res, value["corner_y"] / res, value.get("coffset", 0.0)),
        metres(value["fs"]), metres(value["ss"]),
        (value["max_ss"] - value["min_ss"] + 1, value["max_fs"] - value["min_fs"] + 1),
        value.get("adu_per_photon"), value.get("adu_per_eV"), value.get("max_adu", float("inf")),
        block, value["min_ss"], value["min_fs"],
        value.get("flag_lessthan", float("-inf")), value.get("flag_morethan", float("inf")),
        value.get("flag_equal", float("nan")))


def _panel_layout(said, name, value, keys):
    masks, numbers = [], []
    for n in range(8):
        words = [w for w in ("data", "file", "goodbits", "badbits") if f"mask{n}_{w}" in value]
        if not words:
            continue
        if "data" not in words:
            said.refuse(f"panel {name}: mask{n}_data is missing", keys[f"mask{n}_{words[0]}"][1],
                        "say where the mask is in the file")
            continue
        masks.append(MaskRule(value[f"mask{n}_data"], value.get(f"mask{n}_file", ""),
                              value.get(f"mask{n}_goodbits", 0), value.get(f"mask{n}_badbits", 0)))
        numbers.append(n)
    if "saturation_map_file" in value and "saturation_map" not in value:
        said.refuse(f"panel {name}: saturation_map is missing", keys["saturation_map_file"][1],
                    "say where the map is in the file")
    return PanelLayout(tuple(masks), tuple(numbers), value.get("saturation_map", ""),
                       value.get("saturation_map_file", ""), value.get("mask_edge_pixels", 0),
                       value.get("no_index", False))


def _refuse_unequal_events(said, blocks):
    """Every block must have the same place-holders: an event is found by one name in all of them."""
    kinds = {(block.path.count("%"), block.dims.count("%")) for block in blocks}
    if len(kinds) > 1:
        said.refuse("panels differ in their event place-holders (% in data and dim)",
                    remedy="all panels need the same number of them")
