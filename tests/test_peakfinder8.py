"""peakfinder8 against a slow twin that follows the description of CrystFEL's step by step."""
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from small_detector import PIXEL, context_of, event_of, panel

from mpixfel.model.event import Image
from mpixfel.stages.peakfinder8 import Peakfinder8

SHAPES = ((48, 60), (40, 52))


def detector(centre, gains=(1.0, 1.0)):
    return (panel("a", SHAPES[0], (0, 0), centre, adu_per_photon=gains[0], max_adu=400.0),
            panel("b", SHAPES[1], (50, 3), centre, adu_per_photon=gains[1], max_adu=400.0))


def image_of(rng, context):
    """Poisson background that falls with the radius, spots of several sizes, bad pixels, padding."""
    out = np.full(context.detector.stack_shape, np.nan, np.float32)
    for i, p in enumerate(context.detector.panels):
        ss, fs = np.indices(p.shape)
        light = 2 + 20 / (1 + np.hypot(p.origin_m[0] / PIXEL + fs, p.origin_m[1] / PIXEL + ss) / 10)
        for _ in range(6):
            s, f, width = rng.uniform(2, p.shape[0] - 2), rng.uniform(2, p.shape[1] - 2), rng.uniform(0.5, 1.5)
            light += rng.lognormal(5, 0.7) * np.exp(-0.5 * ((ss - s) ** 2 + (fs - f) ** 2) / width ** 2)
        out[i, :p.shape[0], :p.shape[1]] = rng.poisson(light)
    out[rng.random(out.shape) < 0.01] = np.nan
    return out


def twin_statistics(data, radius, good, threshold, min_snr):
    """Steps 2 and 3: {bin: (mean, upper)}; five rounds of clipping over all panels."""
    bins, out = np.rint(radius).astype(int), {}
    for b in np.unique(bins[good]):
        values, low, high = data[good & (bins == b)].astype(float), -1e9, 1e9
        for _ in range(5):
            inside = values[(values > low) & (values < high)]
            if len(inside) == 0:
                break
            mean, sigma = inside.mean(), inside.std()
            low, high = mean - min_snr * sigma, max(mean + min_snr * sigma, threshold)
            no_tie(values, low, high if high > threshold else low)
        out[b] = (mean, high) if len(inside) else (0.0, np.inf)
    return bins, out


def twin(data, panels, stage):
    """Peaks (panel, ss, fs, sum, n) in the image's units, by the description, pixel by pixel."""
    shape = data.shape
    radius = np.zeros(shape)
    for i, p in enumerate(panels):
        ss, fs = np.indices(shape[1:])
        x, y = (np.trunc(np.round(p.origin_m[k] / PIXEL + (fs, ss)[k], 6)) for k in (0, 1))
        radius[i] = np.hypot(x, y)
    good = np.isfinite(data) & (radius > stage.min_res)
    if stage.max_res > 0:
        good &= radius < stage.max_res
    bins, known = twin_statistics(data, radius, good, stage.threshold, stage.min_snr)
    above = lambda at: good[at] and data[at] > known[bins[at]][1]
    taken, peaks = np.zeros(shape, bool), []
    for i, p in enumerate(panels):
        inside = lambda s, f: 0 <= s < p.shape[0] and 0 <= f < p.shape[1]
        for s0 in range(1, p.shape[0] - 1):
            for f0 in range(1, p.shape[1] - 1):
                if taken[i, s0, f0] or not above((i, s0, f0)):
                    continue
                pixels, todo = [], [(s0, f0)]
                taken[i, s0, f0] = True
                while todo:
                    s, f = todo.pop()
                    pixels.append((s, f))
                    for a, b in ((s + j, f + k) for j in (-1, 0, 1) for k in (-1, 0, 1)):
                        if inside(a, b) and not taken[i, a, b] and above((i, a, b)):
                            taken[i, a, b] = True
                            todo.append((a, b))
                peaks += twin_peak(data[i], pixels, bins[i], known, good[i], taken[i], p, i, stage)
    return peaks


def no_tie(values, *limits):
    """The description does not say how numbers are rounded, so on which side of a limit a value falls that is equal to it.

    The threshold itself is a whole number, and safe.
    """
    assume(not any(np.isclose(values, limit, rtol=1e-5).any() for limit in limits))


def twin_peak(data, pixels, bins, known, good, taken, p, i, stage):
    """Steps 5 to 7 for one group of pixels: a list of one peak or none."""
    if not stage.min_pix_count <= len(pixels) <= stage.max_pix_count:
        return []
    weights = [abs(data[at] - known[bins[at]][0]) for at in pixels]
    centre = np.array([np.average([at[k] for at in pixels], weights=weights) for k in (0, 1)])
    no_tie(centre, *(np.floor(centre) + 0.5))
    cs, cf = map(int, np.rint(centre))
    reach, ring = 2 * stage.local_bg_radius, []
    for s in range(cs - reach, cs + reach):
        for f in range(cf - reach, cf + reach):
            if (0 <= s < p.shape[0] and 0 <= f < p.shape[1] and np.hypot(s - cs, f - cf) <= reach and good[s, f]
                    and not taken[s, f] and data[s, f] < known[bins[s, f]][1]):
                ring.append(float(data[s, f]))
    offset, sigma, largest = known[bins[cs, cf]][0], 0.01, -np.inf
    if ring:
        offset, sigma, largest = np.mean(ring), np.std(ring), max(ring)
    values = np.array([float(data[at]) for at in pixels])
    total = (values - offset).sum()
    if total < stage.min_snr * sigma or values.max() < largest:
        return []
    ss, fs = (np.average([at[k] for at in pixels], weights=values) for k in (0, 1))
    return [(i, ss + 0.5, fs + 0.5, total, len(pixels))]


@given(seed=st.integers(0, 2**32 - 1), snr=st.sampled_from([4.0, 6.0]),
       limits=st.sampled_from([(0.0, 0.0), (12.0, 40.0)]), counts=st.sampled_from([(1, 200), (3, 12)]))
@example(seed=1, snr=4.0, limits=(0.0, 0.0), counts=(3, 12))     # a bin whose pixels are all clipped away
def test_exact_behaviour_is_that_of_the_description(seed, snr, limits, counts):
    rng = np.random.default_rng(seed)
    panels = detector((30.0, 40.0))
    context = context_of(*panels)
    image = image_of(rng, context)
    stage = Peakfinder8(threshold=15.0, min_snr=snr, min_res=limits[0], max_res=limits[1], min_pix_count=counts[0],
                        max_pix_count=counts[1], exact=True)
    found = stage(Image(image, np.zeros(0, np.int64)), context.shot(event_of()), stage.prepare(context))
    expected = sorted(twin(image, panels, stage))
    assert len(found) == len(expected)
    order = np.lexsort((found["fs"], found["ss"], found["panel"]))
    for row, (i, ss, fs, total, n) in zip(found[order], expected):
        assert (row["panel"], row["n_pixels"]) == (i, n)
        np.testing.assert_allclose([row["ss"], row["fs"], row["intensity"]], [ss, fs, total], rtol=1e-4)


def run(stage, image, context):
    return stage(Image(image, np.zeros(0, np.int64)), context.shot(event_of()), stage.prepare(context))


def test_panels_of_different_gain_are_searched_in_adu():
    rng = np.random.default_rng(6)
    image = image_of(rng, context_of(*detector((30.0, 40.0))))
    even = run(Peakfinder8(threshold=30.0), image, context_of(*detector((30.0, 40.0), (2.0, 2.0))))
    gains = np.array([2.0, 2.0000001])
    odd = run(Peakfinder8(threshold=30.0), image, context_of(*detector((30.0, 40.0), gains)))
    assert len(even) > 5
    for name in ("panel", "ss", "fs", "intensity", "n_pixels", "background"):
        np.testing.assert_allclose(odd[name], even[name], rtol=1e-4)


def test_saturated_peaks_are_dropped_where_asked_for():
    image = image_of(np.random.default_rng(7), context_of(*detector((30.0, 40.0))))
    image[0, 20:23, 20:23] = 500
    context = context_of(*detector((30.0, 40.0)))
    kept, dropped = run(Peakfinder8(), image, context), run(Peakfinder8(use_saturated=False), image, context)
    bright = int((kept["max_pixel"] > 400).sum())
    assert bright and not (dropped["max_pixel"] > 400).any() and len(dropped) == len(kept) - bright


@pytest.mark.parametrize("most", [3, 2048])
def test_no_more_peaks_than_allowed_are_found(most):
    image = image_of(np.random.default_rng(8), context_of(*detector((30.0, 40.0))))
    n = len(run(Peakfinder8(max_peaks=most), image, context_of(*detector((30.0, 40.0)))))
    assert n == 3 if most == 3 else n > 3
