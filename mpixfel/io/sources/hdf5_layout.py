"""One HDF5 file seen through a geometry's layout: which events it has, and whether it fits."""
import bisect
from typing import NamedTuple

import numpy as np

from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER
from mpixfel.io.sources.event_names import EventNames, matches, substitute
from mpixfel.io.sources.hdf5_file import open_dataset, open_file
from mpixfel.io.sources.stamps import read_times
from mpixfel.io.sources.values import EventValues

# The fields of a layout that may differ from event to event.
VALUES = ("photon_energy", "clen", "shift_x", "shift_y")


class Survey(NamedTuple):
    """What is known of a file without reading pixels."""

    names: EventNames
    events_per_chunk: int
    times: np.ndarray | None = None      # (n,) int64 ns since 1970 UTC, where the file tells them


def survey(path, geometry, growing=False):
    """Open a file, check it against the geometry, and list its events.

    `growing`: the file is still being written. Its datasets may differ in length: an event counts when all have it.

    Raises
    ------
    MpixfelError
        Everything that does not fit, in one go.
    """
    with open_file(path) as file:
        layout, errors = geometry.layout, []
        parts = _common_matches(file, layout)
        if not parts:
            raise MpixfelError(f"nothing matches {layout.blocks[0].path}", path, "correct `data` in the geometry")
        shapes = {}
        for number, block in enumerate(layout.blocks):
            try:
                shapes[number] = _block_shape(file, block, parts[0])
                _check_panels(path, geometry, number, shapes[number])
            except MpixfelError as error:
                errors.append(error)
        lengths = {tuple(n for n, d in zip(shape, layout.blocks[number].dims) if d == PLACEHOLDER)
                   for number, shape in shapes.items()}
        if growing and all(len(length) == 1 for length in lengths):
            lengths = {(min(there(file, layout, parts[0]), *(n for n, in lengths)),)}
        if len(lengths) > 1:
            errors.append(MpixfelError(f"data blocks differ in their number of events: {sorted(lengths)}", path,
                                       "correct `data` or `dim` in the geometry"))
        if errors:
            raise ManyErrors(errors) if len(errors) > 1 else errors[0]
        events = lengths.pop()
        shapes = [events] + [_event_shape(file, layout.blocks[0], p) for p in parts[1:]]
        names = EventNames(parts, shapes, growing)
        if len(names):
            _check_values(file, layout, names)
        return Survey(names, _events_per_chunk(file, layout.blocks[0], parts[0]), read_times(file, names))


def there(file, layout, parts):
    """How many events, from the first on, have all their values in a file that is being written, and stored pixels."""
    counts = [1 << 62]
    for key in VALUES:
        path = getattr(layout, key).path
        dataset = open_dataset(file, substitute(path, parts)) if path else None
        if dataset is not None and dataset.ndim and (dataset.size != 1 or dataset.maxshape[0] is None):
            counts.append(len(dataset))
    for block in layout.blocks if file.swmr_mode else ():
        dataset = file[substitute(block.path, parts)]
        if dataset.chunks and not dataset.is_virtual:
            counts.append(_stored(dataset, block.dims.index(PLACEHOLDER)))
    return min(counts)


def _stored(dataset, axis):
    """How many events of a dataset are stored: a file may have room for all of a run from its beginning."""
    def missing(n):
        at = [0] * dataset.ndim
        at[axis] = n
        return dataset.id.get_chunk_info_by_coord(tuple(at)).byte_offset is None
    return bisect.bisect_left(range(dataset.shape[axis]), True, key=missing)


def _common_matches(file, layout):
    """Place-holder values for which every block of the layout has its dataset."""
    paths = dict.fromkeys(block.path for block in layout.blocks)
    if all(PLACEHOLDER not in path for path in paths):
        return [()]                        # a missing dataset is then told by name
    first, *others = [matches(file, path) for path in paths]
    everywhere = set(first).intersection(*others)
    return [parts for parts in first if parts in everywhere]


def _block_shape(file, block, parts):
    dataset = open_dataset(file, substitute(block.path, parts))
    if dataset.dtype.kind == "b":
        raise MpixfelError(f"{dataset.name} holds booleans, not pixel values", file.filename, "correct `data`")
    if dataset.ndim != len(block.dims):
        axes = f"{len(block.dims)} axes ({', '.join(map(str, block.dims))})"
        raise MpixfelError(f"{dataset.name} has shape {dataset.shape}, but the geometry gives it {axes}",
                           file.filename, "correct dim0, dim1, ... in the geometry")
    for axis, (d, n) in enumerate(zip(block.dims, dataset.shape)):
        if isinstance(d, int) and d >= n:
            raise MpixfelError(f"{dataset.name} has shape {dataset.shape}, but dim{axis} = {d} in the geometry",
                               file.filename, f"axis {axis} goes up to {n - 1}")
    return dataset.shape


def _event_shape(file, block, parts):
    return tuple(n for n, d in zip(file[substitute(block.path, parts)].shape, block.dims) if d == PLACEHOLDER)


def _check_panels(path, geometry, number, shape):
    """Raise if a panel of this block lies outside it."""
    block = geometry.layout.blocks[number]
    there = shape[block.dims.index("ss")], shape[block.dims.index("fs")]
    outside = [p for p in geometry.detector.panels if p.block == number
               and (p.min_ss + p.shape[0] > there[0] or p.min_fs + p.shape[1] > there[1])]
    if outside:
        p = outside[0]
        more = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
        raise MpixfelError(
            f"panel {p.name}{more} needs ss {p.min_ss}..{p.min_ss + p.shape[0] - 1}, fs {p.min_fs}.."
            f"{p.min_fs + p.shape[1] - 1}, but {block.path} has {there[0]} x {there[1]} pixels (ss x fs; {shape})",
            path, f"the geometry {geometry.path} does not belong to these data")


def _check_values(file, layout, names):
    """Raise if a per-event value is missing or has another number of events than the images."""
    errors = []
    for key in VALUES:
        try:
            EventValues(file, getattr(layout, key), key, names)
        except MpixfelError as error:
            errors.append(error)
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]


def _events_per_chunk(file, block, parts):
    """How many events share a chunk along the last event axis."""
    dataset = file[substitute(block.path, parts)]
    if PLACEHOLDER not in block.dims or not dataset.chunks:
        return 1
    axis = len(block.dims) - 1 - block.dims[::-1].index(PLACEHOLDER)
    return int(dataset.chunks[axis])
