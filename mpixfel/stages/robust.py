"""The default hit finder: thresholds from the photon statistics of the image itself.

Every 3 x 3 sum is held against what chance does with the local background. Mean and variance come from clipped samples
of small boxes, and the size of one photon (the quantum) from how the variance grows with the mean: so neither a wrong
gain nor a pedestal matters. The threshold is the Poisson tail at the false-positive rate asked for, which is right for
a hundredth of a photon per pixel as for a hundred, where a number of standard deviations is not.
"""
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from mpixfel.kernels import background, peaks
from mpixfel.model import tables
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option

BOX = 32             # edge of a background box, pixels
SAMPLES = 64         # pixels of a box that are looked at
ROOM = 1 << 18       # candidate pixels of an image
MAX_PEAKS = 4096


@dataclass(frozen=True)
class RobustFinder:
    """Peaks from photon statistics; needs no tuning."""

    false_peaks_per_image: float = option(0.05, "expected number of peaks that chance makes in one image",
                                          low=1e-12, high=1e6)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Boxes, samples, tail table and buffers."""
        return Prepared(context, self.false_peaks_per_image)

    def __call__(self, image, shot, prepared):
        """PEAK table of the image, strongest first."""
        photons = image.photons
        mean, variance, quantum = prepared.background(photons)
        threshold = quantum * prepared.tail.excess(9 * variance / quantum ** 2)
        n = peaks.screen(photons, prepared.shape, prepared.first, prepared.grid, mean, threshold.astype(np.float32),
                         prepared.line, prepared.rows, prepared.index, prepared.value)
        index, value = prepared.index[:min(n, ROOM)], prepared.value[:min(n, ROOM)]
        peaks.mark(index, value, prepared.score)
        n = peaks.climb(index, prepared.score, prepared.owner, prepared.shape, *photons.shape[1:], prepared.up, prepared.seeds)
        seeds = prepared.seeds[:min(n, MAX_PEAKS)]
        box = prepared.box_of(seeds)
        out = prepared.measured[:seeds.size]
        peaks.measure(photons, prepared.score, prepared.owner.reshape(photons.shape), seeds, index, prepared.shape,
                      mean[box], variance[box], quantum, out)
        peaks.unmark(index, prepared.score, prepared.owner)
        table = peak_table(out, variance[box], quantum, shot)
        significant = out[:, 7] > quantum * prepared.tail.excess(9 * variance[box] / quantum ** 2)
        table = table[significant & (out[:, 3] > 0)]
        return table[np.argsort(-table["snr"], kind="stable")]


def peak_table(measured, variance, quantum, shot):
    """PEAK rows of `kernels.peaks.measure`'s result; pixel centres become whole numbers plus a half."""
    table = np.zeros(len(measured), tables.PEAK)
    table["panel"] = measured[:, 0]
    table["ss"], table["fs"] = measured[:, 1] + 0.5, measured[:, 2] + 0.5
    n = measured[:, 5]
    table["intensity"], table["background"] = measured[:, 3], measured[:, 4]
    table["n_pixels"], table["max_pixel"] = n, measured[:, 6]
    noise = n * variance * (1 + n / np.maximum(measured[:, 8], 16))
    table["sigma"] = np.sqrt(noise + quantum * np.maximum(measured[:, 3], 0))
    table["snr"] = measured[:, 7] / np.sqrt(np.maximum(9 * variance, 1e-12))
    table["resolution"] = resolution(table, shot)
    table["lattice"] = -1
    return table


def resolution(table, shot):
    """1/d (1/angstrom) of peaks, from the shot's geometry."""
    geometry, panel = shot.geometry, table["panel"]
    x = (geometry.origin[panel] + table["fs"][:, None] * geometry.fs_axis[panel]
         + table["ss"][:, None] * geometry.ss_axis[panel])
    direction = x / np.linalg.norm(x, axis=1)[:, None] - np.array([0.0, 0.0, 1.0])
    return np.linalg.norm(direction, axis=1) / shot.wavelength_angstrom


class Tail:
    """How far a Poisson variable must lie above its mean to be improbable, for any mean.

    The tail is made continuous by the incomplete gamma function: P(n >= x; m) = gammainc(x, m).
    """

    def __init__(self, probability):
        self.means = np.geomspace(1e-6, 1e6, 481)
        low, high = np.zeros_like(self.means), self.means + 40 * np.sqrt(self.means) + 60
        for _ in range(60):
            middle = 0.5 * (low + high)
            likely = gammainc(middle, self.means) > probability
            low, high = np.where(likely, middle, low), np.where(likely, high, middle)
        self.log_means, self.over = np.log(self.means), high - self.means

    def excess(self, mean):
        """Least improbable excess over a Poisson `mean` (array)."""
        return np.interp(np.log(np.maximum(mean, self.means[0])), self.log_means, self.over)


class Prepared:
    """Boxes and their sampled pixels, the tail table, and all buffers."""

    def __init__(self, context, false_peaks):
        stack = context.detector.stack_shape
        self.shape = np.array([p.shape for p in context.detector.panels], np.int64)
        self.grid = np.maximum(np.rint(self.shape / BOX).astype(np.int64), 1)
        self.first = np.concatenate([[0], np.cumsum(self.grid.prod(axis=1))[:-1]]).astype(np.int64)
        self.stack = stack
        good = np.ones(stack, bool) if context.mask is None else ~context.mask
        self.sample = self._samples(good)
        n_good = sum(int(good[i, :s, :f].sum()) for i, (s, f) in enumerate(self.shape))
        self.tail = Tail(false_peaks / max(n_good, 1))
        n_boxes, size = len(self.sample), int(np.prod(stack))
        self.values = np.empty(self.sample.shape, np.float32)
        self.boxes, self.pooled = np.zeros((n_boxes, 3), np.float32), np.zeros((n_boxes, 3), np.float32)
        full = peaks.CHUNK * -(-stack[2] // peaks.CHUNK)
        self.line, self.rows = np.zeros(full + 2, np.float32), np.zeros((9, full), np.float32)
        self.index, self.value = np.empty(ROOM, np.int64), np.empty(ROOM, np.float32)
        self.up = np.empty(ROOM, np.int64)
        self.score, self.owner = np.zeros(size, np.float32), np.zeros(size, np.int32)
        self.seeds, self.measured = np.empty(MAX_PEAKS, np.int64), np.empty((MAX_PEAKS, 10))

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
        """Mean and variance per pixel of every box (B,), and the quantum, all in the image's units."""
        background.gather(photons.reshape(-1), self.sample.reshape(-1), self.values.reshape(-1))
        centre, quantum = first_guess(self.values.reshape(-1)[::7])
        background.clipped_moments(self.values, np.float32(centre), np.float32(4), np.float32(3 * quantum), 6, self.boxes)
        quantum = slope_quantum(self.boxes)
        background.pool(self.boxes, self.first, self.grid, self.pooled)
        # An empty neighbourhood may still hold what one more photon in its sample would be.
        floor = quantum ** 2 / np.maximum(self.pooled[:, 0], 1)
        return self.pooled[:, 1].copy(), np.maximum(self.pooled[:, 2], floor), quantum

    def box_of(self, flat):
        """Box of each flat pixel index (n,)."""
        n_ss, n_fs = self.stack[1:]
        p, rest = np.divmod(flat, n_ss * n_fs)
        s, f = np.divmod(rest, n_fs)
        j, i = s * self.grid[p, 0] // self.shape[p, 0], f * self.grid[p, 1] // self.shape[p, 1]
        return self.first[p] + j * self.grid[p, 1] + i


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
    """The size of one photon in the image's units: how the variance of boxes grows with their mean.

    Medians of the upper and the lower third (Bartlett, Biometrics 5 (1949) 207). Where the background is flat, the
    chance correlation of mean and variance in small samples gives the ratio of third to second cumulant, which is the
    quantum as well. Close to 1, the gain is taken to be what the geometry says.
    """
    known = boxes[boxes[:, 0] > 1]
    if len(known) < 12:
        return 1.0
    order = np.argsort(known[:, 1], kind="stable")
    third = len(known) // 3
    lower, upper = known[order[:third]], known[order[-third:]]
    run = float(upper[:, 1].mean(dtype=float) - lower[:, 1].mean(dtype=float))
    rise = float(upper[:, 2].mean(dtype=float) - lower[:, 2].mean(dtype=float))
    quantum = rise / run if run > 0 else 1.0
    if not quantum > 0:
        quantum = float(np.sqrt(np.median(known[:, 2]))) * 0.1 or 1.0
    return 1.0 if 0.75 < quantum < 1.35 else quantum
