"""Sources of events, found by the entry point `mpixfel.sources`."""
import difflib
from importlib.metadata import entry_points

from mpixfel.errors import MpixfelError
from mpixfel.io.sources.growing import GrowingSource
from mpixfel.io.sources.hdf5 import Hdf5Source
from mpixfel.io.sources.interface import Source

BUILT_IN = {"hdf5": Hdf5Source}


def open_source(paths, geometry, events=None, source="hdf5"):
    """Open the events of a run.

    Parameters
    ----------
    paths : str or sequence of str
        Files, globs, event lists (`.lst`).
    geometry : Geometry
    events : slice, optional
        Which of all events; None: all.
    source : str
        The format: a name of the entry point `mpixfel.sources`.

    Raises
    ------
    MpixfelError
        What can be found wrong without reading pixels, in one go.
    """
    return _source_class(source)(paths, geometry, events)


def open_growing(paths, geometry, source="hdf5", before=((), ())):
    """Open a source that is still being written; it may have no events yet. See `GrowingSource`."""
    if source != "hdf5":
        raise MpixfelError(f"sources of format {source!r} cannot be followed", "mpixfel.follow", "process them when they "
                           "are complete")
    return GrowingSource(paths, geometry, before)


def _source_class(name):
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = {point.name: point for point in entry_points(group="mpixfel.sources")}
    if name not in known:
        names = sorted({*known, *BUILT_IN})
        near = difflib.get_close_matches(name, names, 1, 0.0)
        raise MpixfelError(f"there is no source format {name!r}", "source",
                           f"known: {', '.join(names)}; nearest: {near[0]}")
    return known[name].load()


__all__ = ["Hdf5Source", "Source", "open_growing", "open_source"]
