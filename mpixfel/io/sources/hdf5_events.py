"""One opened HDF5 file: the pixels, masks and values of its events."""
import numpy as np

from mpixfel.errors import BadData, MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER
from mpixfel.io.sources import masks as mask_files
from mpixfel.io.sources.event_names import substitute
from mpixfel.io.sources.hdf5_file import open_dataset, open_file
from mpixfel.io.sources.hdf5_layout import read_values
from mpixfel.io.sources.slabs import SlabReader, slabs_of
from mpixfel.io.sources.stamps import Stamps


class OpenEvents:
    """The events of one open file; pixels go into `buffers`, which all files of a source share.

    Parameters
    ----------
    path : str
    geometry : Geometry
    names : EventNames
    buffers : dict
        Arrays by use, shape and dtype: kept from event to event.
    scratch : Scratch
        For compressed chunks.
    """

    def __init__(self, path, geometry, names, buffers, scratch):
        self.path, self.geometry, self.names = path, geometry, names
        self._buffers, self._scratch = buffers, scratch
        self._file = open_file(path)
        self._slabs = slabs_of(list(enumerate(geometry.layout.blocks)))
        self._readers, self._values = {}, {}
        self._stamps = Stamps(self._file, names)
        self._uses = None

    def close(self):
        self._readers.clear()
        self._file.close()

    def raw(self, index):
        """One (ss, fs) array for each block of the layout."""
        _, parts, along = self.names.place(index)
        found = {}
        for slab in self._slabs:
            reader = self._reader(slab, parts, "data")
            array = self._buffer("raw", reader, slab.path)
            reader.read(along, array, self._scratch)
            found.update(reader.slab.cuts(array))
        return tuple(found[n] for n in range(len(found)))

    def _reader(self, slab, parts, what):
        """The reader of a slab for these place-holder values; only the last one of each slab is kept open."""
        key = (what, slab)
        known = self._readers.get(key)
        if known is None or known[0] != parts:
            name = substitute(slab.path, parts)
            dataset = open_dataset(self._file, name)
            if dataset.ndim != len(slab.dims):
                raise BadData(f"{name} has shape {dataset.shape}, not {len(slab.dims)} axes", self.path)
            self._readers[key] = known = (parts, SlabReader(dataset, slab))
        return known[1]

    def _buffer(self, use, reader, name):
        key = (use, name, reader.shape, reader.dtype)
        if key not in self._buffers:
            self._buffers[key] = np.empty(reader.shape, reader.dtype)
        return self._buffers[key]

    def values(self, index):
        """(photon energy in eV, camera length in m, (x, y) shift of the detector in m) of an event."""
        layout = self.geometry.layout
        energy = self._value("photon_energy", layout.photon_energy, index)
        if not (np.isfinite(energy) and energy > 0):
            raise BadData(f"the photon energy is {energy} eV", f"{self.path} {self.names.name(index)}",
                          f"see {layout.photon_energy.path or 'photon_energy in the geometry'}")
        clen = self._value("clen", layout.clen, index)
        if not np.isfinite(clen):
            raise BadData(f"the camera length is {clen} m", f"{self.path} {self.names.name(index)}",
                          f"see {layout.clen.path or 'clen in the geometry'}")
        # A literal shift is in the panels' origins already.
        shift = tuple(self._value(key, q, index) if q.path else 0.0
                      for key, q in (("shift_x", layout.shift_x), ("shift_y", layout.shift_y)))
        return energy, clen, shift

    def _value(self, key, quantity, index):
        if not quantity.path:
            return float(quantity.value())
        number, parts, along = self.names.place(index)
        if PLACEHOLDER not in quantity.path:
            number, parts = 0, self.names.parts[0]
        cached = self._values.get(key)
        if cached is None or cached[0] != number:
            values = read_values(self._file, quantity.path, key, parts, self.names.shapes[number])
            self._values[key] = cached = (number, quantity.value(values))
        return float(cached[1][along] if cached[1].ndim else cached[1])

    def timestamp_ns(self, index):
        return self._stamps.timestamp_ns(index)

    def extra(self, index):
        return self._stamps.extra(index)

    # Masks ------------------------------------------------------------------------------------------------------

    def static_mask(self):
        """(P, SS, FS) bool: masks of this file and of mask files that hold for all events."""
        self._sort_masks()
        return self._static

    def _sort_masks(self):
        """Read the static masks, and remember which must be read for each event."""
        if self._uses is not None:
            return
        detector = self.geometry.detector
        self._uses, self._static = [], np.zeros(detector.stack_shape, bool)
        for use in mask_files.mask_uses(self.geometry):
            file = self._file if not use.file else open_file(mask_files.resolve(use.file, self.geometry.layout.folder))
            parts = self.names.parts[0]
            dataset = open_dataset(file, substitute(use.slab.path, parts), mask_files.MASK_REMEDY)
            slab, per_event = mask_files.fit(dataset, use.slab)
            mask_files.check_panels(dataset, slab, use.rules, detector)
            if per_event and use.file:
                raise MpixfelError(f"mask {dataset.name} has one image for each event", file.filename,
                                   "a mask file must hold one mask for all events")
            use = use._replace(slab=slab)
            if per_event:
                self._uses.append(use)
                continue
            reader = SlabReader(dataset, slab)
            array = np.empty(reader.shape, reader.dtype)
            reader.read((0,) * slab.dims.count(PLACEHOLDER), array, self._scratch)
            mask_files.apply_rules(use, dict(slab.cuts(array)), detector, self._panel_part(self._static))
            if use.file:
                file.close()

    def _panel_part(self, stack):
        panels = self.geometry.detector.panels
        return lambda p: stack[p, :panels[p].shape[0], :panels[p].shape[1]]

    def masks(self, index):
        """((block, (ss, fs) bool), ...), True = bad: masks that belong to this event alone."""
        self._sort_masks()
        if not self._uses:
            return ()
        _, parts, along = self.names.place(index)
        bad = {}
        for use in self._uses:
            reader = self._reader(use.slab, parts, "mask")
            array = self._buffer("mask", reader, use.slab.path)
            reader.read(along if PLACEHOLDER in use.slab.dims else (), array, self._scratch)
            arrays = dict(use.slab.cuts(array))
            for block, part in arrays.items():
                if block not in bad:
                    bad[block] = self._bool_buffer(block, part.shape)
            mask_files.apply_rules(use, arrays, self.geometry.detector, self._block_part(bad))
        return tuple(bad.items())

    def _bool_buffer(self, block, shape):
        key = ("bad", block, shape)
        if key not in self._buffers:
            self._buffers[key] = np.empty(shape, bool)
        self._buffers[key][...] = False
        return self._buffers[key]

    def _block_part(self, bad):
        def part(p):
            panel = self.geometry.detector.panels[p]
            return bad[panel.block][panel.min_ss:panel.min_ss + panel.shape[0],
                                    panel.min_fs:panel.min_fs + panel.shape[1]]
        return part

    def saturation_adu(self):
        """(P, SS, FS) float32: the least value that is saturated, inf where no map says so; None without maps."""
        return None
