"""Sources: which events there are, what belongs to each, and masks."""
import pickle

import numpy as np
import pytest
from source_files import frames, geometry, images, write

from mpixfel.io.geometry import parse_geometry
from mpixfel.io.sources import open_source
from mpixfel.model.experiment import Context
from mpixfel.modules.names import event_stem, long_stem

# Values of events -----------------------------------------------------------------------------------------------


def test_one_energy_in_the_file_holds_for_all_events(tmp_path):
    for energy in (np.float64(8000), np.array([8000.])):
        path = write(tmp_path / "a.h5", data=frames(), energy=energy)
        assert open_source(path, geometry(energy="/energy")).event(2).photon_energy_ev == 8000


def test_wavelengths_become_energies_and_a_shift_per_event_reaches_the_shot(tmp_path):
    path = write(tmp_path / "a.h5", data=frames(2), wavelength=[1.0, 2.0], x=[0.5, 1.5])
    g = parse_geometry("detector_shift_x = /x mm\n" + geometry().text.replace(
        "photon_energy = 9500", "wavelength = /wavelength A"))
    event = open_source(path, g).event(1)
    assert event.photon_energy_ev == pytest.approx(12398.41984 / 2)
    assert event.shift_m == pytest.approx((1.5e-3, 0))
    shot = Context(g.detector, g.beam).shot(event)
    assert shot.geometry.origin[0] == pytest.approx((1.5e-3, 0, 0.1))


# Which events ---------------------------------------------------------------------------------------------------


def test_shots_of_one_millisecond_are_counted_in_the_order_of_all_files(tmp_path):
    """Three in one millisecond, one of them in the other file; times that are unknown, and alone, count nothing."""
    early = np.array([5_000_000, 7_000_001, 7_900_000], np.int64)
    late = np.array([7_999_999, 8_000_000], np.int64)
    paths = [write(tmp_path / "a.h5", data=frames(3), entry__event__timestamp_ns=early),
             write(tmp_path / "b.h5", data=frames(2), entry__event__timestamp_ns=late)]
    source = pickle.loads(pickle.dumps(open_source(paths, geometry(), slice(2, None))))
    ids = [source.event(i).id for i in range(3)]
    assert [i.twin for i in ids] == [1, 2, 0]
    assert [event_stem(i) for i in ids] == ["19700101000000007_00001", "19700101000000007_00002", "19700101000000008"]
    assert [long_stem(i) for i in ids] == [f"1970-01-01T00:00Z00.{end}" for end in ("007_00001", "007_00002", "008_00000")]


def test_a_slice_of_all_events_keeps_their_ids(tmp_path):
    data = frames(7)
    paths = [write(tmp_path / "a.h5", data=data[:3]), write(tmp_path / "b.h5", data=data[3:])]
    source = open_source(paths, geometry(), slice(1, None, 2))
    assert [(source.event_id(i).source, source.event_id(i).index) for i in range(3)] == [(0, 1), (1, 0), (1, 2)]
    assert (images(source) == data[1::2]).all()


def test_an_event_list_names_files_and_events_relative_to_itself(tmp_path):
    (tmp_path / "sub").mkdir()
    data = frames(4)
    write(tmp_path / "sub/a b.h5", data=data)
    write(tmp_path / "sub/c.h5", data=data + 1)
    (tmp_path / "sub/x.lst").write_text("a b.h5 //2\na b.h5 //0\n\nc.h5\na b.h5 //2\n")
    source = open_source(tmp_path / "sub/x.lst", geometry())
    assert [(s.source, s.index) for s in map(source.event_id, range(len(source)))] == [
        (0, 2), (0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert (images(source) == np.concatenate([data[[2, 0]], data + 1])).all()


def test_an_event_list_names_events_by_path_parts(tmp_path):
    data = frames(2)
    write(tmp_path / "a.h5", e1__image=data[0], e2__image=data[1])
    (tmp_path / "x.lst").write_text("a.h5 e2//\n")
    assert (images(open_source(tmp_path / "x.lst", geometry("/%/image", ("ss", "fs")))) == data[1:]).all()


def test_many_files_are_read_with_few_open(tmp_path):
    data = frames(20)
    paths = [write(tmp_path / f"{n:02}.h5", data=data[n:n + 1]) for n in range(20)]
    source = open_source(paths, geometry())
    assert (images(source) == data).all() and (source.event(0).raw[0] == data[0]).all()


def test_a_source_can_be_sent_to_another_process(tmp_path):
    data = frames()
    source = open_source(write(tmp_path / "a.h5", data=data), geometry())
    source.event(0)
    again = pickle.loads(pickle.dumps(source))
    assert (images(again) == data).all() and again.event_id(2) == source.event_id(2)


# Masks ----------------------------------------------------------------------------------------------------------


def test_a_mask_for_all_events_is_in_the_static_mask(tmp_path):
    mask = np.zeros((6, 8), "u4")
    mask[1, 2], mask[3, 4] = 1, 0x10000
    for name, stored in (("a.h5", mask), ("b.h5", mask[None])):
        path = write(tmp_path / name, data=frames(), mask=stored)
        source = open_source(path, geometry(top="mask = /mask\nmask_bad = 0xffff"))
        assert np.argwhere(source.static_mask()).tolist() == [[0, 1, 2]]
        assert source.event(0).masks == ()


def test_a_mask_per_event_comes_with_its_event(tmp_path):
    masks = np.zeros((4, 6, 8), "u2")
    masks[np.arange(4), np.arange(4), 0] = 1
    path = write(tmp_path / "a.h5", data=frames(), mask=masks)
    source = open_source(path, geometry(top="mask0_data = /mask\nmask0_badbits = 1"))
    assert not source.static_mask().any()
    for i in (2, 0):
        (block, bad), = source.event(i).masks
        assert block == 0 and bad.dtype == bool and np.argwhere(bad).tolist() == [[i, 0]]


def test_masks_of_modules_follow_the_axes_of_the_data(tmp_path):
    mask = np.zeros((3, 6, 8), "u1")
    mask[2, 1, 1] = 4
    path = write(tmp_path / "a.h5", data=frames(2, (3, 6, 8)), mask=mask, each=np.stack([mask, 0 * mask]))
    panels = {f"m{k}": (0, 5, 0, 7, f"dim1 = {k}") for k in (1, 2)}
    dims = ("%", None, "ss", "fs")
    source = open_source(path, geometry(dims=dims, panels=panels, top="mask = /mask\nmask_bad = 4"))
    assert np.argwhere(source.static_mask()).tolist() == [[1, 1, 1]]
    source = open_source(path, geometry(dims=dims, panels=panels, top="mask = /each\nmask_bad = 4"))
    assert {block: np.argwhere(bad).tolist() for block, bad in source.event(0).masks} == {0: [], 1: [[1, 1]]}
    assert not any(bad.any() for _, bad in source.event(1).masks)


def test_a_mask_file_lies_beside_the_geometry_and_good_bits_must_be_set(tmp_path):
    good = np.ones((6, 8), "i2")
    good[0, 7] = 0
    write(tmp_path / "mask.h5", good=good)
    source = open_source(write(tmp_path / "a.h5", data=frames()), geometry(
        top="mask = /good\nmask_file = mask.h5\nmask_good = 1", path=tmp_path / "x.geom"))
    assert np.argwhere(source.static_mask()).tolist() == [[0, 0, 7]]


def test_a_panel_takes_its_part_of_a_mask(tmp_path):
    mask = np.zeros((6, 8), "u1")
    mask[2, 5] = mask[0, 0] = 1
    source = open_source(write(tmp_path / "a.h5", data=frames(), mask=mask), geometry(
        top="mask = /mask\nmask_bad = 1", panels={"p": (2, 4, 4, 7)}))
    assert np.argwhere(source.static_mask()).tolist() == [[0, 0, 1]]


def test_pixels_that_only_a_later_file_calls_bad_come_with_its_events(tmp_path):
    mask = np.zeros((2, 6, 8), "u1")
    mask[1, 3, 3] = 1
    paths = [write(tmp_path / f"{n}.h5", data=frames(1), mask=mask[n]) for n in range(2)]
    source = open_source(paths, geometry(top="mask = /mask\nmask_bad = 1"))
    assert not source.static_mask().any() and source.event(0).masks == ()
    (block, bad), = source.event(1).masks
    assert np.argwhere(bad).tolist() == [[3, 3]]


def test_a_saturation_map_is_read_for_its_panels(tmp_path):
    saturation = np.full((6, 8), 900.0, "f4")
    saturation[1, 1] = 100
    path = write(tmp_path / "a.h5", data=frames(), sat=saturation)
    g = geometry(panels={"p0": (0, 5, 0, 3, "saturation_map = /sat"), "p1": (0, 5, 4, 7)})
    found = open_source(path, g).saturation_adu()
    assert found[0, 1, 1] == 100 and found[0, 0, 0] == 900 and np.isinf(found[1]).all()
    assert open_source(path, geometry()).saturation_adu() is None
