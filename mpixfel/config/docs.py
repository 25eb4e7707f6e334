"""docs/configuration.md, made from the data classes and tables: `python -m mpixfel.config.docs`."""
import sys
from pathlib import Path

from mpixfel import registry
from mpixfel.config import old_options, phil_names
from mpixfel.config.paths import FIELDS
from mpixfel.config.resolve import load_stages
from mpixfel.config.settings import RunOptions
from mpixfel.config.values import bounds, default_of, describe, members, options_of
from mpixfel.modules.shots import ShotOptions

PATH = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
HEAD = """# Configuration

This page is made from the program itself by `python -m mpixfel.config.docs`; a test holds it up to date.

Four lines are enough:

```ini
[mpixfel]
source = run.cxi
geometry = detector.geom
cell = lysozyme.cell
output = out
```

`mpixfel -c run.cfg` processes that; `mpixfel -c run.cfg --dry-run` shows every option with its value and where it
came from. Without a configuration file the same is said with flags: `--source`, `--geometry`, `--cell`, `--output`,
`--events`, and `--set SECTION.KEY=VALUE` for any option of this page.

## The form of a configuration

```ini
[mpixfel]                                 ; [pyana] and [psana] are old names of this section
source   = run12/*.cxi extra.lst          # several files, glob patterns, event lists
geometry = $CALIB/detector.geom           # environment variables, and ~
cell     = lysozyme.cell
output   = results/r{run:04d}             # fields, see below
run      = 12
modules  = mod_hitfind:hitfind mod_dump:hits
           mod_hitfind:index              # an indented line goes on with the line above; so does one after a \\

[mod_hitfind]                             ; for all instances of mod_hitfind
hitfinding.min_peaks = 12                 # an option of a stage, for this module alone

[my_ana_pkg.mod_hitfind:index]            ; for this instance; the package's name is dropped
dispatch = index
indexing.max_lattices = 3

[refinement]                              ; a stage, for all modules
min_indexed = 6
```

- A comment begins with `#` or `;` at a line's begin or after a blank. Lists are parted by blanks or commas; quotes keep
  blanks together. `None` or nothing means "not given". Truth is written True, yes, on or 1; False, no, off or 0.
- Relative paths are relative to the file that names them; on the command line, to the working directory.
- Unknown sections and options, values of a wrong type or out of range, and options given twice are all refused in one
  go, each with its file, its line and the nearest name that exists. Nothing in a configuration is ever evaluated.
- Where a value is given several times, the later of these overrides the earlier: default, PHIL file (`xtal_target`),
  section of the stage, section of the module, section of the module's instance, command line.
- Without `modules`, an event passes `mod_hitfind:hitfind` (with `dispatch = nop`) and `mod_hitfind:index` (with
  `dispatch = index`).

### Fields in paths

Options that hold paths may hold fields in braces, with PEP 3101 formats (`{run:04d}`) and the conversions `!u` and `!l`
to upper and lower case (`{experiment!l}`); `{{` and `}}` stand for braces.

"""
OLD = """## Options of the old pyana modules

A configuration of the old modules is read as it is. *supported*: the module has the option. *sets ...*: it sets an
option of this program. *without effect*: it is read, its type is checked, and it is named once at the start of a run.

"""
PHIL = """## PHIL targets

`xtal_target` names a PHIL file, which is read with its `include file` lines; `path.params` and `path.phil` are tried
where `path` does not exist. Its values hold for the module instance that names it; the cell holds for the run. Names
that are not in these tables are refused, with the nearest one that is.

"""


def document():
    """The page's text."""
    stages = load_stages()
    parts = [HEAD, *table(["field", "stands for"], [(f"`{{{k}}}`", v) for k, v in FIELDS.items()]),
             "\n\n## [mpixfel]\n\n", *class_section(RunOptions)]
    for section, cls in stages.items():
        parts += [f"\n\n## [{section}]\n\n", *class_section(cls)]
    for name in registry.entries("modules"):
        cls = registry.load("modules", name)
        parts += [f"\n\n## [{name}]\n\n", *class_section(cls, cls.Options, sys.modules[cls.__module__].__doc__)]
    parts += ["\n\n", OLD, *old_tables(), PHIL, *phil_tables()]
    return "".join(parts).rstrip("\n") + "\n"


def class_section(cls, options=None, text=None):
    """First paragraph of the class's docstring (or of `text`), and its options."""
    text = (text or cls.__doc__ or "").strip().split("\n\n")[0]
    yield " ".join(text.split()) + "\n\n"
    known = options_of(options or cls)
    if not known:
        yield "No options.\n"
        return
    yield from table(["option", "default", "value", "meaning"], [
        (f"`{name}`", code(as_default(f)), value_of(f, hint), f.metadata.get("help", ""))
        for name, (f, hint) in known.items()])


def value_of(field, hint):
    """Type, unit, choices and bounds of an option, in words."""
    meta = field.metadata
    if meta.get("choices"):
        return ", ".join(f"`{c}`" for c in meta["choices"] if c != "")
    words = [describe(members(hint))]
    if meta.get("unit") and meta["unit"] != "path":
        words.append(meta["unit"])
    if meta.get("unit") == "path":
        words = ["paths"] if isinstance(default_of(field), tuple) else ["path"]
    if meta.get("low") is not None or meta.get("high") is not None:
        words.append(bounds(meta.get("low"), meta.get("high")))
    return ", ".join(words)


def as_default(field):
    """The default as it would be written."""
    value = default_of(field)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def old_tables():
    """One table for each old module; the options that all image modules share stand in one of their own."""
    shared = {o.key for o in old_options.IMAGE}
    yield "### Of every module that handles images\n\n"
    yield from old_table(old_options.IMAGE, options_of(ShotOptions))
    for module, rows in old_options.MODULES.items():
        own = [o for o in rows if o.key not in shared or o not in old_options.IMAGE]
        exists_here = module in registry.entries("modules")
        options = options_of(registry.load("modules", module).Options) if exists_here else {}
        yield f"\n\n### {module}\n\n"
        remarks = [] if exists_here else ["There is no such module here: its sections are read, and a configuration "
                                          "that lists it in `modules` is refused."]
        if any(o in old_options.IMAGE for o in rows):
            remarks.append("Also the options of every module that handles images.")
        yield "\n\n".join(remarks) or "As of old:"
        if own:
            yield "\n\n"
            yield from old_table(own if exists_here else map(absent, own), options)
    yield "\n\n### [pyana] and [psana]\n\n"
    yield from old_table(old_options.RUN, options_of(RunOptions))
    yield "\n\n"


def absent(old):
    """The entry of an option whose module does not exist here."""
    return old._replace(targets=(), reason="no such module")


def old_table(rows, options):
    return table(["option", "old default", "value", "meaning", "here"], [
        (f"`{o.key}`", code(o.default), TYPES[o.kind], o.meaning, status(o, options)) for o in rows])


def status(old, options):
    """What has become of an old option."""
    if old.key in options:
        return "supported"
    if old.key == "xtal_target" and not old.reason:
        return "supported: see PHIL targets"
    if old.key in ("num-events", "skip-events"):
        return "sets `mpixfel.events`"
    if old.targets:
        return "sets " + ", ".join(f"`{t if '.' in t else 'mpixfel.' + t}`" for t in old.targets)
    return f"without effect: {old.reason or old_options.NO_USE}"


def phil_tables():
    """The mapped names, and those without effect."""
    yield from table(["PHIL name", "old default", "sets", "meaning"],
                     [(f"`{p.name}`", code(p.default), f"`{p.target}`", p.note) for p in phil_names.MAPPED])
    yield "\n\nWithout effect:\n\n"
    yield from table(["PHIL name", "old default", "reason"], [
        (f"`{p.name}`", code(p.default), p.note) for p in phil_names.NAMES.values() if not p.target])


def table(head, rows):
    """Lines of a Markdown table."""
    cell = lambda text: str(text).replace("|", "\\|").replace("\n", " ").strip()
    yield "| " + " | ".join(head) + " |\n|" + "---|" * len(head)
    for row in rows:
        yield "\n| " + " | ".join(map(cell, row)) + " |"


def code(text):
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PATH).write_text(document(), encoding="utf-8")
