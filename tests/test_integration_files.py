"""Integration files: their names, and that each format gives back what the record held; DIALS reads its own."""
import csv
import json
import os
import struct
import subprocess

import gemmi
import h5py
import numpy as np
import pytest

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.crystals import lattice_geometry, write_crystals
from mpixfel.io.exports.dials import hall_symbol
from mpixfel.model import tables
from mpixfel.model.event import Event, EventId, Record
from mpixfel.model.experiment import Beam, Context, Detector, Learnt, Panel
from mpixfel.modules.hitfind import Options
from mpixfel.modules.names import long_stem

PIXEL = 1e-4
STAMP_NS = 1362118138_401_000_000
REFL = "dials::af::reflection_table"


@pytest.fixture
def shot_context_record():
    """Two lattices on two panels; positions of a reflection are those where it diffracts, by the definition of q."""
    panels = (Panel("left", (0.0, -0.02, 0.0), (-PIXEL, 0, 0), (0, PIXEL, 0), (400, 200), 10.0, max_adu=9000.0),
              Panel("right", (0.0201, -0.02, 0.0), (-PIXEL, 0, 0), (0, PIXEL, 0), (400, 200), 10.0, min_fs=200))
    context = Context(Detector(panels, 3.2e-4, "Si"), Beam(), learnt=Learnt(beam_shift_m=(1e-4, -2e-4), distance_scale=1.01))
    ident = EventId(0, 7, "run.h5 //7", STAMP_NS)
    shot = context.shot(Event(ident, (), 9500.0, 0.1))
    rng = np.random.default_rng(3)
    lattices, reflections = np.zeros(2, tables.LATTICE), np.zeros(30, tables.REFLECTION)
    lattices["beam_shift"], lattices["distance_scale"] = [(-1e-4, 2e-4), (-1.5e-4, 2.5e-4)], (1.01, 1.012)
    lattices["centring"], lattices["space_group"] = b"P", b"P 43 21 2"
    lattices["half_mosaicity"], lattices["domain_size"] = 0.05, 1500.0
    lattices["first_reflection"], lattices["n_reflections"] = (0, 20), (20, 10)
    reflections["lattice"] = np.repeat((0, 1), (20, 10))
    reflections["panel"], reflections["flags"] = rng.integers(0, 2, 30), tables.Flag.profile_fitted
    reflections["fs"], reflections["ss"] = rng.uniform(5, 195, 30), rng.uniform(5, 395, 30)
    for name in ("intensity", "sigma", "intensity_sum", "sigma_sum", "background", "partiality", "correction"):
        reflections[name] = rng.uniform(1, 1000, 30)
    for k in range(2):
        mine = reflections["lattice"] == k
        q = scattering_vectors(lattice_geometry(lattices[k], shot, context), reflections[mine], shot.wavelength_angstrom)
        hkl = rng.integers(-8, 9, (mine.sum(), 3))
        hkl[:3] = np.eye(3) * (5, 6, 7)
        # Rows that make the first three exact: any basis will do to tell that both programs see the same vectors.
        lattices["reciprocal_axes"][k] = q[:3] / np.array((5, 6, 7))[:, None]
        reflections["hkl"][mine] = hkl
        reflections["resolution"][mine] = np.linalg.norm(q, axis=1)
    return shot, context, Record(ident, 9500.0, 0.1, lattices=lattices, reflections=reflections)


def scattering_vectors(geometry, rows, wavelength):
    out = []
    for r in rows:
        p = geometry.origin[r["panel"]] + r["fs"] * geometry.fs_axis[r["panel"]] + r["ss"] * geometry.ss_axis[r["panel"]]
        out.append((p / np.linalg.norm(p) - (0, 0, 1)) / wavelength)
    return np.array(out)


def written(tmp_path, shot_context_record, file_format):
    shot, context, record = shot_context_record
    write_crystals(str(tmp_path / ("int-" + long_stem(record.id))), record, shot, context, file_format, "CxiDs1-0|Cspad-0")
    return record, sorted(p.name for p in tmp_path.iterdir())


def test_hdf5_has_the_name_of_old_and_the_rows_of_the_run_file(tmp_path, shot_context_record):
    record, names = written(tmp_path, shot_context_record, "h5")
    assert names == ["int-2013-03-01T06:08Z58.401_00000.h5"]
    with h5py.File(tmp_path / names[0]) as f:
        for name in ("hkl", "intensity", "sigma", "fs"):
            np.testing.assert_array_equal(f["reflections"][name], record.reflections[name])
        np.testing.assert_array_equal(f["lattices/reciprocal_axes"], record.lattices["reciprocal_axes"])
        assert f["wavelength"][()] == pytest.approx(12398.42 / 9500, rel=1e-6)
        # The pattern's shift is the panels' the other way; what was learnt is in the lattice's shift already.
        np.testing.assert_allclose(f["panel_origin"][0], (0.1, -20.2, 101.0), atol=1e-9)
        assert (f["xbeam"][()], f["ybeam"][()]) == (pytest.approx(0.1), pytest.approx(20.2))
        assert f["lattices/half_mosaicity"].attrs["units"] == "degrees"


def test_json_and_csv_hold_the_same_numbers(tmp_path, shot_context_record):
    record, _ = written(tmp_path, shot_context_record, "json")
    _, names = written(tmp_path, shot_context_record, "csv")
    found = json.loads((tmp_path / names[1]).read_text())
    assert found["reflections"]["hkl"] == record.reflections["hkl"].tolist()
    np.testing.assert_array_equal(np.float32(found["reflections"]["intensity"]), record.reflections["intensity"])
    assert found["lattices"]["space_group"] == ["P 43 21 2"] * 2
    lines = (tmp_path / names[0]).read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    np.testing.assert_array_equal([np.float32(r["intensity"]) for r in rows], record.reflections["intensity"])
    assert [int(r["l"]) for r in rows] == record.reflections["hkl"][:, 2].tolist()
    assert any(line.startswith("# lattice 1 half_mosaicity: 0.05") for line in lines)


def test_the_reflection_table_is_msgpack_that_unpacks_to_the_rows(tmp_path, shot_context_record):
    record, names = written(tmp_path, shot_context_record, "expt")
    assert [n.split("_00000")[1] for n in names] == ["_integrated.expt", "_integrated.refl"]
    (kind, version, table), end = unpacked((tmp_path / names[1]).read_bytes(), 0)
    assert (kind, version, table["nrows"], end) == (REFL, 1, 30, (tmp_path / names[1]).stat().st_size)
    kinds = {name: kind for name, (kind, _) in table["data"].items()}
    assert kinds["miller_index"] == "cctbx::miller::index<>" and kinds["s1"] == "vec3<double>"
    n, data = table["data"]["miller_index"][1]
    np.testing.assert_array_equal(np.frombuffer(data, "<i4").reshape(n, 3), record.reflections["hkl"])
    experiments = json.loads((tmp_path / names[0]).read_text())
    assert [e["identifier"] for e in experiments["experiment"]] == list(table["identifiers"].values())
    # Unique among all files: events of other sources and runs have the same names, files have not.
    stem = os.path.basename(names[0]).removesuffix(".expt")
    assert [e["identifier"] for e in experiments["experiment"]] == [f"{stem} lattice {k}" for k in range(2)]


def unpacked(data, at):
    """(value, next position) of msgpack."""
    code = data[at]
    if code < 128:
        return code, at + 1
    size = struct.unpack_from(">I", data, at + 1)[0] if code != 0xD3 else 0
    at += 5
    if code == 0xD3:
        return struct.unpack_from(">q", data, at - 4)[0], at + 4
    if code in (0xDB, 0xC6):
        return (data[at:at + size].decode() if code == 0xDB else data[at:at + size]), at + size
    items = []
    for _ in range(size * (2 if code == 0xDF else 1)):
        item, at = unpacked(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if code == 0xDF else items), at


def test_hall_symbols_are_those_of_the_groups_or_of_the_bare_lattice():
    for name in ("P 43 21 2", "P 61 2 2", "I 2 3"):
        assert gemmi.symops_from_hall(hall_symbol(name, "P")) == gemmi.find_spacegroup_by_name(name).operations()
    assert hall_symbol("", "C") == " C 1" and hall_symbol("", "H") == " R 1"


READ_BY_DIALS = """
import sys, json
from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory
from scitbx import matrix
expt = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)
refl = flex.reflection_table.from_file(sys.argv[2])
out = []
for k, e in enumerate(expt):
    mine = refl.select(refl["id"] == k)
    for r in mine.rows():
        s1 = matrix.col(e.detector[r["panel"]].get_pixel_lab_coord(r["xyzcal.px"][:2])).normalize() / e.beam.get_wavelength()
        q = s1 - matrix.col(e.beam.get_s0())
        predicted = matrix.sqr(e.crystal.get_A()) * matrix.col(r["miller_index"])
        out.append([k, list(q), list(predicted), list(matrix.col(r["s1"]) - s1), r["intensity.prf.value"]])
print(json.dumps({"rows": out, "group": str(expt[0].crystal.get_space_group().info()),
                  "consistent": refl.experiment_identifiers().keys().size() == len(expt)}))
"""


def of_dials(arguments, **options):
    """What a program of Debian's DIALS prints; skips where there is none."""
    if not os.path.exists("/usr/bin/dials.show"):
        pytest.skip("no DIALS here (apt-get install dials)")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(arguments, capture_output=True, text=True, env={**clean, "PATH": "/usr/bin:/bin"}, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dials_sees_the_same_scattering_vectors_crystals_and_intensities(tmp_path, shot_context_record):
    record, names = written(tmp_path, shot_context_record, "expt")
    shot, context, _ = shot_context_record
    text = of_dials(["/usr/bin/python3", "-c", READ_BY_DIALS, *names], cwd=tmp_path)
    found = json.loads(text.splitlines()[-1])
    assert found["group"] == "P 43 21 2" and found["consistent"] and len(found["rows"]) == 30
    turn = np.array([-1.0, 1.0, -1.0])
    for row, (k, q, predicted, s1_error, intensity) in zip(record.reflections, found["rows"]):
        ours = scattering_vectors(lattice_geometry(record.lattices[k], shot, context), [row], shot.wavelength_angstrom)[0]
        np.testing.assert_allclose(np.array(q) * turn, ours, atol=1e-9)
        np.testing.assert_allclose(np.array(predicted) * turn, row["hkl"] @ record.lattices["reciprocal_axes"][k], atol=1e-9)
        np.testing.assert_allclose(s1_error, 0, atol=1e-9)
        assert intensity == row["intensity"]
    shown = of_dials(["/usr/bin/dials.show", names[0]], cwd=tmp_path)
    assert "Space group: P 43 21 2" in shown and "Half mosaic angle (degrees):  0.050000" in shown


def test_a_base_name_without_a_folder_or_leaving_it_is_refused():
    with pytest.raises(MpixfelError, match="integration_dirname"):
        Options(integration_basename="int-")
    with pytest.raises(MpixfelError, match="not a base name"):
        Options(integration_dirname="x", integration_basename="../int-")
