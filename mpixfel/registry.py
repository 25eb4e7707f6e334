"""Names to classes: entry points `mpixfel.<group>`, of this program and of others that are installed beside it."""
import configparser
import importlib
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from mpixfel.errors import MpixfelError, suggestion

GROUPS = ("hit_finders", "indexers", "integrators", "sources", "modules")


@lru_cache(maxsize=None)
def entries(group):
    """{name: "module:Class"} of a group. A checkout's own setup.cfg goes before what was installed of it."""
    found = {e.name: e.value for e in entry_points(group=f"mpixfel.{group}")}
    return {**found, **_of_checkout(group)}


def _of_checkout(group):
    path = Path(__file__).resolve().parent.parent / "setup.cfg"
    parser = configparser.ConfigParser(interpolation=None)
    if not path.is_file() or not parser.read(path) or parser.get("metadata", "name", fallback="") != "mpixfel":
        return {}
    lines = parser.get("options.entry_points", f"mpixfel.{group}", fallback="").split("\n")
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def load(group, name, where=""):
    """The class that `name` stands for in a group; only this one is imported.

    Raises `MpixfelError` with the names that exist, and the nearest, for an unknown one; and for one whose module
    cannot be imported, with the reason.
    """
    known = entries(group)
    kind = group.rstrip("s").replace("_", " ")
    if name not in known:
        remedy = suggestion(name, known, f"{kind}s")
        raise MpixfelError(f"there is no {kind} named {name}", where,
                           remedy + ("" if remedy.startswith(kind) else f" {kind}s: " + ", ".join(sorted(known))))
    return load_class(known[name], f"{kind} {name}")


def load_class(reference, what=""):
    """The class of a reference `package.module:Class`."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as e:
        if (e.name or "").partition(".")[0] == __name__.partition(".")[0]:    # a defect of this program
            raise
        raise MpixfelError(f"{what or reference} cannot be loaded: {e}", reference,
                           "install the package that it needs, or leave it away") from e
