"""How often indexing is right and how long it takes, on simulated and real lists of spots: one core, processor time."""
import time
from dataclasses import replace

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.spot_lists import read_spot_lists
from mpixfel.model.crystal import UnitCell
from mpixfel.model.event import Skip
from mpixfel.model.experiment import Beam, Context, Detector, Learnt, Panel, Shot
from mpixfel.simulate.spot_sets import CELLS, DISTANCE, GOALS, PIXEL, WAVELENGTH, SpotSet, count_right, random_list
from mpixfel.stages.acceptance import on_ewald_sphere
from mpixfel.stages.cells import find_cells, pattern
from mpixfel.stages.indexing import Spots, StagedIndexer, index_spots
from mpixfel.units import photon_energy_ev

SPOTS = "7,11,15,30,60,120,240,500"
PARTS = ("goals", "grid", "lattices", "unknown", "real", "random")
AGREE = 0.8            # of the spots of a real still must have the same indices
PANEL = Panel("p", (0.0, 0.0, 0.0), (PIXEL, 0.0, 0.0), (0.0, PIXEL, 0.0), (2000, 2000), adu_per_photon=1.0)
SHOT = Shot(Detector((PANEL,)).geometry(DISTANCE), photon_energy_ev(WAVELENGTH), 0.0, DISTANCE, np.ones(1))


def add_arguments(parser):
    """What is measured."""
    parser.add_argument("--parts", metavar="PART,...", default="goals,grid,lattices,unknown", help="of " + ", ".join(PARTS))
    parser.add_argument("--cells", metavar="CELL,...", default=",".join(CELLS), help="default: all (" + ", ".join(CELLS) + ")")
    parser.add_argument("--spots", metavar="N,N,...", default=SPOTS, help=f"spots of a list (default {SPOTS})")
    parser.add_argument("--foreign", metavar="P,P,...", default="0,15,50", help="per cent of them that are foreign")
    parser.add_argument("--errors", metavar="PX,PX,...", default="0.35,0.7", help="errors of positions, pixels")
    parser.add_argument("--repeat", metavar="N", type=int, default=5, help="lists of each kind (default 5)")
    parser.add_argument("--real", metavar="FILE", help="spot lists of real stills, HDF5; adds the part real")
    parser.add_argument("--random", metavar="N", type=int, default=0, help="lists of random spots; adds the part random")
    parser.add_argument("--given", action="store_true", help="cell and beam as well known as before a run has learnt "
                                                             "(2 %%, 3 px); default: as after")


def run(args):
    """Measure and print; returns the exit code."""
    parts = chosen(args.parts, PARTS, "--parts") + ["real"] * bool(args.real) + ["random"] * bool(args.random)
    cells = chosen(args.cells, CELLS, "--cells")
    numbers = [[float(x) for x in text.split(",")] for text in (args.spots, args.foreign, args.errors)]
    for part in dict.fromkeys(parts):
        if part == "goals":
            goals()
        elif part == "grid":
            grid(cells, *numbers, args.repeat, args.given)
        elif part == "lattices":
            several(cells, args.repeat, args.given)
        elif part == "unknown":
            unknown(cells, numbers[0], args.repeat)
        elif part == "real" and args.real:
            real(args.real)
        elif part == "random" and args.random:
            random_spots(cells, args.random)
    return 0


def chosen(text, known, flag):
    """Names of a list, each of them known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise MpixfelError(f"unknown {', '.join(wrong)}", flag, "choose from " + ", ".join(known))
    return names


def context(cell, learnt):
    """The `Context` before a run has learnt, or after."""
    known = Context(Detector((PANEL,)), Beam(), (cell,))
    if not learnt:
        return known
    sigma = np.array([1e-3 * x for x in cell.parameters[:3]] + [0.0] * 3)
    return known.wiser(Learnt(n_lattices=100, cells=(cell,), cell_sigma=(sigma,), beam_shift_sigma_m=(0.3 * PIXEL,) * 2))


def measure(spot_set, stage, prepared):
    """(right, false, lattices, ms a list) of a `SpotSet`."""
    right = false = total = 0
    seconds = []
    for k, one in enumerate(spot_set.lists()):
        spots = Spots(one.q, one.intensity, one.sigma_q)
        if k == 0:
            stage(spots, SHOT, prepared, None)      # directions and turns are made once for each size
        began = time.process_time()
        found = stage(spots, SHOT, prepared, None)
        seconds.append(time.process_time() - began)
        bases = () if isinstance(found, Skip) else found["reciprocal_axes"]
        good, bad = count_right(bases, one.axes)
        right, false, total = right + good, false + bad, total + len(one.axes)
    return right, false, total, 1e3 * float(np.median(seconds))


def goals():
    """Sets with a number of right lattices to reach, with cell and beam as given."""
    print("sets with a goal (2 % of cell and 3 px of beam allowed)")
    stage = StagedIndexer()
    for one in GOALS:
        right, false, total, ms = measure(one, stage, stage.prepare(context(one.given_cell, False)))
        print(f"  {one.name:<52} {right:>4} of {total:<4} (goal {one.wanted}) {false:>3} false {ms:8.2f} ms", flush=True)


def grid(cells, spots, foreign, errors, repeat, given):
    """One lattice: rate and ms by cell, error, foreign share and number of spots."""
    print("one lattice, known cell: right of " + str(repeat) + " / ms a list" + ("" if given else "; beam and cell as learnt"))
    print(f"  {'cell':<12}{'px':>5}{'foreign':>8} " + "".join(f"{int(n):>12}" for n in spots))
    stage = StagedIndexer()
    n_false = 0
    for cell in cells:
        prepared = stage.prepare(context(CELLS[cell], not given))
        for error in errors:
            for share in foreign:
                row = [measure(SpotSet("", cell, int(n), {"foreign_fraction": share / 100, "position_error_px": error},
                                       number=repeat), stage, prepared) for n in spots]
                n_false += sum(r[1] for r in row)
                print(f"  {cell:<12}{error:>5}{share:>7.0f}% " + "".join(f"{r[0]:>4}{r[3]:>8.2f}" for r in row), flush=True)
    print(f"  {n_false} false lattices")


def several(cells, repeat, given):
    """1 to 5 lattices of 40 spots each, 15 % foreign."""
    print("several lattices of 40 spots, 15 % foreign: right of all, false / ms a lattice")
    stage = StagedIndexer()
    for cell in cells:
        prepared, row = stage.prepare(context(CELLS[cell], not given)), []
        for m in range(1, 6):
            right, false, total, ms = measure(SpotSet("", cell, int(40 * m / 0.85), lattices=m, number=repeat), stage, prepared)
            row.append(f"{right:>4} of {total:<3}{false:>2} {ms / m:6.2f}")
        print(f"  {cell:<12}" + "".join(row), flush=True)


def unknown(cells, spots, repeat):
    """No cell: what one pattern suggests, and what twelve of 60 spots share."""
    from mpixfel.kernels import fit
    from mpixfel.stages.periods import candidate_cell

    print(f"no cell: patterns of {repeat} whose own cell is right / ms a pattern; what 12 patterns of 60 spots share")
    print(f"  {'cell':<12}" + "".join(f"{int(n):>12}" for n in spots if n >= 15))
    for name in cells:
        row = []
        for n in (int(n) for n in spots if n >= 15):
            right, seconds = 0, []
            for one in SpotSet("", name, n, number=repeat).lists():
                made = pattern(Spots(one.q, one.intensity, one.sigma_q), SHOT)
                work = fit.new_work()
                began = time.process_time()
                found = candidate_cell(made.table, made.wavelength, made.shift_sigma, work)
                seconds.append(time.process_time() - began)
                right += found is not None and count_right([np.linalg.inv(found.axes).T], one.axes)[0]
            row.append(f"{right:>4}{1e3 * np.median(seconds):>8.2f}")
        made = [pattern(Spots(o.q, o.intensity, o.sigma_q), SHOT) for o in SpotSet("", name, 60, number=12).lists()]
        began = time.process_time()
        clusters = find_cells(made)
        ms = 1e3 * (time.process_time() - began) / len(made)
        best = f"{told(clusters[0].cell)} in {len(clusters[0].patterns)}" if clusters else "none"
        print(f"  {name:<12}" + "".join(row) + f"   {best}, {len(clusters)} clusters, {ms:.1f} ms a pattern", flush=True)


def told(cell):
    """A cell in words."""
    return " ".join(f"{x:.1f}" for x in cell.parameters) + f" {cell.lattice_type} {cell.centring}"


def real(path):
    """Real stills: all spots, half of them, as many random ones added; and the cell of the run as a whole."""
    constants, stills = read_spot_lists(path)
    square = constants[0] == constants[1] and constants[3:] == (90.0, 90.0, 90.0)
    cell = UnitCell(*constants, *(("tetragonal", "P", "c") if square else ()))
    print(f"real stills: {len(stills)} of {path}, cell {told(cell)}")
    for kind in ("all spots", "half of the spots", "as many random spots added"):
        right = false = 0
        seconds = []
        for i, still in enumerate(stills):
            q = changed(still, kind, np.random.default_rng(i))
            began = time.process_time()
            found = index_spots(q, cell, still.wavelength, bandwidth_fwhm=0.002)
            seconds.append(time.process_time() - began)
            good = [] if isinstance(found, Skip) else [agrees(axes, still) for axes in found["reciprocal_axes"]]
            right, false = right + any(good), false + len(good) - any(good)
        print(f"  {kind:<30}{right:>4} of {len(stills)} right, {false} others, {1e3 * np.median(seconds):.2f} ms", flush=True)
    shots = [replace(SHOT, photon_energy_ev=photon_energy_ev(s.wavelength), bandwidth_fwhm=0.002) for s in stills]
    made = [pattern(Spots(s.q, np.ones(len(s.q)), np.full(len(s.q), 4e-4)), shot) for s, shot in zip(stills, shots)]
    for cluster in find_cells(made):
        print(f"  unknown cell: {told(cluster.cell)} in {len(cluster.patterns)}", flush=True)


def agrees(axes, still):
    """Whether rows a*, b*, c* give a still's spots its own indices, up to symmetry. Its bases may be of another scale."""
    change = np.rint(still.axes @ np.linalg.inv(axes))
    same = np.all(np.rint(still.q @ np.linalg.inv(axes)) == still.hkl @ change, axis=1)
    return abs(abs(np.linalg.det(change)) - 1) < 1e-6 and same.mean() >= AGREE


def changed(still, kind, rng):
    """The spots of a still, half of them, or with as many random ones."""
    q = still.q
    if kind.startswith("half"):
        return q[rng.permutation(len(q))[:(len(q) + 1) // 2]]
    if kind.startswith("all"):
        return q
    size = np.linalg.norm(q, axis=1)
    norms = np.sqrt(rng.uniform(size.min() ** 2, size.max() ** 2, len(q)))
    return np.concatenate([q, on_ewald_sphere(norms, still.wavelength, rng)])


def random_spots(cells, n):
    """Lists of 5 to 500 spots that follow no lattice: how many get one."""
    print(f"{n} lists of random spots, 5 to 500, shared among the cells: lattices reported (allowed: 0.1 %)")
    stage, total = StagedIndexer(), 0
    for i, name in enumerate(cells):
        prepared, false, seconds = stage.prepare(context(CELLS[name], False)), 0, []
        lists = range(i, n, len(cells))
        for k in lists:
            rng = np.random.default_rng([k, 3])
            one = random_list(int(np.exp(rng.uniform(np.log(5), np.log(500.99)))), 1.2 if name == "small" else 2.5, [k, 4])
            began = time.process_time()
            false += not isinstance(stage(Spots(one.q, one.intensity, one.sigma_q), SHOT, prepared, None), Skip)
            seconds.append(time.process_time() - began)
        total += false
        print(f"  {name:<12}{false:>4} of {len(lists)}, {1e3 * np.mean(seconds):.1f} ms a list", flush=True)
    print(f"  {'all':<12}{total:>4} of {n}")
