"""Whole runs on images that are partly or wholly unusable: what is sound is kept, what is not says so."""
import h5py
import hdf5plugin  # noqa: F401  (the simulated images are bitshuffled)
import numpy as np
import pytest

from mpixfel.cli.main import main
from mpixfel.model.event import Outcome, Reason


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """The run file of six copies of a simulated hit, each spoilt in its own way."""
    folder = tmp_path_factory.mktemp("bad")
    assert main(["simulate", "--kind", "lysozyme", "--frames", "4", "--output", str(folder), "--seed", "5"]) == 0
    source = next(p for p in folder.glob("*.h5") if p.name != "truth.h5")
    with h5py.File(folder / "truth.h5") as truth, h5py.File(source, "r+") as f:
        hit = int(np.flatnonzero(truth["frame/n_visible"][:] > 40)[0])
        image = f["/entry/data/data"][hit].astype(np.float32)
        images = np.stack([image] * 6)
        images[1, 300:340] = np.nan
        images[2, :, ::50] = np.inf
        images[3, 10, 10], images[3, 400] = -np.inf, np.nan
        images[4] = np.nan
        images[5] = np.inf
        del f["/entry/data/data"]
        f["/entry/data/data"] = images
        energy = f["/entry/instrument/beam/incident_energy"][hit]
        del f["/entry/instrument/beam/incident_energy"]
        f["/entry/instrument/beam/incident_energy"] = np.full(6, energy)
    assert main(["-c", str(folder / "run.cfg"), "--quiet", "--output", str(folder / "out")]) == 0
    with h5py.File(folder / "out" / "run.h5") as f:
        yield f


def test_bad_pixels_do_not_keep_a_crystal_from_being_indexed(run_file):
    assert run_file["events/outcome"][:4].tolist() == [Outcome.indexed] * 4


def test_no_intensity_is_touched_by_bad_pixels(run_file):
    assert np.isfinite(run_file["reflections/intensity"][:]).all()
    assert np.isfinite(run_file["reflections/sigma"][:]).all()


def test_an_image_without_a_good_pixel_fails_and_says_why(run_file):
    assert run_file["events/outcome"][4:].tolist() == [Outcome.failed] * 2
    assert run_file["events/reason"][4:].tolist() == [Reason.bad_data] * 2
    assert "no pixel of the image is good" in run_file["events/message"].asstr()[4]
