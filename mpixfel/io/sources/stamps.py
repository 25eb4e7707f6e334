"""Time stamps and facility identifiers of events, where files have them."""
import h5py
import numpy as np

# Where facilities and their converters put the time: (seconds, nanoseconds) or one dataset in ns.
SECONDS = (("/LCLS/machineTime", "/LCLS/machineTimeNanoSeconds"),)
NANOSECONDS = ("/entry/event/timestamp_ns", "/entry_1/event/timestamp_ns", "/entry/timestamp_ns")
# Identifiers and states: dataset -> name in Event.extra.
EXTRA = {
    "/LCLS/fiducial": "fiducial",
    "/entry/event/pulse_id": "pulse_id", "/entry_1/event/pulse_id": "pulse_id", "/entry_1/pulseId": "pulse_id",
    "/entry_1/trainId": "train_id", "/entry_1/cellId": "cell_id",
    "/instrument/trainID": "train_id", "/instrument/pulseID": "pulse_id", "/instrument/cellID": "cell_id",
    "/entry/event/laser_1_status": "laser_1_status", "/entry/event/laser_4_status": "laser_4_status",
    "/entry/event/laser_1_ms_since_change": "laser_1_ms_since_change",
    "/entry/event/laser_4_ms_since_change": "laser_4_ms_since_change",
    "/entry/event/event_codes": "event_codes", "/LCLS/eventCodes": "event_codes",
    "/cheetah/event_data/pumpLaserCode": "laser_code", "/cheetah/event_data/pumpLaserDelay": "laser_delay",
}


class Stamps:
    """Per-event values that lie along the event axes of a file, each read once."""

    def __init__(self, file, names):
        self._names = names
        self._length = len(names)
        self._arrays = {}
        self._times = None
        if len(names.parts) != 1:
            return                       # a dataset for each event: there is no common event axis
        for seconds, nanoseconds in SECONDS:
            s, ns = self._read(file, seconds), self._read(file, nanoseconds)
            if s is not None:
                self._times = s.astype(np.int64) * 10**9 + (0 if ns is None else ns.astype(np.int64))
        for path in NANOSECONDS:
            found = self._read(file, path)
            if found is not None:
                self._times = found.astype(np.int64)
        for path, name in EXTRA.items():
            found = self._read(file, path)
            if found is not None:
                self._arrays[name] = found

    def _read(self, file, path):
        dataset = file.get(path)
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iuf" or not dataset.shape:
            return None
        if dataset.size == self._length:
            return dataset[()].reshape(-1)
        # Several values for each event, as event codes are.
        return dataset[()] if dataset.ndim == 2 and len(dataset) == self._length else None

    def timestamp_ns(self, index):
        """ns since 1970 UTC, -1 where unknown."""
        return -1 if self._times is None else int(self._times[index])

    def extra(self, index):
        return {name: values[index].item() if values.ndim == 1 else values[index] for name, values in self._arrays.items()}
