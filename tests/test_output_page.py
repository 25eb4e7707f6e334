"""docs/output.md says what the tables are."""
from pathlib import Path

import numpy as np
import pytest

from mpixfel.model import tables
from mpixfel.model.event import Outcome, Reason

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "output.md").read_text(encoding="utf-8")
TABLES = {"/events": tables.EVENT_COLUMNS, "/peaks": tables.PEAK_COLUMNS, "/lattices": tables.LATTICE_COLUMNS,
          "/reflections": tables.REFLECTION_COLUMNS}


@pytest.mark.parametrize("name", TABLES)
def test_each_column_has_its_line_with_unit_and_meaning_in_order(name):
    section = PAGE.split(f"## {name}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()
             if line.startswith("| `")]
    expected = [[f"`{c.name}`", c.unit, c.meaning] for c in TABLES[name]]
    assert [[line[0], line[2], line[3]] for line in lines][:len(expected)] == expected
    for line, column in zip(lines, TABLES[name]):
        base, shape = column.dtype if isinstance(column.dtype, tuple) else (column.dtype, ())
        kind = np.dtype(base)
        words = f"{kind.itemsize} bytes" if kind.kind == "S" else kind.name
        assert line[1] == words + "".join(f" × {n}" for n in shape)


@pytest.mark.parametrize("members", [Outcome, Reason])
def test_each_name_of_an_enumeration_stands_there_with_its_number(members):
    assert all(f"`{m.name}` {int(m)}" in PAGE for m in members)


def test_each_flag_stands_there_with_its_bit():
    flags = {k: v for k, v in vars(tables.Flag).items() if not k.startswith("_")}
    assert all(f"| {bit} | {name} |" in PAGE for name, bit in flags.items())
