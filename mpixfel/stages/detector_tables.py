"""Where the panels lie in the raw blocks, in the kernels' form."""
import numpy as np

from mpixfel.errors import BadData
from mpixfel.kernels.calibrate import Layout


class Tables:
    """Static tables of a detector with bad pixels `bad` (P, SS, FS) bool."""

    def __init__(self, detector, bad):
        panels = detector.panels
        n_panels, n_ss, n_fs = detector.stack_shape
        corner = np.array([(p.min_ss, p.min_fs) for p in panels], np.int64)
        shape = np.array([p.shape for p in panels], np.int64)
        limits = np.array([(p.flag_less_than, p.flag_more_than, p.flag_equal, p.max_adu) for p in panels], float)
        inside = np.zeros((n_panels, n_ss, n_fs), bool)
        for i, (ss, fs) in enumerate(shape):     # padding stays NaN for ever, so it need not be listed
            inside[i, :ss, :fs] = True
        rows, columns = np.nonzero((bad & inside).reshape(-1, n_fs))
        start = np.searchsorted(rows, np.arange(n_panels * n_ss + 1)).astype(np.int64)
        self.layout = Layout(corner, shape, limits, start, columns.astype(np.int32))
        self.good = inside & ~bad
        self.panels_of_block = [np.array([i for i, p in enumerate(panels) if p.block == b], np.int64)
                                for b in range(1 + max(p.block for p in panels))]
        self._watches = {}

    def watch(self, dtype):
        """(P, 2) of `dtype`: the range of values that need no closer look, see `kernels.calibrate.convert`."""
        if dtype not in self._watches:
            info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
            low = self.layout.limits[:, 0]
            high = np.minimum(self.layout.limits[:, 1], self.layout.limits[:, 3])
            if dtype.kind in "iu":
                low, high = np.ceil(low), np.floor(high)
            within = lambda x: info.min if x <= info.min else info.max if x >= info.max else x
            self._watches[dtype] = np.array([(within(a), within(b)) for a, b in zip(low, high)], dtype)
        return self._watches[dtype]

    def block(self, raw, b, with_gains):
        """Block `b` of an event's `raw`, checked against the panels that it must hold, and its gain words (or empty).

        A detector that sends gain words has blocks (2, ss, fs): data and gain.
        """
        if b >= len(raw):
            raise BadData(f"{len(raw)} data blocks, but the geometry needs {len(self.panels_of_block)}", "event",
                          "check dim and data in the geometry")
        block = raw[b]
        if with_gains and (block.ndim != 3 or block.shape[0] != 2):
            raise BadData(f"a block of shape {block.shape} holds no gain words", f"data block {b}",
                          "the geometry must give (2, ss, fs): data and gain")
        words, gains = (block[0], block[1]) if with_gains else (block, np.zeros((1, 1), np.float32))
        panels = self.panels_of_block[b]
        need = (self.layout.corner[panels] + self.layout.shape[panels]).max(axis=0) if panels.size else (0, 0)
        if words.ndim != 2 or words.shape[0] < need[0] or words.shape[1] < need[1]:
            raise BadData(f"a block of shape {block.shape} cannot hold panels that reach to {tuple(map(int, need))}",
                          f"data block {b}", "check min_ss ... max_fs in the geometry")
        return np.ascontiguousarray(words), np.ascontiguousarray(gains)
