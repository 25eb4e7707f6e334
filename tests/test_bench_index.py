"""The indexing benchmark: its sets hold what they say, and it prints rates against known lattices."""
import numpy as np
import pytest

from mpixfel.cli.bench_index import agrees
from mpixfel.cli.main import main
from mpixfel.io.spot_lists import Still, read_spot_lists
from mpixfel.simulate.spot_sets import CELLS, GOALS, count_right, random_list


def test_sets_with_a_goal_hold_the_spots_that_their_names_say():
    for goal in GOALS:
        one = next(goal.lists())
        foreign = int(np.sum(one.lattice < 0))
        assert f"{foreign} foreign" in goal.name and len(one.axes) == goal.lattices
        assert len(one.q) == goal.n_spots and goal.wanted <= goal.number * goal.lattices


def test_the_given_cell_is_off_by_what_the_set_says():
    goal = next(g for g in GOALS if g.cell_error)
    np.testing.assert_allclose(np.array(goal.given_cell.parameters[:3]) / CELLS[goal.cell].parameters[:3], 1.007)


def test_right_lattices_are_counted_once_whatever_their_basis():
    axes = np.array([CELLS["triclinic"].reciprocal_axes(), CELLS["lysozyme"].reciprocal_axes()])
    other = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) @ axes[0]
    assert count_right(axes, axes) == (2, 0)
    assert count_right([other], axes) == (1, 0)
    assert count_right([axes[0], other], axes) == (1, 1)
    assert count_right([1.1 * axes[0]], axes) == (0, 1)
    assert count_right((), axes) == (0, 0)


def test_indices_agree_up_to_symmetry_or_not():
    """A four-fold turn of a tetragonal lattice changes indices and agrees; one index off by one in all spots does not."""
    axes = CELLS["lysozyme"].reciprocal_axes()
    hkl = np.random.default_rng(0).integers(-20, 20, (30, 3))
    still = Still(hkl @ axes, hkl, 1.05 * axes, 1.3)
    turned = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) @ axes
    assert agrees(turned, still)
    assert not agrees(axes @ np.diag([1, 1, 1.1]), still)


def test_random_lists_belong_to_no_lattice():
    one = random_list(50, 2.5, 1)
    assert len(one.q) == 50 and np.all(one.lattice == -1)


def test_the_benchmark_prints_rates(capsys):
    assert main(["bench", "index", "--parts", "grid,lattices", "--cells", "lysozyme", "--spots", "30,60", "--foreign", "15",
                 "--errors", "0.35", "--repeat", "2"]) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.split()[:1] == ["lysozyme"])
    assert row.split()[1:3] == ["0.35", "15%"] and row.split()[3] == row.split()[5] == "2"
    assert "0 false lattices" in told and "10 of 10 " in told


def test_random_spots_are_counted(capsys):
    assert main(["bench", "index", "--parts", "", "--cells", "triclinic", "--random", "12"]) == 0
    assert "0 of 12" in capsys.readouterr().out


def test_an_unknown_cell_or_part_is_refused(capsys):
    assert main(["bench", "index", "--cells", "lysozime"]) == 2
    assert "unknown lysozime" in capsys.readouterr().err


def test_real_spot_lists_have_bases_that_explain_them(shared_data):
    cell, stills = read_spot_lists(shared_data / "real/lysozyme_ld91_spots.h5")
    assert len(stills) == 150 and cell[0] == pytest.approx(78.9)
    assert all(len(s.hkl) == len(s.q) for s in stills)
    off = [np.median(np.linalg.norm(s.hkl @ s.axes - s.q, axis=1)) for s in stills]
    assert np.median(off) < 0.002
