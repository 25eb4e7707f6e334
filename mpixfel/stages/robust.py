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

from mpixfel.kernels import edges, highs, peaks, standing
from mpixfel.kernels.geometry import radii
from mpixfel.kernels.screen import room, screen
from mpixfel.kernels.surroundings import patches
from mpixfel.model import tables
from mpixfel.stages.boxes import Boxes
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option
from mpixfel.stages.rings import WIDTH, Rings, crowded
from mpixfel.stages.tail import Tail

ROOM = 1 << 18       # candidate pixels of an image
MAX_PEAKS = 4096


@dataclass(frozen=True)
class RobustFinder:
    """Peaks from photon statistics; needs no tuning."""

    wants_glance = True

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
        background = prepared.boxes.background(image)
        summits = prepared.summits(image, background)
        if len(summits):
            summits = self._choose(image.photons, summits, background, shot, prepared)
        return peak_table(summits, background, shot)

    def _choose(self, photons, summits, background, shot, prepared):
        """The summits that are peaks."""
        geometry, keep = shot.geometry, np.empty(len(summits), bool)
        radius = radii(geometry, summits["panel"], summits["f"] + 0.5, summits["s"] + 0.5)
        standing.choose(summits, background.mean, background.variance, background.quantum, prepared.edges(photons, summits),
                        prepared.rings.excess(geometry, background.quantum), radius, WIDTH, prepared.tails,
                        self.max_pixels, self.max_extent_pixels, keep)
        keep[keep] = ~crowded(radius[keep])
        return summits.take(np.flatnonzero(keep))     # cutting a structured array by a mask takes five times as long


def peak_table(summits, background, shot):
    """PEAK table of SUMMIT rows, strongest first."""
    table = np.zeros(len(summits), tables.PEAK)
    standing.fill_peaks(summits, background.variance, background.quantum, shot.geometry, 1.0 / shot.wavelength_angstrom,
                        table)
    return table.take(np.argsort(-table["snr"], kind="stable"))


class Prepared:
    """Boxes, tail tables, and all buffers."""

    def __init__(self, context, false_peaks):
        self.boxes = Boxes(context.detector, context.mask)
        self.rings = Rings(self.boxes)
        stack = context.detector.stack_shape
        rate = false_peaks / max(self.boxes.n_good, 1)
        # Few places lie on a line brighter than the rest, so this test may be less strict.
        self.tail = Tail(rate)
        self.tails = np.array([self.tail.over, Tail(20 * rate).over, Tail(1e-3).over])
        self.room, self.highs = room(stack[2], len(self.boxes.values)), None
        self.index, self.value = np.empty(ROOM, np.int64), np.empty(ROOM, np.float32)
        self.owner, self.parent = np.zeros(stack, np.int32), np.empty(ROOM + 1, np.int32)
        self.sums, self.patches = np.empty(2 * edges.STEPS), patches()
        self.place, self.seeds = np.empty((ROOM, 3), np.int32), np.empty(ROOM, np.int64)

    def edges(self, photons, summits):
        """(n, 2) background per pixel and its variance along the edges of panels, for summits there."""
        out = np.empty((len(summits), 2))
        edges.along_edges(photons, self.boxes.shape, summits["panel"], summits["s"], summits["f"], self.sums, out)
        return out

    def highs_of(self, image):
        """The highs of an `Image`, made here where calibration has not."""
        if image.highs is not None:
            return image.highs
        if self.highs is None:
            stack = image.photons.shape
            self.highs, self.highs_room = highs.highs_of(stack), highs.room(stack)
        highs.fill_highs(image.photons, self.boxes.shape, self.highs_room, self.highs)
        return self.highs

    def summits(self, image, background):
        """SUMMIT table of everything that stands out of the background, highest first."""
        boxes, photons, quantum = self.boxes, image.photons, background.quantum
        bar = self.tail.bar(background.variance, quantum, 9.0)
        n = screen(photons, self.highs_of(image), boxes.shape, boxes.first, boxes.grid, background.mean, bar, self.room,
                   self.index, self.value)
        index, value = self.index[:min(n, ROOM)], self.value[:min(n, ROOM)]
        n = peaks.divide(index, value, falling(value), boxes.shape, boxes.first, boxes.grid, background.variance,
                         quantum, self.owner, self.place, self.parent, self.seeds)
        out = np.zeros(min(n, MAX_PEAKS), peaks.SUMMIT)
        peaks.measure(photons, self.owner, index, value, self.place, self.seeds[:len(out)], boxes.shape, boxes.first,
                      boxes.grid, background.mean, background.variance, quantum, self.patches, out)
        peaks.forget(index, self.owner)
        return out


def falling(value):
    """Positions of positive float32 numbers (n,) by falling value; equal ones in their order, on every machine.

    The bits of positive numbers sort like integers; sorting them together with their positions is faster than argsort.
    """
    keys = (np.int64(1) << 62) - (value.view(np.int32).astype(np.int64) << 31) + np.arange(len(value))
    keys.sort()
    return keys & 0x7FFFFFFF
