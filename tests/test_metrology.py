"""The optical metrology of the CSPAD: as the old program placed panels, as measured, and against a refined geometry."""
import json
import os
import subprocess

import h5py
import numpy as np
import pytest

from mpixfel.config.resolve import resolve
from mpixfel.errors import MpixfelError
from mpixfel.io import metrology as m
from mpixfel.io.geometry import read_geometry
from mpixfel.model.event import Event, EventId, Image, Record
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.modules.dump import ModDump, Options


@pytest.fixture
def calib_dir(shared_data):
    return str(shared_data / "real" / "calib_run4" / "CxiDs1.0_Cspad.0")


def cspad():
    panels = [Panel(name, (0, 0, 0.001), (1e-4, 0, 0), (0, 1e-4, 0), (185, 194), 25.0) for name in m.names()]
    return Detector(tuple(panels))


def drawn(seed=0):
    """A metrology with tilts: 16 sections long along the rows in the upper half, 16 along the columns in the lower
    one."""
    rng = np.random.default_rng(seed)
    grid = lambda rows, columns: np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(2, 8, 2)
    centre = np.concatenate([grid(np.arange(2) * 420 + 230, np.arange(8) * 210 + 130),
                             grid(np.arange(4) * 205 + 970, np.arange(4) * 420 + 240)]) + rng.uniform(-3, 3, (4, 8, 2))
    quarter = 2 * rng.integers(0, 2, (4, 8)) + np.array([0, 0, 1, 1])[:, None]
    return m.Metrology(centre, 90.0 * quarter + rng.normal(0, 0.3, (4, 8)), np.zeros((64, 2)), np.zeros(64))


OLD_PROGRAM = """
import json, sys
from xfel.cxi.cspad_ana.parse_calib import calib2sections
quadrants = calib2sections(sys.argv[1])
print(json.dumps({"areas": [a for q in quadrants for s in q for a in s.corners_asic()],
                  "corners": [s.corners(False) for q in quadrants for s in q]}))
"""


def test_active_areas_are_those_that_the_old_program_had(calib_dir):
    areas = m.active_areas(m.read_metrology(calib_dir))
    assert areas[:4].tolist() == [[715, 439, 909, 624], [518, 439, 712, 624], [716, 652, 910, 837],
                                  [519, 652, 713, 837]]
    assert (areas.min(), areas.max()) == (16, 1750)


def test_sections_lie_where_cctbx_puts_them(calib_dir):
    if not os.path.exists("/usr/lib/python3/dist-packages/xfel/cxi/cspad_ana/parse_calib.py"):
        pytest.skip("no cctbx here (apt-get install dials)")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(["/usr/bin/python3", "-c", OLD_PROGRAM, calib_dir], capture_output=True, text=True,
                          env={**clean, "PATH": "/usr/bin:/bin"}, check=True)
    old, ours = json.loads(done.stdout.splitlines()[-1]), m.read_metrology(calib_dir)
    np.testing.assert_array_equal(m.active_areas(ours), old["areas"])
    np.testing.assert_allclose(ours.centre.reshape(32, 2), np.mean(old["corners"], axis=1), atol=1e-9)
    # The edge from the first to the last corner is the long side.
    edge = np.array(old["corners"])[:, 3] - np.array(old["corners"])[:, 0]
    np.testing.assert_allclose((np.degrees(np.arctan2(edge[:, 1], edge[:, 0])) - ours.angle.ravel()) % 360 % 359.999999,
                               0, atol=1e-5)


def test_the_old_image_shows_every_pixel_where_the_panels_in_right_angles_have_it():
    metrology = drawn()
    stack = np.arange(64 * 185 * 194, dtype=np.int32).reshape(64, 185, 194) + 1
    image = m.old_image(stack, metrology)
    assert image.shape == (1765, 1765) and np.count_nonzero(image) == stack.size
    geometry = m.placed(cspad(), metrology, measured=False).geometry(0.1)
    rng = np.random.default_rng(5)
    for k in range(0, 64, 3):
        ss, fs = int(rng.integers(185)), int(rng.integers(194))
        x, y, _ = (geometry.origin[k] + (fs + 0.5) * geometry.fs_axis[k] + (ss + 0.5) * geometry.ss_axis[k]) / 1e-4
        assert image[int(np.floor(882.5 - y)), int(np.floor(882.5 - x))] == stack[k, ss, fs]


def test_mod_dump_writes_the_image_of_old_with_its_active_areas(tmp_path):
    """Each ASIC, by its active area and its name, holds its own value, whichever panel of the geometry it is."""
    m.write_calib_dir(drawn(), tmp_path / "calib")
    shuffled = tuple(np.random.default_rng(1).permutation(np.array(cspad().panels, object)))
    detector = m.placed(Detector(shuffled), m.read_metrology(str(tmp_path / "calib")))
    settings = resolve((), [("mpixfel", key, value, "") for key, value in
                            {"source": "x", "geometry": "x", "output": "x", "calib_dir": str(tmp_path / "calib")}.items()])
    module = ModDump("mod_dump:old", Options(out_dirname=str(tmp_path / "out"), assembled=True), settings)
    context = Context(detector, Beam())
    module.begin(context)
    value = {name: k + 1.0 for k, name in enumerate(m.names())}
    photons = np.empty((64, 185, 194), np.float32)
    photons[:] = np.array([value[p.name] for p in detector.panels])[:, None, None]
    event = Event(EventId(0, 0, "//0", 0), (), 9500.0, 0.1)
    module.event(event, Record(event.id, 9500.0, 0.1, image=Image(photons, np.zeros(0, np.int64))), context)
    with h5py.File(tmp_path / "out" / "19700101000000000.h5") as f:
        image, areas = f["data"][:], f["active_areas"][:].reshape(64, 4)
        assert f["beam_center_x"][()] == pytest.approx(882.5 * 0.1)
    assert image.shape == (1765, 1765) and np.isfinite(image).sum() == 64 * 185 * 194
    for name, (r0, c0, r1, c1) in zip(m.names(), areas):
        assert (image[r0:r1, c0:c1] == value[name]).all()
    with pytest.raises(MpixfelError, match="stack or assembled"):
        Options(assembled=True, stack=True)


def test_panels_as_measured_are_within_a_pixel_of_those_in_right_angles():
    metrology = drawn(1)
    exact, right = (m.placed(cspad(), metrology, measured).geometry(0.0) for measured in (True, False))
    corner = lambda g: g.origin + 194 * g.fs_axis + 185 * g.ss_axis
    middle = lambda g: 0.5 * (g.origin + corner(g))
    assert 0.1e-4 < np.abs(middle(exact) - middle(right)).max() < 1.5e-4
    np.testing.assert_allclose(exact.origin[:, 2], 0.001)
    np.testing.assert_allclose(np.linalg.norm(np.cross(exact.fs_axis, exact.ss_axis), axis=1), 1e-8)


def test_what_is_written_places_the_panels_as_they_were(tmp_path):
    detector = m.placed(cspad(), drawn(2))
    m.write_calib_dir(m.metrology_of(detector), tmp_path / "CxiDs1.0_Cspad.0")
    again = m.placed(cspad(), m.read_metrology(str(tmp_path)))
    np.testing.assert_allclose(again.geometry(0.0).origin, detector.geometry(0.0).origin, atol=1e-8)
    np.testing.assert_allclose(again.geometry(0.0).fs_axis, detector.geometry(0.0).fs_axis, atol=1e-10)


def test_corrections_of_phil_move_quadrants_and_asics():
    metrology = drawn(3)
    tiles = np.zeros((64, 2))
    tiles[5] = 0, 2
    turns = np.zeros(64)
    turns[7] = 90.0
    new = m.moved(metrology, (1, 2, 3, 4, 5, 6, 7, 8), tiles.ravel(), turns=turns)
    low, right = metrology.centre[0, 2] >= 882.5
    expected = np.array([(1, 2), (3, 4), (5, 6), (7, 8)][2 * low + right], float)
    np.testing.assert_array_equal(new.asic_shift[4], expected)
    np.testing.assert_array_equal(new.asic_shift[5], expected + (0, 2))
    old, moved = (m.placed(cspad(), x).geometry(0.0) for x in (metrology, new))
    np.testing.assert_allclose((moved.origin - old.origin)[4], (-expected[1] * 1e-4, -expected[0] * 1e-4, 0),
                               atol=1e-12)
    np.testing.assert_allclose(moved.fs_axis[7], -old.ss_axis[7], atol=1e-12)
    np.testing.assert_array_equal(m.active_areas(new)[5] - m.active_areas(metrology)[5], np.tile(expected + (0, 2), 2))
    with pytest.raises(MpixfelError, match="a CSPAD needs 8"):
        m.moved(metrology, (1, 2))


def test_a_geometry_file_of_slac_says_the_same(tmp_path):
    metrology = drawn(4)
    lines = ["# parent, object, place in um, angles in degrees"]
    for q in range(4):
        # Quadrants turned and moved: sections are given in the quadrant's frame.
        turn, place = np.radians(90.0 * q), np.array((2000.0 * q, -3000.0))
        back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for s in range(8):
            row, column = (metrology.centre[q, s] - 882.5) * m.PIXEL_M * 1e6
            x, y = back @ (np.array((column, -row)) - place)
            angle = metrology.angle[q, s] - 90.0 - 90.0 * q          # of the long side, counted from x
            lines.append(f"QUAD:V1 {q} SENS2X1:V1 {s} {x:.4f} {y:.4f} 0 {90 * round(angle / 90)} 0 0 "
                         f"{angle - 90 * round(angle / 90):.6f} 0 0")
        lines.append(f"CSPAD:V2 0 QUAD:V1 {q} {place[0]} {place[1]} 0 {90 * q} 0 0 0 0 0")
    lines.append("IP 0 CSPAD:V2 0 0 0 -500000 0 0 0 0 0 0")
    (tmp_path / "0-end.data").write_text("\n".join(lines))
    found = m.read_metrology(str(tmp_path / "0-end.data"))
    np.testing.assert_allclose(found.centre, metrology.centre, atol=1e-5)
    np.testing.assert_allclose(np.exp(1j * np.radians(found.angle)), np.exp(1j * np.radians(metrology.angle)),
                               atol=1e-7)


def test_a_refined_geometry_differs_by_the_quadrants_motion_and_the_metrologys_error(calib_dir, shared_data):
    """Quadrants ride on motors: between the metrology and the run they were moved by up to 6 pixels and turned by up to
    0.2 degrees. Within a quadrant the angles of the sections agree to a few hundredths of a degree where they are taken
    as measured, not where they are rounded; centres to half a pixel: the metrology's own error."""
    detector = read_geometry(str(shared_data / "real" / "thermolysin_cspad.geom")).detector
    metrology = m.read_metrology(calib_dir)
    order = [detector.names.index(name) for name in m.names()]
    spread = {}
    for measured in (True, False):
        ours, theirs = (d.geometry(0.0) for d in (m.placed(detector, metrology, measured), detector))
        middles = [(g.origin + 97 * g.fs_axis + 92.5 * g.ss_axis)[order, :2].reshape(4, 16, 2) / m.PIXEL_M
                   for g in (ours, theirs)]
        axes = [(g.fs_axis[order, 0] + 1j * g.fs_axis[order, 1]).reshape(4, 16) for g in (ours, theirs)]
        turn = np.angle(axes[1] / axes[0])
        motion = middles[1].mean(axis=1) - middles[0].mean(axis=1)
        assert np.abs(motion).max() < 7.0 and np.degrees(np.abs(turn.mean(axis=1))).max() < 0.25
        rest = []
        for a, b in zip(*middles):
            a, b = a - a.mean(0), b - b.mean(0)
            u, _, vt = np.linalg.svd(a.T @ b)
            rest.append(a @ u @ vt - b)
        spread[measured] = np.degrees(turn.std(axis=1)).max(), np.sqrt((np.array(rest) ** 2).sum(-1).mean())
    assert spread[True][0] < 0.05 < 0.15 < spread[False][0]
    assert spread[True][1] < 0.75 < spread[False][1]


def test_what_is_no_metrology_of_a_cspad_is_refused(tmp_path):
    with pytest.raises(MpixfelError, match="no such directory"):
        m.read_metrology(str(tmp_path / "none"))
    with pytest.raises(MpixfelError, match="0 detectors"):
        m.read_metrology(str(tmp_path))
    (tmp_path / "center").mkdir()
    with pytest.raises(MpixfelError, match="there is no center/"):
        m.read_metrology(str(tmp_path))
    (tmp_path / "center" / "0-end.data").write_text("1 2 3")
    with pytest.raises(MpixfelError, match="must hold 96"):
        m.read_metrology(str(tmp_path))
    with pytest.raises(MpixfelError, match="take calib_dir away"):
        m.placed(Detector(cspad().panels[:3]), drawn())
