"""Trials and job scripts: slurm.sh and lsf.sh with the options of the old script, LSF against a stand-in for bsub."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = {"slurm": CHECKOUT / "slurm" / "slurm.sh", "lsf": CHECKOUT / "lsf" / "lsf.sh"}

OLD_CONFIG = """# a comment that stays
[pyana]
modules = my_ana_pkg.mod_hitfind:hitfind \\
          mod_dump:hit
num-cpu = 12

[my_ana_pkg.mod_hitfind:hitfind]
threshold = 450
xtal_target = phil/index
dark_path = darks/r0002-avg.h5
mask_path = /data/mask RUN_NO.h5
integration_dirname = /nowhere/integration
trial_id = 0

[mod_dump:hit]
out_dirname = /nowhere/out
out_basename = shot-
"""

# What LSF's documentation says of the directives used, one pattern a value.
BSUB = r"""#!/bin/bash
set -e
cat >"$BSUB_SAW/script"; echo "$*" >"$BSUB_SAW/arguments"
bash -n "$BSUB_SAW/script"
sed -n 's/^#BSUB //p' "$BSUB_SAW/script" | while read -r line; do
    grep -qE '^(-J [A-Za-z0-9_.-]+|-n [0-9]+|-W ([0-9]+:)?[0-9]+|-o [^ ]+|-q [a-z0-9_]+|-R "[^"]+"|-r|-Q [0-9 ]+|-wt ([0-9]+:)?[0-9]+|-wa [A-Z0-9]+)$' \
        <<<"$line" || { echo "Bad directive: $line. Job not submitted." >&2; exit 255; }
done
[ "$(sed -n 's/^#BSUB -W //p' "$BSUB_SAW/script")" -gt "$(sed -n 's/^#BSUB -wt //p' "$BSUB_SAW/script")" ]
echo "Job <123> is submitted to queue <normal>."
"""


@pytest.fixture
def old_run(tmp_path):
    """A folder with an old configuration, its PHIL files and two data files of run 12."""
    (tmp_path / "phil" / "more").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    for n in (0, 1):
        (tmp_path / "data" / f"cxi78513-r0012_{n}.h5").touch()
    (tmp_path / "run.cfg").write_text(OLD_CONFIG)
    (tmp_path / "phil" / "index.phil").write_text("include file more/spots.phil\ntarget_cell = 38 79 79 90 90 90\n")
    (tmp_path / "phil" / "more" / "spots.phil").write_text("distl.minimum_spot_area = 3\n")
    return tmp_path


def call(system, folder, *options, check=True, **environment):
    environment = {**{k: v for k, v in os.environ.items() if k != "EXP"}, **environment}
    done = subprocess.run([SCRIPTS[system], *options], cwd=folder, env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def bsub(tmp_path):
    """The environment with a stand-in for bsub on PATH; it keeps what it saw in `saw/`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "saw").mkdir()
    program = tmp_path / "bin" / "bsub"
    program.write_text(BSUB)
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "BSUB_SAW": str(tmp_path / "saw")}


def options_of(text, section):
    body = re.search(rf"^\[{re.escape(section)}\]\n(.*?)(?=^\[|\Z)", text, re.M | re.S)[1]
    return dict(re.findall(r"^([\w-]+) = (.*)$", body, re.M))


def test_a_trial_has_its_own_configuration_that_writes_into_the_trial(old_run, bsub):
    call("lsf", old_run, "-c", "run.cfg", "-r", "12", "-i", "data", "-o", "out", "-x", "cxi78513", **bsub)
    trial = old_run / "out" / "r0012" / "000"
    text = (trial / "run.cfg").read_text()
    assert text.startswith("# a comment that stays\n")
    assert "modules = my_ana_pkg.mod_hitfind:hitfind \\\n          mod_dump:hit\n" in text
    run = options_of(text, "pyana")
    assert run["output"] == str(trial) and run["run"] == "12" and run["experiment"] == "cxi78513"
    assert run["source"] == f"{old_run}/data/*r0012*.h5"
    hitfind = options_of(text, "my_ana_pkg.mod_hitfind:hitfind")
    assert hitfind["threshold"] == "450"
    assert hitfind["dark_path"] == f"{old_run}/darks/r0002-avg.h5"
    assert hitfind["mask_path"] == "/data/mask 12.h5"
    assert hitfind["integration_dirname"] == f"{trial}/integration" and (trial / "integration").is_dir()
    assert options_of(text, "mod_dump:hit") == {"out_dirname": f"{trial}/out", "out_basename": "shot-"}
    assert (trial / "stdout").is_dir()


def test_phil_files_are_copied_with_what_they_include(old_run, bsub):
    call("lsf", old_run, "-c", "run.cfg", "-r", "12", "-i", "data", "-o", "out", **bsub)
    trial = old_run / "out" / "r0012" / "000"
    target = options_of((trial / "run.cfg").read_text(), "my_ana_pkg.mod_hitfind:hitfind")["xtal_target"]
    first = pathlib.Path(target).read_text()
    assert "target_cell = 38 79 79 90 90 90" in first
    included = re.search(r"include file (\S+)", first)[1]
    assert (trial / included).read_text() == "distl.minimum_spot_area = 3\n"


@pytest.mark.parametrize("system", SCRIPTS)
def test_a_dry_run_prints_script_and_command_and_makes_nothing(system, old_run):
    done = call(system, old_run, "-c", "run.cfg", "-r", "12", "-i", "data", "-o", "out", "-p", "8", "-q", "psfehq", "-s",
                "--dry-run")
    script, command = done.stdout.split("# is submitted with\n")
    assert command.split()[0] == {"slurm": "sbatch", "lsf": "bsub"}[system]
    wanted = {"slurm": ["--ntasks=8", "--partition=psfehq", "--nodes=1", "--job-name=r0012-000"],
              "lsf": ["-n 8", "-q psfehq", '-R "span[hosts=1]"', "-J r0012-000"]}[system]
    directives = [line.split(" ", 1)[1] for line in script.splitlines() if re.match("#(SBATCH|BSUB) ", line)]
    assert [w for w in wanted if w not in directives] == []
    assert not (old_run / "out").exists()


def test_ranks_come_from_the_command_line_or_num_cpu_or_the_site(old_run):
    def ranks(*options, **environment):
        out = call("lsf", old_run, "-c", "run.cfg", "-r", "12", "-i", "data", "--dry-run", *options, **environment).stdout
        return re.search(r"^#BSUB -n (\d+)$", out, re.M)[1]
    assert ranks("-p", "5") == "5"
    assert ranks() == "12"
    (old_run / "run.cfg").write_text(OLD_CONFIG.replace("num-cpu = 12\n", ""))
    assert ranks(MPIXFEL_RANKS="320") == "320"


def test_trials_are_numbered_and_a_number_in_use_is_refused(old_run, bsub):
    options = ("-c", "run.cfg", "-r", "12", "-i", "data", "-o", "out")
    call("lsf", old_run, *options, **bsub)
    call("lsf", old_run, *options, "-t", "7", **bsub)
    call("lsf", old_run, *options, **bsub)
    assert sorted(p.name for p in (old_run / "out" / "r0012").iterdir()) == ["000", "007", "008"]
    again = call("lsf", old_run, *options, "-t", "7", check=False, **bsub)
    assert again.returncode == 2 and "trial 7 is in use" in again.stderr
    assert options_of((old_run / "out/r0012/007/run.cfg").read_text(),
                      "my_ana_pkg.mod_hitfind:hitfind")["trial_id"] == "7"


def test_lsf_gets_a_script_of_valid_syntax_and_directives(old_run, bsub):
    done = call("lsf", old_run, "-c", "run.cfg", "-r", "12", "-i", "data", "-o", "out", "-q", "psfehq", "-s",
                MPIXFEL_SUBMIT="-P lcls", **bsub)
    assert "Job <123> is submitted" in done.stdout
    assert (old_run / "saw" / "arguments").read_text() == "-P lcls\n"
    script = (old_run / "saw" / "script").read_text()
    assert script == (old_run / "out" / "r0012" / "000" / "job.sh").read_text()
    assert f"config={old_run}/out/r0012/000/run.cfg\n" in script


@pytest.mark.parametrize("options, message", [
    (("-r", "12"), "no configuration"),
    (("-c", "run.cfg"), "no run number"),
    (("-c", "run.cfg", "-r", "12", "-p", "many"), "not a number of ranks"),
    (("-c", "run.cfg", "-r", "0", "-i", "data"), "not a run number"),
    (("-c", "run.cfg", "-r", "12", "-i", "data", "-t", "1000"), "not a trial number"),
    (("-c", "run.cfg", "-r", "13", "-i", "data"), "no file of run 13"),
    (("-c", "run.cfg", "-r", "12"), "no source is given"),
    (("-c", "none.cfg", "-r", "12"), "cannot be read"),
    (("-c", "run.cfg", "-r", "12", "--try"), "unknown option --try"),
])
def test_what_cannot_be_submitted_is_refused_before_anything_is_made(options, message, old_run, bsub):
    done = call("lsf", old_run, *options, check=False, **bsub)
    assert done.returncode == 2 and message in done.stderr
    assert not (old_run / "results").exists() and not (old_run / "saw" / "script").exists()


def test_a_refused_job_is_told_with_the_name_of_its_script(old_run, bsub):
    (old_run / "bin" / "bsub").write_text("#!/bin/bash\necho 'User not in the specified user group' >&2; exit 255\n")
    done = call("lsf", old_run, "-c", "run.cfg", "-r", "12", "-i", "data", check=False, **bsub)
    assert done.returncode == 2 and "bsub refused the job" in done.stderr and "job.sh" in done.stderr


@pytest.mark.parametrize("ended, code", [("3", 99), ("0", 0), ("1", 1)])
def test_under_lsf_a_run_that_was_warned_ends_with_the_code_that_requeues(ended, code, tmp_path):
    """The job script's shell is warned like LSF does, the launcher's ranks answer with an exit code."""
    launcher = tmp_path / "launcher"
    launcher.write_text(f"#!/bin/bash\ntrap 'exit {ended}' USR1\ntouch {tmp_path}/up\n"
                        "for i in $(seq 100); do sleep 0.1; done\n")
    launcher.chmod(0o755)
    job = subprocess.Popen([CHECKOUT / "bin" / "job", "run.cfg"], stdin=subprocess.DEVNULL, env={
        **os.environ, "LSB_JOBID": "1", "LSB_DJOB_NUMPROC": "2", "MPIXFEL_LAUNCH": str(launcher)})
    for _ in range(100):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=20) == code


@pytest.mark.parametrize("template", ["slurm/mpixfel.sbatch", "lsf/mpixfel.lsf"])
def test_the_templates_are_valid_as_they_stand(template):
    assert subprocess.run(["bash", "-n", CHECKOUT / template]).returncode == 0
