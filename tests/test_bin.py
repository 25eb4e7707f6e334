"""The scripts in bin/: launchers of other MPIs, the environment, the sum of the test runs."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = sorted(p for folder in ("bin", "slurm", "lsf", "etc", ".ci") for p in (CHECKOUT / folder).iterdir() if p.is_file())
FOREIGN = ("OMPI", "PMI", "PMIX", "PRTE", "SLURM", "MPI_LOCAL", "LSB", "PBS", "OMP_NUM")


def call(*words, cwd=None, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return subprocess.run(words, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_scripts_are_sound_shell(path):
    assert call("bash", "-n", str(path)).returncode == 0
    if shutil.which("shellcheck"):
        checked = call("shellcheck", "-x", "-s", "bash", str(path), cwd=CHECKOUT)
        assert checked.returncode == 0, checked.stdout


needs_open_mpi = pytest.mark.skipif("openmpi" not in ((CHECKOUT / ".setup/site.sh").read_text() if
                                                      (CHECKOUT / ".setup/site.sh").exists() else ""),
                                    reason="the environment is not bin/setup's with Open MPI")
HYDRA = {"PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}


@needs_open_mpi
def test_under_another_mpi_the_first_rank_starts_the_job_anew_and_the_others_step_aside():
    probe = "simulate", "--help"
    first = call(str(CHECKOUT / "bin/mpixfel"), *probe, PMI_RANK="0", **HYDRA)
    other = call(str(CHECKOUT / "bin/mpixfel"), *probe, PMI_RANK="1", **HYDRA)
    assert first.returncode == 0 and "usage: mpixfel simulate" in first.stdout, first.stderr
    assert other.returncode == 0 and other.stdout == ""


@needs_open_mpi
@pytest.mark.parametrize("launcher", [{"PMI_SIZE": "2", "MPI_LOCALNRANKS": "1", "PMI_RANK": "0"},
                                      {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}], ids=["hosts", "srun"])
def test_ranks_that_cannot_see_each_other_are_refused_with_what_to_do(launcher):
    done = call(str(CHECKOUT / "bin/mpixfel"), "--version", **launcher)
    assert done.returncode == 2 and "cannot see each other" in done.stderr and "mpirun" in done.stderr


@needs_open_mpi
def test_the_installed_command_refuses_such_ranks_too(tmp_path):
    done = call(sys.executable, "-m", "mpixfel.cli.main", "-c", "run.cfg", cwd=tmp_path, PMI_SIZE="2", PMI_RANK="0")
    assert done.returncode == 2 and "cannot see each other" in done.stderr


def test_a_checkout_without_environment_says_what_to_run(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("env", "mpixfel"):
        shutil.copy(CHECKOUT / "bin" / name, tmp_path / "bin")
    done = call(str(tmp_path / "bin/mpixfel"), "--version")
    assert done.returncode == 2 and f"run {tmp_path}/bin/setup" in done.stderr


def variables(**given):
    out = call("bash", "-c", f". {CHECKOUT}/bin/env; env", **given).stdout
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def test_the_environment_overrides_nothing_that_is_set():
    found = variables(OMP_NUM_THREADS="4", PRTE_MCA_rmaps_default_mapping_policy="core", OMPI_MCA_mpi_yield_when_idle="")
    assert found["OMP_NUM_THREADS"] == "4" and found["PRTE_MCA_rmaps_default_mapping_policy"] == "core"
    assert found["OMPI_MCA_mpi_yield_when_idle"] == ""


@pytest.mark.parametrize("elsewhere", [{"SLURM_JOB_ID": "1"}, {"LSB_JOBID": "1"},
                                       {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}], ids=str)
def test_settings_for_one_machine_are_left_out_where_there_are_more(elsewhere):
    assert "OMPI_MCA_mpi_yield_when_idle" in variables()
    assert not {"OMPI_MCA_mpi_yield_when_idle", "OMPI_MCA_btl", "OMPI_MCA_pml"} & set(variables(**elsewhere))


@pytest.fixture
def test_script(tmp_path):
    """bin/test in a folder where `python` and `mpirun` say what a test wants: (closing line, exit code) of each run."""
    for name in ("bin", "stand-ins"):
        (tmp_path / name).mkdir()
    shutil.copy(CHECKOUT / "bin" / "test", tmp_path / "bin")
    (tmp_path / "bin" / "setup").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "env").write_text(f"PATH={tmp_path}/stand-ins:$PATH\n")
    (tmp_path / "bin" / "setup").chmod(0o755)

    def run(serial, one, two, four):
        answers = {"python": serial, "1": one, "2": two, "4": four}
        body = "".join(f'{key}) echo "{line}"; exit {code} ;;\n' for key, (line, code) in answers.items() if key != "python")
        for name, text in (("python", f'echo "{serial[0]}"; exit {serial[1]}'), ("mpirun", f'case $2 in\n{body}esac')):
            (tmp_path / "stand-ins" / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / "stand-ins" / name).chmod(0o755)
        done = call(str(tmp_path / "bin" / "test"))
        return done.stdout.splitlines()[-1], done.returncode
    return run


GOOD = ("2 passed, 1 deselected in 0.10s", 0)


def test_the_closing_line_sums_all_runs(test_script):
    serial = ("10 passed, 3 skipped, 1 xfailed in 61.10s (0:01:01)", 0)
    assert test_script(serial, GOOD, GOOD, GOOD) == ("16 passed, 0 failed, 4 skipped", 0)


def test_failures_and_errors_make_the_exit_code(test_script):
    assert test_script(("1 failed, 9 passed, 2 errors in 1.00s", 1), GOOD, GOOD, GOOD) == (
        "15 passed, 3 failed, 0 skipped", 1)


def test_a_run_that_ends_without_closing_line_has_failed(test_script):
    assert test_script(GOOD, GOOD, ("MPI_ABORT was invoked", 1), GOOD) == ("6 passed, 1 failed, 0 skipped", 1)
    assert test_script(GOOD, GOOD, GOOD, ("killed", 137)) == ("6 passed, 1 failed, 0 skipped", 1)


def test_a_run_without_tests_is_no_failure(test_script):
    nothing = ("3 deselected in 0.01s", 5)
    assert test_script(GOOD, nothing, nothing, nothing) == ("2 passed, 0 failed, 0 skipped", 0)
