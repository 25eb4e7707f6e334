"""HDF5 files that are still being written: datasets that grow (SWMR), files and lists of files that become more.

While it is written, a file may have `.inprogress` after its name; it is known by the name without. An event counts once
all that belongs to it is there. Events stand in the order in which they appeared, and that order is kept.
"""
import glob
import os
import time
from typing import NamedTuple

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.sources.hdf5 import Hdf5Source, twins_of
from mpixfel.io.sources.hdf5_layout import survey
from mpixfel.io.sources.paths import IN_PROGRESS, LIST_SUFFIXES, Wanted, read_list


TICK_S = 2.0   # two changes of a file within a file system's tick have the same time


class News(NamedTuple):
    """What has come since the last look."""

    paths: tuple       # further files
    surveys: dict      # {number of the file: Survey}
    runs: list         # [(number of the file, first, stop)] of further events, in order


class GrowingSource(Hdf5Source):
    """Events of files that grow. `look` finds news, on one rank; every rank is given them by `take`.

    Parameters
    ----------
    paths : str or sequence of str
        As for `Hdf5Source`, but nothing needs to be there yet.
    geometry : Geometry
    before : (paths, runs), optional
        What an earlier start of the run took, in its order.

    Attributes
    ----------
    runs : list of (number of the file, first, stop)
        All events so far, in order.
    waiting : {path: reason}
        Files that could not be read yet.
    """

    def __init__(self, paths, geometry, before=((), ())):
        self.geometry, self._named = geometry, [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.paths, self._surveys, self.events_per_chunk = (), [], 1
        self._source, self._index = np.zeros(0, np.int32), np.zeros(0, np.int64)
        self._has_own_masks = any(not rule.file for where in geometry.layout.panels for rule in where.masks)
        self.runs, self.waiting, self._seen, self._twins = [], {}, {}, None
        self._forget()
        known, runs = before
        if known:
            surveys = {n: survey(_standing(path), geometry, growing=True) for n, path in enumerate(known)}
            self.take(News(tuple(known), surveys, [tuple(run) for run in runs]))

    def look(self):
        """`News`, or None for none."""
        numbers = {path: n for n, path in enumerate(self.paths)}
        paths, surveys, runs = [], {}, []
        for wanted in _named_so_far(self._named):
            number = numbers.get(wanted.path, len(self.paths) + len(paths))
            try:
                found = surveys.get(number) or self._survey_again(wanted.path, number)
            except (MpixfelError, OSError, KeyError, RuntimeError) as error:   # it may be half written
                self.waiting[wanted.path] = " ".join(str(error).split())
                continue
            self.waiting.pop(wanted.path, None)
            more = self._more(wanted, number, found)
            if not more:
                continue
            if wanted.path not in numbers:
                paths.append(wanted.path)
                numbers[wanted.path] = number
            surveys[number] = found
            runs += more
        return News(tuple(paths), surveys, runs) if runs else None

    def _survey_again(self, path, number):
        """The `Survey` of a file as it is now; it is read only if the file may have changed since it was last."""
        place = _standing(path)
        stat = os.stat(place)
        now = (place, stat.st_mtime_ns, stat.st_size)
        before = self._seen.get(path)
        if before is None or before[0] != now:
            self._close(number)   # a file that is open already is not looked at anew
            found = survey(place, self.geometry, growing=True)
            if time.time() - stat.st_mtime < TICK_S:
                return found
            self._seen[path] = before = (now, found)
        return before[1]

    def _close(self, number):
        if number in self._open:
            self._open.pop(number).close()

    def _more(self, wanted, number, found):
        """[(number, first, stop)] of events of a file that have not been taken."""
        if number < len(self._surveys) and found.names.parts[:len(self._surveys[number].names.parts)] != (
                self._surveys[number].names.parts):
            raise MpixfelError("events have appeared between those of before", wanted.path, "process it when it is complete")
        if wanted.events is None:
            taken = sum(stop - first for n, first, stop in self.runs if n == number)
            return [(number, taken, len(found.names))] if len(found.names) > taken else []
        taken = {i for n, first, stop in self.runs if n == number for i in range(first, stop)}
        runs = []
        for name in wanted.events:
            try:
                index = found.names.find(name)
            except MpixfelError:
                continue                     # not yet
            if index not in taken:
                taken.add(index)
                runs.append((number, index, index + 1))
        return runs

    def take(self, news):
        """Let the events of `news` be the last of this source. All ranks take the same news."""
        self.paths += news.paths
        for number, found in sorted(news.surveys.items()):
            if number == len(self._surveys):
                self._surveys.append(found)
            self._surveys[number] = found
            self.events_per_chunk = max(self.events_per_chunk, found.events_per_chunk)
            self._close(number)
        self._twins = twins_of(self._surveys)
        self.runs += news.runs
        self._index = np.concatenate([self._index, *(np.arange(first, stop) for _, first, stop in news.runs)])
        self._source = np.concatenate([self._source, *(np.full(stop - first, n, np.int32) for n, first, stop in news.runs)])

    def _place(self, source):
        return _standing(self.paths[source])

    def __getstate__(self):
        return {**super().__getstate__(), "_seen": {}}


def _standing(path):
    """Where a file stands now: under its name, or as one in progress."""
    return path if os.path.exists(path) or not os.path.exists(path + IN_PROGRESS) else path + IN_PROGRESS


def _named_so_far(paths):
    """`Wanted` of the files that are there, in the order named; matches of a glob in the order of their names."""
    found = []
    for path in paths:
        path = os.path.expanduser(os.fspath(path)).removesuffix(IN_PROGRESS)
        patterns = (path, path + IN_PROGRESS) if glob.has_magic(path) else map(glob.escape, (path, path + IN_PROGRESS))
        matches = sorted({m.removesuffix(IN_PROGRESS) for pattern in patterns for m in glob.glob(pattern, recursive=True)})
        for match in matches:
            found += read_list(match, [], growing=True) if match.endswith(LIST_SUFFIXES) else [Wanted(match, None)]
    return found
