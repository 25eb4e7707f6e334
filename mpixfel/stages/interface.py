"""What a stage is. Read before writing one.

A stage is a frozen data class: its fields are its parameters, with units in their names and bounds checked in
`__post_init__` (raise `MpixfelError`). It is called as a pure function and returns a result or a `Skip`, never None,
never an empty table to mean "no". Costly preparation happens in `prepare(context)`, once per rank, which returns
what the call needs (kernel tables, buffers); the stage itself stays immutable. No files, no MPI, no memory of the
last event; random numbers come from `context.rng(event.id)`.

Each field carries its help text: `field(default=..., metadata={"help": "...", "unit": "...", "choices": (...)})`;
`option()` below writes that shortly. Configuration, docs and the record of what was run are made from it.

Found by entry point: mpixfel.hit_finders, mpixfel.indexers, mpixfel.integrators, mpixfel.sources, mpixfel.modules.
"""
from dataclasses import field
from typing import Protocol


def option(default, help, unit="", choices=(), low=None, high=None):
    """A configurable field of a stage or settings class.

    `low` and `high` are inclusive bounds, `choices` the values allowed; configuration and `check_options` refuse others.
    """
    meta = {"help": help, "unit": unit, "choices": tuple(choices), "low": low, "high": high}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta)


class Calibrator(Protocol):
    """Raw words to photons."""

    def prepare(self, context, boxes=None): ...

    def __call__(self, event, shot, prepared):
        """-> Image | Skip"""


class HitFinder(Protocol):
    """Image to peaks.

    One with the attribute `wants_glance` prepares something with `boxes` (`stages.boxes.Boxes`), and gets images with
    `highs`, and `samples` of these boxes, wherever they can be had.
    """

    def prepare(self, context): ...

    def __call__(self, image, shot, prepared):
        """-> PEAK table (n,), strongest first, possibly empty: whether it is a hit is decided by stages.hitfinding."""


class Indexer(Protocol):
    """Reciprocal vectors to lattices."""

    def prepare(self, context): ...

    def __call__(self, spots, shot, prepared, rng):
        """-> LATTICE table (n,), n >= 1, with reciprocal_axes, cell, form, n_indexed, score set, best first | Skip"""


class Integrator(Protocol):
    """Image and crystals to reflections."""

    def prepare(self, context): ...

    def __call__(self, image, shot, lattices, peaks, prepared):
        """-> (LATTICE table, REFLECTION table) | Skip"""
