"""A SLURM cluster of this machine alone, with its own keys, ports and folders, for the tests of the batch scripts."""
import os
import shutil
import signal
import socket
import subprocess
import time

DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_d}
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def can_run():
    """Whether SLURM's daemons are installed and may be started."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return os.getuid() == 0 and all(shutil.which(d, path=path) for d in (*DAEMONS, "sbatch"))


def free_ports():
    """Two free TCP ports."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


class Cluster:
    """A running cluster; `with Cluster(folder) as cluster:` ends it."""

    def __init__(self, folder):
        self.folder = folder
        port, port_d = free_ports()
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], port=port, port_d=port_d, folder=folder))
        self.environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

    def __enter__(self):
        f = self.folder
        self.call("munged", "--force", f"--key-file={f}/munge.key", f"--socket={f}/munge.socket",
                  f"--pid-file={f}/munged.pid", f"--log-file={f}/munged.log", f"--seed-file={f}/munge.seed")
        self.call("slurmctld", "-f", f"{f}/slurm.conf")
        self.call("slurmd", "-f", f"{f}/slurm.conf")
        self.wait(lambda: "idle" in self.call("sinfo", "-h", "-o", "%t", check=False), 20)
        return self

    def __exit__(self, *exception):
        for name in reversed(DAEMONS):
            pid = self.folder / f"{name}.pid"
            if pid.exists():
                try:
                    os.kill(int(pid.read_text()), signal.SIGTERM)
                except ProcessLookupError:
                    pass

    def call(self, *words, check=True, **more):
        """The standard output of a command in the cluster's environment."""
        done = subprocess.run(words, env={**self.environment, **more}, capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number):
        """What scontrol says of a job: {key: value}."""
        words = self.call("scontrol", "show", "job", "-o", str(number)).split()
        return dict(w.split("=", 1) for w in words if "=" in w)

    def steps(self, number):
        """Process ids of slurmd's helpers that attend to a job on this machine."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    words = file.read()
            except OSError:
                continue
            if words.startswith(f"slurmstepd: [{number}."):
                found.append(int(pid))
        return found

    def wait(self, question, seconds):
        """Ask until the answer is true."""
        end = time.monotonic() + seconds
        while not question():
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            time.sleep(0.1)

    def wait_for(self, number, *states, seconds=90):
        """The job, once it is in one of these states."""
        self.wait(lambda: self.job(number)["JobState"] in states, seconds)
        return self.job(number)
