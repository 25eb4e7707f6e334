"""Multi-event HDF5 and CXI files, as a CrystFEL geometry describes them."""
import os
from collections import OrderedDict

import numpy as np

from mpixfel.errors import BadData, ManyErrors, MpixfelError
from mpixfel.io.geometry.regions import geometry_mask
from mpixfel.io.sources.hdf5_events import OpenEvents
from mpixfel.io.sources.hdf5_layout import survey
from mpixfel.io.sources.interface import Source
from mpixfel.io.sources.paths import expand
from mpixfel.io.sources.slabs import Buffers
from mpixfel.io.sources.stamps import twins
from mpixfel.model.event import Event, EventId

MAX_OPEN_FILES = 8


class Hdf5Source(Source):
    """Events of one or many HDF5 files.

    Opening looks into every file once and checks it; files are then opened again as events are asked for. A source
    can be pickled (open files and buffers stay behind), so that one rank can look and tell the others.

    Parameters
    ----------
    paths : str or sequence of str
        Files, globs, event lists.
    geometry : Geometry
    events : slice, optional
        Which of all the events; None: all.
    """

    def __init__(self, paths, geometry, events=None):
        self.geometry = geometry
        wanted = expand(paths)
        self.paths = tuple(dict.fromkeys(w.path for w in wanted))
        surveys = _survey_all(self.paths, geometry)
        self._twins = twins_of(surveys)
        self._surveys = [s._replace(times=None) for s in surveys]
        self._source, self._index = self._select(wanted, events)
        self.events_per_chunk = max((s.events_per_chunk for s in self._surveys), default=1)
        self._has_own_masks = any(not rule.file for where in geometry.layout.panels for rule in where.masks)
        self._forget()
        # Looked at now, so that masks and maps that do not fit are refused before the run starts.
        try:
            self._first_mask()
            self.saturation_adu()
        finally:
            self.close()

    def _forget(self):
        self._open, self._buffers, self._static = OrderedDict(), Buffers(), None

    def _select(self, wanted, events):
        """(source number, index in it) of every event, in order: (n,) int32, (n,) int64."""
        numbers = {path: n for n, path in enumerate(self.paths)}
        sources, indices, errors = [], [], []
        for path, names, lines in wanted:
            known = self._surveys[numbers[path]].names
            if names is None:
                index = np.arange(len(known))
            else:
                index = np.array([_find(known, path, *pair, errors) for pair in zip(names, lines)], np.int64)
            indices.append(index)
            sources.append(np.full(len(index), numbers[path], np.int32))
        if errors:
            raise ManyErrors(errors) if len(errors) > 1 else errors[0]
        source, index = np.concatenate(sources), np.concatenate(indices).astype(np.int64)
        # An event named twice is taken once, where it was named first.
        _, first = np.unique(source.astype(np.int64) << 40 | index, return_index=True)
        first.sort()
        source, index = source[first], index[first]
        if not len(source):
            raise MpixfelError("there are no events", ", ".join(self.paths[:3]), "check the source files")
        chosen = slice(None) if events is None else events
        if not len(source[chosen]):
            raise MpixfelError(f"events {_text(chosen)} choose none of {len(source)}", ", ".join(self.paths[:3]),
                               "choose start:stop:step within them")
        return source[chosen], index[chosen]

    def __len__(self):
        return len(self._index)

    def event_id(self, i):
        """`EventId` of the i-th event; its time stamp is known once its file has been opened for reading."""
        source, index = int(self._source[i]), int(self._index[i])
        opened = self._open.get(source)
        stamp = opened.timestamp_ns(index) if opened else -1
        twin = int(self._twins[source][index]) if self._twins is not None else 0
        return EventId(source, index, self._surveys[source].names.name(index), stamp, twin)

    def event(self, i):
        """The i-th `Event`; its arrays last until the next call.

        Raises
        ------
        BadData
            The file, or this event in it, cannot be read.
        MpixfelError
            The file has gone: it may come back, so its events have not failed.
        """
        source, index = int(self._source[i]), int(self._index[i])
        name = self._surveys[source].names.name(index)
        try:
            events = self._events_of(source)
            raw = events.raw(index)
            masks = events.masks(index)
            energy, clen, shift = events.values(index)
            return Event(self.event_id(i), raw, energy, clen, masks, events.extra(index), shift)
        except BadData:
            raise
        except (MpixfelError, OSError, KeyError, RuntimeError) as error:
            if not os.path.exists(self._place(source)):
                raise MpixfelError("the file has vanished", self.paths[source], "bring it back, then --resume goes on") from None
            if isinstance(error, MpixfelError):
                raise BadData(error.what, error.where, error.remedy) from None
            raise BadData(f"the event cannot be read: {error}", f"{self.paths[source]} {name}",
                          "the file is damaged, or has changed since it was opened") from None

    def _events_of(self, source):
        """The opened file number `source`; the one used longest ago is closed where too many are open."""
        if source not in self._open:
            if len(self._open) >= MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[source] = OpenEvents(self._place(source), self.geometry, self._surveys[source].names,
                                            self._buffers)
            if self._has_own_masks and source > 0:
                self._open[source].file_masks().compare(self._first_mask())
        self._open.move_to_end(source)
        return self._open[source]

    def _place(self, source):
        """Where file number `source` stands."""
        return self.paths[source]

    def static_mask(self):
        """(P, SS, FS) bool, True = bad: what the geometry says, and the first file's masks that hold for all events."""
        mask = geometry_mask(self.geometry)
        return mask | self._first_mask()

    def _first_mask(self):
        """(P, SS, FS) bool: the static masks of the first file, which other files are compared with."""
        if self._static is None:
            self._static = self._events_of(0).file_masks().static()
        return self._static

    def saturation_adu(self):
        """(P, SS, FS) float32 from the saturation maps of the first file or of their own files; None: without any."""
        return self._events_of(0).file_masks().saturation_adu()

    def close(self):
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in ("_open", "_buffers", "_static")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._forget()


def _text(chosen):
    return ":".join("" if n is None else str(n) for n in (chosen.start, chosen.stop, chosen.step))


def _survey_all(paths, geometry):
    surveys, errors = [], []
    for path in paths:
        try:
            surveys.append(survey(path, geometry))
        except ManyErrors as error:
            errors += error.errors
        except MpixfelError as error:
            errors.append(error)
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    return surveys


def twins_of(surveys):
    """By file: how many events before each lie in the same millisecond, in all files; None where none do."""
    times = [np.full(len(s.names), -1, np.int64) if s.times is None else s.times for s in surveys]
    counted = twins(np.concatenate(times))
    return None if counted is None else np.split(counted, np.cumsum([len(t) for t in times])[:-1])


def _find(known, path, name, line, errors):
    try:
        return known.find(name, f"{line}: {path}")
    except MpixfelError as error:
        errors.append(error)
        return 0
