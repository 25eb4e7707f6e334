"""Sources: pixels of HDF5 and CXI files in the layouts and compressions that facilities write."""
import h5py
import hdf5plugin
import numpy as np
import pytest
from source_files import frames, geometry, images, write

from mpixfel.io.geometry import read_geometry
from mpixfel.io.sources import open_source


def test_a_stack_of_frames_gives_its_frames_in_order(tmp_path):
    data = frames()
    with open_source(write(tmp_path / "a.h5", data=data), geometry()) as source:
        assert len(source) == 4 and (images(source) == data).all()
        assert [source.event_id(i).name for i in range(4)] == ["//0", "//1", "//2", "//3"]
        assert [source.event_id(i).index for i in range(4)] == [0, 1, 2, 3]


def test_frames_can_be_read_in_any_order_and_buffers_are_used_again(tmp_path):
    data = frames()
    source = open_source(write(tmp_path / "a.h5", data=data), geometry())
    first = source.event(3).raw[0]
    assert (first == data[3]).all()
    second = source.event(0).raw[0]
    assert second is first or np.shares_memory(second, first)
    assert (second == data[0]).all()


def test_a_cxi_file_has_its_data_behind_a_link_and_energies_lengths_and_times_per_event(tmp_path):
    data = frames(3)
    path = write(tmp_path / "a.cxi", entry_1__instrument_1__detector_1__data=data,
                 LCLS__photon_energy_eV=np.array([9000., 9100., 9200.]), LCLS__detector_1__EncoderValue=[80., 81., 82.],
                 LCLS__machineTime=[10, 11, 12], LCLS__machineTimeNanoSeconds=[7, 8, 9], LCLS__fiducial=[3, 6, 9])
    with h5py.File(path, "a") as file:
        file["entry_1/data_1"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
    source = open_source(path, geometry("/entry_1/data_1/data", energy="/LCLS/photon_energy_eV eV",
                                        clen="/LCLS/detector_1/EncoderValue"))
    event = source.event(1)
    assert (event.raw[0] == data[1]).all()
    assert event.photon_energy_ev == 9100 and event.clen_m == pytest.approx(0.081)
    assert event.id.timestamp_ns == 11 * 10**9 + 8 and event.extra == {"fiducial": 6}


def test_modules_along_an_axis_are_blocks_of_one_read(tmp_path):
    data = frames(3, (4, 6, 8))
    panels = {f"m{k}": (0, 5, 0, 7, f"dim1 = {k}") for k in (1, 3, 2)}
    source = open_source(write(tmp_path / "a.h5", data=data),
                         geometry(dims=("%", None, "ss", "fs"), panels=panels))
    raw = source.event(2).raw
    assert [panel.block for panel in source.geometry.detector.panels] == [0, 1, 2]
    assert all((raw[n] == data[2, k]).all() for n, k in enumerate((1, 3, 2)))


def test_each_panel_may_have_its_own_dataset(tmp_path):
    a, b = frames(2), frames(2, (3, 4), "f4", 1)
    source = open_source(write(tmp_path / "a.h5", a=a, b=b), geometry(
        panels={"p0": (0, 5, 0, 7, "data = /a"), "p1": (0, 2, 0, 3, "data = /b")}))
    raw = source.event(1).raw
    assert (raw[0] == a[1]).all() and (raw[1] == b[1]).all() and raw[1].dtype == np.float32
    mask = source.static_mask()
    assert mask.shape == (2, 6, 8) and not mask[0].any() and mask[1, 3:].all() and mask[1, :, 4:].all()
    assert not mask[1, :3, :4].any()


def test_a_dataset_for_each_event_is_found_by_the_place_holder_in_natural_order(tmp_path):
    data = frames(3)
    path = write(tmp_path / "a.h5", run1__event2__image=data[0], run1__event10__image=data[1],
                 run2__event1__image=data[2], run1__other=np.zeros(3), run1__event2__energy=9001.,
                 run1__event10__energy=9002., run2__event1__energy=9003.)
    source = open_source(path, geometry("/%/%/image", ("ss", "fs"), energy="/%/%/energy"))
    assert [source.event_id(i).name for i in range(3)] == ["run1/event2//", "run1/event10//", "run2/event1//"]
    assert (images(source) == data).all()
    assert [source.event(i).photon_energy_ev for i in (2, 0, 1)] == [9003, 9001, 9002]


def test_place_holders_in_path_and_axes_go_together(tmp_path):
    a, b = frames(2), frames(3, seed=1)
    path = write(tmp_path / "a.h5", run_1__data=a, run_2__data=b, run_1__energy=[1000., 1001.],
                 run_2__energy=[2000., 2001., 2002.], all=np.arange(5.) + 1)
    source = open_source(path, geometry("/run_%/data", energy="/run_%/energy", clen="/all mm"))
    assert [source.event_id(i).name for i in range(5)] == ["1//0", "1//1", "2//0", "2//1", "2//2"]
    assert (images(source) == np.concatenate([a, b])).all()
    assert [source.event(i).photon_energy_ev for i in range(5)] == [1000, 1001, 2000, 2001, 2002]
    assert [source.event(i).clen_m for i in range(5)] == pytest.approx([.001, .002, .003, .004, .005])


def test_two_event_axes_give_names_with_two_indices(tmp_path):
    data = frames(6).reshape(2, 3, 6, 8)
    source = open_source(write(tmp_path / "a.h5", data=data, energy=np.arange(6.).reshape(2, 3) + 1),
                         geometry(dims=("%", "%", "ss", "fs"), energy="/energy"))
    assert source.event_id(4).name == "//1/1" and (source.event(4).raw[0] == data[1, 1]).all()
    assert source.event(5).photon_energy_ev == 6


def test_files_without_event_axes_hold_one_event_each(tmp_path):
    data = frames(3)
    for n in range(3):
        write(tmp_path / f"f{n}.h5", data=data[n])
    source = open_source(str(tmp_path / "f*.h5"), geometry(dims=("ss", "fs")))
    assert (images(source) == data).all()
    assert [(source.event_id(i).source, source.event_id(i).name) for i in range(3)] == [(0, "//"), (1, "//"), (2, "//")]


def test_a_virtual_dataset_reads_as_its_sources(tmp_path):
    data = frames(4)
    write(tmp_path / "a.h5", x=data[:2])
    write(tmp_path / "b.h5", x=data[2:])
    layout = h5py.VirtualLayout((4, 6, 8), "u2")
    layout[:2], layout[2:] = (h5py.VirtualSource(f"{n}.h5", "x", (2, 6, 8)) for n in "ab")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    assert (images(open_source(str(tmp_path / "all.h5"), geometry())) == data).all()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8", ">u2", ">f4"])
def test_every_numeric_dtype_is_read_in_native_order(tmp_path, dtype):
    data = frames(2).astype(dtype)
    event = open_source(write(tmp_path / "a.h5", data=data), geometry()).event(1)
    assert (event.raw[0] == data[1]).all() and event.raw[0].dtype == np.dtype(dtype).newbyteorder("=")


COMPRESSED = {
    "gzip": {"compression": "gzip"}, "shuffled gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"}, "lz4": hdf5plugin.LZ4(), "zstd": hdf5plugin.Zstd(),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="none"), "bitshuffle lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle zstd": hdf5plugin.Bitshuffle(cname="zstd"), "blocks": hdf5plugin.Bitshuffle(nelems=64, cname="lz4"),
    "blosc": hdf5plugin.Blosc(),
}


@pytest.mark.parametrize("options", COMPRESSED.values(), ids=COMPRESSED.keys())
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8", ">u2"])
def test_every_compression_gives_the_pixels_that_were_written(tmp_path, options, dtype):
    data = frames(3, (37, 41)).astype(dtype)                 # 1517 pixels: no multiple of 8
    path = write(tmp_path / "a.h5", data=(data, {"chunks": (1, 37, 41), **options}))
    assert (images(open_source(path, geometry(panels={"p0": (0, 36, 0, 40)}))) == data).all()


@pytest.mark.parametrize("chunks", [(3, 6, 8), (2, 6, 8), (1, 3, 8), (1, 4, 5), (2, 4, 8)])
def test_chunks_of_several_events_or_of_parts_give_the_pixels_that_were_written(tmp_path, chunks):
    data = frames(5)
    path = write(tmp_path / "a.h5", data=(data, {"chunks": chunks, **hdf5plugin.Bitshuffle()}))
    source = open_source(path, geometry())
    assert (images(source) == data).all() and source.events_per_chunk == chunks[0]


@pytest.mark.parametrize("chunks", [(1, 1, 6, 8), (1, 4, 6, 8), (1, 2, 6, 8), (2, 1, 6, 8)])
@pytest.mark.parametrize("modules", [(0, 1, 2, 3), (1, 2)])
def test_modules_come_from_chunks_of_every_shape(tmp_path, chunks, modules):
    data = frames(3, (4, 6, 8))
    path = write(tmp_path / "a.h5", data=(data, {"chunks": chunks, **hdf5plugin.Bitshuffle()}))
    source = open_source(path, geometry(dims=("%", None, "ss", "fs"),
                                        panels={f"m{k}": (0, 5, 0, 7, f"dim1 = {k}") for k in modules}))
    for i in range(3):
        assert all((block == data[i, k]).all() for block, k in zip(source.event(i).raw, modules))


def test_a_chunk_that_was_never_written_reads_as_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", (3, 6, 8), "u2", chunks=(1, 6, 8), fillvalue=9, **hdf5plugin.Bitshuffle())
        data[1] = 4
    source = open_source(str(tmp_path / "a.h5"), geometry())
    assert [int(source.event(i).raw[0].max()) for i in range(3)] == [9, 4, 9]


def test_nan_and_infinite_pixels_are_passed_on(tmp_path):
    data = frames(1).astype("f4")
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    raw = open_source(write(tmp_path / "a.h5", data=data), geometry()).event(0).raw[0]
    assert np.isnan(raw[0, 0]) and raw[0, 1] == np.inf and raw[0, 2] == -np.inf


def test_the_shared_sets_open_with_their_geometry(shared_data):
    for name, count in (("lyso-easy", 60), ("hex", 10)):
        folder = shared_data / name
        source = open_source(folder / f"{name}.h5", read_geometry(folder / f"{name}.geom"))
        with h5py.File(folder / f"{name}.h5") as file, h5py.File(folder / "truth.h5") as truth:
            event = source.event(5)
            assert len(source) == count and (event.raw[0] == file["entry/data/data"][5]).all()
            assert event.photon_energy_ev == pytest.approx(truth["frame/photon_energy_eV"][5], rel=1e-3)
            assert event.id.timestamp_ns == file["entry/event/timestamp_ns"][5]
            mask = file["entry/instrument/detector/pixel_mask"][()]
            assert source.static_mask().sum() == ((mask & 0xffff) != 0).sum()


def test_the_real_cspad_frames_are_read(shared_data):
    source = open_source(shared_data / "real/thermolysin_cspad.cxi",
                         read_geometry(shared_data / "real/thermolysin_cspad.geom"))
    event = source.event(1)
    assert len(source) == 2 and event.raw[0].shape == (5920, 388)
    assert event.photon_energy_ev == pytest.approx(9743.784) and event.id.timestamp_ns == 1362118138601000000
