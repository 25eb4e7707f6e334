"""The files of a simulated run: the same bytes again, read back by the program's readers, scored by the score."""
import hashlib
import json
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mpixfel.cli.main import main
from mpixfel.errors import MpixfelError
from mpixfel.io.cell import read_cell
from mpixfel.io.geometry import read_geometry
from mpixfel.io.sources import open_source
from mpixfel.kernels.geometry import project
from mpixfel.model import tables
from mpixfel.model.event import Outcome
from mpixfel.simulate import SimulateOptions, make_scene, simulate, simulate_frame

SMALL = {"size": 180, "pixel_um": 400.0, "frames": 3, "seed": 3, "beam_stop_px": 4.0}


def make(folder, kind="lysozyme", **given):
    simulate(SimulateOptions.of(kind, **{**SMALL, "output": str(folder), "name": "run", **given}))
    return folder


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make(tmp_path_factory.mktemp("run"), blank_fraction=0.3, frames=4)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Tiles with pedestals and a dark run."""
    return make(tmp_path_factory.mktemp("raw"), layout="tiles", adu_per_photon=20.0, pedestal_adu=900.0, blank_fraction=0.0,
                pedestal_sigma_adu=30.0, noise_adu=4.0, dark_frames=12, saturation_adu=16383, point_spread_px=0.7)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = make(tmp_path / "a", dark_frames=2, pedestal_adu=50.0), make(tmp_path / "b", dark_frames=2, pedestal_adu=50.0)
    assert digests(one) == digests(two)
    other = make(tmp_path / "c", dark_frames=2, pedestal_adu=50.0, seed=4)
    assert digests(one)["run.h5"] != digests(other)["run.h5"]


def test_a_run_that_is_there_is_left_alone_and_another_is_refused(run):
    before = {p: p.stat().st_mtime_ns for p in run.iterdir()}
    make(run, blank_fraction=0.3, frames=4)
    assert before == {p: p.stat().st_mtime_ns for p in run.iterdir()}
    with pytest.raises(MpixfelError, match="--overwrite"):
        make(run, blank_fraction=0.5)


def test_the_reader_sees_the_frames_that_were_simulated(run, raw):
    for folder, given in ((run, {"blank_fraction": 0.3, "frames": 4}), (raw, json.loads(h5py.File(raw / "truth.h5").attrs["config"]))):
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k not in ("version", "kind")}
        scene = make_scene(SimulateOptions.of("lysozyme", **{**SMALL, **given}))
        geometry = read_geometry(folder / "run.geom")
        with open_source(folder / "run.h5", geometry) as source, h5py.File(folder / "truth.h5") as truth:
            assert len(source) == len(truth["frame/is_blank"])
            for i in (0, 2):
                event, frame = source.event(i), simulate_frame(scene, i)
                assert event.photon_energy_ev == truth["frame/photon_energy_eV"][i] == frame.shot.photon_energy_ev
                assert event.clen_m == 0.06
                for p, panel in enumerate(geometry.detector.panels):
                    words = event.raw[panel.block].astype(float)
                    gain = panel.gain(event.photon_energy_ev)
                    pedestal = scene.electronics.pedestal.reshape(scene.stack_shape)[p]
                    noise = scene.electronics.noise[0] / gain
                    good = (scene.mask[p] == 0) & (words <= panel.max_adu)
                    assert good.mean() > 0.95
                    off = ((words - pedestal) / gain - frame.counted[p])[good]
                    assert np.abs(off).max() < 6 * noise + 0.6 / gain
            bad = source.static_mask()
            assert np.array_equal(bad, scene.mask != 0) and 0 < bad.sum() < 0.05 * bad.size


def test_geometry_cell_and_spectrum_are_read_back_as_asked_for(run, tmp_path):
    geometry = read_geometry(run / "run.geom")
    assert geometry.beam.bandwidth_fwhm == pytest.approx(0.001)
    panel = geometry.detector.panels[0]
    np.testing.assert_allclose(np.array(panel.origin_m) / 400e-6, [180 / 2 + 5.3, 180 / 2 - 7.6, 0.0])
    cell = read_cell(run / "run.cell")
    assert cell.parameters == pytest.approx((79.34, 79.34, 37.81, 90, 90, 90))
    assert (cell.lattice_type, cell.centring, cell.unique_axis) == ("tetragonal", "P", "c")
    flat = make(tmp_path, "pink", frames=1, blank_fraction=1.0)
    assert read_geometry(flat / "run.geom").beam.bandwidth_fwhm == pytest.approx(2.3548 * 0.03 / np.sqrt(12), rel=1e-4)


@pytest.mark.parametrize("group, lattice, centring, unique", [
    ("C2", "monoclinic", "C", "b"), ("I213", "cubic", "I", ""), ("P6122", "hexagonal", "P", "c"),
    ("P3121", "hexagonal", "P", "c"), ("R3:H", "rhombohedral", "H", ""), ("R3:R", "rhombohedral", "R", ""),
    ("P212121", "orthorhombic", "P", ""), ("P1", "triclinic", "P", "")])
def test_cells_of_all_systems_are_written_so_that_the_reader_takes_them(tmp_path, group, lattice, centring, unique):
    constants = {"C2": (63, 35, 88, 90, 98, 90), "I213": (78, 78, 78, 90, 90, 90), "P212121": (54, 58, 66, 90, 90, 90),
                 "R3:R": (60, 60, 60, 80, 80, 80), "P1": (19, 21, 25, 98, 95, 114)}.get(group, (93, 93, 130, 90, 90, 120))
    make(tmp_path, frames=1, blank_fraction=1.0, space_group=group, cell=tuple(map(float, constants)))
    cell = read_cell(tmp_path / "run.cell")
    assert (cell.lattice_type, cell.centring) == (lattice, centring)
    assert cell.unique_axis == unique or (lattice == "rhombohedral" and cell.unique_axis in ("", "c"))


def test_the_perturbed_geometry_is_off_by_what_it_says(raw):
    true, off = read_geometry(raw / "run.geom"), read_geometry(raw / "run-perturbed.geom")
    for a, b in zip(true.detector.panels, off.detector.panels, strict=True):
        np.testing.assert_allclose((np.array(b.origin_m) - a.origin_m) / 400e-6, (1.6, -1.1, 0.0), atol=1e-6)
        assert b.fs_axis_m == pytest.approx(a.fs_axis_m) and b.shape == a.shape
    assert float(re.search(r"clen = (\S+) m", off.text).group(1)) == pytest.approx(0.06 * 1.003)


def test_strong_reflections_lie_where_the_readers_geometry_projects_their_indices(raw):
    geometry = read_geometry(raw / "run.geom")
    with h5py.File(raw / "truth.h5") as truth:
        basis, energy = truth["lattice/A"][0], truth["frame/wavelength_A"][truth["lattice/frame"][0]]
        rows = {k: v[:] for k, v in truth["reflection"].items()}
    near = (rows["lattice"] == 0) & (rows["photons"] > 20) & (rows["excitation_error"] < 3e-4)
    panel, fs, ss = project(geometry.detector.geometry(0.06), rows["hkl"][near] @ basis.T, energy)
    assert near.sum() > 20
    same = panel == rows["panel"][near]
    off = np.hypot(fs - rows["fs"][near], ss - rows["ss"][near])[same]
    assert same.mean() > 0.9 and np.median(off) < 0.05


def test_the_dark_run_has_pedestals_noise_and_no_photons(raw):
    with h5py.File(raw / "run-dark.h5") as dark, h5py.File(raw / "run-calibration.h5") as true, h5py.File(raw / "run.h5") as run:
        frames = dark["/entry/data/data"][:].astype(float)
        assert frames.shape == (12, *run["/entry/data/data"].shape[1:]) and true["gain"][0] == 20.0
        good = run["/entry/instrument/detector/pixel_mask"][:] == 0
        error = (frames.mean(axis=0) - true["pedestal"][0])[good] * np.sqrt(12) / true["noise"][0]
        assert abs(error.mean()) < 0.05 and error.std() == pytest.approx(1.0, rel=0.03)
        assert np.sqrt(frames.var(axis=0, ddof=1)[good].mean()) == pytest.approx(4.0, rel=0.02)


def test_a_switching_detector_gets_a_dark_run_for_each_stage(tmp_path):
    make(tmp_path, "lysozyme-jungfrau", layout="tiles", frames=1, dark_frames=3)
    for stage, (name, code) in enumerate((("run-dark.h5", 0), ("run-dark-g1.h5", 1), ("run-dark-g2.h5", 3))):
        with h5py.File(tmp_path / name) as dark, h5py.File(tmp_path / "run-calibration.h5") as true:
            words = dark["/entry/data/data"][:]
            good = h5py.File(tmp_path / "run.h5")["/entry/instrument/detector/pixel_mask"][:] == 0
            assert np.all(words[:, good] >> 14 == code)
            off = ((words & 0x3FFF).mean(axis=0) - true["pedestal"][stage])[good]
            assert abs(off.mean()) < 0.5


def test_the_score_gives_full_marks_to_the_truth_itself(run, tmp_path, shared_data):
    with h5py.File(run / "truth.h5") as truth, h5py.File(tmp_path / "run.h5", "w") as out:
        n = len(truth["frame/is_blank"])
        outcome = np.where(truth["frame/is_blank"][:], Outcome.miss, Outcome.indexed).astype("u1")
        out["events/index"] = np.arange(n)
        out["events"].create_dataset("outcome", data=outcome, dtype=h5py.enum_dtype({o.name: int(o) for o in Outcome}, "u1"))
        lattices = np.zeros(len(truth["lattice/A"]), tables.LATTICE)
        lattices["event"], lattices["reciprocal_axes"] = truth["lattice/frame"][:], truth["lattice/A"][:].transpose(0, 2, 1)
        owner = truth["reflection/lattice"][:]
        lattices["first_reflection"] = np.searchsorted(owner, np.arange(len(lattices)))
        lattices["n_reflections"] = np.bincount(owner, minlength=len(lattices))
        for name in ("event", "reciprocal_axes", "first_reflection", "n_reflections"):
            out[f"lattices/{name}"] = lattices[name]
        sigma = truth["reflection/sigma_bound"][:].astype(float)
        sigma[~np.isfinite(sigma)] = 1e3
        noise = np.random.default_rng(0).standard_normal(len(sigma)) * sigma
        out["reflections/hkl"], out["reflections/sigma"] = truth["reflection/hkl"][:], sigma
        out["reflections/intensity"] = truth["reflection/photons"][:] + noise
    said = subprocess.run([sys.executable, str(shared_data.parent / "score" / "score"), str(tmp_path / "run.h5"),
                           str(run / "truth.h5"), "--json"], capture_output=True, text=True, check=True)
    table = json.loads(said.stdout)
    assert table["hit recall"] == table["lattice recall"] == 1.0 and table["true lattices"] >= 1
    assert table["false lattices"] == table["false hits"] == 0
    assert table["misorientation median (deg)"] < 1e-5 and table["z spread"] == pytest.approx(1.0, abs=0.15)
    assert table["efficiency weak"] == pytest.approx(1.0, abs=0.25)


def test_images_are_of_the_same_kind_as_the_shared_ones(shared_data):
    # Not equal, but alike: visible spots, photons of a lattice, background, and how far reflections are excited.
    scene = make_scene(SimulateOptions.of("lysozyme", blank_fraction=0.0))
    frames = [simulate_frame(scene, i) for i in range(3)]
    with h5py.File(shared_data / "lyso-easy" / "truth.h5") as truth:
        like = {k: np.median(truth[k][:]) for k in ("lattice/n_visible", "lattice/bragg_photons")}
        photons, excitation, bound = (truth[f"reflection/{k}"][:] for k in ("photons", "excitation_error", "sigma_bound"))
    mine = {k: np.median([f.lattices[0][k.split("/")[1]] for f in frames]) for k in like}
    rows = {k: np.concatenate([f.reflections[0][k] for f in frames]) for k in ("photons", "excitation_error", "sigma_bound")}
    for name, value in like.items():
        assert 0.6 * value < mine[name] < 1.7 * value
    seen, visible = photons > 6 * bound, rows["photons"] > 6 * rows["sigma_bound"]
    for percent in (50, 90):
        want = np.percentile(excitation[seen], percent)
        assert 0.5 * want < np.percentile(rows["excitation_error"][visible], percent) < 2.0 * want
    assert 0.7 < np.median(rows["sigma_bound"][visible]) / np.median(bound[seen]) < 1.4


def test_the_command_writes_a_run_and_explains_itself(tmp_path, capsys):
    small = ["--size", "64", "--pixel-um", "900", "--frames", "2"]
    assert main(["simulate", "--kind", "insulin", "--output", str(tmp_path / "a"), "--cell", "70", "70", "70", "90", "90",
                 "90", *small]) == 0
    assert "2 frames of insulin" in capsys.readouterr().out
    assert read_cell(tmp_path / "a" / "insulin.cell").a == 70.0
    assert (tmp_path / "a" / "run.cfg").read_text().split() == [
        "[mpixfel]", "source", "=", "insulin.h5", "geometry", "=", "insulin.geom", "cell", "=", "insulin.cell", "output", "=",
        "out"]
    assert main(["simulate", "--kind", "insulin", "--output", str(tmp_path / "a"), "--seed", "5", *small]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["simulate", "--blank-fraction", "2", "--output", str(tmp_path / "b")]) == 2
    assert main(["simulate", "--quiet", "--overwrite", "--output", str(tmp_path / "a"), *small]) == 0
    assert capsys.readouterr().out == ""
