"""mpixfel cell: the unit cells of a run, with their counts; writes one of them as a .cell file."""
import json
import os
import textwrap
from pathlib import Path

from mpixfel.errors import MpixfelError
from mpixfel.model.ambiguity import ambiguity

HELP = "the unit cells of a run; writes a .cell file"


def add_arguments(parser):
    """Arguments of `mpixfel cell`."""
    parser.add_argument("run", metavar="OUT", help="run directory, of a run finished or not")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to write (default: found.cell in OUT)")
    parser.add_argument("--take", metavar="N", type=int, default=1, help="number of the cell to write (default 1)")
    parser.add_argument("--search", action="store_true", help="look for cells among the hits without lattice, too "
                                                              "(always done where there is no other)")
    parser.add_argument("--json", action="store_true", help="for scripts; writes no file unless -o is given")


def run(args):
    """Print the cells, write one; returns the exit code."""
    from mpixfel.io.results import Results
    from mpixfel.report.cells_found import cell_rows

    results = Results(args.run)
    rows = cell_rows(results, args.search)
    if args.json:
        print(json.dumps([{"parameters": list(r.cell.parameters), "lattice_type": r.cell.lattice_type,
                           "centring": r.cell.centring, "unique_axis": r.cell.unique_axis, "spread": r.spread.tolist(),
                           "count": r.count, "of": r.of, "source": r.source} for r in rows], indent=1))
    else:
        print(text(rows) if rows else "no cell: nothing was indexed, and the hits without lattice share none")
    if rows and (args.output or not args.json):
        written = write(rows, args.take, Path(args.output or results.folder / "found.cell"))
        if not args.json:
            print(f"written: {written} (number {args.take})")
    return 0


def text(rows):
    """The cells as a table of at most 80 columns."""
    lines, source = [], None
    for k, row in enumerate(rows, 1):
        if row.source != source:
            lines += [("" if source is None else "\n") + row.source,
                      f"{'':4}{'':>9}" + "".join(f"{name:>9}" for name in ("a", "b", "c", "alpha", "beta", "gamma"))]
        source = row.source
        lines += [f"{k:3} {'':>9}" + "".join(f"{x:9.3f}" for x in row.cell.parameters),
                  f"{'':4}{'spread':>9}" + "".join(f"{x:9.3f}" for x in row.spread),
                  f"{'':4}{row.cell.lattice_type} {row.cell.centring}, {row.count} of {row.of}"]
        laws = ambiguity(row.cell)
        if laws:
            known = "" if row.cell.space_group else " unless the space group forbids it"
            lines += textwrap.wrap(f"indices may be {'; '.join(laws)} as well{known}", 76, initial_indent="    ",
                                   subsequent_indent="    ")
    return "\n".join(lines)


def write(rows, number, path):
    """Write one of the cells; returns the path."""
    from mpixfel.io.cell import write_cell

    if not 1 <= number <= len(rows):
        raise MpixfelError(f"there is no cell {number}", "--take", f"give 1 to {len(rows)}")
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(write_cell(rows[number - 1].cell), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise MpixfelError(f"cannot be written: {error.strerror}", str(path), "give another place with -o") from None
    return path
