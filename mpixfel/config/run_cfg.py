"""The run.cfg reader: INI text as the old system wrote it, to sections with line numbers. It judges no names."""
import re
from dataclasses import dataclass
from pathlib import Path

from mpixfel.errors import ManyErrors, MpixfelError

_SECTION = re.compile(r"\[\s*([^\[\]]*?)\s*\]$")
_ENTRY = re.compile(r"([A-Za-z_][\w.\-]*)\s*[=:](.*)$", re.DOTALL)
RUN_SECTIONS = ("mpixfel", "pyana", "psana")


@dataclass(frozen=True)
class Entry:
    """One `key = value` as written, with its place."""

    key: str
    text: str
    where: str


@dataclass(frozen=True)
class Section:
    """One section: `module` and `instance` of `[package.module:instance]`; the package prefix is dropped."""

    name: str
    where: str
    entries: tuple = ()

    @property
    def module(self):
        return module_and_instance(self.name)[0]

    @property
    def instance(self):
        return module_and_instance(self.name)[1]


def module_and_instance(word):
    """("mod_hitfind", "index") of `my_ana_pkg.mod_hitfind:index`; the instance is "" where there is none."""
    module, _, instance = word.partition(":")
    return module.rpartition(".")[2].strip(), instance.strip()


def read_run_cfg(path):
    """Read a configuration file.

    Returns
    -------
    (sections, text) : tuple of Section in the order of the file, and the file's text.

    Raises `MpixfelError` if the file cannot be read, `ManyErrors` for all its lines that make no sense.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise MpixfelError(f"the configuration cannot be read: {e.strerror}", str(path), "check the path after -c")
    except UnicodeDecodeError as e:
        raise MpixfelError(f"not a text file: {e.reason} at byte {e.start}", str(path), "give a run.cfg after -c")
    return parse_run_cfg(text, str(path)), text


def parse_run_cfg(text, name="run.cfg"):
    """Sections of a configuration text; `name` is what messages call it."""
    errors, sections = [], []
    for number, line in _logical_lines(text, name, errors):
        where = f"{name}:{number}"
        heading = _SECTION.match(line)
        entry = _ENTRY.match(line)
        try:
            if heading:
                sections.append(_new_section(heading[1], where, sections))
            elif not entry:
                raise MpixfelError(f"{line!r} is neither a section nor key = value", where, "write key = value")
            elif not sections:
                raise MpixfelError(f"{entry[1]} stands before any section", where, "write [mpixfel] above it")
            else:
                sections[-1] = _with_entry(sections[-1], Entry(entry[1], entry[2].strip(), where))
        except MpixfelError as e:
            errors.append(e)
    if errors:
        raise ManyErrors(errors)
    return tuple(sections)


def _new_section(name, where, sections):
    if not name:
        raise MpixfelError("a section without a name", where, "write [mpixfel] or [mod_name:instance]")
    key = "mpixfel" if name in RUN_SECTIONS else module_and_instance(name)
    for s in sections:
        if key == ("mpixfel" if s.name in RUN_SECTIONS else module_and_instance(s.name)):
            sections.append(Section(name, where))
            raise MpixfelError(f"section [{name}] stands twice", where, f"join it with [{s.name}] of {s.where}")
    return Section(name, where)


def _with_entry(section, entry):
    for e in section.entries:
        if e.key == entry.key:
            raise MpixfelError(f"{entry.key} is given twice in [{section.name}]", entry.where,
                               f"keep this line or {e.where}")
    return Section(section.name, section.where, (*section.entries, entry))


def _logical_lines(text, name, errors):
    """(line number, text) with comments gone and continuation lines joined.

    A line goes on where it ends in a backslash, and in lines indented deeper than its own start, blank lines and
    comments between them notwithstanding. (A blank line ends a backslash: the next key is not swallowed.)
    """
    current, indent, backslash = None, 0, False
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).expandtabs().rstrip()
        body = line.strip()
        if not body:
            backslash = backslash and bool(raw.strip())
            continue
        more = body.endswith("\\")
        part = body[:-1].rstrip() if more else body
        depth = len(line) - len(line.lstrip())
        heading = current is not None and current[1].startswith("[")
        if backslash or (current is not None and depth > indent and not heading):
            if not backslash and re.match(r"[A-Za-z_][\w.\-]*\s*=", part):
                errors.append(MpixfelError(f"{part!r} is indented, so it would go on with the line above",
                                           f"{name}:{number}", "take the blanks before it away"))
            current = (current[0], current[1] + "\n" + part)
        else:
            if current is not None:
                yield current
            current, indent = (number, part), depth
        backslash = more
    if current is not None:
        yield current


def _without_comment(line):
    """The line up to a # or ; that begins it or follows a blank, outside quotes."""
    quote = ""
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'" and c in line[i + 1:]:
            quote = c
        elif c in "#;" and (i == 0 or line[i - 1].isspace()):
            return line[:i]
    return line
