"""What only the data show of pixels: hot ones, which stand out in shot after shot, dead ones, which never do, and how
much they scatter beyond the photons.

`observe_pixels` looks at one image and returns integer maps; their sums over the first images of a run, in whatever
order and on however many ranks, go to `conclude_pixels` and `conclude_excess`.
"""
import numpy as np

from mpixfel.kernels.background import tally
from mpixfel.stages.boxes import Boxes
from mpixfel.stages.tail import Tail

HOT = "hot_pixels"       # name of the mask in Learnt.extra; calibration takes it from there
EXCESS = "excess_variance"   # likewise of what `conclude_excess` gives; integration takes it from there
OUTLIER = Tail(1e-4)     # a pixel this far above its surroundings stands out
LEAST_IMAGES = 8         # fewer images tell nothing
HOT_SHARE = 0.25         # of the images; a Bragg peak comes back to the same pixel in far fewer
# A live pixel is above its box's mean now and then. One that was expected there 25 times and never was: chance e^-25.
DEAD_EXPECTED = 25.0
MOST_NEIGHBOURS = 2      # pixels with more hot neighbours are part of a ring or streak that comes back in every shot


class PixelWatch:
    """What `observe_pixels` needs of a detector; made once per rank."""

    def __init__(self, context):
        self.boxes = Boxes(context.detector, context.mask)


def observe_pixels(image, watch):
    """Integer maps of one `Image`: seen, above, out (P, SS, FS) uint16; expected, mean, variance (B,) int64, in 1/1000."""
    background = watch.boxes.background(image)
    maps = {name: np.zeros(image.photons.shape, np.uint16) for name in ("seen", "above", "out")}
    bar = background.mean + OUTLIER.bar(background.variance, background.quantum)
    tally(image.photons, watch.boxes.shape, watch.boxes.first, watch.boxes.grid, background.mean,
          bar, maps["seen"], maps["above"], maps["out"])
    values = watch.boxes.values
    share = (values > background.mean[:, None]).sum(axis=1) / np.maximum(np.isfinite(values).sum(axis=1), 1)
    boxes = {"expected": share, "mean": background.mean, "variance": background.variance}
    return {**maps, **{name: np.rint(1000 * values.astype(float)).astype(np.int64) for name, values in boxes.items()}}


def conclude_pixels(observed, watch):
    """(P, SS, FS) bool: hot and dead pixels, from the sums of `observe_pixels` over some images."""
    seen, above, out = (observed[name].astype(np.int64) for name in ("seen", "above", "out"))
    bad = alone((seen >= LEAST_IMAGES) & (out >= np.maximum(HOT_SHARE * seen, 3)))
    boxes, images = watch.boxes, max(int(seen.max(initial=0)), 1)
    for p, ((ny, nx), (height, width)) in enumerate(zip(boxes.grid, boxes.shape)):
        box = boxes.first[p] + (np.arange(height) * ny // height)[:, None] * nx + np.arange(width) * nx // width
        expected = observed["expected"][box] / 1000 * seen[p, :height, :width] / images
        bad[p, :height, :width] |= (above[p, :height, :width] == 0) & (expected > DEAD_EXPECTED)
    return bad


def conclude_excess(observed):
    """By how much a pixel's variance exceeds its mean, in photons^2, from the sums of `observe_pixels` over some images.

    Photons alone have the variance of their mean. More is read-out noise that no dark tells of; less is a pedestal that
    nobody subtracted. The median over boxes: rings and spots are in few of them.
    """
    images = max(int(observed["seen"].max(initial=0)), 1)
    lit = observed["variance"] > 0
    excess = (observed["variance"] - observed["mean"])[lit] / (1000.0 * images)
    return float(np.median(excess)) if excess.size else 0.0


def alone(hot):
    """(P, SS, FS) bool: the marked pixels with few marked neighbours."""
    padded = np.pad(hot, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    ss, fs = hot.shape[1:]
    around = sum(padded[:, j:j + ss, i:i + fs] for j in range(3) for i in range(3)) - hot
    return hot & (around <= MOST_NEIGHBOURS)
