"""The default hit finder: thresholds from the photon statistics of the image itself.

Every 3 x 3 sum is held against what chance does with the local background. Mean and variance come from clipped samples
of small boxes, and the size of one photon (the quantum) from how the variance grows with the mean: so neither a wrong
gain nor a pedestal matters. The threshold is the Poisson tail at the false-positive rate asked for, which is right for
a hundredth of a photon per pixel as for a hundred, where a number of standard deviations is not.

What stands out is then held against its neighbourhood: a peak must rise above the brightest line through it (rings,
streaks, edges of shadows), must not be a single pixel, and must be compact.
"""
from dataclasses import dataclass

import numpy as np

from mpixfel.kernels import edges, peaks
from mpixfel.kernels.screen import CHUNK, screen
from mpixfel.model import tables
from mpixfel.stages.boxes import Boxes
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.peak_table import resolution
from mpixfel.stages.rings import WIDTH, Rings, crowded
from mpixfel.stages.tail import Tail

ROOM = 1 << 18       # candidate pixels of an image
MAX_PEAKS = 4096
POWDER = 1.0         # a ring this many standard deviations (of a pixel) bright all around is left out
LEAK = 0.05          # what a true spot gives to the eight pixels around its largest, at the very least


@dataclass(frozen=True)
class RobustFinder:
    """Peaks from photon statistics; needs no tuning."""

    false_peaks_per_image: float = option(0.05, "expected number of peaks that chance makes in one image",
                                          low=1e-12, high=1e6)
    max_pixels: int = option(400, "largest number of pixels of a peak", low=9)
    max_extent_pixels: float = option(6.0, "largest standard deviation of a peak along its longer axis", "pixels",
                                      low=0.5)

    def __post_init__(self):
        check_options(self)

    def prepare(self, context):
        """Boxes, samples, tail table and buffers."""
        return Prepared(context, self.false_peaks_per_image)

    def __call__(self, image, shot, prepared):
        """PEAK table of the image, strongest first."""
        background = prepared.boxes.background(image.photons)
        summits = prepared.summits(image.photons, background)
        if len(summits):
            summits = self._choose(image.photons, summits, background, shot, prepared)
        table = peak_table(summits, background.variance[summits["box"]], background.quantum, shot)
        return table[np.argsort(-table["snr"], kind="stable")]

    def _choose(self, photons, summits, background, shot, prepared):
        """The summits that are peaks."""
        rings = prepared.rings.excess(shot.geometry, background.quantum)
        radius = prepared.rings.radius(shot.geometry, summits["panel"], summits["s"], summits["f"])
        ring = rings[np.minimum((radius / WIDTH).astype(int), len(rings) - 1)]
        edge = prepared.edges(photons, summits)
        keep = self._stands_out(summits, background, ring, edge, prepared) & self._compact(summits) & (ring < POWDER)
        keep[keep] &= ~crowded(radius[keep])
        return summits[keep]

    def _stands_out(self, summits, background, ring, edge, prepared):
        """(n,) bool: above the own background, above every line through the peak, and in more than one pixel.

        `edge` (n, 2) is what is usual along the edges of the panels, see `kernels.edges`.
        """
        quantum, box = background.quantum, summits["box"]
        # Where the own background is brighter than that of the box, so is its noise.
        variance = background.variance[box] + quantum * np.maximum(summits["background"] - background.mean[box], 0.0)
        variance = np.maximum(variance, edge[:, 1])
        bar = prepared.tail.bar(9 * variance, quantum)
        powder = 1.5 * ring * np.sqrt(variance)
        level = np.maximum(summits["level"], edge[:, 0])
        rise = np.maximum(level - summits["background"], powder)
        line = 9 * rise + prepared.line_tail.bar(9 * (variance + quantum * rise), quantum)
        others = summits["core"] - summits["core_max"]
        chance = 8 * powder + prepared.pixel_tail.bar(8 * (variance + quantum * powder), quantum)
        single = (others < chance) | (others < LEAK * summits["core_max"])
        return (summits["core"] > bar) & (summits["core"] > line) & ~single

    def _compact(self, summits):
        """(n,) bool: neither too many pixels nor too long."""
        half = 0.5 * (summits["mss"] + summits["mff"])
        longer = half + np.hypot(0.5 * (summits["mss"] - summits["mff"]), summits["msf"])
        return (summits["n_pixels"] <= self.max_pixels) & (longer <= self.max_extent_pixels ** 2) & (
            summits["intensity"] > 0)


def peak_table(summits, variance, quantum, shot):
    """PEAK rows of SUMMIT rows; `variance` (n,) of the background. Pixel centres become whole numbers plus a half."""
    table = np.zeros(len(summits), tables.PEAK)
    table["panel"] = summits["panel"]
    table["ss"], table["fs"] = summits["s"] + summits["ds"] + 0.5, summits["f"] + summits["df"] + 0.5
    n = summits["n_pixels"]
    for name in ("intensity", "background", "n_pixels", "max_pixel"):
        table[name] = summits[name]
    noise = n * variance * (1 + n / np.maximum(summits["n_background"], 16))
    table["sigma"] = np.sqrt(noise + quantum * np.maximum(summits["intensity"], 0))
    table["snr"] = summits["core"] / np.sqrt(np.maximum(summits["core_pixels"] * variance, 1e-12))
    table["resolution"] = resolution(table, shot)
    table["lattice"] = -1
    return table


class Prepared:
    """Boxes, tail tables, and all buffers."""

    def __init__(self, context, false_peaks):
        self.boxes = Boxes(context.detector, context.mask)
        self.rings = Rings(self.boxes)
        stack = context.detector.stack_shape
        rate = false_peaks / max(self.boxes.n_good, 1)
        # Few places lie on a line brighter than the rest, so this test may be less strict.
        self.tail, self.line_tail, self.pixel_tail = Tail(rate), Tail(20 * rate), Tail(1e-3)
        width = CHUNK * -(-stack[2] // CHUNK)
        self.line, self.rows = np.zeros(width + 2, np.float32), np.zeros((9, width), np.float32)
        self.index, self.value = np.empty(ROOM, np.int64), np.empty(ROOM, np.float32)
        self.owner, self.parent = np.zeros(stack, np.int32), np.empty(ROOM + 1, np.int32)
        self.sums = np.empty(2 * edges.STEPS)
        self.place, self.seeds = np.empty((ROOM, 3), np.int32), np.empty(ROOM, np.int64)

    def edges(self, photons, summits):
        """(n, 2) background per pixel and its variance along the edges of panels, for summits there."""
        out = np.empty((len(summits), 2))
        edges.along_edges(photons, self.boxes.shape, summits["panel"], summits["s"], summits["f"], self.sums, out)
        return out

    def summits(self, photons, background):
        """SUMMIT table of everything that stands out of the background, highest first."""
        boxes, quantum = self.boxes, background.quantum
        bar = self.tail.bar(9 * background.variance, quantum).astype(np.float32)
        n = screen(photons, boxes.shape, boxes.first, boxes.grid, background.mean, bar, self.line, self.rows,
                   self.index, self.value)
        index, value = self.index[:min(n, ROOM)], self.value[:min(n, ROOM)]
        n = peaks.divide(index, value, falling(value), boxes.shape, boxes.first, boxes.grid, background.variance,
                         quantum, self.owner, self.place, self.parent, self.seeds)
        out = np.zeros(min(n, MAX_PEAKS), peaks.SUMMIT)
        peaks.measure(photons, self.owner, index, value, self.place, self.seeds[:len(out)], boxes.shape, boxes.first,
                      boxes.grid, background.mean, background.variance, quantum, out)
        peaks.forget(index, self.owner)
        return out


def falling(value):
    """Positions of positive float32 numbers (n,) by falling value; equal ones in their order, on every machine.

    The bits of positive numbers sort like integers; sorting them together with their positions is faster than argsort.
    """
    keys = (np.int64(1) << 62) - (value.view(np.int32).astype(np.int64) << 31) + np.arange(len(value))
    keys.sort()
    return keys & 0x7FFFFFFF
