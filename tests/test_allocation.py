"""Once it is warm, an event needs no memory of an image's size: what it needs grows with its peaks alone."""
import tracemalloc

import numpy as np
import pytest
from small_detector import context_of, event_of, panel

from mpixfel.model.constants import Constants
from mpixfel.model.event import Image
from mpixfel.stages.calibration import Calibration
from mpixfel.stages.distl import Distl
from mpixfel.stages.peakfinder8 import Peakfinder8
from mpixfel.stages.robust import RobustFinder

SIZE = 768
IMAGE_BYTES = 4 * SIZE * SIZE


def most_bytes(function, times=3):
    """The most memory that a call holds beyond what there was before it; the first two calls do not count."""
    function(0), function(1)
    tracemalloc.start()
    try:
        most = 0
        for k in range(times):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            function(k)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
        return most
    finally:
        tracemalloc.stop()


def context(constants=None):
    return context_of(panel("p", (SIZE, SIZE), centre=(SIZE / 2, SIZE / 2), adu_per_photon=None, adu_per_ev=0.002),
                      mask=np.zeros((1, SIZE, SIZE), bool), constants=constants)


@pytest.mark.parametrize("options", [{}, {"common_mode": "none"}, {"gain_switching": "jungfrau"}], ids=str)
@pytest.mark.parametrize("own_mask", [False, True])
def test_calibration_needs_no_memory_for_an_event(options, own_mask):
    """With darks, gains, a mask of its own, and an energy that varies."""
    rng, stages = np.random.default_rng(1), 3 if options.get("gain_switching") else 1
    constants = Constants(rng.normal(50, 2, (1, stages, 1, SIZE, SIZE)).astype("f4"), np.full((1, SIZE, SIZE), 2, "f4"),
                          rng.uniform(0.9, 1.1, (1, stages, 1, SIZE, SIZE)).astype("f4"))
    here, stage = context(constants), Calibration(**options)
    raw, prepared = rng.poisson(60, (SIZE, SIZE)).astype(np.uint16), stage.prepare(here)
    masks = ((0, rng.random((SIZE, SIZE)) < 0.01),) if own_mask else ()
    events = [event_of(raw, energy=9000.0 + 10 * k) for k in range(3)]
    events = [type(e)(e.id, e.raw, e.photon_energy_ev, e.clen_m, masks) for e in events]
    shots = [here.shot(e) for e in events]
    assert most_bytes(lambda k: stage(events[k], shots[k], prepared)) < 0.02 * IMAGE_BYTES


@pytest.mark.parametrize("finder", [RobustFinder(), Peakfinder8(), Distl()], ids=lambda f: type(f).__name__)
def test_finders_need_little_memory_for_a_blank(finder):
    rng, here = np.random.default_rng(2), context()
    images = [Image(rng.poisson(1.0, (1, SIZE, SIZE)).astype(np.float32), np.zeros(0, np.int64)) for _ in range(3)]
    shot, prepared = here.shot(event_of()), finder.prepare(here)
    assert most_bytes(lambda k: finder(images[k], shot, prepared)) < 0.2 * IMAGE_BYTES
