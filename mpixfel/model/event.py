"""One event: what identifies it, what was read, how far it came."""
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from mpixfel.model import tables


class Outcome(IntEnum):
    """How an event ended. The names and numbers are part of the run file."""

    miss = 0
    hit = 1
    indexed = 2
    filtered = 3
    failed = 4


class Reason(IntEnum):
    """Why an event ended where it did: the closed list of the run file. Append only; numbers never change."""

    none = 0
    too_few_peaks = 1
    too_many_peaks = 2
    below_threshold = 3
    no_cell_found = 4
    cell_mismatch = 5
    refinement_diverged = 6
    too_few_indexed = 7
    too_few_integrated = 8
    bad_data = 9
    timeout = 10
    exception = 11
    filtered = 12
    negated = 13
    too_few_spots_for_cell = 14
    beam_status = 15
    wrong_lattice = 16
    rank_lost = 17
    duplicate_lattice = 18


@dataclass(frozen=True)
class EventId:
    """Where an event stands: `index` in the source file number `source` of the run, and its own name.

    `twin` counts the events before it, in the order of the source, whose timestamps lie in the same millisecond: names
    of files are told apart by it.
    """

    source: int
    index: int
    name: str
    timestamp_ns: int = -1
    twin: int = 0


@dataclass(frozen=True)
class Skip:
    """A normal end before the end of the chain: which stage said so, why, and the numbers behind it.

    Of `numbers` ({name: value}) the run file keeps those that are single numbers.
    """

    stage: str
    reason: Reason
    detail: str = ""
    numbers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One event as read.

    Attributes
    ----------
    id : EventId
    raw : tuple of ndarray
        One (ss, fs) data block for each block of the layout, in the file's own dtype. Valid until the next event is
        read: the source reuses its buffers. A leading axis may stand for gain data.
    photon_energy_ev : float
        Photon energy, eV.
    clen_m : float
        What is added to each panel's z, m (CrystFEL's camera length).
    masks : tuple of (block, ndarray)
        Masks that belong to this event alone, (ss, fs) bool of the whole block, True = bad; empty where the masks are
        static.
    extra : dict
        Further values of the shot (laser state, event codes, ...), name to scalar.
    shift_m : tuple
        (x, y) by which the detector stands elsewhere in this event, m, beside what the geometry says for all.
    """

    id: EventId
    raw: tuple
    photon_energy_ev: float
    clen_m: float
    masks: tuple = ()
    extra: dict = field(default_factory=dict)
    shift_m: tuple = (0.0, 0.0)


@dataclass(frozen=True)
class Image:
    """A calibrated image.

    Attributes
    ----------
    photons : (P, SS, FS) float32
        Photons; NaN where a pixel is masked, missing or padding. Valid until the next event.
    saturated : (n,) int64
        Flat indices into `photons` of the saturated pixels, ascending.
    readout_sigma : float or (P, SS, FS) float32
        Read-out noise, photons, one sigma; 0 for a counting detector, NaN where unknown.
    highs : (P, rows, columns) float32 or None
        Of the pixels as they are, see `kernels.highs`; None where nobody has asked for them.
    samples : (places, run) float32 or None
        Likewise: of the detector's boxes, see `kernels.background.Samples`.
    """

    photons: np.ndarray
    saturated: np.ndarray
    readout_sigma: object = 0.0
    highs: object = None
    samples: object = None


@dataclass(frozen=True)
class Record:
    """What is known of an event so far; each module returns a new one (`record.but(...)`).

    `peaks`, `lattices`, `reflections` are structured tables (`model.tables`). `reflections["lattice"]` counts within
    the event until the record is written.
    """

    id: EventId
    photon_energy_ev: float = float("nan")
    distance_m: float = float("nan")
    outcome: Outcome = Outcome.miss
    skip: Skip | None = None
    stopped_by: str = ""
    image: Image | None = None
    image_key: object = None
    peaks: np.ndarray = field(default_factory=lambda: np.zeros(0, tables.PEAK))
    lattices: np.ndarray = field(default_factory=lambda: np.zeros(0, tables.LATTICE))
    reflections: np.ndarray = field(default_factory=lambda: np.zeros(0, tables.REFLECTION))
    background: float = float("nan")
    max_intensity: float = float("nan")
    resolution: float = float("nan")
    seconds: dict = field(default_factory=dict)
    traceback: str = ""
    notes: tuple = ()

    def but(self, **changes):
        """The same record with some fields changed."""
        return replace(self, **changes)

    def timed(self, stage, seconds):
        """The same record with `seconds` added to the time of a stage (read, calibrate, hitfind, ...)."""
        return replace(self, seconds={**self.seconds, stage: self.seconds.get(stage, 0.0) + seconds})
