"""Reads CrystFEL geometry files (format: crystfel_geometry(5))."""
import difflib
import logging
import os
from dataclasses import dataclass, field

from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.io.geometry import directives, panels
from mpixfel.io.geometry.layout import BadRegion, Geometry, Layout, Quantity
from mpixfel.model.experiment import Beam, Detector

# Full width at half maximum of a Gaussian over its sigma, 2 sqrt(2 ln 2).
FWHM_PER_SIGMA = 2.3548200450309493
LOG = logging.getLogger("mpixfel")


@dataclass
class Statements:
    """The file's statements, sorted: each value with its line."""

    path: str
    whole: dict = field(default_factory=dict)      # key -> (value, line)
    defaults: dict = field(default_factory=dict)   # key -> (value, line), for panels first mentioned later
    panels: dict = field(default_factory=dict)     # panel -> {key -> (value, line)}
    regions: dict = field(default_factory=dict)    # bad region -> {key -> (value, line)}
    groups: dict = field(default_factory=dict)     # group -> (members, line)
    used: set = field(default_factory=set)         # lines of defaults that some panel took
    errors: list = field(default_factory=list)

    def refuse(self, what, line=None, remedy=""):
        where = self.path if line is None else f"{self.path}:{line}"
        self.errors.append(MpixfelError(what, where, remedy))


def parse_geometry(text, path="geometry"):
    """The `Geometry` of a text; `path` is what errors name, and where relative mask files are looked for."""
    said = Statements(path)
    for line, raw in enumerate(text.splitlines(), 1):
        statement = raw.split(";", 1)[0].strip()
        if statement:
            _take(said, statement, line)
    for key, (_, line) in said.defaults.items():
        if line not in said.used:
            said.refuse(f"{key} comes after the last panel that it could hold for", line,
                        "defaults hold for panels first mentioned after them: move it up")
    if not said.panels:
        said.refuse("the geometry has no panel", remedy="a panel is made by statements like p0/min_fs = 0")
    blocks, detector_panels, panel_layouts = panels.assemble(said)
    layout = _layout(said, blocks, panel_layouts, {p.name for p in detector_panels})
    beam = _beam(said)
    if said.errors:
        raise said.errors[0] if len(said.errors) == 1 else ManyErrors(said.errors)
    detector = Detector(tuple(panels.shifted(p, layout) for p in detector_panels))
    return Geometry(detector, beam, layout, text, path)


def _take(said, statement, line):
    """Sort one statement into its place."""
    if "=" not in statement:
        said.refuse(f"{statement!r} is not a statement", line, "write key = value, or panel/key = value")
        return
    key, value = (part.strip() for part in statement.split("=", 1))
    panel, slash, word = key.rpartition("/")
    if not slash:
        _take_top(said, key, value, line)
    elif panel.startswith(("rigid_group", "group")):
        said.refuse(f"a panel must not be called {panel!r}", line, "names from 'group' and 'rigid_group' are taken")
    elif panel.startswith("bad"):
        _parse(said, directives.BAD_REGION, word, value, line, said.regions.setdefault(panel, {}))
    else:
        if panel not in said.panels:
            said.panels[panel] = _inherit(said)
        if word == "clen":
            _take_panel_clen(said, value, line)
        elif word in directives.IGNORED:
            LOG.warning("%s:%d: %s has no effect", said.path, line, word)
        else:
            _parse(said, directives.PANEL, word, value, line, said.panels[panel])


def _inherit(said):
    said.used.update(line for _, line in said.defaults.values())
    return dict(said.defaults)


def _take_top(said, key, value, line):
    if key.startswith("rigid_group"):
        return                                   # of older versions; groups took their place
    if key.startswith("group_"):
        said.groups[key.removeprefix("group_")] = (tuple(m.strip() for m in value.split(",") if m.strip()), line)
    elif key in directives.IGNORED:
        LOG.warning("%s:%d: %s has no effect", said.path, line, key)
    elif key in directives.GLOBAL:
        _parse(said, directives.GLOBAL, key, value, line, said.whole)
    else:
        _parse(said, directives.GLOBAL | directives.PANEL, key, value, line, said.defaults)


def _take_panel_clen(said, value, line):
    """Older files give each panel its camera length: accepted where all agree."""
    before = said.whole.get("clen")
    _parse(said, directives.GLOBAL, "clen", value, line, said.whole)
    if before and said.whole["clen"][0] != before[0]:
        said.refuse("camera lengths differ between panels", line, "give clen once, and each panel its coffset in m")


def _parse(said, known, key, value, line, into):
    parse = known.get(key)
    if parse is None:
        near = difflib.get_close_matches(key, [*known, *directives.IGNORED], 1, 0.5)
        said.refuse(f"unknown directive {key!r}", line,
                    f"nearest known: {near[0]}" if near else "see crystfel_geometry(5)")
        return
    try:
        into[directives.OLD_MASK_WORDS.get(key, key)] = (parse(value), line)
    except ValueError as error:
        said.refuse(f"{key}: {error}", line)


def _layout(said, blocks, panel_layouts, names):
    energies = [k for k in ("photon_energy", "wavelength", "electron_voltage") if k in said.whole]
    whole = {key: value for key, (value, _) in said.whole.items()}
    if "electron_voltage" in whole:
        said.refuse("electron diffraction is not supported", said.whole["electron_voltage"][1],
                    "give photon_energy or wavelength")
    elif len(energies) != 1:
        both = " and ".join(energies)
        said.refuse(f"{both} are both given" if both else "neither photon_energy nor wavelength is given",
                    said.whole[energies[-1]][1] if both else None, "give exactly one of them")
    if "clen" not in whole:
        said.refuse("clen is missing", remedy="give the camera length, e.g. clen = 0.12 m")
    for key in ("photon_energy", "wavelength"):
        if key in whole and not whole[key].path and whole[key].number <= 0:
            said.refuse(f"{key} must be positive", said.whole[key][1])
    zero = Quantity(0.0, unit="m")
    return Layout(blocks, panel_layouts, whole.get("photon_energy") or whole.get("wavelength"), whole.get("clen"),
                  whole.get("detector_shift_x", zero), whole.get("detector_shift_y", zero),
                  tuple(filter(None, (_region(said, name, keys, names) for name, keys in said.regions.items()))),
                  _groups(said, names), whole.get("peak_list", ""), whole.get("peak_list_type", ""),
                  os.path.dirname(os.path.abspath(said.path)))


def _region(said, name, keys, panel_names):
    line = max(line for _, line in keys.values()) if keys else None
    value = {key: v for key, (v, _) in keys.items()}
    lab = {"min_x", "max_x", "min_y", "max_y"}
    pixel = {"min_fs", "max_fs", "min_ss", "max_ss", "panel"}
    if not value:
        return None                              # every statement of it was refused already
    if set(value) & lab and set(value) & pixel:
        return said.refuse(f"bad region {name} mixes laboratory and panel coordinates", line,
                           "give min_x, max_x, min_y, max_y or panel, min_fs, max_fs, min_ss, max_ss")
    # Older files leave out the panel: the rectangle then holds for every panel.
    missing = (lab if set(value) & lab else pixel - {"panel"}) - set(value)
    if missing:
        return said.refuse(f"bad region {name} lacks {', '.join(sorted(missing))}", line, "add it")
    if "panel" in value and value["panel"] not in panel_names:
        near = difflib.get_close_matches(value["panel"], panel_names, 1, 0.0)
        return said.refuse(f"bad region {name}: there is no panel {value['panel']!r}", line,
                           f"nearest: {near[0]}" if near else "")
    in_lab = bool(set(value) & lab)
    axes = ("x", "y") if in_lab else ("ss", "fs")
    low, high = (tuple(value[f"{end}_{axis}"] for axis in axes) for end in ("min", "max"))
    if any(a > b for a, b in zip(low, high)):
        return said.refuse(f"bad region {name} ends before it begins: {low} to {high}", line, "swap min and max")
    return BadRegion(name, low, high, value.get("panel", ""), in_lab)


def _groups(said, panel_names):
    for name, (members, line) in said.groups.items():
        for member in members:
            if member not in panel_names and member not in said.groups:
                said.refuse(f"group {name}: there is neither a panel nor a group {member!r}", line)
    return {name: members for name, (members, _) in said.groups.items()}


def _beam(said):
    sigma, line = said.whole.get("bandwidth", (0.0, None))
    if not 0 <= sigma < 1:
        said.refuse(f"bandwidth {sigma} is not a fraction", line, "give sigma of the wavelength over the wavelength")
        return Beam()
    return Beam(bandwidth_fwhm=FWHM_PER_SIGMA * sigma)
