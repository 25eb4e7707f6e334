"""Trials: numbered folders OUT/rRRRR/TTT, each with its own copy of the configuration that made it.

The copy stands by itself: PHIL files lie beside it, relative paths have become absolute, and what is written goes into
the trial's folder, as the old batch script had it.
"""
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from mpixfel.config.paths import fill_in, relative_to
from mpixfel.config.phil import read_phil
from mpixfel.config.run_cfg import RUN_SECTIONS, read_run_cfg
from mpixfel.config.settings import RunOptions
from mpixfel.config.values import PATH_ENDINGS, is_path, split_words, unquote
from mpixfel.errors import MpixfelError

LAST_RUN, LAST_TRIAL = 9999, 999
DATA_ENDINGS = ("h5", "cxi", "nxs", "lst")
_READ = {f.name for f in fields(RunOptions) if is_path(f)} | {"xtal_target", "dark_stddev"}
_LISTS = ("source", "cell")
_INCLUDE = re.compile(r"^(\s*include\s+file\s+)(\"[^\"]+\"|\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """What is submitted: the run, its numbered folder, and what the command line says of the data."""

    folder: Path
    run: int
    number: int
    experiment: str = ""
    data: str = ""

    @property
    def config(self):
        return self.folder / "run.cfg"


def run_folder(output, run):
    """OUT/rRRRR."""
    if not 1 <= run <= LAST_RUN:
        raise MpixfelError(f"{run} is not a run number", "-r", f"give one from 1 to {LAST_RUN}")
    return Path(output).absolute() / f"r{run:04d}"


def next_free(folder):
    """The trial number after the highest in use."""
    used = [int(p.name) for p in folder.glob("[0-9][0-9][0-9]")]
    number = max(used, default=-1) + 1
    if number > LAST_TRIAL:
        raise MpixfelError(f"all trial numbers up to {LAST_TRIAL} are in use", str(folder), "choose another output")
    return number


def claim(folder, number):
    """Make the trial's folder; `number` None takes the next free one, also while others do the same."""
    asked = number
    while True:
        number = next_free(folder) if asked is None else asked
        if not 0 <= number <= LAST_TRIAL:
            raise MpixfelError(f"{number} is not a trial number", "-t", f"give one from 0 to {LAST_TRIAL}")
        try:
            (folder / f"{number:03d}").mkdir(parents=True)
            return number
        except FileExistsError:
            if asked is not None:
                raise MpixfelError(f"trial {number} is in use", str(folder),
                                   "leave -t out to get the next free") from None
        except OSError as e:
            raise MpixfelError(f"no trial can be made: {e.strerror}", str(folder),
                               "choose another output (-o)") from None


def files_of(config, trial):
    """{path: text} of the trial's configuration and PHIL files; nothing is written."""
    sections, text = read_run_cfg(config)
    folder, files, phil = os.path.dirname(os.path.abspath(config)), {}, {}
    text = text.replace("RUN_NO", str(trial.run))
    changes, in_run = {}, set()
    for section in sections:
        runs = section.name in RUN_SECTIONS
        for entry in section.entries:
            value = entry.text.replace("RUN_NO", str(trial.run))
            new = _value(entry.key, value, runs, folder, trial, phil)
            in_run |= {entry.key} if runs else set()
            if new != value:
                changes[_line_of(entry)] = f"{entry.key} = {new}"
    added = [f"{key} = {value}" for key, value in _always(trial).items() if key not in in_run]
    if "source" not in in_run:
        added.append(f"source = {_sources(trial, config)}")
    heading = next((_line_of(s) for s in sections if s.name in RUN_SECTIONS), None)
    if heading is None:
        raise MpixfelError("there is no section [mpixfel] (or [pyana], [psana])", str(config), "write one")
    starts = [_line_of(x) for s in sections for x in (s, *s.entries)]
    files[trial.config] = _rewritten(text.splitlines(), starts, changes, heading, added)
    for path, name in list(phil.items()):
        _copy_phil(path, name, phil, trial, files)
    return files


def ranks_of(config):
    """`num-cpu` of the configuration, as the old system had it; None where it is not said."""
    sections, _ = read_run_cfg(config)
    words = [e.text for s in sections if s.name in RUN_SECTIONS for e in s.entries if e.key in ("num-cpu", "num_cpu")]
    return int(words[0]) if words and words[0].isdigit() else None


def _line_of(thing):
    return int(thing.where.rpartition(":")[2])


def _always(trial):
    """What [mpixfel] says in every trial."""
    return {"output": str(trial.folder), "run": str(trial.run),
            **({"experiment": trial.experiment} if trial.experiment else {})}


def _value(key, text, in_run, folder, trial, phil):
    """The text of one option in the trial."""
    if in_run and key in _always(trial):
        return _always(trial)[key]
    if key in ("trial_id", "trial"):
        return str(trial.number)
    if key.endswith("_dirname"):
        return str(trial.folder / key.removesuffix("_dirname"))
    if not text or text == "None" or not (key in _READ or key.endswith(PATH_ENDINGS)) or key.endswith("_basename"):
        return text
    if key == "xtal_target":
        return str(trial.folder / _phil_name(fill_in(_absolute(unquote(text), folder), {"run": trial.run}), phil))
    if key not in _LISTS:
        return _absolute(unquote(text), folder)
    paths = (_absolute(w, trial.data if key == "source" and trial.data else folder) for w in split_words(text))
    return " ".join(f'"{p}"' if " " in p else p for p in paths)


def _absolute(path, folder):
    return path if path.startswith(("/", "~", "$", "{")) else relative_to(os.path.abspath(folder), path)


def _phil_name(path, phil):
    """The name of a PHIL file in the trial; `phil` remembers them."""
    return phil.setdefault(os.path.normpath(path), f"params_{len(phil) + 1}.phil")


def _copy_phil(path, name, phil, trial, files):
    """One PHIL file and those that it includes, under their new names."""
    _, texts = read_phil(path)
    names = {p: name if k == 0 else _phil_name(p, phil) for k, p in enumerate(texts)}
    for source, text in texts.items():
        def renamed(match, source=source):
            target = relative_to(os.path.dirname(source), fill_in(unquote(match[2]), {}))
            return match[1] + names.get(target, match[2])
        files[trial.folder / names[source]] = _INCLUDE.sub(renamed, text).replace("RUN_NO", str(trial.run))


def _sources(trial, config):
    """Patterns of the run's files in the data folder."""
    if not trial.data:
        raise MpixfelError("no source is given", str(config), "give the data folder (-i), or write source = FILES")
    folder = _absolute(trial.data, ".")
    found = [f"{folder}/*r{trial.run:04d}*.{ending}" for ending in DATA_ENDINGS
             if any(Path(folder).glob(f"*r{trial.run:04d}*.{ending}"))]
    if not found:
        raise MpixfelError(f"no file of run {trial.run} (*r{trial.run:04d}*.h5, .cxi, .nxs, .lst)", folder,
                           "check -i and -r, or write source = FILES")
    return " ".join(found[:1])


def _rewritten(lines, starts, changes, heading, added):
    """The text with changed entries in the place of the old ones (with their continuation lines), comments kept."""
    out, edges = [], sorted(starts) + [len(lines) + 1]
    out += lines[:edges[0] - 1]
    for first, after in zip(edges, edges[1:]):
        block = lines[first - 1:after - 1]
        if first in changes:
            kept = len(block)
            while kept > 1 and (not block[kept - 1].strip() or block[kept - 1].lstrip()[0] in "#;"):
                kept -= 1
            block = [changes[first], *block[kept:]]
        out += block
        if first == heading:
            out += added
    return "\n".join(out) + "\n"


def write_trial(files):
    """Write the files, and the folders that their options name."""
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        for name in re.findall(r"^\s*\w+_dirname = (.*)$", text, re.MULTILINE):
            Path(name).mkdir(exist_ok=True)
