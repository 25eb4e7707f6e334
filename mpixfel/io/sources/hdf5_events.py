"""One opened HDF5 file: the pixels, masks and values of its events."""
import numpy as np

from mpixfel.errors import BadData
from mpixfel.io.geometry.layout import PLACEHOLDER
from mpixfel.io.sources.event_names import substitute
from mpixfel.io.sources.hdf5_file import open_dataset, open_file
from mpixfel.io.sources.hdf5_layout import VALUES
from mpixfel.io.sources.masks import FileMasks
from mpixfel.io.sources.slabs import SlabReader, slabs_of
from mpixfel.io.sources.stamps import Stamps
from mpixfel.io.sources.values import EventValues


class OpenEvents:
    """The events of one open file; arrays come from `buffers`, which all files of a source share."""

    def __init__(self, path, geometry, names, buffers):
        self.path, self.geometry, self.names = path, geometry, names
        self._buffers = buffers
        self._file = open_file(path)
        self._slabs = slabs_of(list(enumerate(geometry.layout.blocks)))
        self._needed = _needed(geometry)
        self._readers, self._values = {}, {}
        self._stamps = Stamps(self._file, names)
        self._masks = None

    def close(self):
        self._readers.clear()
        self._file.close()

    def file_masks(self):
        """The file's `FileMasks`, read when first asked for."""
        if self._masks is None:
            self._masks = FileMasks(self._file, self.geometry, self.names.parts[0], self._buffers)
        return self._masks

    def raw(self, index):
        """One (ss, fs) array for each block of the layout."""
        _, parts, along = self.names.place(index)
        found = {}
        for slab in self._slabs:
            reader = self._reader(slab, parts)
            self._check_along(reader, along)
            array = self._buffers.of(("raw", slab.path, slab.dims), reader.shape, reader.dtype)
            reader.read(along, array, self._buffers)
            found.update(slab.cuts(array))
        return tuple(found[n] for n in range(len(found)))

    def masks(self, index):
        """((block, (ss, fs) bool), ...), True = bad: what belongs to this event alone."""
        _, parts, along = self.names.place(index)
        return self.file_masks().of_event(parts, along, self._reader)

    def _reader(self, slab, parts):
        """The reader of a slab for these place-holder values; only the last one of each slab is kept open."""
        known = self._readers.get(slab)
        if known is None or known[0] != parts:
            dataset = open_dataset(self._file, substitute(slab.path, parts))
            self._check_shape(dataset, slab)
            self._readers[slab] = known = (parts, SlabReader(dataset, slab))
        return known[1]

    def _check_shape(self, dataset, slab):
        """Raise if a dataset is smaller than the one that was looked at when the source was opened."""
        fits = dataset.ndim == len(slab.dims)
        if fits:
            there = [dataset.shape[slab.dims.index(axis)] for axis in ("ss", "fs")]
            fits = all(n >= need for block, _ in slab.views for n, need in zip(there, self._needed[block]))
            fits &= all(n >= d[2] for n, d in zip(dataset.shape, slab.dims) if isinstance(d, tuple))
        if not fits:
            raise BadData(f"{dataset.name} has shape {dataset.shape}, unlike the first one", self.path,
                          "the geometry does not fit this event")

    def _check_along(self, reader, along):
        lengths = [n for n, d in zip(reader.dataset.shape, reader.slab.dims) if d == PLACEHOLDER]
        if any(i >= n for i, n in zip(along, lengths)):
            raise BadData(f"{reader.dataset.name} has shape {reader.dataset.shape}, and no event {along}", self.path,
                          "the file has changed since it was opened")

    def values(self, index):
        """(photon energy in eV, camera length in m, (x, y) shift of the detector in m) of an event."""
        layout = self.geometry.layout
        if not self._values:
            self._values = {key: EventValues(self._file, getattr(layout, key), key, self.names) for key in VALUES}
        energy, clen, x, y = (self._values[key].value(index) for key in VALUES)
        where = f"{self.path} {self.names.name(index)}"
        if not (np.isfinite(energy) and energy > 0):
            raise BadData(f"the photon energy is {energy} eV", where, _origin(layout.photon_energy))
        for key, value in (("clen", clen), ("shift_x", x), ("shift_y", y)):
            if not np.isfinite(value):
                raise BadData(f"{key} is {value} m", where, _origin(getattr(layout, key)))
        # A literal shift is in the panels' origins already.
        return energy, clen, (x if layout.shift_x.path else 0.0, y if layout.shift_y.path else 0.0)

    def timestamp_ns(self, index):
        return self._stamps.timestamp_ns(index)

    def extra(self, index):
        return self._stamps.extra(index)


def _needed(geometry):
    """By block: the (ss, fs) pixels that its panels reach to."""
    needed = {}
    for panel in geometry.detector.panels:
        reach = (panel.min_ss + panel.shape[0], panel.min_fs + panel.shape[1])
        needed[panel.block] = tuple(map(max, reach, needed.get(panel.block, (0, 0))))
    return needed


def _origin(quantity):
    return f"see {quantity.path}" if quantity.path else "correct it in the geometry"
