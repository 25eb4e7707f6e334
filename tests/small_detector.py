"""Detectors of a few small panels, and events for them, made by hand."""
import numpy as np

from mpixfel.model.event import Event, EventId
from mpixfel.model.experiment import Beam, Context, Detector, Panel

PIXEL, DISTANCE, ENERGY = 75e-6, 0.06, 9500.0


def panel(name, shape, first=(0, 0), centre=(0.0, 0.0), **more):
    """A panel at (ss, fs) `first` of its block, with the beam at pixel `centre` (fs, ss) of the block."""
    origin = (-(centre[0] - first[1]) * PIXEL, -(centre[1] - first[0]) * PIXEL, 0.0)
    values = {"adu_per_photon": 1.0, "min_ss": first[0], "min_fs": first[1], **more}
    return Panel(name, origin, (PIXEL, 0.0, 0.0), (0.0, PIXEL, 0.0), shape, **values)


def context_of(*panels, **more):
    """A `Context` of these panels."""
    return Context(Detector(tuple(panels)), Beam(), **more)


def event_of(*blocks, energy=ENERGY, **extra):
    """An `Event` with these data blocks."""
    return Event(EventId(0, 0, "event 0"), tuple(np.asarray(b) for b in blocks), energy, DISTANCE, extra=extra)


def flat_context(size=256, mask=None, **more):
    """One square panel with the beam in its middle."""
    return context_of(panel("p", (size, size), centre=(size / 2, size / 2), **more), mask=mask)
