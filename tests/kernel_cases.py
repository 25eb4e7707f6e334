"""Every kernel of calibration and hit finding on a small image: run compiled and plain, the results must be the same.

    python kernel_cases.py     prints a JSON object: name -> list of numbers
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import numpy as np  # noqa: E402
from small_detector import context_of, event_of, panel  # noqa: E402

from mpixfel.model.constants import Constants  # noqa: E402
from mpixfel.model.event import Image  # noqa: E402
from mpixfel.stages.calibration import Calibration  # noqa: E402
from mpixfel.stages.distl import Distl  # noqa: E402
from mpixfel.stages.peakfinder8 import Peakfinder8  # noqa: E402
from mpixfel.stages.pixels import PixelWatch, observe_pixels  # noqa: E402
from mpixfel.stages.robust import RobustFinder  # noqa: E402

SHAPES = ((70, 90), (52, 66))


def small_image(rng):
    """Two panels of Poisson background with spots, a bad pixel here and there: (words of the block, context)."""
    centre = (45.0, 61.0)
    panels = [panel("a", SHAPES[0], (0, 0), centre, max_adu=60.0, flag_more_than=200.0),
              panel("b", SHAPES[1], (70, 4), centre, max_adu=60.0)]
    words = rng.poisson(1.5, (122, 90)).astype(np.int32)
    for s, f in rng.integers(4, 86, (14, 2)):
        words[s:s + 3, f:f + 3] += rng.poisson([[2, 6, 2], [6, 25, 6], [2, 6, 2]])
    words[40, 40], words[90, 50] = 500, 70
    context = context_of(*panels)
    mask = rng.random(context.detector.stack_shape) < 0.01
    return words, context_of(*panels, mask=mask)


def cases():
    rng = np.random.default_rng(11)
    words, context = small_image(rng)
    shot = context.shot(event_of(words))
    stage = Calibration()
    image = stage(event_of(words), shot, stage.prepare(context))
    yield "calibration", np.nan_to_num(image.photons, nan=-1)
    yield "saturated", image.saturated
    for kind in ("u2", "f4"):
        yield kind, np.nan_to_num(stage(event_of(words.astype(kind)), shot, stage.prepare(context)).photons)
    stack = context.detector.stack_shape
    maps = rng.uniform(0.9, 1.1, (1, 3, *stack)).astype("f4")
    constants = Constants(maps, np.ones(stack, "f4"), maps, unit="photon")
    switching = Calibration(gain_switching="jungfrau", common_mode_sections=(2, 2))
    with_darks = context_of(*context.detector.panels, mask=context.mask, constants=constants)
    stages = np.where(rng.random(words.shape) < 0.1, rng.integers(0, 4, words.shape), 0)
    raw = (words | stages << 14).astype(np.uint16)
    yield "jungfrau", np.nan_to_num(switching(event_of(raw), shot, switching.prepare(with_darks)).photons)
    image = Image(image.photons.copy(), image.saturated)
    for finder in (RobustFinder(false_peaks_per_image=1.0), Peakfinder8(threshold=5.0),
                   Peakfinder8(threshold=5.0, exact=True),
                   Distl(scanbox_windows=(30, 20, 20), spot_list="inlier_spots"),
                   Distl(scanbox_windows=(30, 20, 20), legacy_distl=True)):
        peaks = finder(image, shot, finder.prepare(context))
        columns = ("panel", "fs", "ss", "intensity", "sigma", "snr", "n_pixels")
        yield repr(finder), np.column_stack([peaks[c] for c in columns])
    yield from ((name, np.asarray(value)) for name, value in observe_pixels(image, PixelWatch(context)).items())


def results():
    return {name: np.asarray(value, float).ravel().tolist() for name, value in cases()}


if __name__ == "__main__":
    print(json.dumps(results()))
