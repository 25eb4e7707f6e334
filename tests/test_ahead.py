"""Kernels compiled before they are called: the list of them, and the sharing of the work."""
import concurrent.futures
import json
import subprocess
import sys

import numpy as np
import pytest
from numba import float32, int64, typeof, types
from test_run import comm  # noqa: F401  (fixture)

from mpixfel.kernels import ahead
from mpixfel.kernels.spots import Spread
from mpixfel.parallel.collect import shared_by_node

ROWS = np.zeros(2, np.dtype([("at", "i8"), ("height", "f4")]))

SAVE = """
import os, sys
import numba
from mpixfel.kernels import one_at_a_time
from numba.core.caching import IndexDataCacheFile
numba.config.CACHE_DIR = sys.argv[1]
cache = IndexDataCacheFile(sys.argv[1], "name", "stamp")
for k in range(20):
    cache.save((sys.argv[2], k), sys.argv[2])
"""


@pytest.mark.parametrize("kind", [
    float32, int64, types.boolean, types.none, typeof(np.zeros((2, 3), np.uint16)), typeof(np.zeros((4, 4))[:, 1]),
    typeof(ROWS), typeof((1, 2.0)), typeof((1, 2)), typeof(Spread(*[1.0] * len(Spread._fields))),
    typeof(np.broadcast_to(np.zeros(3), (3,))), types.FunctionType(int64(float32, int64))], ids=str)
def test_a_type_is_described_and_found_again(kind):
    assert ahead.numba_type(json.loads(json.dumps(ahead.described(kind)))) == kind


def test_a_type_without_description_is_refused():
    with pytest.raises(TypeError):
        ahead.described(types.unicode_type)


def test_the_list_is_of_kernels_as_they_are():
    """A few may have changed since; when this fails, `python tests/kernels_ahead.py` writes it anew."""
    entries = ahead.listed()
    assert len(entries) > 20
    stale = [name for name, kinds in entries if not ahead.compile_kernel(name, kinds)]
    assert len(stale) < len(entries) / 4, stale


def test_what_is_unknown_is_left_to_its_first_call():
    assert not ahead.compile_kernel("nothing.there", [])
    assert not ahead.compile_kernel("spots.no_such_kernel", ["float64"])
    assert not ahead.compile_kernel("spots.fill_excited", ["float64"])
    assert not ahead.compile_kernel("spots.fill_excited", [["named", "mpixfel.kernels.spots:Gone", "float64"]])


@pytest.mark.mpi
def test_each_number_is_done_once_on_a_machine(comm):  # noqa: F811
    done = []
    shared_by_node(comm, 23, done.append)
    assert sorted(n for part in comm.allgather(done) for n in part) == list(range(23))


def test_processes_that_save_at_once_mix_nothing_up(tmp_path):
    def save(word):
        return subprocess.run([sys.executable, "-c", SAVE, str(tmp_path), word], capture_output=True, text=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in pool.map(save, "ab"):
            assert done.returncode == 0, done.stderr
    from numba.core.caching import IndexDataCacheFile
    cache = IndexDataCacheFile(str(tmp_path), "name", "stamp")
    assert {(word, k): cache.load((word, k)) for word in "ab" for k in range(20)} == {
        (word, k): word for word in "ab" for k in range(20)}
