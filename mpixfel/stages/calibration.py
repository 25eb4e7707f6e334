"""Raw detector words to photons.

There is one definition of gain: ADU per photon at the shot's photon energy (`Panel.gain`). A gain map multiplies: it
holds by how much a pixel's ADU must be stretched to be those of the nominal gain. Polarisation and solid angle are
corrected where intensities are made, not here.
"""
from dataclasses import dataclass, field

import numpy as np

from mpixfel.errors import BadData
from mpixfel.kernels import calibrate
from mpixfel.model.event import Image
from mpixfel.stages.check import check_options

ABSENT = np.zeros((1, 1, 1), np.float32)


@dataclass(frozen=True)
class Calibration:
    """Cut the panels out of the raw blocks and convert them to photons."""

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Tables, maps and buffers for `context`; made once per rank, reused for every event."""
        return Prepared(context.detector, context.mask, context.saturation_adu)

    def __call__(self, event, shot, prepared):
        """`Image` of the event; its arrays are `prepared`'s buffers and last until the next call.

        Raises
        ------
        BadData
            If a block is missing or smaller than its panels.
        """
        scale = (1.0 / shot.gain).astype(np.float32)
        n = 0
        for block, panels in enumerate(prepared.panels_of_block):
            raw = prepared.block(event.raw, block)
            n = calibrate.convert(raw, panels, prepared.corner, prepared.shape, prepared.limits,
                                  prepared.watch(raw.dtype), scale, ABSENT, ABSENT, prepared.saturation,
                                  prepared.bad_start, prepared.bad_fs, prepared.photons, prepared.saturated, n)
        saturated = prepared.saturated[:min(n, prepared.saturated.size)]
        if len(prepared.panels_of_block) > 1:
            saturated.sort()
        return Image(prepared.photons, saturated, float("nan"))


@dataclass
class Prepared:
    """What calibration needs besides the event: tables in the kernel's form, and the output buffers."""

    detector: object
    mask: object
    saturation_adu: object
    watches: dict = field(default_factory=dict)

    def __post_init__(self):
        panels = self.detector.panels
        n_panels, n_ss, n_fs = self.detector.stack_shape
        self.corner = np.array([(p.min_ss, p.min_fs) for p in panels], np.int64)
        self.shape = np.array([p.shape for p in panels], np.int64)
        self.limits = np.array([(p.flag_less_than, p.flag_more_than, p.flag_equal, p.max_adu) for p in panels], float)
        self.panels_of_block = [np.array([i for i, p in enumerate(panels) if p.block == b], np.int64)
                                for b in range(1 + max(p.block for p in panels))]
        bad = np.zeros((n_panels, n_ss, n_fs), bool) if self.mask is None else self.mask.copy()
        for i, (ss, fs) in enumerate(self.shape):   # padding stays NaN for ever, so it need not be listed
            bad[i, ss:], bad[i, :, fs:] = False, False
        rows, columns = np.nonzero(bad.reshape(-1, n_fs))
        self.bad_start = np.searchsorted(rows, np.arange(n_panels * n_ss + 1)).astype(np.int64)
        self.bad_fs = columns.astype(np.int32)
        self.saturation = ABSENT if self.saturation_adu is None else np.ascontiguousarray(self.saturation_adu, np.float32)
        self.photons = np.full((n_panels, n_ss, n_fs), np.nan, np.float32)
        self.saturated = np.empty(self.photons.size, np.int64)

    def watch(self, dtype):
        """(P, 2) of `dtype`: the range of values that need no closer look, see `kernels.calibrate.convert`."""
        if dtype not in self.watches:
            info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
            low, high = self.limits[:, 0], np.minimum(self.limits[:, 1], self.limits[:, 3])
            rounded = np.column_stack([np.ceil(low), np.floor(high)]) if dtype.kind in "iu" else np.column_stack([low, high])
            bounds = np.array([[info.min if x <= info.min else info.max if x >= info.max else x for x in row]
                               for row in rounded], dtype)
            self.watches[dtype] = bounds
        return self.watches[dtype]

    def block(self, raw, b):
        """The event's block `b`, checked against the panels it must hold."""
        if b >= len(raw):
            raise BadData(f"{len(raw)} data blocks, but the geometry needs {len(self.panels_of_block)}", "event")
        panels = self.panels_of_block[b]
        need = (self.corner[panels] + self.shape[panels]).max(axis=0) if panels.size else (0, 0)
        if raw[b].ndim != 2 or raw[b].shape[0] < need[0] or raw[b].shape[1] < need[1]:
            raise BadData(f"a block of shape {raw[b].shape} cannot hold panels that reach to {tuple(need)}",
                          f"data block {b}", "check min_ss ... max_fs in the geometry")
        return raw[b]
