"""What is read at once: one dataset, and the part of it that belongs to one event."""
import itertools
from typing import NamedTuple

import h5py
import numpy as np

from mpixfel.io.geometry.layout import PLACEHOLDER
from mpixfel.io.sources import bitshuffle

MOST_CACHED_BYTES = 2**30


class Slab(NamedTuple):
    """Part of a dataset that is read in one go.

    `dims` is as in `Block`, with ("range", low, high) for an axis of which the indices low..high - 1 are needed.
    `views` has, for each block of the layout that is cut from it, (block, indices along the ranged axes).
    """

    path: str
    dims: tuple
    views: tuple

    def cuts(self, array):
        """(block, two-dimensional array) for each block, of the slab's array as read."""
        for block, indices in self.views:
            along = iter(indices)
            yield block, array[tuple(next(along) if isinstance(d, tuple) else slice(None)
                                     for d in self.dims if d != PLACEHOLDER)]

    def without_events(self):
        """The same slab of a dataset that lacks the event axes: one array for all events."""
        return self._replace(dims=tuple(d for d in self.dims if d != PLACEHOLDER))


def slabs_of(blocks):
    """The fewest reads for all (block number, Block): blocks that differ only in a fixed index share one."""
    groups = {}
    for number, block in blocks:
        pattern = tuple("fixed" if isinstance(d, int) else d for d in block.dims)
        groups.setdefault((block.path, pattern), []).append((number, block))
    slabs = []
    for (path, pattern), members in groups.items():
        fixed = [n for n, d in enumerate(pattern) if d == "fixed"]
        low = {n: min(block.dims[n] for _, block in members) for n in fixed}
        high = {n: max(block.dims[n] for _, block in members) + 1 for n in fixed}
        dims = tuple(("range", low[n], high[n]) if d == "fixed" else d for n, d in enumerate(pattern))
        slabs.append(Slab(path, dims, tuple((number, tuple(block.dims[n] - low[n] for n in fixed))
                                            for number, block in members)))
    return tuple(slabs)


def _with_cache(dataset, slab):
    """The dataset, opened with a chunk cache that holds the chunks of one event where they hold more than that.

    Otherwise HDF5 decodes such a chunk again for each of its events: its own cache takes chunks up to 1 MB.
    """
    chunks = dataset.chunks
    if not chunks or dataset.is_virtual or not dataset.id.get_create_plist().get_nfilters():
        return dataset
    needed = [1 if d == PLACEHOLDER else d[2] - d[1] if isinstance(d, tuple) else n
              for d, n in zip(slab.dims, dataset.shape)]
    if all(c <= n for c, n in zip(chunks, needed)):
        return dataset
    count = int(np.prod([1 + (n - 1) // c + (1 if d != PLACEHOLDER and n % c else 0)
                         for c, n, d in zip(chunks, needed, slab.dims)]))
    size = count * int(np.prod(chunks)) * dataset.dtype.itemsize
    if size > MOST_CACHED_BYTES:
        return dataset
    plist = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    plist.set_chunk_cache(1 + 100 * count, size, 1.0)
    name, file = dataset.name, dataset.file
    dataset.id.close()                   # the cache is made when a dataset is opened for the first time
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), plist))


class SlabReader:
    """Reads the slab of one event after another from an open dataset, into an array of the caller's."""

    def __init__(self, dataset, slab):
        self.dataset, self.slab = _with_cache(dataset, slab), slab
        self.shape = tuple(d[2] - d[1] if isinstance(d, tuple) else n
                           for d, n in zip(slab.dims, dataset.shape) if d != PLACEHOLDER)
        self.dtype = dataset.dtype.newbyteorder("=")
        self._compression = bitshuffle.compression_of(self.dataset) if self._chunks_fit() else None
        if self._compression:
            self._event_axes = [n for n, d in enumerate(slab.dims) if d == PLACEHOLDER]
            starts = [range(*d[1:], c) if isinstance(d, tuple) else (0,)
                      for d, c in zip(slab.dims, self.dataset.chunks)]
            self._offsets = [list(offset) for offset in itertools.product(*starts)]

    def _chunks_fit(self):
        """Whether each chunk holds one event's pixels, all of ss and fs, and lands contiguously in the slab."""
        chunks, dims = self.dataset.chunks, self.slab.dims
        if not chunks or self.dataset.is_virtual or 0 in self.shape:
            return False
        pixels_last = dims[-2:] == ("ss", "fs")
        events_alone = all(c == 1 for c, d in zip(chunks, dims) if d == PLACEHOLDER)
        whole = all(c == n for c, n, d in zip(chunks, self.dataset.shape, dims) if d in ("ss", "fs"))
        one_by_one = all(c == 1 for c, d in zip(chunks, dims) if isinstance(d, tuple))
        one_chunk = all(c == n and d[1:] == (0, n)
                        for c, n, d in zip(chunks, self.dataset.shape, dims) if isinstance(d, tuple))
        return pixels_last and events_alone and whole and (one_by_one or one_chunk)

    def read(self, along, out, buffers):
        """Read one event (indices `along` the event axes) into `out`; `buffers` lends the bytes for compressed chunks.

        Raises OSError where the file does not give the data.
        """
        if not self._compression or not self._read_chunks(along, out, buffers):
            events = iter(along)
            self.dataset.read_direct(out, tuple(
                next(events) if d == PLACEHOLDER else slice(*d[1:]) if isinstance(d, tuple) else slice(None)
                for d in self.slab.dims))

    def _read_chunks(self, along, out, buffers):
        """Decode the event's chunks by ourselves. False: leave it to HDF5."""
        dataset = self.dataset.id
        parts = out.reshape(len(self._offsets), -1)
        for part, offset in zip(parts, self._offsets):
            for axis, index in zip(self._event_axes, along):
                offset[axis] = index
            try:
                # Room for any chunk: to ask for its size takes HDF5 1.10 a walk over all chunks (0.9 ms for 20,000).
                skipped, chunk = dataset.read_direct_chunk(tuple(offset), out=buffers.bytes(2 * part.nbytes + 4096))
            except (RuntimeError, ValueError):
                return False             # never written, or larger than that
            if skipped:
                return False             # the filters were not applied to this chunk
            if not bitshuffle.decode(np.frombuffer(chunk, np.uint8), part, self._compression, buffers):
                raise OSError("a compressed chunk is damaged")
        return True


class Buffers:
    """Arrays that are kept from event to event, by use; the bytes of compressed chunks among them."""

    def __init__(self):
        self._arrays, self._bytes = {}, np.empty(0, np.uint8)

    def of(self, use, shape, dtype):
        """The array of a use; a new one where its shape or dtype has changed."""
        array = self._arrays.get(use)
        if array is None or array.shape != shape or array.dtype != dtype:
            self._arrays[use] = array = np.empty(shape, dtype)
        return array

    def bytes(self, size):
        """At least `size` bytes, whose contents nobody keeps."""
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes
