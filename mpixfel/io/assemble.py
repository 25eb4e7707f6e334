"""`run.h5` from the segments: small tables owned and sorted by event, large ones reached by virtual datasets."""
import json
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mpixfel import __version__
from mpixfel.io import segments
from mpixfel.io.disk import sync
from mpixfel.io.learnt import describe, fill_cells, fill_learnt
from mpixfel.model import tables
from mpixfel.model.event import Outcome, Reason

FORMAT_VERSION = 1
# Columns of the large tables that name a row of /lattices: known only at the end, so run.h5 owns them.
OWNED = {"peaks": "lattice", "reflections": "lattice"}


def assemble(folder, instances, context, geometry_text, groups, statistics, n_events, by_source=False):
    """Write `run.h5` of a run directory from its segments; on one rank only.

    Parameters
    ----------
    folder : path
    instances : sequence of str
        Names that `stopped_by` numbers, 0 for none.
    context : Context
        Detector, cells and what was learnt.
    geometry_text : str
        CrystFEL's text of the geometry.
    groups : {group: members}
        Further groups, see `write_members`.
    statistics : callable of events, lattices, counts, peak_places -> members
        What `/stats` holds; `counts` are the segments' sums, `peak_places` yields (panel, fs, ss) of all peaks in parts.
    n_events : int
        Number of events of the run; with all of them the file's attribute `complete` is set.
    by_source : bool
        Sort the events by file and place in it, where they were taken as they came.

    Returns
    -------
    events, lattices : ndarray
        The sorted tables as written.
    """
    folder = Path(folder)
    events, lattices, pieces = sorted_tables(segments.segment_paths(folder), by_source)
    temporary = folder / "run.h5.part"
    with h5py.File(temporary, "w", libver="v110") as file:
        file.attrs.update(creator="mpixfel", version=__version__, format_version=FORMAT_VERSION,
                          complete=len(events) == n_events)
        write_table(file, "events", tables.EVENT_COLUMNS, events, enums(instances))
        write_names(file["events"], events, pieces)
        write_table(file, "lattices", tables.LATTICE_COLUMNS, lattices)
        for table, columns in segments.RAGGED.items():
            write_virtual(file, table, columns, pieces)
        write_geometry(file.create_group("geometry"), context.detector, events, geometry_text)
        fill_learnt(file.create_group("learnt"), context.learnt)
        fill_cells(file.create_group("cells"), context.best_cells)
        stats = statistics(events, lattices, segments.read_counts(p.path for p in pieces), peak_places(pieces))
        for group, members in {**groups, "stats": stats}.items():
            write_members(file.require_group(group), members)
    sync(temporary)
    os.replace(temporary, folder / "run.h5")
    sync(folder)
    return events, lattices


def peak_places(pieces):
    """(panel, fs, ss) of the peaks of each segment."""
    for piece in pieces:
        with h5py.File(piece.path, "r") as file:
            yield tuple(file[f"peaks/{name}"][:] for name in ("panel", "fs", "ss"))


def write_geometry(group, detector, events, text):
    """Panels in the laboratory frame, at the median distance of the events."""
    distances = events["distance"][np.isfinite(events["distance"])]
    clen = float(np.median(distances)) - detector.distance_m(0.0) if len(distances) else 0.0
    panels = detector.geometry(clen)
    write_members(group, {
        "geom": (text, "", "CrystFEL geometry"),
        "panel_names": (list(detector.names), "", "what `panel` numbers"),
        "origin": (panels.origin, "m", "corner of each panel's first pixel, at the median distance"),
        "fs_axis": (panels.fs_axis, "m", "step of one pixel in fast scan"),
        "ss_axis": (panels.ss_axis, "m", "step of one pixel in slow scan"),
        "shape": (panels.shape, "pixels", "pixels in slow scan, fast scan")})


@dataclass
class PieceOnDisk:
    """A segment as the assembly sees it: where its rows stand in the whole."""

    path: Path
    firsts: dict                      # {table: first row in the whole}
    lengths: dict                     # {table: rows}
    texts: np.ndarray                 # of each event, (first_text, n_text)
    event_rows: np.ndarray = None     # of each event, its row in /events
    lattice_rows: np.ndarray = None   # of each lattice, its row in /lattices


def sorted_tables(paths, by_source=False):
    """(events, lattices, pieces): all rows sorted by position, with indices that count in the whole.

    `by_source`: sorted by file and place in it instead.
    """
    parts, pieces = [], []
    firsts = {"events": 0, "peaks": 0, "reflections": 0, "lattices": 0}
    for path in paths:
        events, lattices, lengths = segments.read_rows(path)
        pieces.append(PieceOnDisk(path, firsts, lengths, events[["first_text", "n_text"]]))
        events["first_peak"] += firsts["peaks"]
        lattices["first_reflection"] += firsts["reflections"]
        lattices["event"] += firsts["events"]
        parts.append((events, lattices))
        lengths.update(events=len(events), lattices=len(lattices))
        firsts = {table: first + lengths[table] for table, first in firsts.items()}
    events = np.concatenate([np.zeros(0, segments.SEGMENT_EVENT), *(e for e, _ in parts)])
    lattices = np.concatenate([np.zeros(0, tables.LATTICE), *(rows for _, rows in parts)])
    order, row = ranked(events["source"].astype(np.int64) << 40 | events["index"] if by_source else events["position"])
    lattices["event"] = row[lattices["event"]]
    lattice_order, lattice_row = ranked(lattices["event"])
    for piece in pieces:
        piece.event_rows = row[piece.firsts["events"]:][:piece.lengths["events"]]
        piece.lattice_rows = lattice_row[piece.firsts["lattices"]:][:piece.lengths["lattices"]]
    events = events[order]
    events["first_lattice"] = np.cumsum(events["n_lattices"]) - events["n_lattices"]
    return events, lattices[lattice_order], pieces


def ranked(keys):
    """(order that sorts, place of each row in it); rows of equal keys stay in their order."""
    order = np.argsort(keys, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return order, place


def enums(instances):
    """{column: {name: number}} of the columns of /events that are HDF5 enums."""
    return {"outcome": {o.name: int(o) for o in Outcome}, "reason": {r.name: int(r) for r in Reason},
            "stopped_by": {name or "none": k for k, name in enumerate(instances)}}


def write_table(file, name, columns, rows, enums=None):
    """One dataset for each column, with unit and description."""
    group = file.create_group(name)
    for column in columns:
        array = np.ascontiguousarray(rows[column.name])
        names = (enums or {}).get(column.name)
        dtype = h5py.enum_dtype(names, array.dtype) if names else array.dtype
        options = {"chunks": (min(len(rows), segments.CHUNK_ROWS), *array.shape[1:]), "shuffle": True,
                   "compression": "gzip", "compression_opts": 1} if len(rows) > 1024 else {}
        dataset = group.create_dataset(column.name, array.shape, dtype, **options)
        if len(rows):
            dataset[...] = array
        describe(dataset, column.unit, column.meaning)


def write_names(group, events, pieces):
    """`/events/event_id`, and `/events/message`: what is told of an event in words."""
    names, messages = np.full(len(events), "", object), np.full(len(events), "", object)
    for piece in pieces:
        with h5py.File(piece.path, "r") as file:
            pool = file["text"][:].tobytes()
        for row, (first, count) in zip(piece.event_rows, piece.texts):
            name, _, told = pool[first:first + count].partition(b"\0")
            names[row], messages[row] = name.decode(), told_in_words(told)
    for name, values, meaning in (("event_id", names, "the source's own name of the event"),
                                  ("message", messages, "why it ended there, in words; traceback of a failure")):
        dataset = group.create_dataset(name, values.shape, h5py.string_dtype())
        if len(values):
            dataset[...] = values
        describe(dataset, "", meaning)


def told_in_words(text):
    """The words of an event's story."""
    if not text:
        return ""
    story = json.loads(text)
    numbers = ", ".join(f"{k} {v:g}" for k, v in story["numbers"].items())
    why = f"{story['detail']} ({numbers})" if story["detail"] and numbers else story["detail"] or numbers
    head = ": ".join(t for t in (story["stage"], why) if t)
    return "\n".join(t for t in (head, *story["notes"], story["traceback"]) if t)


def write_virtual(file, table, columns, pieces):
    """The large table by virtual datasets over the segments; its column of lattice rows is written here."""
    group = file.create_group(table)
    total = sum(p.lengths[table] for p in pieces)
    for column in columns:
        dtype = np.dtype(column.dtype[0] if isinstance(column.dtype, tuple) else column.dtype)
        row_shape = column.dtype[1] if isinstance(column.dtype, tuple) else ()
        if column.name == OWNED[table] or not total:
            dataset = group.create_dataset(column.name, (total, *row_shape), dtype,
                                           **segments.stored(total, row_shape, dtype, segments.Storage()))
            fill_lattice_rows(dataset, table, pieces)
        else:
            layout = h5py.VirtualLayout((total, *row_shape), dtype)
            for piece in pieces:
                first, count = piece.firsts[table], piece.lengths[table]
                if count:
                    layout[first:first + count] = h5py.VirtualSource(
                        f"segments/{piece.path.name}", f"{table}/{column.name}", (count, *row_shape), dtype)
            dataset = group.create_virtual_dataset(column.name, layout)
        describe(dataset, column.unit, column.meaning)


def fill_lattice_rows(dataset, table, pieces):
    """Rows of /lattices for each row of a large table, segment by segment."""
    for piece in pieces:
        first, count = piece.firsts[table], piece.lengths[table]
        if not count:
            continue
        with h5py.File(piece.path, "r") as file:
            local = file[f"{table}/lattice"][:]
        rows = np.full(count, -1, np.int32)
        rows[local >= 0] = piece.lattice_rows[local[local >= 0]]
        dataset[first:first + count] = rows


def write_members(group, members):
    """Write {name: value}; a value is an array, a text, a list of texts, a dict (a group) or (value, unit, meaning)."""
    for name, value in members.items():
        unit, meaning = "", ""
        if isinstance(value, tuple) and len(value) == 3 and isinstance(value[2], str):
            value, unit, meaning = value
        if isinstance(value, dict):
            write_members(group.require_group(name), value)
            continue
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            value = np.array(value, dtype=object)
            dataset = group.create_dataset(name, value.shape, h5py.string_dtype())
            if len(value):
                dataset[...] = value
        elif isinstance(value, str):
            dataset = group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        else:
            value = np.asarray(value)
            big = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if value.size > 4096 else {}
            dataset = group.create_dataset(name, data=value, **big)
        describe(dataset, unit, meaning)
