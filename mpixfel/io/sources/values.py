"""Numbers that may differ from event to event: photon energy, camera length, shifts."""
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import PLACEHOLDER
from mpixfel.io.sources.event_names import substitute
from mpixfel.io.sources.hdf5_file import open_dataset


class EventValues:
    """The values of one `Quantity` in one open file.

    A dataset holds one value for all events, one for each index along the event axes, or one for each event of the
    file. Each dataset is read once, as a whole.

    Raises
    ------
    MpixfelError
        The dataset is missing, holds no numbers, or has another number of events.
    """

    def __init__(self, file, quantity, key, names):
        self._file, self._quantity, self._key, self._names = file, quantity, key, names
        self._number, self._values, self._flat = None, None, False
        if not quantity.path:
            self._values = np.float64(quantity.value())
        else:
            self._read(0)

    def value(self, index):
        """The value for an event: eV or m."""
        number, _, along = self._names.place(index)
        if PLACEHOLDER in self._quantity.path and number != self._number:
            self._read(number)
        if not self._values.ndim:
            return float(self._values)
        return float(self._values[index] if self._flat else self._values[along])

    def _read(self, number):
        path = substitute(self._quantity.path, self._names.parts[number])
        dataset = open_dataset(self._file, path, f"correct `{self._key}` in the geometry")
        values = np.asarray(self._quantity.value(np.asarray(dataset[()], np.float64)))
        shapes = self._names.shapes
        common = shapes[number] if PLACEHOLDER in self._quantity.path or len(set(shapes)) == 1 else ()
        self._number, self._flat = number, False
        if self._names.growing and common and values.size > (n_events := int(np.prod(common))):
            values = values.reshape(-1)[:n_events]
        if values.size == 1:
            self._values = values.reshape(())
        elif common and values.size == int(np.prod(common)):
            self._values = values.reshape(common)
        elif PLACEHOLDER not in self._quantity.path and values.size == len(self._names):
            self._values, self._flat = values.reshape(-1), True
        else:
            raise MpixfelError(f"{dataset.name} has shape {dataset.shape}, but there are {self._count(number)} events",
                               self._file.filename,
                               f"correct `{self._key}` in the geometry: it needs one value, or one for each event")

    def _count(self, number):
        return int(np.prod(self._names.shapes[number])) if PLACEHOLDER in self._quantity.path else len(self._names)
