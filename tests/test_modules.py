"""The smaller modules: what they write, and what they let pass."""
from dataclasses import replace
from types import SimpleNamespace

import h5py
import matplotlib.image
import numpy as np
import pytest

from mpixfel import registry
from mpixfel.errors import MpixfelError
from mpixfel.io.exports.bitmap import picture
from mpixfel.model import timestamp
from mpixfel.model.event import Event, EventId, Outcome, Reason, Record
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.stages.calibration import Calibration

PIXEL, STAMP_NS = 1e-4, 1362118138_401_000_000
# The beam goes through the middle of one panel of 40 x 40 pixels, 10 mm behind the sample.
PANEL = Panel("p0", (0.002, -0.002, 0.0), (-PIXEL, 0, 0), (0, PIXEL, 0), (40, 40), 10.0)
CONTEXT = Context(Detector((PANEL,)), Beam())


def module(name, resume=False, **options):
    cls = registry.load("modules", name)
    settings = SimpleNamespace(stage=lambda section: Calibration(), origins={}, resume=resume)
    made = cls(f"{name}:one", cls.Options(**options), settings)
    made.begin(CONTEXT)
    return made


def event(i=0, raw=None, **extra):
    raw = np.full((40, 40), 20, np.uint16) if raw is None else raw
    return Event(EventId(0, i, f"//{i}", STAMP_NS + i * 10**9), (raw,), 9500.0, 0.01, extra=extra)


def passed(m, e):
    record = m.event(e, Record(e.id, 9500.0, 0.01), CONTEXT)
    assert record.skip is None or (record.outcome, record.skip.reason) == (Outcome.filtered, Reason.filtered)
    return record.skip is None


def test_timestamps_pass_by_list_or_interval_and_the_other_way_round(tmp_path):
    listed = tmp_path / "good.txt"
    listed.write_text(f"# mine\n{timestamp.long_form(STAMP_NS)} 3\n\n{timestamp.digits(STAMP_NS + 2 * 10**9)}\n")
    went = lambda **options: [passed(module("mod_filter", **options), event(i)) for i in range(4)]
    assert went(timestamps_path=str(listed)) == [True, False, True, False]
    assert went(timestamps_path=str(listed), negate=True) == [False, True, False, True]
    second, third = (timestamp.long_form(STAMP_NS + i * 10**9) for i in (1, 2))
    assert went(timestamps_interval=(second, third)) == [False, True, True, False]
    assert went(timestamps_interval=(second, "None")) == [False, True, True, True]


def test_filters_that_cannot_work_say_what_to_do(tmp_path):
    (tmp_path / "bad.txt").write_text("yesterday\n")
    with pytest.raises(MpixfelError, match="bad.txt:1"):
        module("mod_filter", timestamps_path=str(tmp_path / "bad.txt"))
    with pytest.raises(MpixfelError, match="one of timestamps_path"):
        module("mod_filter")
    nameless = replace(event(), id=EventId(0, 0, "//0"))
    with pytest.raises(MpixfelError, match="no timestamps"):
        passed(module("mod_filter", timestamps_interval=("None", "None")), nameless)
    with pytest.raises(MpixfelError, match="pulse_id"):
        passed(module("mod_illumination_filter"), event(pulse_id=3))


def test_lasers_choose_shots():
    on, off, fresh = ({"laser_1_status": s, "laser_1_ms_since_change": t} for s, t in ((1, 5000), (0, 5000), (1, 10)))
    for wanted, going in (("light", [True, False, False]), ("dark", [False, True, False]),
                          ("other", [False, False, True])):
        m = module("mod_illumination_filter", illumination=wanted)
        assert [passed(m, event(**extra)) for extra in (on, off, fresh)] == going
    m = module("mod_image_dict", laser_1_status=True, laser_wait_time=100.0)
    assert [passed(m, event(**extra)) for extra in (on, off, fresh)] == [True, False, False]


def test_event_codes_make_lists_that_the_filter_reads(tmp_path):
    parts = []
    for first in (0, 3):
        m = module("mod_event_code", event_codes=(40, 41), alist_names=("dark.lst", "light.lst"),
                   out_dirname=str(tmp_path))
        for i in range(first, first + 3):
            assert passed(m, event(i, event_codes=np.array([90, 40 + i % 2])))
        parts.append(m.totals())
    m.end(m.merge(parts[1], parts[0]), CONTEXT)
    assert (tmp_path / "light.lst").read_text().split()[0::2] == [timestamp.long_form(STAMP_NS + i * 10**9)
                                                                  for i in (1, 3, 5)]
    again = module("mod_filter", timestamps_path=str(tmp_path / "dark.lst"))
    assert [passed(again, event(i)) for i in range(6)] == [True, False] * 3


def test_an_image_is_calibrated_once_for_all_that_want_it():
    first, second = module("mod_image_dict"), module("mod_radial_average")
    e = event()
    record = first.event(e, Record(e.id, 9500.0, 0.01), CONTEXT)
    np.testing.assert_array_equal(record.image.photons, 2.0)
    assert second.event(e, record, CONTEXT).image is record.image


def test_energy_and_beam_centre_are_those_given():
    m = module("mod_image_dict", override_energy=8000.0, override_beam_x=10.0, override_beam_y=25.0)
    e = event()
    record, shot = m.calibrated(e, Record(e.id, 9500.0, 0.01), CONTEXT)
    assert record.photon_energy_ev == shot.photon_energy_ev == 8000.0
    g = shot.geometry
    np.testing.assert_allclose((g.origin + 10 * g.fs_axis + 25 * g.ss_axis)[0], (0, 0, 0.01), atol=1e-12)
    with pytest.raises(MpixfelError, match="give both"):
        module("mod_image_dict", override_beam_x=10.0)


def test_the_radial_average_is_the_mean_of_each_ring(tmp_path):
    ss, fs = np.mgrid[:40, :40] + 0.5
    radius = np.hypot(fs - 20, ss - 20) * PIXEL
    two_theta = np.degrees(np.arctan2(radius, 0.01))
    raw = np.rint(1000 * (1 + two_theta)).astype(np.uint16)
    m = module("mod_radial_average", out_dirname=str(tmp_path), out_basename="r-", two_theta_low=3.0,
               two_theta_high=6.0)
    e = event(raw=raw)
    record = m.event(e, Record(e.id, 9500.0, 0.01), CONTEXT)
    angle, mean = np.loadtxt(tmp_path / "r-20130301060858401.txt").T
    np.testing.assert_allclose(mean, 100 * (1 + angle), rtol=1e-3)       # 10 ADU a photon
    number = (np.radians(two_theta) / 0.01).astype(int)
    for k in (3, 11):
        assert mean[k] == pytest.approx(raw[number == k].mean() / 10, rel=1e-5)
    assert [float(note.split()[0]) for note in record.notes] == pytest.approx([400, 700], rel=2e-3)


def test_groups_of_all_ranks_come_into_one_file(tmp_path):
    path = str(tmp_path / "images.h5")
    ranks = [module("mod_hdf5", path=path, address="CxiDs1-0|Cspad-0") for _ in range(2)]
    for m, i in ((ranks[0], 0), (ranks[1], 1), (ranks[0], 2)):
        assert passed(m, event(i))
        m.totals()
    for m in ranks:
        m.finish()
    ranks[0].end({}, CONTEXT)
    gone_on = module("mod_hdf5", resume=True, path=path)
    assert passed(gone_on, event(5))
    gone_on.finish()
    gone_on.end({}, CONTEXT)
    with h5py.File(path) as f:
        assert list(f) == [timestamp.digits(STAMP_NS + i * 10**9) for i in (0, 1, 2, 5)]
        np.testing.assert_array_equal(f["20130301060858401/data"], np.full((40, 40), 2.0, np.float32))
        assert f["20130301060858401/detector_address"].asstr()[()] == "CxiDs1-0|Cspad-0"
    assert [p.name for p in tmp_path.iterdir()] == ["images.h5"]


def test_pictures_show_bright_pixels_where_they_are_seen_along_the_beam(tmp_path):
    raw = np.full((40, 40), 20, np.uint16)
    raw[5, 30] = 500
    m = module("mod_dump_bitmap", out_dirname=str(tmp_path), out_basename="b-", binning=2)
    assert passed(m, event(raw=raw))
    found = matplotlib.image.imread(tmp_path / "b-20130301060858401.png")
    assert found.shape[:2] == (20, 20)
    # Row 5 is low (+y is up), column 30 is to the right of an eye that looks along the beam (x grows to the left).
    assert np.unravel_index(found[:, :, 0].argmin(), (20, 20)) == ((40 - 1 - 5) // 2, 30 // 2)


def test_brightness_is_counted_from_the_90th_percentile():
    stack = np.full((1, 40, 40), 4.0, np.float32)
    stack[0, 3, 3] = np.nan
    values = picture(stack, CONTEXT.detector.geometry(0.01), brightness=0.5)
    assert np.nanmax(values) == np.nanmin(values) == pytest.approx(0.5 / 2.5)
    assert np.isnan(values).sum() == 1


def test_the_view_shows_the_largest_of_the_last_shots(tmp_path):
    m = module("mod_view", out_dirname=str(tmp_path), n_update=3, n_collate=2)
    for i in range(3):
        raw = np.full((40, 40), 20, np.uint16)
        raw[i, i] = 500
        assert not (tmp_path / "view.png").exists()
        assert passed(m, event(i, raw))
    dark = matplotlib.image.imread(tmp_path / "view.png")[:, :, 0] < 0.5
    assert sorted(zip(*(a.tolist() for a in np.nonzero(dark)))) == [(37, 2), (38, 1)]
