"""Cells that are found where none is given: from lists of simulated spots, and in a whole run."""
import json
from dataclasses import replace

import numpy as np
import pytest

from diagnosed_runs import make_run
from mpixfel.cli.main import main
from mpixfel.io.cell import read_cell
from mpixfel.io.results import Results
from mpixfel.io.spot_lists import read_spot_lists
from mpixfel.model.crystal import UnitCell
from mpixfel.model.event import Reason, Skip
from mpixfel.model.experiment import Beam, Context, Detector, Panel, Shot
from mpixfel.report.cells_found import cell_rows, clusters_line
from mpixfel.simulate.spots import simulate_spots
from mpixfel.stages.acceptance import on_ewald_sphere
from mpixfel.stages.cells import cells_of_table, find_cells, pattern
from mpixfel.stages.indexing import Spots, StagedIndexer
from mpixfel.units import photon_energy_ev

LYSOZYME = UnitCell(79.3, 79.3, 37.8, 90, 90, 90, "tetragonal", "P", "c")
MONOCLINIC = UnitCell(60.2, 75.5, 100.3, 90, 104.5, 90, "monoclinic", "P", "b")
TRICLINIC = UnitCell(41.0, 52.3, 63.1, 82, 95, 107)
CENTRED = UnitCell(82, 82, 34, 90, 90, 120, "rhombohedral", "H", "c")
BODY = UnitCell(104, 104, 104, 90, 90, 90, "cubic", "I")
DISTANCE, WAVELENGTH, PIXEL = 0.15, 1.3, 75e-6
PANEL = Panel("p", (0.0, 0.0, 0.0), (PIXEL, 0.0, 0.0), (0.0, PIXEL, 0.0), (2000, 2000), adu_per_photon=1.0)
CONTEXT = Context(Detector((PANEL,)), Beam(), rehearsal=True)
SHOT = Shot(CONTEXT.detector.geometry(DISTANCE), photon_energy_ev(WAVELENGTH), 0.0, DISTANCE, np.ones(1))


def spots(cell, n=12, each=50, seed=5, **options):
    """`Spots` of n shots, their beams off by a pixel or two."""
    made = [simulate_spots(cell, each, [seed, k], cell_sigma=0.001, beam_shift_px=(1.0, -0.7), **options) for k in range(n)]
    return [Spots(s.q, s.intensity, s.sigma_q) for s in made]


def patterns(*arguments, **options):
    return [pattern(s, SHOT) for s in spots(*arguments, **options)]


@pytest.mark.parametrize("cell, group", [(LYSOZYME, "P1"), (MONOCLINIC, "P1"), (TRICLINIC, "P1"), (CENTRED, "R3"),
                                         (BODY, "I23")], ids=lambda x: getattr(x, "lattice_type", ""))
def test_the_cell_and_bravais_lattice_of_a_run_are_found(cell, group):
    """Conventional cell within half a per cent, and no second one, from twelve shots with 15 % foreign spots."""
    found = find_cells(patterns(cell, space_group=group))
    assert len(found) == 1 and len(found[0].patterns) >= 11
    assert (found[0].cell.lattice_type, found[0].cell.centring) == (cell.lattice_type, cell.centring)
    assert found[0].cell.volume == pytest.approx(cell.volume, rel=0.01)
    np.testing.assert_allclose(sorted(found[0].cell.parameters[:3]), sorted(cell.parameters[:3]), rtol=0.005)


def test_two_crystal_forms_are_told_apart_with_their_counts():
    mixed = patterns(LYSOZYME, 9) + patterns(MONOCLINIC, 5)
    found = find_cells(mixed)
    assert [c.cell.lattice_type for c in found] == ["tetragonal", "monoclinic"]
    assert found[0].patterns == tuple(range(9)) and found[1].patterns == tuple(range(9, 14))


def test_random_spots_share_no_cell():
    assert find_cells(patterns(LYSOZYME, foreign_fraction=1.0)) == ()


@pytest.mark.parametrize("which, n", [("main", 1), ("all", 2)])
def test_a_run_goes_on_with_the_main_cell_or_with_all(which, n):
    """What is learnt holds all clusters; events are indexed by the cells in use, each lattice says by which."""
    stage = StagedIndexer(cells=which, beam_tolerance_px=2.0)
    shots = spots(LYSOZYME, 5) + spots(MONOCLINIC, 4)
    skips = [stage(s, SHOT, stage.prepare(CONTEXT), None) for s in shots]
    assert all(isinstance(s, Skip) and s.reason is Reason.no_cell_found for s in skips)
    learnt = stage.find_cells(skips, CONTEXT)
    assert len(learnt.cells) == n
    assert [(c.lattice_type, k) for c, _, k in cells_of_table(learnt.extra["clusters"])] == [("tetragonal", 5), ("monoclinic", 4)]
    assert "in 5" in clusters_line(learnt) and "in 4" in clusters_line(learnt)
    prepared = stage.prepare(CONTEXT.wiser(learnt))
    found = [stage(s, SHOT, prepared, None) for s in shots]
    forms = [None if isinstance(f, Skip) else int(f["form"][0]) for f in found]
    assert forms == [0] * 5 + ([1] * 4 if which == "all" else [None] * 4)


def test_the_command_lists_the_cells_and_writes_one(tmp_path, capsys):
    """Shots of another cell than the given one: the list holds the given form's refined mean and the other cell."""
    made = [s.q for s in spots(LYSOZYME, 5)] + [s.q for s in spots(MONOCLINIC, 6)]
    run = make_run(tmp_path / "run", made, [LYSOZYME])
    assert main(["cell", str(run), "--search", "--take", "2", "-o", str(tmp_path / "second.cell")]) == 0
    told = capsys.readouterr().out
    assert "refined lattices" in told and "hits without lattice" in told and "monoclinic P, 6 of 6" in told
    written = read_cell(tmp_path / "second.cell")
    np.testing.assert_allclose(written.parameters, MONOCLINIC.parameters, rtol=0.005)
    assert written.lattice_type == "monoclinic"
    assert main(["cell", str(run)]) == 0
    first = read_cell(run / "found.cell")
    assert first.lattice_type == "tetragonal"
    np.testing.assert_allclose(first.parameters, LYSOZYME.parameters, rtol=0.005)


def test_the_command_gives_scripts_the_same_and_refuses_a_number_that_is_not_there(tmp_path, capsys):
    run = make_run(tmp_path / "run", [s.q for s in spots(LYSOZYME, 5)], [LYSOZYME])
    assert main(["cell", str(run), "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)
    assert (row["count"], row["of"], row["lattice_type"]) == (5, 5, "tetragonal")
    assert [r.count for r in cell_rows(Results(run))] == [5]
    assert main(["cell", str(run), "--take", "3"]) == 2
    assert "there is no cell 3" in capsys.readouterr().err


def test_real_stills_share_the_cell_that_is_known_of_them(shared_data):
    """Forty lysozyme stills of LCLS, with as many random spots added: cell within half a per cent, tetragonal P."""
    known, stills = read_spot_lists(shared_data / "real/lysozyme_ld91_spots.h5")
    made = []
    for k, still in enumerate(stills[::4]):
        rng, size = np.random.default_rng(k), np.linalg.norm(still.q, axis=1)
        extra = on_ewald_sphere(np.sqrt(rng.uniform(size.min() ** 2, size.max() ** 2, len(size))), still.wavelength, rng)
        q = np.concatenate([still.q, extra])
        shot = replace(SHOT, photon_energy_ev=photon_energy_ev(still.wavelength), bandwidth_fwhm=0.002)
        made.append(pattern(Spots(q, np.ones(len(q)), np.full(len(q), 4e-4)), shot))
    found = find_cells(made)
    assert (found[0].cell.lattice_type, found[0].cell.centring) == ("tetragonal", "P") and len(found[0].patterns) > 20
    np.testing.assert_allclose(found[0].cell.parameters, known, rtol=0.005)
