"""The module that docs/modules.md shows, installed from outside, in a run of two ranks."""
import os
import pathlib
import re
import subprocess
import sys

import h5py
import numpy as np

from mpixfel.io.nxmx import StackWriter

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
GEOMETRY = """clen = 0.1
photon_energy = 9500
adu_per_photon = 10
res = 10000
data = /entry/data/data
dim0 = %
dim1 = ss
dim2 = fs
p0/min_ss = 0
p0/max_ss = 9
p0/min_fs = 0
p0/max_fs = 9
p0/corner_x = -5
p0/corner_y = -5
p0/fs = x
p0/ss = y
"""
RUN = """[mpixfel]
source = run.h5
geometry = run.geom
output = out
modules = mod_bright:mine mod_image_dict
flush_events = 4
learn_hits = 0
report = false
[mod_bright:mine]
least_adu = 64
"""


def test_the_module_in_the_docs_is_installed_and_used(tmp_path):
    page = (CHECKOUT / "docs" / "modules.md").read_text()
    (code,), (project,) = (re.findall(rf"^```{kind}\n(.*?)^```", page, re.M | re.S) for kind in ("python", "toml"))
    assert len(code.splitlines()) <= 40
    package = tmp_path / "package"
    package.mkdir()
    (package / "bright.py").write_text(code)
    (package / "pyproject.toml").write_text(project)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target",
                    str(tmp_path / "site"), str(package)], check=True, capture_output=True, timeout=200)
    (tmp_path / "run.geom").write_text(GEOMETRY)
    (tmp_path / "run.cfg").write_text(RUN)
    brightest = 1 << np.arange(12)
    with StackWriter(tmp_path / "run.h5", "run", 12, (10, 10), np.uint16) as out:
        for i, value in enumerate(brightest):
            image = np.zeros((10, 10), np.uint16)
            image[3, 3] = value
            out.frame(i, image)
        out.beam(np.full(12, 9500.0), 0.0)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(["mpirun", "-n", "2", sys.executable, "-m", "mpixfel.cli.main", "-c", "run.cfg", "-q"], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.loadtxt(tmp_path / "brightness.txt").tolist() == [0] + [1] * 12 + [0] * 4
    with h5py.File(tmp_path / "out" / "run.h5") as f:
        stopped = f["events/stopped_by"][:]
        np.testing.assert_array_equal(stopped == 1, brightest < 64)
