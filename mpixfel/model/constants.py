"""Calibration constants of a detector, cut into panels."""
from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class Constants:
    """What turns raw words into photons, beside the geometry's gain. None: not given.

    M memory cells and G gain stages; each is 1 where it makes no difference. Arrays are read only: ranks of one node
    may share them (`arrays` and `with_arrays` take them out and put them back).
    """

    pedestal: np.ndarray | None = None    # (M, G, P, SS, FS) float32, ADU
    noise: np.ndarray | None = None       # (P, SS, FS) float32, ADU: one sigma of the first gain stage
    factor: np.ndarray | None = None      # (M, G, P, SS, FS) float32: raw - pedestal times this is in `unit`
    threshold: np.ndarray | None = None   # (M, 2, P, SS, FS) float32: gain words above these are of stage 1, 2
    bad: np.ndarray | None = None         # (P, SS, FS) bool
    unit: str = "adu"                     # adu: ADU of the geometry's gain; photon; kev

    def arrays(self):
        """{name: array} of those that are given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def with_arrays(self, arrays):
        """The same constants, with their arrays replaced by equal ones that stand elsewhere."""
        return replace(self, **arrays)
