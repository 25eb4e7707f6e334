"""Reads and writes unit cells: CrystFEL's `.cell` files and the CRYST1 record of PDB files."""
import difflib
import math
import os

import gemmi
import numpy as np

from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.model.crystal import UnitCell

FIRST_LINE = "CrystFEL unit cell file version 1.0"
LATTICE_TYPES = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "rhombohedral", "hexagonal", "cubic")
CENTRINGS = ("P", "A", "B", "C", "I", "F", "H", "R")
NEEDS_UNIQUE_AXIS = ("monoclinic", "tetragonal", "hexagonal")
AXES = ("a", "b", "c")
ANGLES = {"al": "alpha", "be": "beta", "ga": "gamma"}
ANGSTROM_PER = {"A": 1.0, "nm": 10.0}
DEGREES_PER = {"deg": 1.0, "rad": 180.0 / math.pi}
KEYS = ("lattice_type", "centering", "unique_axis", *AXES, *ANGLES)


def read_cell(path):
    """Read a `.cell` file, or the CRYST1 record of a PDB file.

    Returns
    -------
    UnitCell
        Angstrom and degrees. A PDB file's space group is kept.

    Raises
    ------
    MpixfelError
        Everything that is wrong with the file, in one go.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise MpixfelError(f"cannot read the unit cell: {error.strerror}", path, "check the path") from None
    if lines and lines[0].strip() == FIRST_LINE:
        return _from_cell_file(lines, path)
    for number, line in enumerate(lines, 1):
        if line.startswith("CRYST1"):
            return _from_cryst1(line, f"{path}:{number}")
    raise MpixfelError("this is no unit cell", path,
                       f"its first line must be '{FIRST_LINE}', or it must be a PDB file with a CRYST1 record")


def write_cell(cell):
    """The text of a CrystFEL `.cell` file for a `UnitCell`."""
    lines = [FIRST_LINE, "", f"lattice_type = {cell.lattice_type}", f"centering = {cell.centring}"]
    if cell.unique_axis:
        lines.append(f"unique_axis = {cell.unique_axis}")
    if cell.space_group:
        lines.append(f"; space group {cell.space_group}")
    lines.append("")
    lines += [f"{key} = {float(getattr(cell, key))!r} A" for key in AXES]
    lines += [f"{key} = {float(getattr(cell, name))!r} deg" for key, name in ANGLES.items()]
    return "\n".join(lines) + "\n"


def _from_cell_file(lines, path):
    values, errors = {}, []
    for number, raw in enumerate(lines[1:], 2):
        statement = raw.split(";", 1)[0].strip()
        if not statement:
            continue
        key, equals, text = (part.strip() for part in statement.partition("="))
        try:
            values[key] = _value(key, text) if equals else _unknown(statement)
        except ValueError as error:
            errors.append(MpixfelError(str(error), f"{path}:{number}"))
            values.setdefault(key, None)
    errors += [MpixfelError(f"{key} is missing", path, "add it")
               for key in ("lattice_type", "centering", *AXES, *ANGLES) if key not in values]
    if not errors:
        errors += _contradictions(values, path)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return UnitCell(*(values[key] for key in (*AXES, *ANGLES)), values["lattice_type"], values["centering"],
                    values.get("unique_axis", ""), name=path)


def _unknown(key):
    near = difflib.get_close_matches(key, KEYS, 1, 0.4)
    raise ValueError(f"unknown statement {key!r}" + (f"; nearest known: {near[0]}" if near else ""))


def _value(key, text):
    if key not in KEYS:
        _unknown(key)
    if key in AXES or key in ANGLES:
        return _length_or_angle(key, text)
    allowed = {"lattice_type": LATTICE_TYPES, "centering": CENTRINGS, "unique_axis": AXES}[key]
    if text not in allowed:
        near = difflib.get_close_matches(text, allowed, 1, 0.4)
        nearest = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"{key} = {text!r} is none of {', '.join(allowed)}{nearest}")
    return text


def _length_or_angle(key, text):
    units = ANGSTROM_PER if key in AXES else DEGREES_PER
    parts = text.split()
    if len(parts) != 2 or parts[1] not in units:
        raise ValueError(f"{key} = {text!r}: write a number and {' or '.join(units)}")
    try:
        value = float(parts[0]) * units[parts[1]]
    except ValueError:
        raise ValueError(f"{key} = {text!r} is not a number") from None
    if not 0 < value < math.inf:
        raise ValueError(f"{key} = {text!r} must be positive: a cell with it has no volume")
    if key in ANGLES and value >= 180:
        raise ValueError(f"{key} = {text!r} must be below 180 degrees")
    return value


def _contradictions(values, path):
    """What a lattice type asks of the unique axis, the centring and the cell constants."""
    lattice, axis, centring = values["lattice_type"], values.get("unique_axis", ""), values["centering"]
    if lattice in NEEDS_UNIQUE_AXIS and not axis:
        yield MpixfelError(f"unique_axis is missing for a {lattice} cell", path, "add unique_axis = a, b or c")
        return
    if centring == "H" and lattice not in ("hexagonal", "rhombohedral"):
        yield MpixfelError(f"centring H on a {lattice} cell", path, "H needs hexagonal axes: lattice_type = hexagonal")
    if centring == "R" and lattice != "rhombohedral":
        yield MpixfelError(f"centring R on a {lattice} cell", path,
                           "R is for rhombohedral axes; on hexagonal axes the centring is H")
    broken = _broken_symmetry(lattice, axis, centring, values)
    if broken:
        yield MpixfelError(f"a {lattice} cell needs {broken}", path, "correct the cell constants or lattice_type")


def _broken_symmetry(lattice, axis, centring, values):
    """The first condition that the constants break, as text, or "". Tolerances: 1 % of lengths, 1 degree."""
    lengths = np.array([values[k] for k in AXES])
    angles = np.array([values[k] for k in ANGLES])
    same = lambda x, y, tolerance: abs(x - y) <= tolerance
    equal = lambda i, j: same(lengths[i], lengths[j], 0.01 * lengths[i])
    k = AXES.index(axis) if axis else 2
    i, j = (n for n in range(3) if n != k)
    right = lambda *which: all(same(angles[n], 90, 1.0) for n in which)
    hexagonal_axes = lattice == "hexagonal" or centring == "H"
    if lattice == "monoclinic" and not right(i, j):
        return f"angles of 90 degrees beside that of its unique axis {axis}"
    if lattice in ("orthorhombic", "tetragonal", "cubic") and not right(0, 1, 2):
        return "angles of 90 degrees"
    if lattice in ("tetragonal", "hexagonal") and not equal(i, j):
        return f"equal {AXES[i]} and {AXES[j]} (unique axis {axis})"
    if hexagonal_axes and not (right(i, j) and same(angles[k], 120, 1.0)):
        return "angles of 90, 90 and, at the unique axis, 120 degrees"
    if lattice == "cubic" and not (equal(0, 1) and equal(1, 2)):
        return "a = b = c"
    if lattice == "rhombohedral" and not hexagonal_axes and not (
            equal(0, 1) and equal(1, 2) and same(angles[0], angles[1], 1.0) and same(angles[1], angles[2], 1.0)):
        return "a = b = c and alpha = beta = gamma (or centring H on hexagonal axes)"
    return ""


def _from_cryst1(line, where):
    try:
        constants = [float(line[start:end]) for start, end in
                     ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))]
    except ValueError:
        raise MpixfelError("the CRYST1 record cannot be read", where,
                           "columns 7-54 hold a, b, c, alpha, beta, gamma") from None
    if constants[:3] == [1.0, 1.0, 1.0]:
        raise MpixfelError("CRYST1 holds the dummy cell 1 1 1, which has no meaning", where, "give the true cell")
    symbol = line[55:66].strip()
    group = gemmi.find_spacegroup_by_name(symbol, constants[3], constants[5]) if symbol else None
    if symbol and group is None:
        raise MpixfelError(f"unknown space group {symbol!r}", where, "correct columns 56-66 of CRYST1")
    if group is None:
        return UnitCell(*constants, name=where)
    return UnitCell(*constants, *_lattice_of(group, constants), group.xhm(), where)


def _lattice_of(group, constants):
    """(lattice type, centring, unique axis) in CrystFEL's terms."""
    system, centring = group.crystal_system_str(), group.hm[0]
    rhombohedral_axes = centring == "R" and group.ext != "H"
    if rhombohedral_axes:
        return "rhombohedral", "R", ""
    if centring == "R":
        return "hexagonal", "H", "c"
    if system == "trigonal":
        return "hexagonal", centring, "c"
    if system == "monoclinic":
        qualifier = group.qualifier
        return system, centring, qualifier.strip("-123")[:1] or "b"
    return system, centring, "c" if system in ("tetragonal", "hexagonal") else ""
