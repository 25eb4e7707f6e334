"""Kernels: arrays in, arrays out.

Numba keeps compiled code as long as the file that a function stands in is unchanged, although code of other files is
compiled into it. So this package keeps its compiled code in a folder named after the sources of all kernels: a new
version never meets code compiled from an old one.

A kernel that calls another has a copy of it. Numba leaves these copies visible to each other, and of the copies in a
process the one that was loaded first serves all. Copies differ in their last bits, as the order of a sum may: so results
would depend on which kernel was called first, and on which rank compiled it. Here each kernel keeps its copies to itself.
"""
import fcntl
import functools
import hashlib
import os
import tempfile
from pathlib import Path

import numba
from numba.core import caching, codegen

# NaN marks bad pixels, so the compiler must not assume that there are none.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def cache_folder(sources, base=None):
    """Where compiled code of `sources` (files) goes: in `base`, NUMBA_CACHE_DIR, the user's cache, or a temporary folder."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for folder in filter(None, (base, os.path.join(user, "mpixfel", "kernels"))):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return os.path.join(folder, digest.hexdigest()[:16])
    return os.path.join(tempfile.gettempdir(), f"mpixfel-kernels-{os.getuid()}", digest.hexdigest()[:16])


numba.config.CACHE_DIR = cache_folder(Path(__file__).parent.glob("*.py"), os.environ.get("NUMBA_CACHE_DIR"))


def one_at_a_time(save):
    """`save` of numba's cache, by one process of a machine at a time: two that save types of the same kernel at once
    could take the same file for both, and the code for one would be called with the other."""
    @functools.wraps(save)
    def saved(self, *arguments):
        os.makedirs(numba.config.CACHE_DIR, exist_ok=True)
        with open(os.path.join(numba.config.CACHE_DIR, "lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:   # a file system without locks
                pass
            return save(self, *arguments)
    return saved


caching.IndexDataCacheFile.save = one_at_a_time(caching.IndexDataCacheFile.save)


def with_copies_of_its_own(optimise):
    """`optimise` of numba's libraries, of a module whose copies of other kernels nobody else sees."""
    @functools.wraps(optimise)
    def optimised(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage.name == "linkonce_odr":
                function.linkage = "internal"
        return optimise(self)
    return optimised


codegen.CPUCodeLibrary._optimize_final_module = with_copies_of_its_own(codegen.CPUCodeLibrary._optimize_final_module)
