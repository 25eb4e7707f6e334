"""CrystFEL geometries: read, write, refuse."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.io.geometry import BadRegion, geometry_mask, parse_geometry, read_geometry, write_geometry
from mpixfel.model.experiment import Beam, Detector, Panel

ONE_PANEL = """
photon_energy = 9500 eV
clen = 0.1 m
res = 10000
adu_per_photon = 2
p0/min_fs = 10
p0/max_fs = 29
p0/min_ss = 5
p0/max_ss = 14
p0/corner_x = -3
p0/corner_y = 4.5
p0/fs = x
p0/ss = y
"""


def refused(text):
    """What is said of a text that is refused, one string."""
    with pytest.raises(MpixfelError) as caught:
        parse_geometry(text, "x.geom")
    return str(caught.value)


def test_a_panel_has_the_place_size_and_response_that_the_text_gives():
    panel = parse_geometry(ONE_PANEL + "p0/coffset = 0.01\np0/max_adu = 5000\np0/flag_equal = -7").detector.panels[0]
    assert panel.shape == (10, 20) and (panel.min_ss, panel.min_fs) == (5, 10)
    assert panel.origin_m == pytest.approx((-3e-4, 4.5e-4, 0.01))
    assert panel.fs_axis_m == pytest.approx((1e-4, 0, 0)) and panel.ss_axis_m == pytest.approx((0, 1e-4, 0))
    assert panel.gain(9500) == 2 and panel.max_adu == 5000 and panel.flag_equal == -7


def test_pixels_of_the_cspad_lie_where_hand_computation_puts_them(shared_data):
    geometry = read_geometry(shared_data / "real/thermolysin_cspad.geom")
    g = geometry.detector.geometry(0.130107)
    assert len(geometry.detector.panels) == 64
    # q0a0: corner (447.4926, -30.4062), fs (-0.003632, 0.9999934), ss (-0.9999934, -0.003632), 9097.525473/m.
    # The point fs 100.5, ss 20.5: x = 447.4926 - 0.365016 - 20.4998647 = 426.6277193 px; y = -30.4062 + 100.4993367
    # - 0.074456 = 70.0186807 px.
    x = g.origin[0] + 100.5 * g.fs_axis[0] + 20.5 * g.ss_axis[0]
    assert x == pytest.approx([426.6277193 / 9097.525473, 70.0186807 / 9097.525473, 0.130107], rel=1e-8)
    # q0a2's first pixel: corner (232.9073, -31.5901), fs (0.0023346, 0.9999973), ss (-0.9999973, 0.0023346).
    x = g.origin[2] + 0.5 * g.fs_axis[2] + 0.5 * g.ss_axis[2]
    assert x[:2] * 9097.525473 == pytest.approx([232.9073 + 0.5 * (0.0023346 - 0.9999973),
                                                 -31.5901 + 0.5 * (0.9999973 + 0.0023346)], rel=1e-8)
    assert (geometry.detector.panels[2].min_ss, geometry.detector.panels[2].min_fs) == (185, 0)


def test_a_direction_may_leave_out_ones_signs_and_axes():
    text = ONE_PANEL.replace("p0/fs = x", "p0/fs = -y").replace("p0/ss = y", "p0/ss = +.5x - 1.5e0y+z")
    panel = parse_geometry(text).detector.panels[0]
    assert panel.fs_axis_m == pytest.approx((0, -1e-4, 0)) and panel.ss_axis_m == pytest.approx((.5e-4, -1.5e-4, 1e-4))


def test_a_default_holds_for_panels_first_mentioned_after_it():
    second = ONE_PANEL.split("adu_per_photon = 2")[1].replace("p0/", "p1/")
    geometry = parse_geometry(ONE_PANEL + "adu_per_photon = 7\np0/flag_morethan = 9\n" + second)
    assert [p.adu_per_photon for p in geometry.detector.panels] == [2, 7]
    assert [p.flag_more_than for p in geometry.detector.panels] == [9, math.inf]


def test_a_default_after_the_last_panel_is_refused():
    assert "x.geom:14: coffset comes after the last panel" in refused(ONE_PANEL + "coffset = 0.1\n")


@pytest.mark.parametrize("statement, energy_ev", [
    ("photon_energy = 9500", 9500), ("photon_energy = 9.5 keV", 9500), ("wavelength = 1.25 A", 12398.419843 / 1.25),
    ("wavelength = 1.25e-10 m", 12398.419843 / 1.25), ("wavelength = 1.25e-10", 12398.419843 / 1.25)])
def test_energies_and_wavelengths_are_read_in_every_unit(statement, energy_ev):
    layout = parse_geometry(ONE_PANEL.replace("photon_energy = 9500 eV", statement)).layout
    assert layout.photon_energy.value() == pytest.approx(energy_ev, rel=1e-9)


@pytest.mark.parametrize("statement, number, metres", [
    ("clen = 0.1", None, 0.1), ("clen = 95.3 mm", None, 0.0953), ("clen = /LCLS/z", 80.0, 0.08),
    ("clen = /LCLS/z m", 0.08, 0.08), ("clen = LCLS/z mm", 80.0, 0.08)])
def test_a_literal_camera_length_is_in_m_and_one_from_a_path_in_mm_unless_they_say_otherwise(statement, number, metres):
    clen = parse_geometry(ONE_PANEL.replace("clen = 0.1 m", statement)).layout.clen
    assert clen.value(number) == pytest.approx(metres) and clen.path == ("" if number is None else "/LCLS/z")


def test_a_shift_of_the_detector_moves_every_panel():
    moved = parse_geometry("detector_shift_x = 1 mm\ndetector_shift_y = -0.002\n" + ONE_PANEL).detector.panels[0]
    assert moved.origin_m == pytest.approx((-3e-4 + 1e-3, 4.5e-4 - 2e-3, 0))


def test_the_bandwidth_is_a_sigma_and_the_beam_holds_the_full_width():
    assert parse_geometry("bandwidth = 0.001\n" + ONE_PANEL).beam.bandwidth_fwhm == pytest.approx(0.0023548, rel=1e-4)
    assert parse_geometry(ONE_PANEL).beam.bandwidth_fwhm == 0


def test_panels_share_a_block_where_path_and_axes_agree():
    second = ONE_PANEL.split("adu_per_photon = 2")[1].replace("p0/", "p1/")
    text = "data = /a/b\ndim0 = %\ndim2 = ss\ndim3 = fs\n" + ONE_PANEL + "p0/dim1 = 3\np1/dim1 = 3\n" + second
    assert [b.dims for b in parse_geometry(text).layout.blocks] == [("%", 3, "ss", "fs")]
    layout = parse_geometry(text.replace("p1/dim1 = 3", "p1/dim1 = 4")).layout
    assert [b.dims for b in layout.blocks] == [("%", 3, "ss", "fs"), ("%", 4, "ss", "fs")]
    assert all(b.path == "/a/b" for b in layout.blocks)


def test_masks_have_numbers_bits_and_old_names():
    text = ONE_PANEL + ("p0/mask = /m\np0/mask_good = 0x1\np0/mask_bad = 010\n"
                        "p0/mask3_data = n\np0/mask3_file = b.h5\np0/mask3_badbits = 255\n")
    panel = parse_geometry(text).layout.panels[0]
    assert panel.mask_numbers == (0, 3)
    assert [(m.path, m.file, m.good, m.bad) for m in panel.masks] == [("/m", "", 1, 8), ("/n", "b.h5", 0, 255)]


def test_bits_decide_alike_in_masks_of_every_width():
    from mpixfel.io.geometry import MaskRule
    values = [0, 1, 2, 3, 4, 127]
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
        array = np.array(values, dtype)
        assert list(MaskRule("/m", good=1, bad=6).is_bad(array)) == [True, False, True, True, True, True]
        assert list(MaskRule("/m", bad=0xffff).is_bad(array)) == [False] + 5 * [True]
    assert MaskRule("/m", good=0x100).is_bad(np.array([255, 1], "u1")).all()
    assert list(MaskRule("/m", bad=0x80).is_bad(np.array([-128, -1, 1], "i1"))) == [True, True, False]


def test_bad_regions_edges_and_ignored_panels_are_masked():
    second = ONE_PANEL.split("adu_per_photon = 2")[1].replace("p0/", "p1/")
    third = second.replace("p1/", "p2/").replace("max_ss = 14", "max_ss = 12")
    text = ONE_PANEL + second + third + (
        "p0/mask_edge_pixels = 2\np1/no_index = 1\n"
        "bad_a/panel = p2\nbad_a/min_fs = 10\nbad_a/max_fs = 11\nbad_a/min_ss = 6\nbad_a/max_ss = 6\n"
        "bad_b/min_x = 10\nbad_b/max_x = 11\nbad_b/min_y = 7.9\nbad_b/max_y = 9.1\n")
    mask = geometry_mask(parse_geometry(text))
    assert mask.shape == (3, 10, 20)
    expected = np.zeros((10, 20), bool)
    expected[:2] = expected[-2:] = expected[:, :2] = expected[:, -2:] = True
    expected[4, 13] = True                    # x = -3 + 13.5, y = 4.5 + 4.5
    expected[3, 13] = True                    # y = 4.5 + 3.5
    assert (mask[0] == expected).all()
    assert mask[1].all()
    expected = np.zeros((10, 20), bool)
    expected[8:] = True                       # p2 has eight rows
    expected[1, :2] = True
    expected[3:5, 13] = True
    assert (mask[2] == expected).all()


def test_a_bad_region_without_a_panel_holds_for_all():
    text = ONE_PANEL + "bad/min_fs = 10\nbad/max_fs = 12\nbad/min_ss = 5\nbad/max_ss = 5\n"
    assert np.argwhere(geometry_mask(parse_geometry(text))).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]


def test_old_files_may_give_each_panel_the_same_camera_length():
    text = ONE_PANEL.replace("clen = 0.1 m", "")
    assert parse_geometry(text + "p0/clen = 50 mm").layout.clen.value() == pytest.approx(0.05)
    assert "camera lengths differ" in refused(text + "p0/clen = 50 mm\np0/clen = 51 mm")


@pytest.mark.parametrize("statement, complaint", [
    ("flag_lesthan = 3", "x.geom:14: unknown directive 'flag_lesthan' (nearest known: flag_lessthan)"),
    ("p0/corner_z = 3", "x.geom:14: unknown directive 'corner_z' (nearest known: corner_"),
    ("just words", "x.geom:14: 'just words' is not a statement"),
    ("p0/fs = 3", "x.geom:14: fs: '3' is not a direction"),
    ("p0/fs = 1x 2y", "a sign is missing"),
    ("p0/fs = 0x", "no length"),
    ("p0/fs = y", "fs and ss are parallel"),
    ("p0/min_fs = 1.5", "x.geom:14: min_fs: '1.5' is not an integer"),
    ("p0/max_fs = 3", "min_fs 10 is beyond max_fs 3"),
    ("p0/res = -1", "'-1' is not a positive number"),
    ("p0/adu_per_eV = 1", "both adu_per_photon and adu_per_eV"),
    ("p0/dim0 = %", "ss and fs once each"),
    ("p0/dim1 = fs", "dim0 is missing"),
    ("p0/dim0 = x", "none of ss, fs, %"),
    ("p0/mask_bad = wrong", "not an integer such as 0xffff"),
    ("p0/mask_bad = 1", "mask0_data is missing"),
    ("p0/no_index = maybe", "neither true nor false"),
    ("wavelength = 1 A", "photon_energy and wavelength are both given"),
    ("electron_voltage = 200 kV", "electron diffraction is not supported"),
    ("clen = 3 km", "unknown unit 'km'; known are m, mm"),
    ("photon_energy = -3", "photon_energy must be positive"),
    ("bandwidth = 3", "not a fraction"),
    ("group/a = 1", "a panel must not be called 'group'"),
    ("group_all = p0,p7", "neither a panel nor a group 'p7'"),
    ("bad1/min_x = 1", "lacks max_x, max_y, min_y"),
    ("bad1/min_x = 1\nbad1/min_fs = 1", "mixes laboratory and panel coordinates"),
    ("bad1/panel = q\nbad1/min_fs = 1\nbad1/max_fs = 2\nbad1/min_ss = 1\nbad1/max_ss = 2",
     "no panel 'q' (nearest: p0)"),
    ("bad1/min_x = 2\nbad1/max_x = 1\nbad1/min_y = 1\nbad1/max_y = 2", "ends before it begins"),
])
def test_what_is_wrong_is_named_with_its_line(statement, complaint):
    assert complaint in refused(ONE_PANEL + statement + "\n")


def test_everything_that_is_wrong_is_said_in_one_go():
    with pytest.raises(ManyErrors) as caught:
        parse_geometry(ONE_PANEL.replace("res = 10000\n", "").replace("clen = 0.1 m", "")
                       + "p0/corner_z = 1\nzzz = 2\n")
    assert [part for part in ("corner_z", "'zzz'", "res is missing for panel p0", "clen is missing")
            if not any(part in str(e) for e in caught.value.errors)] == []


def test_an_empty_or_missing_file_is_refused(tmp_path):
    assert "no panel" in refused("; nothing\n")
    with pytest.raises(MpixfelError, match="cannot read the geometry"):
        read_geometry(tmp_path / "none.geom")


def test_statements_of_older_versions_are_passed_over(caplog):
    parse_geometry("rigid_group_q0 = p0\nrigid_group_collection_a = q0\nbadrow_direction = -\n" + ONE_PANEL)
    assert "badrow_direction has no effect" in caplog.text


sizes = st.floats(-1.0, 1.0, allow_subnormal=False)
directions = st.tuples(st.floats(-math.pi, math.pi), st.floats(-0.3, 0.3), st.floats(0.5, 2.0), st.floats(1.0, 2.0))


@st.composite
def detectors(draw):
    panels = []
    for n in range(draw(st.integers(1, 4))):
        angle, tilt, scale, skew = draw(directions)
        pixel = 1e-4 * scale
        per_photon = draw(st.booleans())
        panels.append(Panel(
            f"p{n}a", tuple(draw(st.tuples(sizes, sizes, sizes))),
            (pixel * math.cos(angle), pixel * math.sin(angle), pixel * tilt),
            (-pixel * skew * math.sin(angle), pixel * skew * math.cos(angle), 0.0),
            (draw(st.integers(1, 2000)), draw(st.integers(1, 2000))),
            draw(st.floats(1e-3, 1e3)) if per_photon else None, None if per_photon else draw(st.floats(1e-6, 1.0)),
            draw(st.sampled_from([math.inf, 14000.0])), draw(st.integers(0, n)) if n else 0,
            draw(st.integers(0, 4000)), draw(st.integers(0, 4000)),
            draw(st.sampled_from([-math.inf, -50.5])), draw(st.sampled_from([math.inf, 1e6])),
            draw(st.sampled_from([-1.0, 65535.0]))))
    used = list(dict.fromkeys(p.block for p in panels))     # blocks are numbered as they come
    from dataclasses import replace
    return Detector(tuple(replace(p, block=used.index(p.block)) for p in panels))


@given(detectors(), st.floats(0.01, 10), st.floats(1000, 50000), st.floats(0, 0.1))
def test_what_is_written_reads_back_to_the_same_panels(detector, clen_m, photon_energy_ev, bandwidth_fwhm):
    read = parse_geometry(write_geometry(detector, Beam(bandwidth_fwhm), clen_m, photon_energy_ev))
    assert read.layout.clen.value() == clen_m and read.layout.photon_energy.value() == photon_energy_ev
    assert read.beam.bandwidth_fwhm == pytest.approx(bandwidth_fwhm, rel=1e-12, abs=1e-300)
    assert read.detector.names == detector.names
    for written, got in zip(detector.panels, read.detector.panels):
        exact = ("shape", "min_ss", "min_fs", "block", "adu_per_photon", "adu_per_ev", "max_adu",
                 "flag_less_than", "flag_more_than", "flag_equal")
        assert [getattr(got, name) for name in exact] == [getattr(written, name) for name in exact]
        for name in ("origin_m", "fs_axis_m", "ss_axis_m"):
            assert getattr(got, name) == pytest.approx(getattr(written, name), rel=1e-13, abs=1e-18)


def test_a_layout_survives_being_written_and_read():
    text = """wavelength = /beam/wavelength A
clen = /det/z mm
detector_shift_x = /det/x m
bandwidth = 0.01
peak_list = /entry_1/result_1
peak_list_type = cxi
group_all = p0,p1
data = /a/%/data
dim0 = %
dim2 = ss
dim3 = fs
mask = /a/%/mask
mask_bad = 0xffff
mask1_data = /bad
mask1_file = bad.h5
mask1_goodbits = 0x1
saturation_map = /sat
saturation_map_file = sat.h5
mask_edge_pixels = 1
""" + "\n".join(f"p{n}/{line}" for n in (0, 1) for line in (
        f"dim1 = {n}", "min_fs = 0", "max_fs = 3", "min_ss = 0", "max_ss = 2", "corner_x = 1", "corner_y = 2",
        "res = 1e4", "fs = x", "ss = -y", "adu_per_eV = 0.1")) + """
p1/no_index = true
badx/min_x = -1.5
badx/max_x = 2
badx/min_y = -1
badx/max_y = 2
bady/panel = p0
bady/min_fs = 1
bady/max_fs = 2
bady/min_ss = 1
bady/max_ss = 2
"""
    first = parse_geometry(text, "x.geom")
    again = parse_geometry(write_geometry(first.detector, first.beam, None, None, first.layout), "x.geom")
    assert again.layout == first.layout
    assert again.layout.regions[0] == BadRegion("badx", (-1.5, -1.0), (2.0, 2.0), "", True)
    assert (geometry_mask(again) == geometry_mask(first)).all()
    assert again.detector.panels[0].origin_m == pytest.approx(first.detector.panels[0].origin_m)
