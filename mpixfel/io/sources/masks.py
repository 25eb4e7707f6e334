"""Masks in files: which hold for all events, which for one."""
import os
from typing import NamedTuple

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER, Block
from mpixfel.io.sources.event_names import substitute
from mpixfel.io.sources.hdf5_file import open_dataset, open_file
from mpixfel.io.sources.slabs import slabs_of

MASK_REMEDY = "correct the mask's path in the geometry"


class MaskUse(NamedTuple):
    """One slab of a mask, and the (panel, MaskRule) pairs that are judged by it."""

    file: str
    slab: object
    rules: tuple


def mask_uses(geometry):
    """Every mask of the layout as `MaskUse`, each array once, however many panels and rules look into it."""
    detector, layout = geometry.detector, geometry.layout
    wanted = {}
    for p, where in enumerate(layout.panels):
        for rule in where.masks:
            wanted.setdefault((rule.file, rule.path), []).append((p, rule))
    uses = []
    for (file, path), rules in wanted.items():
        numbers = dict.fromkeys(detector.panels[p].block for p, _ in rules)
        for slab in slabs_of([(n, Block(path, layout.blocks[n].dims)) for n in numbers]):
            inside = {block for block, _ in slab.views}
            uses.append(MaskUse(file, slab, tuple((p, r) for p, r in rules if detector.panels[p].block in inside)))
    return uses


def resolve(name, folder):
    """A mask file named in a geometry: relative to the geometry's folder, then to the working directory."""
    for candidate in (os.path.join(folder, os.path.expanduser(name)), name):
        if os.path.exists(candidate):
            return candidate
    raise MpixfelError(f"there is no file {name}", folder, "correct the file's name in the geometry")


def fit(dataset, slab):
    """(slab, per event?) as the dataset has it: with the event axes, or without them."""
    static = slab.without_events()
    if dataset.ndim == len(static.dims):
        return static, PLACEHOLDER in slab.path
    if dataset.ndim != len(slab.dims):
        raise MpixfelError(f"mask {dataset.name} has shape {dataset.shape}, but the geometry gives it {len(slab.dims)} "
                           f"axes, or {len(static.dims)} without the events", dataset.file.filename, MASK_REMEDY)
    lengths = [n for n, d in zip(dataset.shape, slab.dims) if d == PLACEHOLDER]
    return slab, PLACEHOLDER in slab.path or any(n != 1 for n in lengths)


def check_panels(dataset, slab, rules, detector):
    """Raise if a panel lies outside its mask, or the mask holds no bits."""
    if dataset.dtype.kind not in "iub":
        raise MpixfelError(f"mask {dataset.name} holds {dataset.dtype}, not bits", dataset.file.filename, MASK_REMEDY)
    size = [dataset.shape[slab.dims.index(axis)] for axis in ("ss", "fs")]
    for p, _ in rules:
        panel = detector.panels[p]
        if panel.min_ss + panel.shape[0] > size[0] or panel.min_fs + panel.shape[1] > size[1]:
            raise MpixfelError(f"mask {dataset.name} has {size[0]} x {size[1]} pixels (ss x fs), too few for panel "
                               f"{panel.name}", dataset.file.filename, MASK_REMEDY)


def apply_rules(use, arrays, detector, bad_of):
    """Or the bad pixels of a mask, given as {block: array}, into `bad_of(panel)` (its (ss, fs) bool view)."""
    for p, rule in use.rules:
        panel = detector.panels[p]
        part = arrays[panel.block][panel.min_ss:panel.min_ss + panel.shape[0],
                                   panel.min_fs:panel.min_fs + panel.shape[1]]
        bad_of(p)[...] |= rule.is_bad(part)
