"""Rings of powder (ice, salt, detergent) around the beam: found in the data, and what they add to the background."""
import numpy as np

from mpixfel.kernels import background as kernel
from mpixfel.kernels.geometry import radii

WIDTH = 2.0          # width of a ring, pixels
FEW = 30             # peaks up to which single ones on common rings count
COMMON, AROUND = 2.5, 40.0   # distances of radii, pixels: of the same ring; of the surroundings
EQUIVALENT = 0.15    # share of a crystal's reflections that have an equivalent on the same still


def moved(old, new):
    """Whether tables made for the `PanelGeometry` `old` (or None) are too far off for `new`: by a third of a pixel.

    Panels of one detector move together, by the camera length and the learnt shift; distances count by a thousandth.
    """
    if old is None:
        return True
    tolerance = 0.3 * np.abs(new.fs_axis).max() + 1e-3 * np.abs(new.origin[:, 2]).max() * np.array([0.0, 0.0, 1.0])
    return bool((np.abs(old.origin - new.origin) > tolerance).any())


class Rings:
    """Samples of the background boxes sorted into rings around the beam.

    A ring is narrower than a box, so the boxes do not know it: their samples lie above the mean of their boxes all
    around the beam.
    """

    def __init__(self, boxes):
        self.boxes = boxes
        self.geometry, self.bins, self.sums = None, None, None
        self.runs = np.empty((2, boxes.values.shape[1] // kernel.RUN), np.float32)

    def _sort(self, geometry):
        """Give every sample its ring; again only when the geometry has changed by more than a pixel at 1000."""
        if not moved(self.geometry, geometry):
            return
        n_ss, n_fs = self.boxes.stack[1:]
        middle = np.maximum(self.boxes.start, 0) + kernel.RUN // 2      # a run has the ring of its middle
        panel, rest = np.divmod(middle, n_ss * n_fs)
        ss, fs = np.divmod(rest, n_fs)
        bins = (radii(geometry, panel, fs + 0.5, ss + 0.5) / WIDTH).astype(np.int32)
        self.bins = bins.reshape(len(self.boxes.values), -1)
        self.sums = np.empty((int(bins.max()) + 3, 2), np.float32)
        self.geometry = geometry

    def excess(self, geometry, quantum):
        """(n,) what each ring adds to the background, in standard deviations of a pixel; 0 where that may be chance."""
        self._sort(geometry)
        kernel.profile(self.boxes.values, self.boxes.pooled, np.float32(3), np.float32(quantum), self.bins,
                       self.runs, self.sums)
        total, count = self.sums.T
        least = np.maximum(total - 3 * np.sqrt(count), 0) / np.maximum(count, 1)
        wider = np.maximum(least, np.maximum(np.roll(least, 1), np.roll(least, -1)))
        return wider


def crowded(radius):
    """(n,) bool: peaks on rings that hold far more peaks than the rings around them: grains of ice, salt or powder.

    A still of a crystal has no more than a few reflections at one radius more than at the next. Where crowded rings
    are found, what is left is looked at again with less patience: rings fray.
    """
    bad = on_common_rings(radius) if 3 <= len(radius) <= FEW else np.zeros(len(radius), bool)
    if len(radius) <= 8 or np.bincount((radius / 4.0).astype(int)).max() <= 8:
        return bad
    for least in (8, 4, 3):
        more = _crowded(radius[~bad], least)
        if not more.any():
            break
        bad[~bad] = more
    return bad


def on_common_rings(radius):
    """(n,) bool: of few peaks those at the radius of another, where more are than chance and symmetry make.

    Grains of salt and ice are all on a few rings. Of the reflections of a crystal one in seven may have an equivalent on
    the same still, and others stand by chance as near as the peaks around them are dense.
    """
    apart = np.abs(radius[:, None] - radius)
    np.fill_diagonal(apart, np.inf)
    shared = (apart < COMMON).any(axis=1)
    others = np.sum((apart >= COMMON) & (apart < AROUND), axis=1)
    expected = np.sum(1.0 - np.exp(-others * COMMON / (AROUND - COMMON))) + EQUIVALENT * len(radius)
    return shared & (shared.sum() > max(expected + 3.0 * np.sqrt(expected), 2))


def _crowded(radius, least, width=4.0, reach=8, factor=5.0):
    """Peaks on rings with more than `least` + `factor` times the median of the rings within `reach`.

    The four rings on either side of a crowded one are crowded at a third of that.
    """
    if len(radius) <= least:
        return np.zeros(len(radius), bool)
    ring = (radius / width).astype(int)
    count = np.bincount(ring).astype(float)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(count, reach, mode="symmetric"), 2 * reach + 1)
    usual = np.median(np.delete(around, range(reach - 2, reach + 3), axis=1), axis=1)
    bar = least + factor * usual
    near = np.convolve(count > bar, np.ones(9), "same") > 0
    return ((count > bar) | (near & (count > bar / 3)))[ring]
