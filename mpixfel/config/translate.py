"""Old names to new ones: the rows of an old module's section, and of a PHIL file, as options of this program."""
import os
import re
from dataclasses import dataclass, replace

from mpixfel.config import old_options, phil_names
from mpixfel.config.paths import fill_in, relative_to
from mpixfel.config.phil import read_phil
from mpixfel.config.values import is_unset, parse
from mpixfel.errors import MpixfelError, suggestion
from mpixfel.stages.interface import option

# What a PHIL file says of the run's panels, beside its cell.
PLACES = ("distl.quad_translations", "distl.tile_translations", "integration.subpixel_joint_model.translations",
          "integration.subpixel_joint_model.rotations")
# Options of modules that hold for the run.
OF_THE_RUN = ("calib_dir", "detz_offset")
_ROI = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*$")


@dataclass(frozen=True)
class Given:
    """One value as given: `origin` tells the place to people, `folder` is what its paths are relative to."""

    key: str
    text: str
    origin: str
    folder: str = "."
    from_command_line: bool = False


def run_rows(rows, r):
    """The rows of `[pyana]` in the words of `[mpixfel]`."""
    table, out, numbers = {o.key: o for o in old_options.RUN}, [], {}
    names = {g.key for g in rows}
    for g in rows:
        old = table.get(g.key)
        if g.key in ("num-events", "skip-events") and "events" not in names:
            numbers[g.key] = g
        elif old is None:
            out.append(g)
        elif old.targets:
            out += [replace(g, key=target) for target in old.targets]
        elif typed(g, old, r):
            r.without_effect(old.reason, g.key)
    if numbers and all([typed(g, table[key], r) for key, g in numbers.items()]):
        first, count = (int(numbers[k].text) if k in numbers else None for k in ("skip-events", "num-events"))
        text = f"{first or 0}:{'' if count is None else (first or 0) + count}"
        out.append(Given("events", text, next(iter(numbers.values())).origin))
    return out


def module_rows(name, rows, options, known, r):
    """The rows of a module's section in the words of its `Options` and of the stages.

    `options` are those of the module's class, `known` those of the stages by section. What has no effect is noted,
    what is unknown stays as it is: `Resolution.build` refuses it.
    """
    table, out = {o.key: o for o in old_options.MODULES.get(name, ())}, []
    refused = _contradictions(name, rows, r)
    for g in rows:
        old = table.get(g.key)
        if g.key in refused:
            continue
        if g.key in options and old:
            unset = is_unset(g.text, options[g.key][0].metadata.get("choices", ()))
            out += [] if unset else [_value_here(g, old, r)]
        elif g.key in options or "." in g.key:
            out.append(g)
        elif g.key in ("xtal_target", *OF_THE_RUN) and old:
            continue
        elif old is None:
            remedy = suggestion(g.key, set(options) | set(table), "options")
            r.refuse(f"unknown option {g.key} in [{name}]", g.origin, remedy)
        elif old.targets:
            out += _targets(g, old, known)
        elif typed(g, old, r):
            r.without_effect(old.reason or f"{name}: {old_options.NO_USE}", g.key)
    return out


def _value_here(given, old, r):
    """The row with its old value in this program's words."""
    for before, after, why in old.values:
        if given.text.strip() == before:
            r.without_effect(why, f"{given.key} = {before}")
            return replace(given, text=after)
    return given


def _targets(given, old, known):
    """The rows that an old option comes to; none where it is not given."""
    section, _, name = old.targets[0].partition("=")[0].partition(".")
    if is_unset(given.text, known[section][name][0].metadata.get("choices", ())):
        return
    for target in old.targets:
        key, _, value = target.partition("=")
        yield replace(given, key=key, text=value or given.text)


def typed(given, old, r):
    """Whether the text is of the old option's type; refused otherwise."""
    try:
        parse(given.text, option(None, old.meaning), old.kind | None)
    except MpixfelError as e:
        r.refuse(f"{given.key}: {e.what}", given.origin, e.remedy)
        return False
    return True


def _contradictions(name, rows, r):
    """Refuse what the old program refused when it started; returns the options that need no second look."""
    refused = set()
    given = {g.key: g for g in rows if not is_unset(g.text)}
    flags = given["distl_flags"].text.split() if "distl_flags" in given else []
    if {"permissive", "restrictive"} <= set(flags):
        r.refuse("distl_flags: permissive and restrictive exclude each other", given["distl_flags"].origin,
                 "keep one of them")
        refused.add("distl_flags")
    elif set(flags) - {"permissive", "restrictive"}:
        r.refuse(f"distl_flags: {given['distl_flags'].text!r} is not allowed", given["distl_flags"].origin,
                 "write permissive or restrictive")
        refused.add("distl_flags")
    if "distl_min_peaks" in given and not flags:
        r.refuse("distl_min_peaks without distl_flags", given["distl_min_peaks"].origin,
                 "add distl_flags = permissive or restrictive")
    if "roi" in given and "distl_min_peaks" in given:
        r.refuse("roi and distl_min_peaks exclude each other", given["roi"].origin, "take one of them away")
        refused.add("roi")
    if "roi" in given and name == "mod_hitfind" and not _ROI.match(given["roi"].text):
        r.refuse(f"roi: {given['roi'].text!r} is not a region", given["roi"].origin,
                 "write fast_low:fast_high,slow_low:slow_high")
        refused.add("roi")
    for one, other in (("dark_path", "dark_stddev"), ("photon_threshold", "two_photon_threshold"),
                       ("integration_basename", "integration_dirname")):
        if one in given and other not in given:
            r.refuse(f"{one} without {other}", given[one].origin, f"add {other} = ...")
    return refused


def phil_rows(rows, r):
    """The PHIL file of a module's section (`xtal_target`) as rows: (those for the run, those for the stages)."""
    last = lambda key: next((g for g in reversed(rows) if g.key == key and not is_unset(g.text)), None)
    target, place = last("xtal_target"), [g for g in map(last, OF_THE_RUN) if g]
    if any(g.key == "detz_offset" for g in place):
        r.notes.append("detz_offset is added to camera lengths of 0 mm or less, an encoder's; one that is the distance "
                       "already stays as it is")
    if target is None:
        return place, []
    try:
        path = relative_to(target.folder, fill_in(target.text.strip(), r.fields, r.environment))
        definitions, texts = read_phil(path, r.environment)
    except MpixfelError as e:
        r.refuse(e.what, e.where or target.origin, e.remedy)
        return place, []
    for p, text in texts.items():
        r.keep_text(os.path.basename(p), text)
    stages = [row for d in definitions if (row := _definition(d, r)) is not None]
    return place + _places(definitions) + _cells(definitions), stages


def _definition(definition, r):
    """The row that a PHIL definition comes to, or None."""
    name = phil_names.find(definition.name)
    if name is None:
        r.refuse(f"unknown PHIL name {definition.name}", definition.where,
                 suggestion(definition.name, [n for n in phil_names.NAMES if not n.endswith("*")], "names"))
    elif name.target.startswith("mpixfel."):
        return None
    elif not name.target:
        r.without_effect(f"PHIL: {name.note}", definition.name)
    elif _given(definition):
        return Given(name.target, definition.text, f"{definition.where} ({definition.name})")
    return None


def _places(definitions):
    """Rows of `[mpixfel]` for what moves the panels."""
    targets = {name: phil_names.find(name).target.removeprefix("mpixfel.") for name in PLACES}
    return [Given(targets[d.name], d.text, d.where) for d in definitions if d.name in targets and _given(d)]


def _given(definition):
    """None and Auto leave a PHIL parameter as it is."""
    return definition.text.lower() not in ("none", "auto", "")


def _cells(definitions):
    """Rows of `[mpixfel]` for the target cell, or the isoforms where there are some."""
    one = {d.name: d for d in definitions if _given(d)}
    forms = {}
    for d in definitions:
        if d.name.startswith("isoforms.") and _given(d):
            forms.setdefault(d.block, {})[d.name.partition(".")[2]] = d
    cells = [(f["cell"], f["lookup_symbol"].words[0][:1] if "lookup_symbol" in f else "P")
             for f in forms.values() if "cell" in f]
    if not cells and "target_cell" in one:
        centring = one.get("target_cell_centring_type")
        cells = [(one["target_cell"], centring.text if centring else "P")]
    rows = []
    if cells:
        rows = [Given("target_cell", " ".join(c.text for c, _ in cells), cells[0][0].where),
                Given("target_cell_centring", " ".join(c for _, c in cells), cells[0][0].where)]
        if "known_setting" in one:
            rows.append(Given("known_setting", one["known_setting"].text, one["known_setting"].where))
    return rows
