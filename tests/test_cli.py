"""The command: what it prints, what it returns, and that no rank is left waiting."""
import math
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mpixfel import __version__
from mpixfel.cli import main as command
from mpixfel.cli.main import given_flags, main, run_parser

GEOMETRY = """photon_energy = 12398.419843320026 eV
clen = 0.1 m
adu_per_photon = 1
res = 1000
data = /data
dim0 = %
dim1 = ss
dim2 = fs
p/min_fs = 0
p/max_fs = 9
p/min_ss = 0
p/max_ss = 7
p/corner_x = -4
p/corner_y = -2
p/fs = x
p/ss = y
"""


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Three blank events of 8 x 10 pixels of 1 mm at 100 mm, wavelength 1 A; the working directory holds them."""
    with h5py.File(tmp_path / "run.h5", "w") as f:
        f["data"] = np.zeros((3, 8, 10), np.int32)
    (tmp_path / "d.geom").write_text(GEOMETRY)
    (tmp_path / "run.cfg").write_text("[mpixfel]\nsource = run.h5\ngeometry = d.geom\noutput = out\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_is_readable_at_80_columns_and_names_the_subcommands(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for word in ("--config", "--set", "--dry-run", "--event", "--resume", "--overwrite", "simulate", "exit codes"):
        assert word in text
    assert main([]) == 0 and capsys.readouterr().out == text


def test_help_loads_neither_compiler_nor_mpi():
    code = ("import sys; from mpixfel.cli.main import main; main(['--help']); "
            "print([m for m in ('numba', 'mpi4py.MPI', 'h5py', 'numpy') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_form_of_the_log_has_a_flag():
    rows = given_flags(run_parser().parse(["--log-format", "json"]))
    assert rows == [("mpixfel", "log_format", "json", "--log-format")]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mpixfel {__version__}\n"


@pytest.mark.parametrize("argv, words", [
    (["--sourc", "x"], ("--sourc", "did you mean --source?")), (["simulat"], ("simulat", "did you mean simulate?")),
    (["--events"], ("--events", "expected one argument", "--help")), 
    (["--event", "x"], ("--event", "invalid int", "--help")),
    (["-q", "-v"], ("not allowed with", "--help")), (["--set", "a=1"], ("a=1", "SECTION.KEY=VALUE")),
    (["--resume", "--overwrite"], ("exclude each other", "one of them")), 
    (["-c", "no.cfg"], ("no.cfg", "check the path")),
    (["--source", "a", "--geometry", "b", "--output", "c", "--set", "mpixfel.sed=1"],
     ("sed", "--set mpixfel.sed=1", "seed")),
    (["bench", "nothing"], ("nothing", "bench"))])
def test_what_makes_no_sense_is_one_line_and_exit_code_2(argv, words, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("mpixfel: error: ")
    assert all(word in err for word in words), err


def test_a_configuration_named_without_its_flag_is_understood(inputs, capsys):
    assert main(["run.cfg"]) == 2
    assert "mpixfel -c run.cfg" in capsys.readouterr().err


def test_a_dry_run_tells_configuration_events_and_detector(inputs, capsys):
    argv = ["-c", "run.cfg", "--events", "1:3", "--set", "indexing.max_lattices=2", "--dry-run"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert f"source = {inputs}/run.h5" in out.replace("./", f"{inputs}/") or "source = run.h5" in out
    rows = {line.split(" = ")[0]: line.partition("#")[2].strip() for line in out.splitlines() if " = " in line}
    assert rows["geometry"] == "run.cfg:3" and rows["events"] == "command line --events" and rows["seed"] == "default"
    assert rows["max_lattices"] == "command line --set indexing.max_lattices=2"
    assert "2 to process, in 1 file" in out
    edge, corner = (1 / (2 * math.sin(math.atan(r / 100) / 2)) for r in (2.0, math.hypot(6, 6)))
    for words in ("1 of 10 x 8 pixels", "1000.00 um", "100.000 mm", "fs 4.00, ss 2.00", "1.00000 A",
                  f"{edge:.2f} A at the edge, {corner:.2f} A at the corner"):
        assert words in out, words
    assert not (inputs / "out").exists()


def test_a_beam_beside_the_detector_is_said(inputs, capsys):
    (inputs / "d.geom").write_text(GEOMETRY.replace("corner_x = -4", "corner_x = 3"))
    assert main(["-c", "run.cfg", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "fs -3.00, ss 2.00 of panel p, 3.0 pixels beside it" in out and "beside the detector" in out


def test_quiet_suppresses_the_notes(inputs, capsys):
    (inputs / "run.cfg").write_text((inputs / "run.cfg").read_text() + "num-cpu = 7\n")
    assert main(["-c", "run.cfg", "--dry-run"]) == 0 and "num-cpu" in capsys.readouterr().err
    assert main(["-c", "run.cfg", "--dry-run", "-q"]) == 0 and capsys.readouterr().err == ""


def test_a_password_is_not_kept_with_the_results():
    text = "[mod_hitfind]\ndb_user = me\n  db_password = s3cret # mine\n"
    assert command.without_secrets(text) == "[mod_hitfind]\ndb_user = me\n  db_password = withheld\n"


def test_a_file_name_with_blanks_is_one_source(inputs, capsys):
    os.rename("run.h5", "my run.h5")
    assert main(["--source", "my run.h5", "--geometry", "d.geom", "--output", "out", "--dry-run"]) == 0
    assert "3 to process, in 1 file" in capsys.readouterr().out


def test_a_defect_is_told_with_rank_and_host_and_ends_in_1(inputs, capsys, monkeypatch):
    monkeypatch.setattr(command, "run_command", lambda argv, comm: 1 / 0)
    assert main(["-c", "run.cfg"]) == 1
    err = capsys.readouterr().err
    assert f"defect on rank 0 on {os.uname().nodename}" in err and "ZeroDivisionError" in err


def test_output_into_a_pipe_that_closes_is_no_defect(inputs):
    command = f"'{sys.executable}' -m mpixfel.cli.main -c run.cfg --dry-run | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "[mpixfel]\n" and "Traceback" not in done.stderr


@pytest.mark.mpi
def test_every_rank_gets_the_error_and_one_prints_it(capfd, tmp_path):
    from mpi4py import MPI
    assert main(["-c", str(tmp_path / "no.cfg")]) == 2
    assert ("no.cfg" in capfd.readouterr().err) == (MPI.COMM_WORLD.rank == 0)


def test_two_ranks_tell_an_error_once_and_end(tmp_path):
    mpirun = os.path.join(os.path.dirname(sys.executable), "mpirun")
    if not os.path.exists(mpirun):
        pytest.skip("no mpirun beside this Python")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX_", "PRTE_"))}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    done = subprocess.run([mpirun, "-n", "2", sys.executable, "-m", "mpixfel.cli.main", "-c", str(tmp_path / "no.cfg")],
                          capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2 and done.stderr.count("mpixfel: error:") == 1
