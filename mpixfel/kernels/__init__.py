"""Kernels: arrays in, arrays out.

Numba keeps compiled code as long as the file that a function stands in is unchanged, although code of other files is
compiled into it. So this package keeps its compiled code in a folder named after the sources of all kernels: a new
version never meets code compiled from an old one.
"""
import fcntl
import functools
import hashlib
import os
import tempfile
from pathlib import Path

import numba
from numba.core import caching


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
