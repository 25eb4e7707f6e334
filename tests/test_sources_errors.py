"""What is wrong with input is said clearly: at opening where it can be seen, for one event where it cannot."""
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from source_files import frames, geometry, write

from mpixfel.errors import BadData, ManyErrors, MpixfelError
from mpixfel.io.sources import open_source


def refused(paths, g=None, *arguments):
    """What is said when a source is refused, one string."""
    with pytest.raises(MpixfelError) as caught:
        open_source(paths, g or geometry(), *arguments)
    return str(caught.value)


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "a.h5", data=frames())
    os.truncate(path, os.path.getsize(path) - 100)
    assert f"{path}: the HDF5 file is truncated" in refused(path)


def test_a_file_that_is_no_hdf5_or_is_missing_is_named(tmp_path):
    (tmp_path / "a.h5").write_text("hello")
    assert "a.h5: this is no HDF5 file" in refused(tmp_path / "a.h5")
    assert "b.h5: there is no such file" in refused(tmp_path / "b.h5")
    assert "no file matches" in refused(tmp_path / "c*.h5")
    assert "this is a directory" in refused(tmp_path)
    assert "no source files are named" in refused([])


def test_a_missing_dataset_is_answered_with_those_that_are_there(tmp_path):
    path = write(tmp_path / "a.h5", entry__image=frames(3, (16, 16)))
    said = refused(path)
    assert "there is no dataset /data" in said and "/entry/image (3, 16, 16)" in said and path in said


def test_a_group_in_place_of_a_dataset_is_told(tmp_path):
    assert "/data is a group, not a dataset" in refused(write(tmp_path / "a.h5", data__x=frames()))


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = h5py.ExternalLink("gone.h5", "/x")
    assert "/data is a link to /x in gone.h5, which is not there" in refused(tmp_path / "a.h5")


@pytest.mark.parametrize("array, complaint", [
    (np.array([[b"ab"]]), "holds strings, not numbers"),
    (np.zeros((3, 6, 8), [("a", "i4"), ("b", "f4")]), "holds compound rows (a, b), not numbers"),
    (np.zeros((3, 6, 8), "c8"), "not numbers"),
    (np.zeros((3, 6, 8), bool), "holds booleans"),
], ids=["strings", "compound", "complex", "booleans"])
def test_a_wrong_dtype_is_refused(tmp_path, array, complaint):
    assert complaint in refused(write(tmp_path / "a.h5", data=array))


def test_wrong_axes_are_refused_with_both_shapes(tmp_path):
    said = refused(write(tmp_path / "a.h5", data=frames()[0]))
    assert "/data has shape (6, 8), but the geometry gives it 3 axes (%, ss, fs)" in said


def test_a_panel_outside_its_block_is_refused_with_both_shapes(tmp_path):
    said = refused(write(tmp_path / "a.h5", data=frames()),
                   geometry(panels={"p0": (0, 5, 0, 7), "p1": (6, 11, 0, 8), "p2": (12, 17, 0, 8)}))
    assert "panel p1 (and 1 more) needs ss 6..11, fs 0..8, but /data has 6 x 8 pixels" in said and "(4, 6, 8)" in said


def test_a_module_outside_its_axis_is_refused(tmp_path):
    said = refused(write(tmp_path / "a.h5", data=frames(2, (3, 6, 8))), geometry(dims=("%", 3, "ss", "fs")))
    assert "has shape (2, 3, 6, 8), but dim1 = 3" in said


def test_blocks_with_different_numbers_of_events_are_refused(tmp_path):
    said = refused(write(tmp_path / "a.h5", a=frames(2), b=frames(3)), geometry(
        panels={"p0": (0, 5, 0, 7, "data = /a"), "p1": (0, 5, 0, 7, "data = /b")}))
    assert "data blocks differ in their number of events" in said


def test_missing_or_unfitting_values_of_events_are_refused_together(tmp_path):
    path = write(tmp_path / "a.h5", data=frames(), energy=np.zeros(3))
    said = refused(path, geometry(energy="/energy", clen="/z"))
    assert "/energy has shape (3,), but there are 4 events" in said and "there is no dataset /z" in said


def test_a_place_holder_that_matches_nothing_is_told(tmp_path):
    path = write(tmp_path / "a.h5", x=frames())
    assert "nothing matches /%/image" in refused(path, geometry("/%/image", ("ss", "fs")))


def test_every_missing_source_of_a_virtual_dataset_is_named(tmp_path):
    write(tmp_path / "a.h5", x=frames(1))
    write(tmp_path / "short.h5", x=frames(1, (5, 8)))
    layout = h5py.VirtualLayout((4, 6, 8), "u2")
    for n, (file, name) in enumerate((("a.h5", "x"), ("gone.h5", "x"), ("a.h5", "y"), ("short.h5", "x"))):
        layout[n] = h5py.VirtualSource(file, name, (1, 6, 8))[0]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout, fillvalue=7)
    said = refused(tmp_path / "all.h5")
    assert "x in gone.h5 (no such file)" in said and "y in a.h5 (no such dataset)" in said
    assert "x in short.h5 (its shape is (1, 5, 8), too small)" in said and "x in a.h5" not in said


def test_an_event_list_that_names_a_missing_event_or_file_is_refused_with_its_lines(tmp_path):
    write(tmp_path / "a.h5", data=frames())
    (tmp_path / "x.lst").write_text("a.h5 //1\na.h5 //4\na.h5 run1//0\na.h5 //x\n")
    said = refused(tmp_path / "x.lst")
    assert "x.lst:2" in said and "there is no event '//4' (the file has 4: //0 to //3)" in said
    assert "there is no event 'run1//0'" in said and "there is no event '//x'" in said and "x.lst:1" not in said
    (tmp_path / "y.lst").write_text("a.h5\ngone.h5 //1\n")
    assert "y.lst:2: there is no file 'gone.h5'" in refused(tmp_path / "y.lst")
    (tmp_path / "z.lst").write_text("\n")
    assert "the event list is empty" in refused(tmp_path / "z.lst")


def test_a_source_without_events_or_a_slice_that_takes_none_is_refused(tmp_path):
    assert "there are no events" in refused(write(tmp_path / "a.h5", data=frames(0)))
    path = write(tmp_path / "b.h5", data=frames())
    assert "events 9:: choose none of 4" in refused(path, geometry(), slice(9, None))


def test_an_unknown_format_is_answered_with_those_that_exist(tmp_path):
    said = refused("x", geometry(), None, "hdf6")
    assert "there is no source format 'hdf6'" in said and "nearest: hdf5" in said


def test_the_faults_of_all_files_come_in_one_go(tmp_path):
    paths = [write(tmp_path / "a.h5", data=frames()), write(tmp_path / "b.h5", x=frames()), str(tmp_path / "c.h5")]
    (tmp_path / "c.h5").write_text("nothing")
    with pytest.raises(ManyErrors) as caught:
        open_source(paths, geometry())
    assert len(caught.value.errors) == 2


@pytest.mark.parametrize("mask, complaint", [
    (np.zeros((5, 8), "u1"), "too few for panel p0"), (np.zeros((6, 8), "f4"), "not bits"),
    (np.zeros(8, "u1"), "or 2 without the events"), (None, "there is no dataset /mask")])
def test_a_mask_that_does_not_fit_is_refused(tmp_path, mask, complaint):
    datasets = {} if mask is None else {"mask": mask}
    path = write(tmp_path / "a.h5", data=frames(), **datasets)
    assert complaint in refused(path, geometry(top="mask = /mask\nmask_bad = 1"))


def test_a_missing_mask_file_or_saturation_map_is_named(tmp_path):
    path = write(tmp_path / "a.h5", data=frames())
    assert "there is no file gone.h5" in refused(path, geometry(
        top="mask = /mask\nmask_file = gone.h5\nmask_bad = 1", path=tmp_path / "x.geom"))
    assert "there is no dataset /sat" in refused(path, geometry(top="saturation_map = /sat"))


# One bad event does not end the others --------------------------------------------------------------------------


def damage(path, event, how):
    """Overwrite part of an event's compressed chunk."""
    with h5py.File(path) as file:
        info = file["data"].id.get_chunk_info_by_coord((event, 0, 0))
    with open(path, "r+b") as raw:
        raw.seek(info.byte_offset + how[0])
        raw.write(how[1])


@pytest.mark.parametrize("options", [hdf5plugin.Bitshuffle(), {"compression": "gzip"}], ids=["bitshuffle", "gzip"])
@pytest.mark.parametrize("how", [(0, b"\xff" * 12), (12, b"\xff" * 8), (4, b"\0" * 8), (20, b"\x55" * 60)],
                         ids=["header", "first length", "sizes", "payload"])
def test_a_damaged_chunk_is_bad_data_for_its_event_alone(tmp_path, options, how):
    data = frames(3, (64, 64))
    path = write(tmp_path / "a.h5", data=(data, {"chunks": (1, 64, 64), **options}))
    damage(path, 1, how)
    source = open_source(path, geometry(panels={"p0": (0, 63, 0, 63)}))
    try:
        wrong = source.event(1).raw[0]
        assert how[0] == 20 and not (wrong == data[1]).all()     # no checksum: noise that decodes is not found out
    except BadData as error:
        assert "a.h5 //1" in str(error)
    assert (source.event(0).raw[0] == data[0]).all() and (source.event(2).raw[0] == data[2]).all()


def test_an_energy_that_is_no_number_is_bad_data_for_its_event_alone(tmp_path):
    path = write(tmp_path / "a.h5", data=frames(), energy=[9000., np.nan, 0., -1.], z=[1., 1., 1., np.inf])
    source = open_source(path, geometry(energy="/energy"))
    assert source.event(0).photon_energy_ev == 9000
    for i, energy in ((1, "nan"), (2, "0.0"), (3, "-1.0")):
        with pytest.raises(BadData, match=f"a.h5 //{i}: the photon energy is {energy} eV"):
            source.event(i)
    with pytest.raises(BadData, match="clen is inf m"):
        open_source(path, geometry(clen="/z m")).event(3)


def test_a_file_that_vanishes_is_no_bad_data_but_an_error_that_names_it(tmp_path):
    paths = [write(tmp_path / f"{n}.h5", data=frames(1)) for n in "ab"]
    source = open_source(paths, geometry())
    os.remove(paths[1])
    assert source.event(0).raw
    with pytest.raises(MpixfelError, match="b.h5: the file has vanished") as caught:
        source.event(1)
    assert not isinstance(caught.value, BadData)


def test_an_event_of_another_shape_is_bad_data(tmp_path):
    data = frames(2)
    path = write(tmp_path / "a.h5", e1__image=data[0], e2__image=data[1][:3], e3__image=data[1])
    source = open_source(path, geometry("/%/image", ("ss", "fs")))
    with pytest.raises(BadData, match="has shape \\(3, 8\\), unlike the first one"):
        source.event(1)
    assert (source.event(2).raw[0] == data[1]).all()


def test_a_file_that_shrinks_is_bad_data_beyond_its_end(tmp_path):
    data = frames()
    path = write(tmp_path / "a.h5", data=data)
    source = open_source(path, geometry())
    write(path, data=data[:2])
    assert (source.event(1).raw[0] == data[1]).all()
    with pytest.raises(BadData, match="and no event \\(3,\\)"):
        source.event(3)
