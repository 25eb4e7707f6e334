"""The house stands: imports go down only, each library in its room, and the plan on the wall is true."""
import ast
import pathlib
import re

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((CHECKOUT / "mpixfel").rglob("*.py"))

# Each room with the rooms that it may enter, lowest floor first. `errors`, `units` and the version are open to all.
GROUND = {"errors", "units", "__version__"}
MAY_ENTER = {
    "errors": set(),
    "units": set(),
    "registry": set(),
    "model": set(),
    "kernels": set(),
    "stages": {"model", "kernels"},
    "io": {"model", "kernels"},
    "parallel": set(),
    "modules": {"stages", "io", "kernels", "model", "registry"},
    "config": {"registry", "model", "stages", "modules"},
    "simulate": {"io", "kernels", "model", "stages"},
    "report": {"io", "model", "stages"},
    "run": {"report", "config", "registry", "modules", "parallel", "io", "stages", "kernels", "model"},
}
# One run is told in a few files at the top level, `pipeline` first; they are one room.
ROOM_OF_FILE = {name: "run" for name in ("pipeline", "job", "rounds", "tally", "conclusion", "growth", "merging", "tuning")}
ONLY_IN = {"mpi4py": ("parallel", "cli/main.py"), "h5py": ("io",), "numba": ("kernels",)}


def imported(path):
    """Dotted names that a file imports, relative imports not allowed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(part):
    return ROOM_OF_FILE.get(part, part)


def inside(path):
    return path.relative_to(CHECKOUT / "mpixfel")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(inside(p)))
def test_imports_go_down_only(path):
    here = room(inside(path).parts[0].removesuffix(".py"))
    if here in ("cli", "__main__", "__init__"):  # the roof: sees everything
        return
    assert here in MAY_ENTER, f"{inside(path)} stands in no room: give it one, or move it"
    entered = {room(name.split(".")[1]) for name in imported(path) if name.startswith("mpixfel.")}
    assert not entered - MAY_ENTER[here] - GROUND - {here}


@pytest.mark.parametrize("library", ONLY_IN)
def test_mpi_hdf5_and_compiler_are_each_imported_in_one_room_only(library):
    allowed = ONLY_IN[library]
    users = [str(inside(p)) for p in FILES if any(name.split(".")[0] == library for name in imported(p))]
    assert [u for u in users if u not in allowed and u.split("/")[0] not in allowed] == []


def test_nothing_is_unpickled_or_evaluated():
    calls = re.compile(r"\bpickle\.loads?\(|(?<![\w.])(eval|exec)\(")
    assert [f"{inside(p)}: {m.group()}" for p in FILES for m in calls.finditer(p.read_text())] == []


def test_the_architecture_page_names_every_file_and_no_other():
    """In the tables under "Rooms" a row is: folder, what it is, its files."""
    page = (CHECKOUT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w/]*/)` \|.*\|(.*)\|$", page[page.index("## Rooms"):], re.M)
    named = {f"{folder}{name}".removeprefix("mpixfel/") for folder, names in rows for name in names.split()}
    assert named == {str(inside(p)) for p in FILES if p.name != "__init__.py"}
