"""Compiled code is never that of another version of the kernels."""
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from mpixfel.kernels import cache_folder

FIRST = """
from mpixfel.kernels import cache_folder
import numba
numba.config.CACHE_DIR = cache_folder(__import__("pathlib").Path("pkg").glob("*.py"), "cache")
from pkg.caller import double
print(double(1.0))
"""


def test_a_change_in_one_file_reaches_code_of_another_that_it_is_compiled_into(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "caller.py").write_text("from numba import njit\nfrom pkg.callee import factor\n\n"
                                       "@njit(cache=True)\ndef double(x):\n    return factor() * x\n")
    answers = []
    for value in ("2.0", "3.0"):
        (package / "callee.py").write_text(f"from numba import njit\n\n@njit(cache=True)\ndef factor():\n    return {value}\n")
        # -B: Python would take its own compiled file for current if both are written within a second.
        done = subprocess.run([sys.executable, "-B", "-c", FIRST], cwd=tmp_path, capture_output=True, text=True, check=True)
        answers.append(float(done.stdout))
    assert answers == [2.0, 3.0]


def test_the_folder_changes_with_names_and_contents_only(tmp_path):
    for name, text in (("a.py", "1"), ("b.py", "2")):
        (tmp_path / name).write_text(text)
    files = sorted(tmp_path.glob("*.py"))
    before = cache_folder(files, str(tmp_path / "cache"))
    assert cache_folder(files[::-1], str(tmp_path / "cache")) == before
    (tmp_path / "a.py").write_text("3")
    assert cache_folder(files, str(tmp_path / "cache")) != before


def test_a_folder_that_cannot_be_made_is_replaced_by_one_that_can(tmp_path):
    (tmp_path / "file").write_text("")
    found = Path(cache_folder([], str(tmp_path / "file" / "cache")))
    assert tmp_path not in found.parents


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without the compiler")
def test_a_kernel_keeps_its_copies_of_other_kernels_to_itself():
    """Else the first copy that a process loads would serve all kernels, and results hang on the order of loading."""
    @numba.njit
    def inner(x):
        total = 0.0
        for k in range(x.size):
            total += x[k] * x[k]
        return total

    @numba.njit
    def outer(x, y):
        return inner(x) - inner(y)

    assert outer(np.arange(4.0), np.arange(3.0)) == 9.0
    library = next(iter(outer.overloads.values())).library
    bodies = [f for f in library._final_module.functions if not f.is_declaration]
    assert bodies and not [f.name for f in bodies if f.linkage.name.startswith(("linkonce", "weak"))]
