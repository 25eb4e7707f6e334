"""From what the user names (files, globs, event lists) to files and the events wanted of each."""
import glob
import os
from typing import NamedTuple

from mpixfel.errors import ManyErrors, MpixfelError

LIST_SUFFIXES = (".lst", ".list")
IN_PROGRESS = ".inprogress"   # after the name of a file that is being written


class Wanted(NamedTuple):
    """One file, and the names of the events wanted of it (None: all), with the list line that named each."""

    path: str
    events: tuple | None
    lines: tuple = ()


def expand(paths):
    """The files that `paths` (one or several: files, globs, event lists) stand for.

    Returns
    -------
    list of Wanted
        In the order given; the matches of a glob in the order of their names. Consecutive lines of a list that name
        the same file make one entry.

    Raises
    ------
    MpixfelError
        For every path, glob or list line that leads to no file, in one go.
    """
    wanted, errors = [], []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        path = os.path.expanduser(os.fspath(path))
        if os.path.exists(path):
            matches = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
        else:
            matches = []
        if not matches:
            kind = "no file matches" if glob.has_magic(path) else "there is no such file"
            errors.append(MpixfelError(kind, path, "check the source path"))
        for match in matches:
            if match.endswith(LIST_SUFFIXES):
                wanted += read_list(match, errors)
            elif os.path.isdir(match):
                errors.append(MpixfelError("this is a directory", match, f"name its files, e.g. {match}/*.h5"))
            else:
                wanted.append(Wanted(match, None))
    if not wanted and not errors:
        errors.append(MpixfelError("no source files are named", "source", "give --source"))
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return wanted


def read_list(path, errors, growing=False):
    """The entries of an event list: `file` or `file event` a line, relative to the list's folder.

    `growing`: the list is still being written, so a last line without end is not taken; its files may be in progress.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        errors.append(MpixfelError(f"cannot read the event list: {error}", path))
        return []
    wanted, lines = [], text.splitlines()
    for number, line in enumerate(lines[:-1] if growing and not text.endswith("\n") else lines, 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        name, event = _split(line)
        found = _find(name, os.path.dirname(path), growing)
        where = f"{path}:{number}"
        if found is None:
            errors.append(MpixfelError(f"there is no file {name!r}", where, "names are relative to the list"))
        elif event and wanted and wanted[-1].path == found and wanted[-1].events is not None:
            wanted[-1][1].append(event)
            wanted[-1][2].append(where)
        else:
            wanted.append(Wanted(found, [event], [where]) if event else Wanted(found, None, (where,)))
    if not wanted and not errors:
        errors.append(MpixfelError("the event list is empty", path, "name a file, or a file and an event, a line"))
    return [Wanted(w.path, w.events and tuple(w.events), tuple(w.lines)) for w in wanted]


def _split(line):
    """File and event of a line. An event is the last word, and has `//` in it: file names may hold spaces."""
    line = line.strip()
    name, space, event = line.rpartition(" ")
    if space and "//" in event:
        return name.rstrip(), event
    return line, ""


def _find(name, folder, growing):
    name = name.removesuffix(IN_PROGRESS) if growing else name
    for candidate in (name if os.path.isabs(name) else os.path.join(folder, name), name):
        if os.path.isfile(candidate) or growing and os.path.isfile(candidate + IN_PROGRESS):
            return candidate
    return None
