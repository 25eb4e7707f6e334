"""Masks and saturation maps in files: which hold for all events, which for one."""
import os
from typing import NamedTuple

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER, Block
from mpixfel.io.sources.event_names import substitute
from mpixfel.io.sources.hdf5_file import open_dataset, open_file
from mpixfel.io.sources.slabs import SlabReader, slabs_of

REMEDY = "correct the mask in the geometry"


class Use(NamedTuple):
    """One slab of a per-pixel dataset, and the (panel, rule) pairs that are judged by it."""

    file: str                        # "": the data file
    slab: object
    rules: tuple


def mask_uses(geometry):
    """Every mask of the layout as `Use`, each array once, however many panels and rules look into it."""
    return _uses(geometry, [(p, rule.file, rule.path, rule) for p, where in enumerate(geometry.layout.panels)
                            for rule in where.masks])


def saturation_uses(geometry):
    """The same of the saturation maps; their rule is None."""
    return _uses(geometry, [(p, where.saturation_file, where.saturation_path, None)
                            for p, where in enumerate(geometry.layout.panels) if where.saturation_path])


def _uses(geometry, entries):
    panels, blocks = geometry.detector.panels, geometry.layout.blocks
    wanted = {}
    for p, file, path, rule in entries:
        wanted.setdefault((file, path), []).append((p, rule))
    uses = []
    for (file, path), rules in wanted.items():
        numbers = dict.fromkeys(panels[p].block for p, _ in rules)
        for slab in slabs_of([(n, Block(path, blocks[n].dims)) for n in numbers]):
            inside = {block for block, _ in slab.views}
            uses.append(Use(file, slab, tuple((p, r) for p, r in rules if panels[p].block in inside)))
    return uses


def of_panel(array, panel):
    """The part of a block's (ss, fs) array that is the panel's."""
    return array[panel.min_ss:panel.min_ss + panel.shape[0], panel.min_fs:panel.min_fs + panel.shape[1]]


class FileMasks:
    """The masks of one open data file.

    Parameters
    ----------
    file : h5py.File
    geometry : Geometry
    parts : tuple of str
        Place-holder values of the file's first event.
    buffers : Buffers
    """

    def __init__(self, file, geometry, parts, buffers):
        self._file, self._geometry, self._parts, self._buffers = file, geometry, parts, buffers
        self._panels = geometry.detector.panels
        self._per_event, self._for_all = [], []
        self._beyond = {}
        for use in mask_uses(geometry):
            self._take(use)

    def static(self):
        """(P, SS, FS) bool, True = bad in every event; read anew, so that not every rank must keep it."""
        static = np.zeros(self._geometry.detector.stack_shape, bool)
        for use in self._for_all:
            file, dataset = self._opened(use)
            for p, rule, part in self._parts_of(use, dataset):
                static[p, :part.shape[0], :part.shape[1]] |= rule.is_bad(part)
            if use.file:
                file.close()
        return static

    def _opened(self, use):
        """(file, dataset) of a mask."""
        file = self._file if not use.file else open_file(_resolve(use.file, self._geometry.layout.folder))
        return file, open_dataset(file, substitute(use.slab.path, self._parts), REMEDY)

    def _take(self, use):
        """Sort a mask into those that hold for all events and those that do not; raise `MpixfelError` if it does not fit."""
        file, dataset = self._opened(use)
        if dataset.dtype.kind not in "iub":
            raise MpixfelError(f"mask {dataset.name} holds {dataset.dtype}, not bits", file.filename, REMEDY)
        slab, per_event = _fit(dataset, use.slab)
        use = use._replace(slab=slab)
        self._check_panels(dataset, use)
        if not per_event:
            self._for_all.append(use)
        elif use.file:
            raise MpixfelError(f"mask {dataset.name} has one image for each event", file.filename,
                               "a mask file must hold one mask for all events")
        else:
            self._per_event.append(use)
        if use.file:
            file.close()

    def _check_panels(self, dataset, use):
        size = [dataset.shape[use.slab.dims.index(axis)] for axis in ("ss", "fs")]
        for p, _ in use.rules:
            panel = self._panels[p]
            if panel.min_ss + panel.shape[0] > size[0] or panel.min_fs + panel.shape[1] > size[1]:
                raise MpixfelError(
                    f"{dataset.name} has {size[0]} x {size[1]} pixels (ss x fs), too few for panel {panel.name} "
                    f"at ss {panel.min_ss}, fs {panel.min_fs} with {panel.shape[0]} x {panel.shape[1]}",
                    dataset.file.filename, REMEDY)

    def _parts_of(self, use, dataset):
        """(panel number, rule, (ss, fs) values) of a dataset that is read once."""
        reader = SlabReader(dataset, use.slab)
        array = np.empty(reader.shape, reader.dtype)
        reader.read((0,) * use.slab.dims.count(PLACEHOLDER), array, self._buffers)
        arrays = dict(use.slab.cuts(array))
        for p, rule in use.rules:
            yield p, rule, of_panel(arrays[self._panels[p].block], self._panels[p])

    def compare(self, reference):
        """From now on, count bad pixels that `reference` (P, SS, FS) lacks among those of each event."""
        more = self.static() & ~reference
        for p in np.flatnonzero(more.any((1, 2))):
            panel = self._panels[p]
            of_panel(self._beyond.setdefault(panel.block, self._empty(panel.block)), panel)[...] \
                |= more[p, :panel.shape[0], :panel.shape[1]]

    def _empty(self, block):
        """A block-shaped bool array, just large enough for the block's panels."""
        panels = [panel for panel in self._panels if panel.block == block]
        return np.zeros((max(panel.min_ss + panel.shape[0] for panel in panels),
                         max(panel.min_fs + panel.shape[1] for panel in panels)), bool)

    def of_event(self, parts, along, reader_of):
        """((block, (ss, fs) bool), ...), True = bad: masks that belong to one event alone.

        `reader_of(slab, parts)` gives the `SlabReader` of a slab.
        """
        if not self._per_event and not self._beyond:
            return ()
        bad = {}
        for use in self._per_event:
            reader = reader_of(use.slab, parts)
            array = self._buffers.of(("mask", use.slab.path), reader.shape, reader.dtype)
            reader.read(along if PLACEHOLDER in use.slab.dims else (), array, self._buffers)
            arrays = dict(use.slab.cuts(array))
            for p, rule in use.rules:
                panel = self._panels[p]
                _add_bad(of_panel(self._started(bad, panel.block), panel), of_panel(arrays[panel.block], panel), rule)
        for block in self._beyond:
            self._started(bad, block)
        return tuple(bad.items())

    def _started(self, bad, block):
        """The event's mask of a block; it starts with what this file has beyond the first."""
        if block not in bad:
            start = self._beyond.get(block)
            if start is None:
                start = self._beyond.setdefault(block, self._empty(block))
            bad[block] = self._buffers.of(("bad", block), start.shape, start.dtype)
            bad[block][...] = start
        return bad[block]

    def saturation_adu(self):
        """(P, SS, FS) float32: values above are saturated, inf where no map says so; None without any map."""
        uses = saturation_uses(self._geometry)
        if not uses:
            return None
        stack = np.full(self._geometry.detector.stack_shape, np.inf, np.float32)
        for use in uses:
            file = self._file if not use.file else open_file(_resolve(use.file, self._geometry.layout.folder))
            name = substitute(use.slab.path, self._parts)
            dataset = open_dataset(file, name, "correct saturation_map in the geometry")
            slab, _ = _fit(dataset, use.slab)
            use = use._replace(slab=slab)
            self._check_panels(dataset, use)
            for p, _, part in self._parts_of(use, dataset):
                stack[p, :part.shape[0], :part.shape[1]] = part
            if use.file:
                file.close()
        return stack


def _add_bad(bad, values, rule, pixels_at_once=65536):
    """Or what a rule says of `values` into `bad`, some rows at a time: the temporaries then stay in the cache."""
    step = max(1, pixels_at_once // values.shape[1])
    for row in range(0, values.shape[0], step):
        bad[row:row + step] |= rule.is_bad(values[row:row + step])


def _resolve(name, folder):
    """A file named in a geometry: relative to the geometry's folder, then to the working directory."""
    for candidate in (os.path.join(folder, os.path.expanduser(name)), name):
        if os.path.exists(candidate):
            return candidate
    raise MpixfelError(f"there is no file {name}", folder or ".", "correct the file's name in the geometry")


def _fit(dataset, slab):
    """(slab, per event?) as the dataset has it: with the event axes, or without them."""
    static = slab.without_events()
    if dataset.ndim == len(static.dims):
        fitting, per_event = static, PLACEHOLDER in slab.path
    elif dataset.ndim == len(slab.dims):
        lengths = [n for n, d in zip(dataset.shape, slab.dims) if d == PLACEHOLDER]
        fitting, per_event = slab, PLACEHOLDER in slab.path or any(n != 1 for n in lengths)
    else:
        raise MpixfelError(f"{dataset.name} has shape {dataset.shape}, but the geometry gives it {len(slab.dims)} axes"
                           f", or {len(static.dims)} without the events", dataset.file.filename, REMEDY)
    for n, d in zip(dataset.shape, fitting.dims):
        if isinstance(d, tuple) and d[2] > n:
            raise MpixfelError(f"{dataset.name} has shape {dataset.shape}, but the geometry asks for index {d[2] - 1}",
                               dataset.file.filename, REMEDY)
    return fitting, per_event
