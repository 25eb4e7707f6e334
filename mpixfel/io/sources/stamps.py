"""Time stamps and facility identifiers of events, where files have them."""
import h5py
import numpy as np

from mpixfel.model.timestamp import MILLISECOND_NS

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
        self._arrays = {}
        self._times = read_times(file, names)
        if len(names.parts) != 1:
            return                       # a dataset for each event: there is no common event axis
        for path, name in EXTRA.items():
            found = _read(file, path, names)
            if found is not None:
                self._arrays[name] = found

    def timestamp_ns(self, index):
        """ns since 1970 UTC, -1 where unknown."""
        return -1 if self._times is None else int(self._times[index])

    def extra(self, index):
        return {name: values[index].item() if values.ndim == 1 else values[index] for name, values in self._arrays.items()}


def read_times(file, names):
    """(n,) int64 ns since 1970 UTC of the events of a file; None where it does not tell them."""
    times = None
    if len(names.parts) != 1:
        return times
    for seconds, nanoseconds in SECONDS:
        s, ns = _read(file, seconds, names), _read(file, nanoseconds, names)
        if s is not None:
            times = s.astype(np.int64) * 10**9 + (0 if ns is None else ns.astype(np.int64))
    for path in NANOSECONDS:
        found = _read(file, path, names)
        if found is not None:
            times = found.astype(np.int64)
    return times


def _read(file, path, names):
    """A dataset with a value, or a row, for each event; None where there is none."""
    dataset, length = file.get(path), len(names)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iuf" or not dataset.shape:
        return None
    if names.growing and dataset.ndim <= 2 and len(dataset) > length:
        return dataset[:length]
    if dataset.size == length:
        return dataset[()].reshape(-1)
    # Several values for each event, as event codes are.
    return dataset[()] if dataset.ndim == 2 and len(dataset) == length else None


def twins(times):
    """(n,) int32: how many events before each lie in the same millisecond; None where all are alone in theirs.

    Parameters
    ----------
    times : (n,) int64
        ns since 1970 UTC in the order of the events; negative: unknown.
    """
    known = np.flatnonzero(times >= 0)
    moments = times[known] // MILLISECOND_NS
    order = np.argsort(moments, kind="stable")
    first = np.ones(len(order), bool)
    first[1:] = moments[order][1:] != moments[order][:-1]
    if first.all():
        return None
    place = np.arange(len(order))
    counted = np.zeros(len(times), np.int32)
    counted[known[order]] = place - np.maximum.accumulate(np.where(first, place, 0))
    return counted
