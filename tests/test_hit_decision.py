"""What makes a hit: so many peaks, peaks above a threshold, or a bright pixel."""
import numpy as np
import pytest

from mpixfel.errors import MpixfelError
from mpixfel.model import tables
from mpixfel.model.event import Event, EventId, Image, Reason, Skip
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.stages.hitfinding import HitFinding

PIXEL = 1e-4
PANELS = (Panel("a", (0, 0, 0), (PIXEL, 0, 0), (0, PIXEL, 0), (20, 20), 25.0),
          Panel("b", (0.003, 0, 0), (PIXEL, 0, 0), (0, PIXEL, 0), (20, 20), 50.0, min_fs=20))
CONTEXT = Context(Detector(PANELS), Beam())
SHOT = CONTEXT.shot(Event(EventId(0, 0, "//0"), (), 9500.0, 0.1))


def case():
    """Peaks of 500, 450 and 2000 ADU with what lies below them; the image's brightest pixel has 2000 ADU."""
    photons = np.full((2, 20, 20), 2.0, np.float32)
    photons[0, 3, 4], photons[0, 8, 8], photons[1, 5, 6], photons[1, 0, 0] = 20, 18, 40, np.nan
    peaks = np.zeros(3, tables.PEAK)
    peaks["panel"], peaks["max_pixel"], peaks["background"] = (0, 0, 1), (18, 16, 38), 2
    return peaks, Image(photons, np.zeros(0, np.int64))


def decide(**options):
    stage = HitFinding(**options)
    return stage.decide(*case(), SHOT, stage.prepare(CONTEXT))


def test_peaks_count_only_above_the_threshold_and_all_go_on():
    """The pixel's value is held against the threshold, strictly; what goes on to indexing are all peaks."""
    assert len(decide(min_peaks=2, threshold_adu=450, distl_flags="permissive")) == 3
    miss = decide(min_peaks=3, threshold_adu=450, distl_flags="permissive")
    assert isinstance(miss, Skip) and miss.reason == Reason.too_few_peaks and miss.numbers == {"peaks": 2}


def test_restrictive_asks_for_more_than_twice_and_a_half_the_90th_percentile():
    peaks, image = case()
    image.photons[0] = np.where(image.photons[0] == 2, 8, image.photons[0])      # 200 ADU: a peak needs 498
    stage = HitFinding(min_peaks=3, threshold_adu=100, distl_flags="restrictive")
    assert isinstance(stage.decide(peaks, image, SHOT), Skip)
    assert len(HitFinding(min_peaks=2, threshold_adu=100, distl_flags="restrictive").decide(peaks, image, SHOT)) == 3


def test_without_flags_the_brightest_pixel_decides_in_the_region_that_is_given():
    assert len(decide(threshold_adu=2000)) == 3
    assert decide(threshold_adu=2001).reason == Reason.below_threshold
    assert len(decide(threshold_adu=2000, roi="26:27,5:6")) == 3                 # fast 26 is column 6 of the second panel
    assert decide(threshold_adu=2000, roi="0:26,0:20").numbers["largest"] == 500.0


@pytest.mark.parametrize("options, words", [
    ({"roi": "1-2", "threshold_adu": 5}, "not a region"), ({"roi": "0:2,0:2"}, "threshold"),
    ({"roi": "0:2,0:2", "threshold_adu": 5, "distl_flags": "permissive"}, "exclude each other"),
    ({"roi": "50:60,0:5", "threshold_adu": 5}, "no pixel")])
def test_regions_that_make_no_sense_are_refused(options, words):
    with pytest.raises(MpixfelError, match=words):
        HitFinding(**options).prepare(CONTEXT)
