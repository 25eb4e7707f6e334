"""From text to settings: layers, origins, module instances, and all errors in one go."""
import json
import pickle
import re
from dataclasses import fields
from pathlib import Path

import pytest

from mpixfel import registry
from mpixfel.config.resolve import resolve
from mpixfel.config.run_cfg import parse_run_cfg
from mpixfel.config.settings import RunOptions
from mpixfel.config.target_cell import target_cells
from mpixfel.errors import ManyErrors, MpixfelError

FOUR_LINES = "[mpixfel]\nsource = run.cxi\ngeometry = detector.geom\ncell = lysozyme.cell\noutput = out\n"


def settings_of(text=FOUR_LINES, flags=(), folder="/conf", environment=None, **more):
    return resolve(parse_run_cfg(text, "run.cfg"), flags, folder, environment=environment or {}, **more)


def errors_of(text, flags=(), environment=None):
    with pytest.raises(ManyErrors) as caught:
        settings_of(text, flags, environment=environment)
    return caught.value.errors


def test_four_lines_are_enough():
    s = settings_of()
    assert s.run.source == ("/conf/run.cxi",) and s.run.cell == ("/conf/lysozyme.cell",)
    assert s.run.geometry == "/conf/detector.geom" and s.run.output == "/conf/out"
    assert [m.full_name for m in s.modules] == ["mod_hitfind:hitfind", "mod_hitfind:index"]
    assert [m.options.dispatch for m in s.modules] == ["nop", "index"]


def test_each_value_knows_where_it_came_from():
    s = settings_of(FOUR_LINES + "seed = 4\nchunk = 8\n[indexing]\nmax_lattices = 2\n",
                    [("mpixfel", "chunk", "9", "--set mpixfel.chunk=9")], environment={"EXP": "cxi78513"})
    resolved = s.resolved()
    assert resolved["mpixfel"]["seed"] == {"value": 4, "origin": "run.cfg:6"}
    assert resolved["mpixfel"]["chunk"] == {"value": 9, "origin": "command line --set mpixfel.chunk=9"}
    assert resolved["mpixfel"]["experiment"] == {"value": "cxi78513", "origin": "environment EXP"}
    assert resolved["mpixfel"]["learn_hits"]["origin"] == "default"
    assert resolved["indexing"]["max_lattices"] == {"value": 2, "origin": "run.cfg:9"}
    assert json.loads(json.dumps(resolved)) == resolved


def test_settings_travel_between_ranks():
    s = settings_of(FOUR_LINES + "[mod_hitfind:index]\nindexing.max_lattices = 3\n")
    assert pickle.loads(pickle.dumps(s)) == s


def test_paths_are_relative_to_what_names_them_and_fields_are_filled_in():
    s = settings_of("[mpixfel]\nsource = $D/r{run:04d}/*.h5 'a b.h5'\ngeometry = ~/g.geom\noutput = o/{user!u}\n"
                    "run = 7\n", [("mpixfel", "cell", "here.cell", "--cell")],
                    environment={"D": "/data", "HOME": "/h", "USER": "ada"})
    assert s.run.source == ("/data/r0007/*.h5", "/conf/a b.h5")
    assert (s.run.geometry, s.run.output, s.run.cell) == ("/h/g.geom", "/conf/o/ADA", ("here.cell",))


def test_a_modules_own_stage_options_hold_for_that_instance_alone():
    s = settings_of(FOUR_LINES + "modules = mod_hitfind:a mod_hitfind:b\n[indexing]\nmax_lattices = 4\n"
                    "[mod_hitfind]\nhitfinding.min_peaks = 7\n[pkg.mod_hitfind:b]\nindexing.max_lattices = 2\n"
                    "hitfinding.min_peaks = 9\n")
    a, b = s.modules
    assert s.stage("indexing").max_lattices == 4 and s.stage("hitfinding").min_peaks == 4
    assert s.seen_by(a).stage("indexing").max_lattices == 4 and s.seen_by(a).stage("hitfinding").min_peaks == 7
    assert s.seen_by(b).stage("indexing").max_lattices == 2 and s.seen_by(b).stage("hitfinding").min_peaks == 9
    assert s.resolved()["mod_hitfind:b"]["hitfinding.min_peaks"] == {"value": 9, "origin": "run.cfg:13"}


def test_the_command_line_goes_before_every_section():
    text = FOUR_LINES + "[mod_hitfind:index]\nindexing.max_lattices = 2\nnegate_hits = true\n"
    s = settings_of(text, [("indexing", "max_lattices", "3", ""), ("mod_hitfind", "negate_hits", "false", "")])
    assert s.seen_by(s.modules[1]).stage("indexing").max_lattices == 3
    assert s.modules[1].options.negate_hits is False
    s = settings_of(text, [("indexing", "max_lattices", "3", ""),
                           ("mod_hitfind:index", "indexing.max_lattices", "1", "")])
    assert s.seen_by(s.modules[1]).stage("indexing").max_lattices == 1


def test_every_error_is_told_in_one_go_with_what_where_and_what_to_do():
    errors = errors_of("[mpixfel]\nsuorce = a.h5\ngeometry = {rum}.geom\nseed = -1\nchunk = many\n"
                       "modules = mod_hitfind:a mod_hitfnd:b\n[indexng]\nmax_lattices = 3\n"
                       "[indexing]\nmax_lattice = 2\n[mod_hitfind:a]\ndispatch = indx\nrefinment.tolerance = 3\n"
                       "refinement.tolerence = 3\n[mod_zzzzzz:c]\n")
    told = {e.where: e for e in errors}
    expected = {"run.cfg:2": ("suorce", "source"), "run.cfg:3": ("{rum}", "run"), "run.cfg:4": ("-1", "at least 0"),
                "run.cfg:5": ("many", "whole number"), "run.cfg:6": ("mod_hitfnd", "mod_hitfind"),
                "run.cfg:7": ("indexng", "indexing"), "run.cfg:10": ("max_lattice", "max_lattices"),
                "run.cfg:12": ("indx", "index"), "run.cfg:13": ("refinment", "refinement"),
                "run.cfg:14": ("tolerence", "tolerance"), "run.cfg:15": ("mod_zzzzzz", "mod_hitfind")}
    assert [e.where for e in errors] == [*expected, "[mpixfel]", "[mpixfel]"]
    assert [e.what for e in errors[-2:]] == ["source is not given", "output is not given"]
    for place, (what, remedy) in expected.items():
        assert what in told[place].what and remedy in told[place].remedy, str(told[place])


def test_what_is_missing_is_said_with_the_line_to_write():
    errors = errors_of("[mpixfel]\ncell = a.cell\n")
    assert [e.what for e in errors] == [f"{k} is not given" for k in ("source", "geometry", "output")]
    assert all(f"--{e.what.split()[0]}" in e.remedy for e in errors)


def test_modules_of_one_name_need_names_of_their_own():
    error, = errors_of(FOUR_LINES + "modules = mod_hitfind:a p.mod_hitfind:a\n")
    assert "twice" in error.what and error.where == "run.cfg:6" and "own name" in error.remedy


def test_a_section_of_an_instance_that_is_not_in_the_chain_is_noted():
    s = settings_of(FOUR_LINES + "[mod_hitfind:indx]\nnegate_hits = true\n")
    note, = s.notes
    assert "run.cfg:6" in note and "no effect" in note and "mod_hitfind:index" in note


def test_an_unknown_plug_in_is_refused_with_those_that_exist():
    source, finder = errors_of(FOUR_LINES + "source_format = hdf\n[hitfinding]\nfinder = peakfinder9\n")
    assert source.where == "run.cfg:6" and "hdf5" in source.remedy
    assert finder.where == "run.cfg:8" and "peakfinder8" in finder.remedy


@pytest.mark.parametrize("text, wanted", [("", slice(None)), ("3:40:2", slice(3, 40, 2)), (":7", slice(None, 7)),
                                          ("5:", slice(5, None)), ("::3", slice(None, None, 3)), ("4", slice(4, 5))])
def test_events_are_a_range(text, wanted):
    assert RunOptions(events=text).event_range == wanted
    assert settings_of(flags=[("mpixfel", "events", text, "--events")]).run.event_range == wanted


@pytest.mark.parametrize("text", ["a:b", "1:2:3:4", "-3:5", "1:5:0", "1.5"])
def test_events_that_are_no_range_are_refused(text):
    error, = errors_of(FOUR_LINES + f"events = {text}\n")
    assert error.where == "run.cfg:6" and "START:STOP" in error.remedy


@pytest.mark.parametrize("numbers, centring, setting, kind, constants, letter", [
    ((38, 79, 79, 90, 90, 90), "P", 9, "tetragonal", (79, 79, 38, 90, 90, 90), "P"),
    ((38, 79, 79, 90, 90, 90), "P", 1, "triclinic", (38, 79, 79, 90, 90, 90), "P"),
    ((50, 60, 70, 90, 90, 105), "A", None, "monoclinic", (60, 70, 50, 90, 105, 90), "C"),
    ((93.3, 93.3, 131, 90, 90, 120), "P", None, "hexagonal", (93.3, 93.3, 131, 90, 90, 120), "P"),
    ((80, 80, 200, 90, 90, 120), "R", None, "hexagonal", (80, 80, 200, 90, 90, 120), "H"),
    ((60, 60, 60, 70, 70, 70), "R", None, "rhombohedral", (60, 60, 60, 70, 70, 70), "R"),
    ((78, 78, 78, 90, 90, 90), "I", None, "cubic", (78, 78, 78, 90, 90, 90), "I"),
    ((117, 223, 309, 90, 90, 90), "C", None, "orthorhombic", (117, 223, 309, 90, 90, 90), "C"),
    ((21, 22, 26, 80, 85, 95), "P", None, "triclinic", (21, 22, 26, 80, 85, 95), "P")])
def test_a_target_cell_takes_the_setting_of_its_metric(numbers, centring, setting, kind, constants, letter):
    cell, = target_cells(RunOptions(target_cell=numbers, target_cell_centring=(centring,), known_setting=setting))
    assert (cell.lattice_type, cell.parameters, cell.centring) == (kind, constants, letter)


def test_cells_that_are_none_are_refused():
    with pytest.raises(MpixfelError, match="six numbers|5 numbers"):
        RunOptions(target_cell=(1.0,) * 5)
    with pytest.raises(MpixfelError, match="2 centrings for 1 cells"):
        target_cells(RunOptions(target_cell=(50.0, 60, 70, 90, 90, 90), target_cell_centring=("P", "I")))
    with pytest.raises(MpixfelError, match="cannot be C-centred"):
        target_cells(RunOptions(target_cell=(50.0, 60, 70, 90, 90, 90), target_cell_centring=("C",), known_setting=1))


def test_the_registry_loads_what_is_asked_for_and_names_what_exists():
    assert registry.load("modules", "mod_hitfind").__name__ == "ModHitfind"
    assert {"robust", "peakfinder8", "distl"} <= set(registry.entries("hit_finders"))
    with pytest.raises(MpixfelError) as caught:
        registry.load("hit_finders", "peakfinder", "run.cfg:3")
    assert caught.value.where == "run.cfg:3"
    assert "peakfinder8" in caught.value.remedy and "robust" in caught.value.remedy


def test_an_uninstalled_plug_in_says_which_import_failed():
    with pytest.raises(MpixfelError, match="no_such_package"):
        registry.load_class("no_such_package.stage:Stage")
    with pytest.raises(ModuleNotFoundError):    # this program's own files are not the user's to repair
        registry.load_class("mpixfel.stages.no_such_stage:Stage")


@pytest.fixture
def toy_finder(tmp_path, monkeypatch):
    """A hit finder that another package brings, by its entry point."""
    (tmp_path / "toyfinder.py").write_text(
        "from dataclasses import dataclass\nfrom mpixfel.stages.interface import option\n"
        "@dataclass(frozen=True)\nclass Toy:\n    size: int = option(2, 'size of a toy', low=1)\n")
    info = tmp_path / "toyfinder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toyfinder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mpixfel.hit_finders]\ntoy = toyfinder:Toy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def test_a_finder_of_another_package_has_its_section(toy_finder):
    s = settings_of(FOUR_LINES + "[hitfinding]\nfinder = toy\n[toy]\nsize = 5\n[mod_hitfind:index]\ntoy.size = 7\n")
    assert s.stage("toy").size == 5 and s.seen_by(s.modules[1]).stage("toy").size == 7
    assert settings_of(FOUR_LINES + "[hitfinding]\nfinder = toy\n").stage("toy").size == 2
    assert "toy" not in settings_of().stages
    error, = errors_of(FOUR_LINES + "[toy]\nsize = 0\n")
    assert error.where == "run.cfg:7" and "at least 1" in error.remedy


def test_every_option_of_the_run_is_used_by_the_program():
    program = Path(registry.__file__).parent
    text = "".join(p.read_text() for p in program.rglob("*.py") if p.parent.name != "config")
    through_config = {"modules", "run", "experiment", "events", "target_cell", "target_cell_centring", "known_setting"}
    used = set(re.findall(r"\b(?:run|options)\.(?=(\w+))", text))
    assert not {f.name for f in fields(RunOptions)} - through_config - used
