"""The local background of an image, from samples of small boxes."""
from typing import NamedTuple

import numpy as np

from mpixfel.kernels import background as kernel

BOX = 32             # edge of a box, pixels
SAMPLES = 64         # pixels of a box that are looked at


class Background(NamedTuple):
    """Mean and variance per pixel of every box (B,) float32, and the size of one photon, all in the image's units."""

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
        self.sample = self._samples(good)
        self.values = np.empty(self.sample.shape, np.float32)
        self.own, self.pooled = (np.zeros((len(self.sample), 3), np.float32) for _ in range(2))

    def _samples(self, good):
        """(B, SAMPLES) flat indices of good pixels, spread evenly but irregularly over each box; -1 where too few."""
        rng = np.random.default_rng(1)
        n_ss, n_fs = self.stack[1:]
        out = np.full((int(self.grid.prod(axis=1).sum()), SAMPLES), -1, np.int64)
        for p, ((ny, nx), (height, width)) in enumerate(zip(self.grid, self.shape)):
            for j in range(ny):
                for i in range(nx):
                    s0, s1, f0, f1 = j * height // ny, (j + 1) * height // ny, i * width // nx, (i + 1) * width // nx
                    ss, fs = np.nonzero(good[p, s0:s1, f0:f1])
                    take = min(SAMPLES, ss.size)
                    strata = (np.arange(take) + rng.random(take)) * (ss.size / max(take, 1))
                    pick = np.minimum(strata.astype(int), ss.size - 1) if take else np.zeros(0, int)
                    out[self.first[p] + j * nx + i, :take] = (p * n_ss + s0 + ss[pick]) * n_fs + f0 + fs[pick]
        return out

    def background(self, photons):
        """`Background` of an image (P, SS, FS)."""
        kernel.gather(photons.reshape(-1), self.sample.reshape(-1), self.values.reshape(-1))
        centre, quantum = first_guess(self.values.reshape(-1)[::7])
        kernel.clipped_moments(self.values, np.float32(centre), np.float32(4), np.float32(3 * quantum), 6, self.own)
        quantum = slope_quantum(self.own)
        kernel.pool(self.own, self.first, self.grid, self.pooled)
        # An empty neighbourhood may still hold what one more photon in its sample would be.
        floor = np.float32(quantum ** 2) / np.maximum(self.pooled[:, 0], 1)
        self.pooled[:, 2] = np.maximum(self.pooled[:, 2], floor)
        return Background(self.pooled[:, 1].copy(), self.pooled[:, 2].copy(), quantum)


def first_guess(values):
    """Where the background lies, and an upper guess at the size of one photon, from a few thousand pixels.

    Below the median there are no spots: the spread there is noise alone. What stands out above by three of its
    standard deviations is single photons where the background is thin, and next to nothing where it is dense.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    centre = float(np.median(values))
    noise = float(np.sqrt(np.mean((values[values <= centre] - centre) ** 2)))
    above = values[values > centre + 3 * noise] - centre
    return centre, max(float(np.median(above)) - 3.3 * noise, 0.0) if above.size else 0.0


def slope_quantum(boxes):
    """The size of one photon in the image's units: how the variance of boxes (B, 3) grows with their mean.

    Means of the upper and the lower third (Bartlett, Biometrics 5 (1949) 207). Where the background is flat, the
    chance correlation of mean and variance in small samples gives the ratio of third to second cumulant, which is the
    quantum as well. Close to 1, the gain is taken to be what the geometry says.
    """
    known = boxes[boxes[:, 0] > 1]
    if len(known) < 12:
        return 1.0
    order = np.argsort(known[:, 1], kind="stable")[:len(known) - len(known) // 20]    # the brightest may hold spots
    third = len(order) // 3
    lower, upper = (_typical(known[part].astype(float)) for part in (order[:third], order[-third:]))
    run, rise = upper - lower
    quantum = float(rise / run) if run > 0 else 1.0
    if not quantum > 0:
        quantum = float(np.sqrt(np.median(known[:, 2]))) * 0.1 or 1.0
    return 1.0 if 0.75 < quantum < 1.35 else quantum


def _typical(boxes):
    """(2,) average mean and variance of boxes (n, 3), without those whose variance stands out: they hold spots."""
    for _ in range(2):
        variance = boxes[:, 2]
        boxes = boxes[variance <= variance.mean() + 3 * variance.std()]
    return boxes[:, 1:].mean(axis=0)
