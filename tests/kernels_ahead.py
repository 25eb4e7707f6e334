"""Writes mpixfel/kernels/ahead.json anew: the kernels that a small simulated run calls, the slowest to compile first.

    python tests/kernels_ahead.py      (a minute or two)
"""
import json
import os
import sys
import tempfile
import time
from pathlib import Path

FOLDER = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = FOLDER.name   # nothing is compiled yet
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from numba.core import event  # noqa: E402

from mpixfel.cli.main import main  # noqa: E402
from mpixfel.kernels import ahead  # noqa: E402


class Calls(event.Listener):
    """What is compiled because Python calls it, not because another kernel does: {(kernel, types): seconds}."""

    def __init__(self):
        self.began, self.found = [], {}

    def on_start(self, event):
        self.began.append(time.perf_counter())

    def on_end(self, event):
        seconds = time.perf_counter() - self.began.pop()
        function = event.data["dispatcher"].py_func
        if self.began or not function.__module__.startswith(ahead.__package__ + "."):
            return
        name = f"{function.__module__.removeprefix(ahead.__package__ + '.')}.{function.__name__}"
        try:
            self.found[name, json.dumps(list(map(ahead.described, event.data["args"])))] = seconds
        except TypeError:
            print(f"{name} cannot be listed")


def write(folder):
    """Simulate, process, write the list."""
    calls = Calls()
    ahead.listed = list   # what an old list names is not compiled for that alone
    event.register("numba:compile", calls)
    simulated, source = Path(folder, "sim"), Path(folder, "sim", "run.cfg")
    code = main(["simulate", "--output", str(simulated), "--frames", "24", "-q"])
    calls.found.clear()   # a run does not simulate
    code = code or main(["-c", str(source), "--output", f"{folder}/out", "--set", "mpixfel.report=false", "-q"])
    rows = sorted(calls.found, key=calls.found.get, reverse=True)
    lines = ",\n".join(json.dumps([name, json.loads(kinds)]) for name, kinds in rows)
    ahead.LIST.write_text(f"[{lines}]\n", encoding="utf-8")
    print(f"{len(rows)} kernels, {sum(calls.found.values()):.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(write(FOLDER.name))
