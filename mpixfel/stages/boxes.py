"""The local background of an image, from samples of small boxes."""
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import background as kernel
from mpixfel.stages.quantiles import middle

BOX = 32             # edge of a box, pixels
SAMPLES = 64         # pixels of a box that are looked at, in short runs
GUESSED = 2048       # pixels for the first guess


class Background(NamedTuple):
    """Mean and variance per pixel of every box (B,) float32, and the size of one photon, all in the image's units.

    The arrays last until the next image.
    """

    mean: np.ndarray
    variance: np.ndarray
    quantum: float


class Boxes:
    """Which boxes a detector has and which of their pixels are looked at; static, made once."""

    def __init__(self, detector, mask):
        self.stack = detector.stack_shape
        self.shape = np.array([p.shape for p in detector.panels], np.int64)
        self.grid = np.maximum(np.rint(self.shape / BOX).astype(np.int64), 1)
        self.first = np.concatenate([[0], np.cumsum(self.grid.prod(axis=1))[:-1]]).astype(np.int64)
        good = np.ones(self.stack, bool) if mask is None else ~mask
        self.n_good = sum(int(good[i, :s, :f].sum()) for i, (s, f) in enumerate(self.shape))
        self.start = self._starts(good)
        self.samples = self._samples()
        self.values = self.samples.values.reshape(-1, SAMPLES)
        self.stride = max(1, self.values.size // GUESSED) | 1
        self.own, self.pooled = (np.zeros((3, len(self.values)), np.float32) for _ in range(2))

    def _starts(self, good):
        """(B * runs,) first pixels of runs, spread evenly but irregularly over the good pixels of each box; -1: none.

        A run begins at a good pixel and stays within its row of the box; bad pixels in it are NaN in the image.
        """
        rng, runs = np.random.default_rng(1), SAMPLES // kernel.RUN
        n_ss, n_fs = self.stack[1:]
        out = np.full((int(self.grid.prod(axis=1).sum()), runs), -1, np.int64)
        for p, ((ny, nx), (height, width)) in enumerate(zip(self.grid, self.shape)):
            for j in range(ny):
                for i in range(nx):
                    s0, s1, f0, f1 = j * height // ny, (j + 1) * height // ny, i * width // nx, (i + 1) * width // nx
                    ss, fs = np.nonzero(good[p, s0:s1, f0:max(f1 - kernel.RUN + 1, f0 + 1)])
                    if not ss.size or f0 + kernel.RUN > n_fs:
                        continue
                    take = min(runs, ss.size)
                    strata = (np.arange(take) + rng.random(take)) * (ss.size / take)
                    pick = np.minimum(strata.astype(int), ss.size - 1)
                    out[self.first[p] + j * nx + i, :take] = (p * n_ss + s0 + ss[pick]) * n_fs + f0 + fs[pick]
        return out.reshape(-1)

    def _samples(self):
        """`kernels.background.Samples` of the boxes."""
        order = np.argsort(self.start, kind="stable")
        order = order[np.searchsorted(self.start[order], 0):]
        rows, columns = np.divmod(self.start[order], self.stack[2])
        first = np.searchsorted(rows, np.arange(self.stack[0] * self.stack[1] + 1)).astype(np.int64)
        return kernel.Samples(first, columns.astype(np.int32), order.astype(np.int32),
                              np.full((len(self.start), kernel.RUN), np.nan, np.float32))

    def background(self, image):
        """`Background` of an `Image`."""
        if image.samples is None:
            kernel.sample(image.photons, self.samples)
        self.values = (self.samples.values if image.samples is None else image.samples).reshape(-1, SAMPLES)
        centre, quantum = first_guess(self.values.reshape(-1)[::self.stride])
        kernel.clipped_moments(self.values, np.float32(centre), np.float32(4), np.float32(3 * quantum), 6, self.own)
        quantum = slope_quantum(self.own)
        kernel.pool(self.own, self.first, self.grid, np.float32(quantum ** 2), self.pooled)
        return Background(self.pooled[1], self.pooled[2], quantum)


def first_guess(values):
    """Where the background lies, and an upper guess at the size of one photon, from a few thousand pixels.

    Below the median there are no spots: the spread there is noise alone. What stands out above by three of its
    standard deviations is single photons where the background is thin, and next to nothing where it is dense.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    centre = middle(values)
    below = values[values <= centre] - centre
    noise = float(np.sqrt(np.dot(below, below) / below.size))
    above = values[values > centre + 3 * noise] - centre
    return centre, max(middle(above) - 3.3 * noise, 0.0) if above.size else 0.0


def slope_quantum(boxes):
    """The size of one photon in the image's units: how the variance of boxes (3, B) grows with their mean.

    Means of the upper and the lower third (Bartlett, Biometrics 5 (1949) 207). Where the background is flat, the
    chance correlation of mean and variance in small samples gives the ratio of third to second cumulant, which is the
    quantum as well. Close to 1, the gain is taken to be what the geometry says.
    """
    means = boxes[1, boxes[0] > 1]
    if len(means) < 12:
        return 1.0
    n = len(means) - len(means) // 20            # the brightest may hold spots
    means.partition((n // 3, n - n // 3, n - 1))
    (low, low_variance), (high, high_variance) = (
        kernel.third(boxes, np.float32(-np.inf), means[n // 3]), kernel.third(boxes, means[n - n // 3], means[n - 1]))
    quantum = (high_variance - low_variance) / (high - low) if high > low else 1.0
    if not quantum > 0:
        quantum = float(np.sqrt(np.median(boxes[2]))) * 0.1 or 1.0
    return 1.0 if 0.75 < quantum < 1.35 else quantum
