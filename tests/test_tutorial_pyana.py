"""docs/tutorial-pyana.md can be followed, and its run gives what the old one gave, with the numbers of the run file."""
import os
import pathlib
import re
import subprocess

import h5py
import numpy as np
import pytest
from run_contents import assert_same
from test_docs import pattern

from mpixfel.cli.main import main
from mpixfel.io.exports.blocks import block_of
from mpixfel.io.results import Results
from mpixfel.report.camera import camera_of, position_of

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "tutorial-pyana.md"


def bash(command, folder):
    environment = {**os.environ, "PATH": f"{CHECKOUT}/lsf:{CHECKOUT}/slurm:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f". {CHECKOUT}/bin/env; {command}"], cwd=folder, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder in which each file of the page was written and each command run, in order."""
    folder = tmp_path_factory.mktemp("tutorial")
    for kind, text in re.findall(r"^```(ini|phil|console)\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        if kind != "console":
            (folder / re.match(r"# (\S+)\n", text)[1]).write_text(text)
            continue
        for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", text, flags=re.M)[1:]):
            told, at = bash(command, folder).splitlines(), 0
            for line in (s for s in shown if s.strip() not in ("", "...")):
                hit = next((k for k in range(at, len(told)) if re.match(pattern(line), told[k].rstrip())), None)
                assert hit is not None, f"{command} does not print {line!r}:\n" + "\n".join(told)
                at = hit + 1
    return folder


def run_file(path):
    with h5py.File(path) as f:
        return {key: f[key][:]
                for key in ("events/timestamp", "events/outcome", "events/first_lattice", "events/n_lattices",
                                          "lattices/first_reflection", "lattices/n_reflections",
                            "lattices/reciprocal_axes",
                                          "reflections/hkl", "reflections/intensity", "reflections/sigma")}


def stems(folder, prefix):
    return sorted(p.name.removeprefix(prefix) for p in folder.iterdir() if p.name.startswith(prefix))


def test_there_is_an_image_of_each_hit_and_image_and_integration_file_of_each_indexed_one(followed):
    run = run_file(followed / "results" / "r0003" / "run.h5")
    hits, indexed = (run["events/outcome"] == 1) | (run["events/outcome"] == 2), run["events/outcome"] == 2
    assert indexed.sum() >= 3
    stamp = lambda ns: np.datetime64(int(ns), "ns").astype("datetime64[ms]").astype(str)
    digits = lambda ns: re.sub(r"\D", "", stamp(ns))
    out = followed / "results" / "out"
    assert stems(out, "hit-") == [digits(t) + ".h5" for t in run["events/timestamp"][hits]]
    assert stems(out, "idx-") == [digits(t) + ".h5" for t in run["events/timestamp"][indexed]]
    long = lambda ns: stamp(ns)[:16] + "Z" + stamp(ns)[17:] + "_00000.h5"
    assert stems(followed / "results" / "integration", "int-") == [long(t) for t in run["events/timestamp"][indexed]]


def test_integration_files_hold_the_numbers_of_the_run_file(followed):
    compare(followed / "results" / "r0003" / "run.h5", followed / "results" / "integration")


def compare(run_path, folder):
    run = run_file(run_path)
    rows = np.flatnonzero(run["events/outcome"] == 2)
    files = sorted(folder.iterdir())
    assert len(files) == len(rows)
    for row, path in zip(rows, files):
        first, n = run["events/first_lattice"][row], run["events/n_lattices"][row]
        with h5py.File(path) as f:
            np.testing.assert_array_equal(f["lattices/reciprocal_axes"][:],
                                          run["lattices/reciprocal_axes"][first:first + n])
            begin = run["lattices/first_reflection"][first]
            end = begin + run["lattices/n_reflections"][first:first + n].sum()
            for name in ("hkl", "intensity", "sigma"):
                np.testing.assert_array_equal(f["reflections"][name][:], run[f"reflections/{name}"][begin:end])


def test_images_are_the_raw_ones_less_dark_and_common_mode_in_photons(followed):
    """Away from signal, what is left is the read-out noise of 5 ADU, a fifth of a photon, about 0 to a few photons."""
    path = sorted((followed / "results" / "out").glob("hit-*"))[0]
    with h5py.File(path) as f:
        image = f["data"][:]
        assert f["detector_address"].asstr()[()] == "CxiDs1-0|Cspad-0"
        assert f["distance"][()] == pytest.approx(110.0, abs=0.5)
    assert image.shape == (1480, 1552)
    assert -0.2 < np.nanmedian(image) < 5 and np.isnan(image).mean() < 0.01


def test_pictures_show_the_images_that_were_dumped_wherever_one_stands(followed):
    """With the darks that the modules' sections name; paths are relative to where the run was started."""
    results = Results(followed / "results" / "r0003")
    row = int(np.flatnonzero(results.events["outcome"] > 0)[0])
    with results.open_source() as source:
        image, _ = camera_of(results, source)(position_of(results, source, row))
        shown = block_of(image.photons, results.geometry.detector)
    with h5py.File(sorted((followed / "results" / "out").glob("hit-*"))[0]) as f:
        np.testing.assert_array_equal(shown, f["data"][:])


def test_four_ranks_find_the_same(followed):
    text = (followed / "run.cfg").read_text().replace("results/", "results4/")
    (followed / "run4.cfg").write_text(text)
    bash("mpirun -n 4 mpixfel -q -c run4.cfg --set mpixfel.report=false", followed)
    compare(followed / "results4" / "r0003" / "run.h5", followed / "results4" / "integration")
    assert_same(*(followed / folder / "r0003" / "run.h5" for folder in ("results", "results4")))
    names = [[p.name for p in sorted((followed / folder / "integration").iterdir())]
             for folder in ("results", "results4")]
    assert names[0] == names[1]


@pytest.mark.parametrize("change, words", [
    (("distl_flags     = permissive", "distl_flags = permissive restrictive"), "exclude each other"),
    (("threshold       = 450", "threshold = 450\nroi = 1:2,3:4"), "roi and distl_min_peaks"),
    (("threshold       = 450", "thresold = 450"), "did you mean threshold"),
    (("darks/Ds1-r0002-avg.h5", "darks/none.h5"), "none.h5"),
    (("darks/Ds1-r0002-avg.h5", "other.npy"), "does not fit the geometry")])
def test_slips_are_refused_with_one_message_that_says_what_to_do(followed, capfd, change, words):
    np.save(followed / "other.npy", np.zeros((100, 100)))
    (followed / "slip.cfg").write_text((followed / "run.cfg").read_text().replace(*change).replace("results/", "none/"))
    assert main(["-q", "-c", str(followed / "slip.cfg")]) == 2
    told = "".join(capfd.readouterr())
    errors = [line for line in told.splitlines() if "error" in line]
    assert len(errors) == 1 and words in errors[0] and errors[0].rstrip().endswith(")")
