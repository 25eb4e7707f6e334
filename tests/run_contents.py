"""What stands in a run file, in an order that does not depend on who wrote what when."""
import h5py
import numpy as np

TABLES = ("events", "peaks", "lattices", "reflections")


def contents(path):
    """{table/column: array} of a run file, sorted by event; times, ranks and places in the large tables left out.

    Checks on the way that each row of a large table belongs to exactly one owner.
    """
    with h5py.File(path, "r") as file:
        data = {t: {name: column[:] for name, column in file[t].items()} for t in TABLES}
    events, lattices = data["events"], data["lattices"]
    peak_rows = rows_of(events["first_peak"], events["n_peaks"], len(data["peaks"]["fs"]))
    reflection_rows = rows_of(lattices["first_reflection"], lattices["n_reflections"], len(data["reflections"]["fs"]))
    assert (data["reflections"]["lattice"][reflection_rows]
            == np.repeat(np.arange(len(lattices["event"])), lattices["n_reflections"])).all()
    out = {}
    for table, rows in (("events", slice(None)), ("peaks", peak_rows), ("lattices", slice(None)),
                        ("reflections", reflection_rows)):
        for name, column in data[table].items():
            if name in ("rank", "first_peak", "first_reflection") or name.startswith("time_"):
                continue
            out[f"{table}/{name}"] = column[rows]
    return out


def rows_of(first, count, total):
    """Rows of a large table in the order of their owners; each row must have one owner."""
    rows = np.concatenate([np.arange(f, f + n) for f, n in zip(first, count)] + [np.zeros(0, int)]).astype(np.int64)
    assert len(rows) == total and len(np.unique(rows)) == total
    return rows


def assert_same(path, other):
    """Equal to the last bit."""
    mine, theirs = contents(path), contents(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        a, b = mine[name], theirs[name]
        same = a.shape == b.shape and (list(a) == list(b) if a.dtype == object else a.tobytes() == b.tobytes())
        assert same, f"{name} differs"
