"""Names of events in an HDF5 file: place-holders in paths, and indices along the event axes."""
import re

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER


def substitute(path, parts):
    """`path` with its place-holders replaced by `parts`, in order; a path with fewer place-holders takes the first."""
    pieces = path.split(PLACEHOLDER)
    filled = pieces[0]
    for n, piece in enumerate(pieces[1:]):
        filled += parts[n] + piece
    return filled


def matches(file, path):
    """Every tuple of place-holder values for which `path` exists in the HDF5 file, in natural order."""
    if PLACEHOLDER not in path:
        return [()] if path in file else []
    return list(_walk(file, [p for p in path.split("/") if p]))


def _walk(node, components, found=()):
    if not components:
        yield found
        return
    if not isinstance(node, h5py.Group):
        return
    head, rest = components[0], components[1:]
    if PLACEHOLDER not in head:
        child = node.get(head)
        if child is not None:
            yield from _walk(child, rest, found)
        return
    pattern = re.compile("(.+)".join(map(re.escape, head.split(PLACEHOLDER))))
    for name in sorted(node, key=_natural):
        match = pattern.fullmatch(name)
        child = node.get(name) if match else None
        if child is not None:
            yield from _walk(child, rest, found + match.groups())


def _natural(name):
    """Sorts event2 before event10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


class EventNames:
    """The events of one file, in their order: all of the first path, then all of the next.

    Parameters
    ----------
    parts : list of tuple of str
        Place-holder values of the paths that exist.
    shapes : list of tuple of int
        For each of them the lengths of the event axes.
    growing : bool
        The file is being written: its datasets may be longer than these by now.
    """

    def __init__(self, parts, shapes, growing=False):
        self.parts, self.shapes, self.growing = list(parts), list(shapes), growing
        counts = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        self.first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._numbers = {part: k for k, part in enumerate(self.parts)}
        self._last = (None, None)

    def __len__(self):
        return int(self.first[-1])

    def place(self, index):
        """(number of the path, place-holder values, indices along the event axes) of an event."""
        if self._last[0] != index:
            k = int(np.searchsorted(self.first, index, side="right")) - 1
            along = np.unravel_index(index - self.first[k], self.shapes[k]) if self.shapes[k] else ()
            self._last = index, (k, self.parts[k], tuple(map(int, along)))
        return self._last[1]

    def name(self, index):
        """CrystFEL's name: `path/parts//dim/parts`."""
        _, parts, along = self.place(index)
        return "/".join(parts) + "//" + "/".join(map(str, along))

    def find(self, name, where=""):
        """The index of an event's name; `MpixfelError` if the file has no such event."""
        head, _, tail = name.partition("//")
        parts = tuple(p for p in head.split("/") if p)
        try:
            k = self._numbers[parts]
            along = tuple(int(p) for p in tail.split("/") if p)
            inside = len(along) == len(self.shapes[k]) and all(0 <= a < n for a, n in zip(along, self.shapes[k]))
        except (KeyError, ValueError):
            inside = False
        if not inside:
            raise MpixfelError(f"there is no event {name!r}", where, self._remedy())
        return int(self.first[k] + (np.ravel_multi_index(along, self.shapes[k]) if along else 0))

    def _remedy(self):
        if not len(self):
            return "the file has no events"
        return f"the file has {len(self)}: {self.name(0)} to {self.name(len(self) - 1)}"
