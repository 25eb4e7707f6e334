"""Unit cells: CrystFEL's files and CRYST1."""
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mpixfel.errors import ManyErrors, MpixfelError
from mpixfel.io.cell import read_cell, write_cell
from mpixfel.model.crystal import UnitCell

LYSOZYME = """CrystFEL unit cell file version 1.0

lattice_type = tetragonal
centering = P
unique_axis = c   ; the long one is a
a = 79.1 A
b = 7.91 nm
c = 37.9 A
al = 90.0 deg
be = 1.5707963267948966 rad
ga = 90.0 deg
"""


def read(tmp_path, text, name="x.cell"):
    path = tmp_path / name
    path.write_text(text)
    return read_cell(path)


def cryst1(a, b, c, alpha, beta, gamma, symbol):
    return f"HEADER\nCRYST1{a:9.3f}{b:9.3f}{c:9.3f}{alpha:7.2f}{beta:7.2f}{gamma:7.2f} {symbol:<11}   4\nEND\n"


def test_lengths_are_in_angstrom_or_nm_and_angles_in_degrees_or_radians(tmp_path):
    cell = read(tmp_path, LYSOZYME)
    assert cell.parameters == pytest.approx((79.1, 79.1, 37.9, 90, 90, 90))
    assert (cell.lattice_type, cell.centring, cell.unique_axis) == ("tetragonal", "P", "c")
    assert cell.volume == pytest.approx(79.1 * 79.1 * 37.9)


@pytest.mark.parametrize("old, new, complaint", [
    ("a = 79.1 A", "a = 0 A", "x.cell:6: a = '0 A' must be positive"),
    ("a = 79.1 A", "a = -79.1 A", "must be positive"),
    ("a = 79.1 A", "a = 79.1", "write a number and A or nm"),
    ("a = 79.1 A", "a = nan A", "must be positive"),
    ("a = 79.1 A", "a = many A", "is not a number"),
    ("a = 79.1 A\n", "", "a is missing"),
    ("a = 79.1 A", "a = 70 A", "tetragonal cell needs equal a and b (unique axis c)"),
    ("al = 90.0 deg", "al = 80 deg", "tetragonal cell needs angles of 90 degrees"),
    ("al = 90.0 deg", "al = 180 deg", "below 180 degrees"),
    ("unique_axis = c", "; none", "unique_axis is missing for a tetragonal cell"),
    ("centering = P", "centering = H", "centring H on a tetragonal cell"),
    ("centering = P", "centering = R", "centring R on a tetragonal cell"),
    ("centering = P", "centering = Q", "none of P, A, B, C, I, F, H, R"),
    ("lattice_type = tetragonal", "lattice_type = tetragonel", "nearest: tetragonal"),
    ("centering = P", "centring = P", "unknown statement 'centring'; nearest known: centering"),
    ("centering = P", "nonsense", "unknown statement 'nonsense'"),
])
def test_what_is_wrong_with_a_cell_is_named(tmp_path, old, new, complaint):
    with pytest.raises(MpixfelError) as caught:
        read(tmp_path, LYSOZYME.replace(old, new))
    assert complaint in str(caught.value)


def test_a_cell_without_volume_is_refused(tmp_path):
    text = LYSOZYME.replace("tetragonal", "triclinic").replace("al = 90.0", "al = 20").replace("ga = 90.0", "ga = 30")
    with pytest.raises(MpixfelError, match="has no volume"):
        read(tmp_path, text)


def test_all_errors_come_in_one_go(tmp_path):
    with pytest.raises(ManyErrors) as caught:
        read(tmp_path, LYSOZYME.replace("a = 79.1 A\n", "").replace("centering = P", "centering = Q"))
    assert len(caught.value.errors) == 2


def test_rhombohedral_cells_stand_on_rhombohedral_or_on_hexagonal_axes(tmp_path):
    text = LYSOZYME.replace("tetragonal", "rhombohedral").replace("centering = P", "centering = R")
    for name in ("al", "ga"):
        text = text.replace(f"{name} = 90.0 deg", f"{name} = 90.5 deg")
    assert "a = b = c" in str(pytest.raises(MpixfelError, read, tmp_path, text).value)
    cell = read(tmp_path, text.replace("c = 37.9", "c = 79.1"))
    assert (cell.lattice_type, cell.centring) == ("rhombohedral", "R")
    text = LYSOZYME.replace("tetragonal", "hexagonal").replace("centering = P", "centering = H")
    assert "120 degrees" in str(pytest.raises(MpixfelError, read, tmp_path, text).value)
    assert read(tmp_path, text.replace("ga = 90.0", "ga = 120")).centring == "H"


def test_a_monoclinic_cell_may_have_any_unique_axis(tmp_path):
    text = LYSOZYME.replace("tetragonal", "monoclinic").replace("al = 90.0", "al = 100")
    assert read(tmp_path, text.replace("unique_axis = c", "unique_axis = a")).unique_axis == "a"
    with pytest.raises(MpixfelError, match="beside that of its unique axis c"):
        read(tmp_path, text)


@pytest.mark.parametrize("constants, symbol, expected", [
    ((79.1, 79.1, 37.9, 90, 90, 90), "P 43 21 2", ("tetragonal", "P", "c", "P 43 21 2")),
    ((50, 60, 70, 90, 100, 90), "P 1 21 1", ("monoclinic", "P", "b", "P 1 21 1")),
    ((50, 60, 70, 90, 90, 100), "P 1 1 21", ("monoclinic", "P", "c", "P 1 1 21")),
    ((50, 60, 70, 90, 100, 90), "C 1 2 1", ("monoclinic", "C", "b", "C 1 2 1")),
    ((50, 60, 70, 90, 90, 90), "P 21 21 21", ("orthorhombic", "P", "", "P 21 21 21")),
    ((80, 80, 80, 90, 90, 90), "I 2 3", ("cubic", "I", "", "I 2 3")),
    ((93, 93, 130, 90, 90, 120), "P 61 2 2", ("hexagonal", "P", "c", "P 61 2 2")),
    ((93, 93, 130, 90, 90, 120), "P 31 2 1", ("hexagonal", "P", "c", "P 31 2 1")),
    ((93, 93, 130, 90, 90, 120), "H 3", ("hexagonal", "H", "c", "R3:H")),
    ((93, 93, 130, 90, 90, 120), "R 3", ("hexagonal", "H", "c", "R3:H")),
    ((93, 93, 93, 75, 75, 75), "R 3", ("rhombohedral", "R", "", "R3:R")),
    ((20, 30, 40, 80, 85, 95), "P 1", ("triclinic", "P", "", "P 1")),
])
def test_cryst1_gives_constants_lattice_and_space_group(tmp_path, constants, symbol, expected):
    cell = read(tmp_path, cryst1(*constants, symbol), "x.pdb")
    assert cell.parameters == pytest.approx(constants)
    got = (cell.lattice_type, cell.centring, cell.unique_axis, cell.space_group)
    assert [text.replace(" ", "") for text in got] == [text.replace(" ", "") for text in expected]


def test_a_space_group_that_is_unknown_or_a_dummy_cell_is_refused(tmp_path):
    with pytest.raises(MpixfelError, match="unknown space group 'P 9'"):
        read(tmp_path, cryst1(50, 60, 70, 90, 90, 90, "P 9"))
    with pytest.raises(MpixfelError, match="dummy"):
        read(tmp_path, cryst1(1, 1, 1, 90, 90, 90, "P 1"))


def test_a_file_that_is_no_cell_is_refused(tmp_path):
    with pytest.raises(MpixfelError, match="this is no unit cell"):
        read(tmp_path, "a = 3 A\n")
    with pytest.raises(MpixfelError, match="cannot read"):
        read_cell(tmp_path / "none.cell")


lengths, angles = st.floats(3, 900), st.floats(30, 150)


@given(lengths, lengths, lengths, angles, angles, angles)
def test_what_is_written_reads_back_to_the_same_cell(tmp_path_factory, a, b, c, alpha, beta, gamma):
    try:
        cell = UnitCell(a, b, c, alpha, beta, gamma, centring="I")
    except MpixfelError:
        assume(False)
    path = tmp_path_factory.mktemp("cell") / "x.cell"
    path.write_text(write_cell(cell))
    again = read_cell(path)
    assert again.parameters == cell.parameters and again.centring == "I" and math.isclose(again.volume, cell.volume)
