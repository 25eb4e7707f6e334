"""Corrected images written out: what the files hold, and that they read back."""
import pickle
from dataclasses import replace
from types import SimpleNamespace

import fabio
import h5py
import numpy as np
import pytest

from mpixfel.config.resolve import resolve
from mpixfel.errors import MpixfelError
from mpixfel.io.exports import images
from mpixfel.io.geometry import read_geometry
from mpixfel.io.sources import open_source
from mpixfel.model.event import Event, EventId, Image, Reason, Record, Skip
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.modules import hitfind
from mpixfel.modules.dump import ModDump, Options
from mpixfel.stages.calibration import Calibration

PIXEL = 1e-4
ENERGY_EV = 9500.0
STAMP_NS = 1362118138_401_000_000


@pytest.fixture
def context():
    panels = (Panel("left", (0.001, -0.0004, 0.002), (-PIXEL, 0, 0), (0, PIXEL, 0), (6, 8), 10.0, max_adu=9000.0),
              Panel("right", (-0.0002, -0.0004, 0.002), (-PIXEL, 0, 0), (0, PIXEL, 0), (5, 7), 10.0, max_adu=8000.0,
                    min_fs=8))
    return Context(Detector(panels), Beam())


def event_and_record(index=0, stamp=STAMP_NS):
    ident = EventId(0, index, f"//{index}", stamp)
    photons = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8) + 100 * index
    photons[1, 5], photons[1, :, 7] = np.nan, np.nan
    photons[0, 2, 3] = np.nan
    event = Event(ident, (), ENERGY_EV, 0.1)
    return event, Record(ident, ENERGY_EV, 0.102, image=Image(photons, np.zeros(0, np.int64)))


def module_of(resume=False, **options):
    settings = SimpleNamespace(stage=lambda name: Calibration(), origins={}, resume=resume)
    return ModDump("mod_dump:hit", Options(**options), settings)


def dump(context, n=1, **options):
    module = module_of(**options)
    module.begin(context)
    for i in range(n):
        event, record = event_and_record(i, STAMP_NS + i * 10**9)
        assert module.event(event, record, context) is record
    module.finish()
    module.end({}, context)


def block_of(index):
    photons = event_and_record(index)[1].image.photons
    block = np.full((6, 15), np.nan, np.float32)
    block[:, :8], block[:5, 8:] = photons[0], photons[1, :5, :7]
    return block


def test_the_old_dictionary_is_whole_and_names_are_as_of_old(context, tmp_path):
    dump(context, out_dirname=str(tmp_path / "out"), out_basename="hit-", out_format="pickle",
         address="CxiDs1-0|Cspad-0")
    path = tmp_path / "out" / "hit-20130301060858401.pickle"
    with open(path, "rb") as f:
        found = pickle.load(f)
    np.testing.assert_array_equal(found["DATA"], block_of(0))
    assert found["ACTIVE_AREAS"].tolist() == [0, 0, 6, 8, 0, 8, 5, 15]
    # The right panel's centre is 0.55 mm from the beam, the left one's 0.61: its plane counts, from column 8.
    assert found["BEAM_CENTER_X"] == pytest.approx((8 - 2) * 0.1)
    assert found["BEAM_CENTER_Y"] == pytest.approx(0.4)
    assert found["DISTANCE"] == pytest.approx(102.0)
    assert found["WAVELENGTH"] == pytest.approx(12398.42 / ENERGY_EV, rel=1e-6)
    assert (found["PIXEL_SIZE"], found["SATURATED_VALUE"]) == (pytest.approx(0.1), 800.0)
    assert found["TIMESTAMP"] == "2013-03-01T06:08Z58.401"
    assert found["DETECTOR_ADDRESS"] == "CxiDs1-0|Cspad-0"


@pytest.mark.parametrize("name", ["h5", "cxi", "npy"])
def test_formats_with_floats_keep_every_pixel(context, tmp_path, name):
    dump(context, out_dirname=str(tmp_path), out_format=name)
    path = tmp_path / ("20130301060858401" + images.SUFFIX[name])
    if name == "npy":
        found = np.load(path)
    else:
        with h5py.File(path) as f:
            found = f["data"][:] if name == "h5" else f["entry_1/data_1/data"][0]
    np.testing.assert_array_equal(found, block_of(0))


def test_tiff_is_clipped_to_16_bits_and_cbf_marks_bad_pixels(context, tmp_path):
    for name in ("tiff", "cbf"):
        dump(context, out_dirname=str(tmp_path), out_format=name)
    tiff = fabio.open(str(tmp_path / "20130301060858401.tiff")).data
    cbf = fabio.open(str(tmp_path / "20130301060858401.cbf"))
    block = block_of(0)
    np.testing.assert_array_equal(tiff, np.nan_to_num(block).astype(np.uint16))
    np.testing.assert_array_equal(cbf.data, np.where(np.isnan(block), -1, block).astype(np.int32))
    assert "Detector_distance 0.102000 m" in cbf.header["_array_data.header_contents"]


def test_a_stack_reads_back_through_its_own_geometry_in_the_order_of_the_events(context, tmp_path):
    options = {"out_dirname": str(tmp_path), "out_basename": "r0001-", "stack": True}
    first, second = module_of(**options), module_of(**options)
    first.begin(context)
    second.begin(context)
    for module, indices in ((first, (0, 3)), (second, (2, 1))):
        for i in indices:
            module.event(*event_and_record(i, STAMP_NS + i), context)
        module.finish()
    second.end({}, context)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r0001-stack.cxi", "r0001-stack.geom"]
    geometry = read_geometry(str(tmp_path / "r0001-stack.geom"))
    with open_source((str(tmp_path / "r0001-stack.cxi"),), geometry) as source:
        assert len(source) == 4
        for i in range(4):
            event = source.event(i)
            np.testing.assert_array_equal(event.raw[0], block_of(i))
            assert event.photon_energy_ev == pytest.approx(ENERGY_EV)
            assert event.clen_m == pytest.approx(0.1)
    np.testing.assert_allclose(geometry.detector.geometry(0.1).origin, context.detector.geometry(0.1).origin, atol=1e-9)


def test_base_names_cannot_leave_the_folder():
    for name in ("../x", "a/b", ".hidden"):
        with pytest.raises(MpixfelError, match="out_dirname"):
            Options(out_basename=name)


def test_a_stack_goes_on_where_a_run_was_ended_or_killed(context, tmp_path):
    options = {"out_dirname": str(tmp_path), "stack": True}
    names = lambda: h5py.File(tmp_path / "stack.cxi")["entry_1/experiment_identifier"].asstr()[:].tolist()
    ended = module_of(**options)
    ended.begin(context)
    ended.event(*event_and_record(4, STAMP_NS), context)
    ended.finish()
    ended.end({}, context)
    killed = module_of(resume=True, **options)
    killed.begin(context)
    killed.event(*event_and_record(1, STAMP_NS), context)
    killed.totals()                                             # the checkpoint before a segment
    killed.event(*event_and_record(7, STAMP_NS), context)       # after it: lost, and done again
    killed.part.file.close()
    last = module_of(resume=True, **options)
    last.begin(context)
    last.event(*event_and_record(2, STAMP_NS), context)
    last.finish()
    last.end({}, context)
    assert names() == ["//1", "//2", "//4"]
    np.testing.assert_array_equal(h5py.File(tmp_path / "stack.cxi")["entry_1/data_1/data"][2], block_of(4))
    anew = module_of(**options)
    anew.begin(context)
    assert list(tmp_path.glob("stack.cxi*")) == []


def test_the_hit_finders_write_dict_writes_what_mod_dump_does(context, tmp_path):
    settings = resolve((), [("mpixfel", key, "x", "") for key in ("source", "geometry", "output")])
    options = hitfind.Options(dispatch="write_dict", out_dirname=str(tmp_path / "dict"), out_basename="hit-",
                              address="Cspad")
    finder = hitfind.ModHitfind("mod_hitfind:a", options, settings)
    event, record = event_and_record()
    finder._write(record, context.shot(event), replace(context, rehearsal=False))
    finder._write(record.but(skip=Skip("hitfinding", Reason.too_few_peaks)), context.shot(event), context)
    dump(context, out_dirname=str(tmp_path / "dump"), out_basename="hit-", address="Cspad")
    one, other = (sorted((tmp_path / name).iterdir()) for name in ("dict", "dump"))
    assert [p.name for p in one] == [p.name for p in other] == ["hit-20130301060858401.h5"]
    with h5py.File(one[0]) as a, h5py.File(other[0]) as b:
        assert set(a) == set(b) and all(np.array_equal(a[k][()], b[k][()], equal_nan=k == "data") for k in a)


def test_an_event_without_image_is_calibrated_first(context, tmp_path):
    module = module_of(out_dirname=str(tmp_path), out_format="npy")
    module.begin(context)
    event, record = event_and_record()
    raw = np.zeros((6, 15), np.uint16)
    raw[2, 3] = 70
    record = module.event(replace(event, raw=(raw,)), record.but(image=None), context)
    assert record.image.photons[0, 2, 3] == 7.0
    assert np.load(tmp_path / "20130301060858401.npy")[2, 3] == 7.0
