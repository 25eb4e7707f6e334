"""mod_average: what NumPy says of the whole stack, in one pass, for any split of the events and any number of ranks."""
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.errors import MpixfelError
from mpixfel.io.darks import panels_of, read_array
from mpixfel.io.exports.darks import DEAD, HOT, NOISY, bad_pixel_mask
from mpixfel.io.nxmx import StackWriter
from mpixfel.model.event import Event, EventId, Record
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.modules.average import ModAverage, Moments, Options
from mpixfel.stages.calibration import Calibration

PIXEL = 1e-4
GEOMETRY = """clen = 0.1
photon_energy = 9500
adu_per_photon = 10
res = 10000
data = /entry/data/data
dim0 = %
dim1 = ss
dim2 = fs
p0/min_ss = 0
p0/max_ss = 39
p0/min_fs = 0
p0/max_fs = 29
p0/corner_x = -15
p0/corner_y = -20
p0/fs = x
p0/ss = y
"""


def context_of(*panels):
    return Context(Detector(panels), Beam())


ONE = Panel("p", (-0.0015, -0.002, 0.0), (PIXEL, 0, 0), (0, PIXEL, 0), (40, 30), 10.0)


def module_of(calibration=None, origins=None, **options):
    settings = SimpleNamespace(stage=lambda name: calibration or Calibration(), origins=origins or {}, resume=False)
    return ModAverage("mod_average:dark", Options(**options), settings)


def event_of(i, *blocks):
    return Event(EventId(0, i, f"//{i}", 10**9 * i), blocks, 9500.0, 0.1)


def averaged(images, context, module):
    module.begin(context)
    for i, blocks in enumerate(images):
        event = event_of(i, *blocks)
        module.event(event, Record(event.id, 9500.0, 0.1), context)
    return module.totals()


def words(n, shape=(40, 30), seed=0):
    rng = np.random.default_rng(seed)
    return np.rint(1100 + 60 * rng.standard_normal(shape) + 5 * rng.standard_normal((n, *shape))).astype(np.uint16)


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 3))
def test_joined_moments_are_those_of_all_images(n, m, seed):
    rng = np.random.default_rng(seed)
    images = 1e6 + rng.normal(0, 1, (n + m, 5))
    images[rng.random(images.shape) < 0.2] = np.nan
    parts = [Moments((5,)), Moments((5,))]
    for i, image in enumerate(images):
        parts[i >= n].add(image)
    parts[0].join(parts[1])
    known = np.isfinite(images).sum(0)
    with np.errstate(all="ignore"):
        mean = np.nansum(images, 0) / known
        sigma = np.sqrt(np.nansum((images - mean) ** 2, 0) / np.maximum(known - 1, 1))
        largest = np.nanmax(np.where(np.isnan(images), -np.inf, images), 0)
    np.testing.assert_array_equal(parts[0].count, known)
    np.testing.assert_allclose(parts[0].mean_image(), np.where(known, mean, np.nan), rtol=1e-12)
    np.testing.assert_allclose(parts[0].stddev_image(), np.where(known, sigma, np.nan), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(parts[0].largest_image(), np.where(known, largest, np.nan))


def test_totals_of_ranks_are_joined_without_touching_what_they_go_on_with():
    context, images = context_of(ONE), words(9)
    parts = [averaged([(i,) for i in images[a:b]], context, module_of()) for a, b in ((0, 4), (4, 9))]
    before = {k: v.copy() for k, v in parts[0].items()}
    joined = ModAverage.merge(ModAverage.merge({}, parts[0]), ModAverage.merge(parts[1], {}))
    whole = averaged([(i,) for i in images], context, module_of())
    assert int(joined["images"]) == 9
    for name in whole:
        np.testing.assert_allclose(joined[name], whole[name], rtol=1e-12)
    for name in before:
        np.testing.assert_array_equal(parts[0][name], before[name])


def test_files_of_one_block_and_of_several_are_the_next_runs_darks(tmp_path):
    for panels, blocks in (((ONE,), 1),
                           ((ONE, Panel("q", (0.01, 0, 0), (PIXEL, 0, 0), (0, PIXEL, 0), (20, 30), 10.0, block=1)), 2)):
        context, images = context_of(*panels), [words(6, seed=s) for s in range(blocks)]
        module = module_of(mean_out=str(tmp_path / "mean"), std_out=str(tmp_path / "std.h5"), max_dirname=str(tmp_path),
                           max_basename="max", address="CxiDs1-0|Cspad-0")
        module.end(averaged(list(zip(*images)), context, module), context)
        stack = panels_of(read_array(str(tmp_path / "mean.h5")), context.detector, "mean", 1)[0, 0]
        sigma = panels_of(read_array(str(tmp_path / "std.h5")), context.detector, "std", 1)[0, 0]
        for b, (panel, words_of) in enumerate(zip(panels, images)):
            ss, fs = panel.shape
            np.testing.assert_allclose(stack[b, :ss, :fs], words_of.mean(0)[:ss, :fs], rtol=1e-6)
            np.testing.assert_allclose(sigma[b, :ss, :fs], words_of.std(0, ddof=1)[:ss, :fs], rtol=1e-6)
        with h5py.File(tmp_path / "max.h5") as f:
            assert f["data"].attrs["units"] == "ADU" and f["n_images"][()] == 6
            assert f["address"].asstr()[()] == "CxiDs1-0|Cspad-0"
            assert f["data"][()].max() == max(w[:, :p.shape[0]].max() for p, w in zip(panels, images))


def test_with_a_dark_of_its_own_the_corrected_image_is_averaged_and_cleaned(tmp_path):
    dark = np.full((40, 30), 100.0)
    dark[0, 0] = 900.0
    for name, image in (("dark", dark), ("sigma", np.full((40, 30), 2.0))):
        np.save(tmp_path / f"{name}.npy", image)
    calibration = Calibration(dark_path=str(tmp_path / "dark.npy"), dark_stddev_path=str(tmp_path / "sigma.npy"),
                              common_mode="none")
    from mpixfel.io.darks import load_constants
    context = Context(Detector((ONE,)), Beam(), constants=load_constants(calibration, Detector((ONE,))))
    raw = np.full((40, 30), 105, np.uint16)
    raw[0, 0], raw[5, 5], raw[6, 6] = 2000, 130, 102
    module = module_of(calibration, {"mod_average:dark": {"calibration.dark_path": "x"}},
                       mean_out=str(tmp_path / "m.h5"),
                       flags=("noelastic", "symnoise"), hot_threshold=5.0, elastic_threshold=9.0,
                       symnoise_threshold=4.0)
    module.end(averaged([(raw,)] * 3, context, module), context)
    mean = read_array(str(tmp_path / "m.h5"))
    assert (mean[0, 0], mean[5, 5], mean[6, 6], mean[1, 1]) == (0, 0, 0, pytest.approx(5.0))


def test_dead_hot_and_noisy_pixels_are_told():
    rng = np.random.default_rng(1)
    mean, sigma = 1100 + 60 * rng.standard_normal((1, 40, 30)), 5 + 0.3 * rng.standard_normal((1, 40, 30))
    sigma[0, 3, 3], mean[0, 4, 4], sigma[0, 5, 5] = 0, 4000, 40
    mask = bad_pixel_mask(mean, sigma, Detector((ONE,)), 10.0, 5.0)
    assert (mask[0, 3, 3], mask[0, 4, 4], mask[0, 5, 5], np.count_nonzero(mask)) == (DEAD, HOT, NOISY, 3)


def test_flags_without_a_dark_and_hot_without_threshold_are_refused():
    with pytest.raises(MpixfelError, match="dark_path"):
        module_of(flags=("noelastic",))
    with pytest.raises(MpixfelError, match="hot_threshold"):
        Options(flags=("nohot",))
    with pytest.raises(MpixfelError, match="not a base name|dirname"):
        Options(avg_basename="../x")


@pytest.mark.parametrize("ranks", (1, 2, 4))
def test_a_dark_run_of_200_frames_has_numpys_mean_and_sigma_on_any_number_of_ranks(tmp_path, ranks):
    images = words(200)
    (tmp_path / "d.geom").write_text(GEOMETRY)
    with StackWriter(tmp_path / "dark.h5", "dark", 200, (40, 30), np.uint16) as out:
        for i, image in enumerate(images):
            out.frame(i, image)
        out.beam(np.full(200, 9500.0), 0.0)
    (tmp_path / "dark.cfg").write_text("""[pyana]
source = dark.h5
geometry = d.geom
output = out
flush_events = 70
modules = my_ana_pkg.mod_average:dark
[my_ana_pkg.mod_average:dark]
avg_dirname = .
avg_basename = avg-r{run:04d}
stddev_dirname = .
stddev_basename = stddev
""")
    command = [sys.executable, "-m", "mpixfel.cli.main", "-c", "dark.cfg", "--set", "mpixfel.run=2", "-q"]
    done = subprocess.run(["mpirun", "-n", str(ranks), *command], cwd=tmp_path, capture_output=True, text=True,
                          timeout=250)
    assert done.returncode == 0, done.stderr
    for name, truth in (("avg-r0002.h5", images.mean(0)), ("stddev.h5", images.std(0, ddof=1))):
        np.testing.assert_allclose(read_array(str(tmp_path / name)), truth, rtol=1e-6)
