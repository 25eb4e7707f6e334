"""slurm/slurm.sh and the jobs it submits, on a real SLURM of this machine."""
import pathlib
import re

import pytest
from slurm_cluster import Cluster, can_run

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not can_run(), reason="no SLURM here (as root: apt-get install slurm-wlm munge)")

# A launcher in the place of mpirun: it works until it is signalled, then ends as a run does that was asked to end
# early. Started again it finds its work done.
LAUNCHER = """#!/bin/bash
echo "start $*"
[ ! -e done ] || exit 0
trap 'echo "asked to end"; touch done; exit 3' USR1
for i in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def submitted(cluster, folder, *options, config=None, **environment):
    """Submit run 3 of a configuration with slurm.sh, to be launched by the stand-in; job number and trial folder."""
    launcher = folder / "launcher"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    if config is None:
        config = folder / "run.cfg"
        config.write_text("[mpixfel]\nsource = x.h5\ngeometry = x.geom\n")
    environment = {"MPIXFEL_LAUNCH": str(launcher), "MPIXFEL_SUBMIT": f"--chdir={folder}", **environment}
    out = cluster.call(str(CHECKOUT / "slurm" / "slurm.sh"), "-c", str(config), "-r", "3", "-o", str(folder / "out"),
                       *options, **environment)
    return int(re.search(r"batch job (\d+)", out)[1]), pathlib.Path(re.search(r"trial (\S+)", out)[1])


@pytest.fixture(scope="module", autouse=True)
def warned(cluster, tmp_path_factory):
    """A job whose time limit comes near while the other tests run: SLURM looks every half minute, and warns at its first."""
    # Warned a whole time limit ahead, the job has minutes to end, however busy the machine is.
    return submitted(cluster, tmp_path_factory.mktemp("warned"), "-p", "2", MPIXFEL_MINUTES="4", MPIXFEL_WARN_MINUTES="4")


def test_a_run_is_processed_by_the_ranks_of_its_job(cluster, tmp_path):
    mpixfel = str(CHECKOUT / "bin" / "mpixfel")
    cluster.call(mpixfel, "simulate", "--output", str(tmp_path / "sim"), "--frames", "4", "--size", "256", "-q")
    number, trial = submitted(cluster, tmp_path, "-p", "2", config=tmp_path / "sim" / "run.cfg", MPIXFEL_CACHE="",
                              MPIXFEL_LAUNCH="mpirun --bind-to none")
    job = cluster.wait_for(number, "COMPLETED", "FAILED", seconds=200)
    log = (trial / "stdout" / f"{number}.out").read_text()
    assert job["JobState"] == "COMPLETED", log
    assert re.search(r"^events +4$", log, re.M) and "on 2 ranks" in log
    assert (trial / "run.h5").is_file() and (trial / "run.cfg").is_file()


def test_a_cancelled_run_is_asked_to_end_and_not_requeued(cluster, tmp_path):
    number, trial = submitted(cluster, tmp_path, "-p", "1")
    log = trial / "stdout" / f"{number}.out"
    cluster.wait(lambda: log.exists() and "start" in log.read_text(), 20)
    cluster.call("scancel", str(number))
    job = cluster.wait_for(number, "CANCELLED", seconds=30)
    cluster.wait(lambda: "asked to end" in log.read_text(), 10)
    assert job["Restarts"] == "0"


def test_a_run_near_its_time_limit_ends_in_order_is_requeued_and_goes_on(cluster, warned):
    number, trial = warned
    cluster.wait(lambda: cluster.job(number)["Restarts"] == "1", 240)
    # Started again before the first start has ended, it would be given that one's exit code.
    cluster.wait(lambda: not cluster.steps(number), 60)
    job = cluster.job(number)
    assert job["Requeue"] == "1" and job["NumTasks"] == "2"
    # Almost without the pause after a requeue (slurmd refuses a start within the second of it: its clock ticks in
    # seconds), and without another warning.
    cluster.call("scontrol", "update", f"JobId={number}", "StartTime=now+2", "TimeLimit=10")
    state = cluster.wait_for(number, "COMPLETED", "FAILED")["JobState"]
    log = (trial / "stdout" / f"{number}.out").read_text()
    assert state == "COMPLETED", log
    assert log.count("start -n 2") == 2 and log.count("asked to end") == 1
    assert f"-c {trial}/run.cfg --resume" in log
