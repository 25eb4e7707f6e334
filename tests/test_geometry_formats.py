"""Geometries from NXmx data files and from DIALS experiment lists."""
import json
import math

import h5py
import numpy as np
import pytest
from source_files import frames

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry import parse_geometry, read_geometry
from mpixfel.io.sources import open_source


def axis(group, name, value, vector, depends_on, kind="translation", units="mm", offset=None):
    group[name] = [float(value)]
    group[name].attrs.update(vector=np.array(vector, float), depends_on=depends_on, transformation_type=kind,
                             units=units)
    if offset is not None:
        group[name].attrs.update(offset=np.array(offset, float), offset_units="mm")


def write_nxmx(path, data, modules, wavelength=((1.0, 1.1), "angstrom"), spread=None, mask=None):
    """An NXmx file whose detector stands 100 mm away, turned by 90 degrees about z, on an arm 10 mm to +y.

    `modules`: (data_origin, data_size, offset of its first pixel in mm, angle in degrees about the detector's y).
    """
    with h5py.File(path, "w") as file:
        def group(name, nx_class):
            node = file.require_group(name)
            node.attrs["NX_class"] = nx_class
            return node
        group("entry", "NXentry")
        group("entry/data", "NXdata").attrs["signal"] = "data"
        file["entry/data/data"] = data
        beam = group("entry/instrument/beam", "NXbeam")
        group("entry/instrument", "NXinstrument")
        beam["incident_wavelength"], beam["incident_wavelength"].attrs["units"] = wavelength
        if spread:
            beam["incident_wavelength_spread"], unit = spread
            beam["incident_wavelength_spread"].attrs["units"] = unit
        detector = group("entry/instrument/detector", "NXdetector")
        detector["sensor_thickness"], detector["sensor_material"] = 320.0, "Si"
        detector["sensor_thickness"].attrs["units"] = "um"
        detector["saturation_value"] = 5000
        if mask is not None:
            detector["pixel_mask"] = mask
        axes = group("entry/instrument/detector/transformations", "NXtransformations")
        axis(axes, "z", 100, (0, 0, 1), ".")
        axis(axes, "arm", 1, (0, 10, 0), "z")
        axis(axes, "turn", 90, (0, 0, 1), "arm", "rotation", "deg")
        base = "/entry/instrument/detector/transformations/turn"
        for n, (origin, size, offset, angle) in enumerate(modules):
            module = group(f"entry/instrument/detector/module{n}", "NXdetector_module")
            module["data_origin"], module["data_size"] = np.array(origin), np.array(size)
            axis(axes, f"tilt{n}", angle, (0, 1, 0), base, "rotation", "deg")
            where = f"/entry/instrument/detector/module{n}/module_offset"
            axis(module, "module_offset", 0, (1, 0, 0), base.replace("turn", f"tilt{n}"), offset=offset)
            axis(module, "fast_pixel_direction", 0.1, (1, 0, 0), where)
            axis(module, "slow_pixel_direction", 0.2, (0, -1, 0), where)
    return path


MODULES = (((0, 0, 0), (1, 6, 8), (1, 2, 0), 0), ((1, 0, 0), (1, 6, 8), (3, 0, 0), 30))


def test_modules_stand_where_their_chains_of_axes_put_them(tmp_path):
    geometry = read_geometry(write_nxmx(tmp_path / "a.h5", frames(2, (2, 6, 8)), MODULES))
    g = geometry.detector.geometry(geometry.layout.clen.value())
    # Module 0 at (1, 2) mm in the detector; a turn by 90 degrees takes (x, y) to (-y, x); the arm adds 10 mm in y.
    assert g.origin[0] == pytest.approx([-2e-3, 11e-3, 0.1])
    assert g.fs_axis[0] == pytest.approx([0, 1e-4, 0]) and g.ss_axis[0] == pytest.approx([2e-4, 0, 0])
    # Module 1: 30 degrees about the detector's y take (3, 0, 0) to (3 cos 30, 0, -3 sin 30) mm, then it turns as well.
    c, s = math.cos(math.radians(30)), 0.5
    assert g.origin[1] == pytest.approx([0, 10e-3 + 3e-3 * c, 0.1 - 3e-3 * s])
    assert g.fs_axis[1] == pytest.approx([0, 1e-4 * c, -1e-4 * s]) and g.ss_axis[1] == pytest.approx([2e-4, 0, 0])
    panel = geometry.detector.panels[1]
    assert panel.shape == (6, 8) and panel.flag_more_than == 5000 and geometry.detector.sensor_material == "Si"
    assert geometry.detector.sensor_thickness_m == pytest.approx(320e-6)


def test_an_nxmx_file_is_read_with_its_own_geometry(tmp_path):
    data = frames(2, (2, 6, 8))
    mask = np.zeros((2, 6, 8), "u4")
    mask[1, 2, 3], mask[0, 0, 0] = 2, 1 << 31
    path = write_nxmx(tmp_path / "a.h5", data, MODULES, mask=mask)
    source = open_source(path, read_geometry(path))
    event = source.event(1)
    assert [(event.raw[k] == data[1, k]).all() for k in (0, 1)] == [True, True]
    assert event.photon_energy_ev == pytest.approx(12398.41984 / 1.1)
    assert np.argwhere(source.static_mask()).tolist() == [[1, 2, 3]]


def test_the_order_of_modules_stands_for_an_index_that_is_not_given(tmp_path):
    modules = [(origin[1:], size[1:], offset, angle) for origin, size, offset, angle in MODULES]
    layout = read_geometry(write_nxmx(tmp_path / "a.h5", frames(2, (2, 6, 8)), modules)).layout
    assert [block.dims for block in layout.blocks] == [("%", 0, "ss", "fs"), ("%", 1, "ss", "fs")]


def test_modules_of_one_large_array_lie_at_their_origins(tmp_path):
    modules = (((0, 0), (6, 8), (0, 0, 0), 0), ((6, 4), (6, 8), (0, 0, 0), 0))
    detector = read_geometry(write_nxmx(tmp_path / "a.h5", frames(2, (12, 12)), modules)).detector
    assert [(p.block, p.min_ss, p.min_fs) for p in detector.panels] == [(0, 0, 0), (0, 6, 4)]


@pytest.mark.parametrize("wavelength, spread, energy, bandwidth", [
    ((1.0, "angstrom"), (0.01, "angstrom"), 12398.41984, 0.01), ((1e-10, "m"), (0.02, ""), 12398.41984, 0.02),
    ((0.2, "nm"), None, 6199.20992, 0)])
def test_wavelengths_and_spreads_have_units(tmp_path, wavelength, spread, energy, bandwidth):
    path = write_nxmx(tmp_path / "a.h5", frames(2, (2, 6, 8)), MODULES, wavelength, spread)
    geometry = read_geometry(path)
    assert geometry.beam.bandwidth_fwhm == pytest.approx(bandwidth)
    assert open_source(path, geometry).event(0).photon_energy_ev == pytest.approx(energy)


def test_the_text_of_such_a_geometry_reads_back_to_it(tmp_path):
    mask = np.zeros((2, 6, 8), "u4")
    geometry = read_geometry(write_nxmx(tmp_path / "a.h5", frames(2, (2, 6, 8)), MODULES, mask=mask))
    again = parse_geometry(geometry.text)
    assert again.layout.blocks == geometry.layout.blocks and again.layout.panels == geometry.layout.panels
    for a, b in zip(again.detector.geometry(0.1), geometry.detector.geometry(0.1)):
        assert a == pytest.approx(b, abs=1e-15)


def test_what_an_nxmx_file_lacks_is_named(tmp_path):
    path = write_nxmx(tmp_path / "a.h5", frames(2, (2, 6, 8)), MODULES)
    detector = "entry/instrument/detector"
    for name, complaint in ((f"{detector}/transformations/arm", "turn depends on arm, which is not there"),
                            (f"{detector}/module1/fast_pixel_direction", f"there is no /{detector}/module1"),
                            ("entry/instrument/beam", "neither incident_wavelength nor incident_energy"),
                            ("entry/data", "there are no images"), ("entry/instrument", "there is no NXinstrument")):
        write_nxmx(path, frames(2, (2, 6, 8)), MODULES)
        with h5py.File(path, "a") as file:
            del file[name]
        with pytest.raises(MpixfelError, match=complaint):
            read_geometry(path)
    write_nxmx(path, frames(2, (2, 6, 8)), MODULES)
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/transformations/z"].attrs["depends_on"] = "turn"
    with pytest.raises(MpixfelError, match="depend on each other"):
        read_geometry(path)


def test_the_shared_sets_say_the_same_in_nxmx_and_in_crystfels_form(shared_data):
    for name in ("lyso-easy", "hex", "small"):
        told, read = (read_geometry(shared_data / name / f"{name}{suffix}") for suffix in (".geom", ".h5"))
        a, b = (g.detector.geometry(g.layout.clen.value()) for g in (told, read))
        # The .geom rounds the pixels per metre to ten digits.
        assert np.abs(a.origin - b.origin).max() < 1e-11 and (a.shape == b.shape).all()
        assert np.abs(a.fs_axis - b.fs_axis).max() < 1e-14 and np.abs(a.ss_axis - b.ss_axis).max() < 1e-14


# DIALS ----------------------------------------------------------------------------------------------------------


def experiments(direction=(0, 0, 1), images=()):
    panel = {"fast_axis": [1, 0, 0], "slow_axis": [0, -1, 0], "origin": [1, 2, 0], "image_size": [8, 6],
             "pixel_size": [0.1, 0.2], "trusted_range": [-1, 5000], "raw_image_offset": [0, 0], "thickness": 0.32,
             "material": "Si", "gain": 2.0, "name": "a"}
    group = {"name": "arm", "fast_axis": [0, 1, 0], "slow_axis": [-1, 0, 0], "origin": [0, 10, 0],
             "children": [{"panel": 0}]}
    return {"__id__": "ExperimentList", "experiment": [{"beam": 0, "detector": 0, "imageset": 0}],
            "beam": [{"direction": list(direction), "wavelength": 1.25}],
            "imageset": [{"__id__": "ImageSet", "images": list(images)}],
            "detector": [{"panels": [panel, dict(panel, name="b", origin=[3, 0, -100], raw_image_offset=[8, 0])],
                          "hierarchy": {"name": "root", "fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0],
                                        "origin": [0, 0, -100], "children": [group]}}]}


def read_expt(tmp_path, content):
    (tmp_path / "x.expt").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_geometry(tmp_path / "x.expt")


def test_panels_of_an_experiment_list_are_turned_into_our_frame(tmp_path):
    geometry = read_expt(tmp_path, experiments())
    g = geometry.detector.geometry(geometry.layout.clen.value())
    # In DIALS's frame panel a stands at (0, 10, -100) + the arm's turn by 90 degrees about z of (1, 2, 0), that is
    # (-2, 11, -100) mm, its fast axis along y, its slow axis (0, -1, 0) turned to (1, 0, 0). Ours: x and z change sign.
    assert g.origin[0] == pytest.approx([2e-3, 11e-3, 0.1])
    assert g.fs_axis[0] == pytest.approx([0, 1e-4, 0]) and g.ss_axis[0] == pytest.approx([-2e-4, 0, 0])
    # Panel b is in no group: its own frame is the laboratory's.
    assert g.origin[1] == pytest.approx([-3e-3, 0, 0.1])
    assert g.fs_axis[1] == pytest.approx([-1e-4, 0, 0]) and g.ss_axis[1] == pytest.approx([0, -2e-4, 0])
    a, b = geometry.detector.panels
    assert (a.name, a.shape, a.adu_per_photon, a.flag_less_than, a.flag_more_than) == ("a", (6, 8), 2, -1, 5000)
    assert (b.block, b.min_fs, b.min_ss) == (0, 8, 0)
    assert geometry.layout.photon_energy.value() == pytest.approx(12398.41984 / 1.25)


def test_a_beam_off_the_axis_is_turned_onto_it_with_the_detector(tmp_path):
    geometry = read_expt(tmp_path, experiments((math.sin(0.01), 0, math.cos(0.01))))
    straight = read_expt(tmp_path, experiments())
    a, b = (g.detector.geometry(g.layout.clen.value()) for g in (geometry, straight))
    # DIALS's beam runs along -(sin, 0, cos), ours along (sin, 0, cos): the angle of a panel's corner to it must stay.
    beam = np.array([math.sin(0.01), 0, math.cos(0.01)])
    for turned, still in zip(a.origin, b.origin):
        assert turned[2] == pytest.approx(still @ beam)
        assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(still))


def test_the_nxmx_file_that_a_list_names_says_where_pixels_are(tmp_path):
    data = frames(2, (2, 6, 8))
    path = write_nxmx(tmp_path / "a.h5", data, MODULES)
    geometry = read_expt(tmp_path, experiments(images=["a.h5"]))
    event = open_source(path, geometry).event(0)
    assert (event.raw[1] == data[0, 1]).all() and event.photon_energy_ev == pytest.approx(12398.41984)


@pytest.mark.parametrize("content", ["no json", "[]", "{}", {"experiment": [{"beam": 0}], "beam": []}])
def test_a_file_that_is_no_experiment_list_is_refused(tmp_path, content):
    with pytest.raises(MpixfelError, match="no DIALS experiment list"):
        read_expt(tmp_path, content)
