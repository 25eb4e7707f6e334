"""Old pyana configurations: every option has its meaning, or its reason for having none; contradictions are refused."""
import pytest

from mpixfel import registry
from mpixfel.config import old_options, phil_names
from mpixfel.config.docs import PATH, document, status
from mpixfel.config.resolve import load_stages, resolve
from mpixfel.config.run_cfg import parse_run_cfg
from mpixfel.config.settings import RunOptions
from mpixfel.config.values import options_of
from mpixfel.errors import ManyErrors

FLAGS = [("mpixfel", key, f"/d/{key}", f"--{key}") for key in ("source", "geometry", "cell", "output")]
# The options of the old modules, as their sources name them.
EVENT_INFO = "address detz_offset check_beam_status verbose delta_k override_energy"
COMMON_MODE = ("calib_dir common_mode_correction photon_threshold two_photon_threshold dark_path dark_stddev mask_path "
               "gain_map_path gain_map_level cache_image roi laser_1_status laser_4_status laser_wait_time "
               "override_beam_x override_beam_y bin_size crop_rayonix")
HITFIND = ("address dispatch threshold roi distl_min_peaks distl_flags xtal_target integration_dirname "
           "integration_basename out_dirname out_basename negate_hits trial_id trial rungroup_id db_logging "
           "progress_logging db_version sql_buffer_size db_host db_name db_table_name db_experiment_tag db_user "
           "db_password db_tags")
OTHERS = {"mod_dump": "address out_dirname out_basename out_format",
          "mod_radial_average": "out_dirname out_basename xtal_target two_theta_low two_theta_high",
          "mod_average": "avg_dirname avg_basename stddev_dirname stddev_basename max_dirname max_basename max_out "
                         "mean_out std_out background_path flags hot_threshold gain_threshold noise_threshold "
                         "elastic_threshold symnoise_threshold",
          "mod_filter": "timestamps_path timestamps_interval negate", "mod_hdf5": "path", "mod_image_dict": "out_key",
          "mod_event_code": "integration_dirname out_dirname event_codes alist_names",
          "mod_illumination_filter": "illumination laser_wait_time",
          "mod_dump_bitmap": "binning brightness color_scheme format"}
MODULES = ("mod_dump mod_radial_average mod_average mod_filter mod_param mod_hdf5 mod_image_dict mod_event_code "
           "mod_illumination_filter mod_ledge mod_mar mod_pulnix_dump mod_view mod_daq_status mod_dump_bitmap "
           "mod_spectrum_filter mod_onecolor_spectrum_filter mod_xes pixel_histograms xes_finalise mod_hitfind").split()


def settings_of(text, flags=FLAGS, folder="/conf"):
    return resolve(parse_run_cfg(text, "run.cfg"), flags, folder, environment={})


def errors_of(text):
    with pytest.raises(ManyErrors) as caught:
        settings_of(text)
    return caught.value.errors


def test_every_old_option_is_in_the_tables_and_on_the_page():
    page = PATH.read_text(encoding="utf-8")
    assert set(MODULES) <= set(old_options.MODULES)
    wanted = {"mod_hitfind": f"{HITFIND} {EVENT_INFO} {COMMON_MODE}", **OTHERS}
    for module, names in wanted.items():
        keys = {o.key for o in old_options.MODULES[module]}
        assert set(names.split()) <= keys, module
        assert f"### {module}\n" in page
        assert all(f"\n| `{name}` |" in page for name in names.split())


def test_every_old_option_is_supported_sets_something_or_says_why_not():
    for module in registry.entries("modules"):
        options = options_of(registry.load("modules", module).Options)
        for old in old_options.MODULES.get(module, ()):
            told = status(old, options)
            assert told.startswith(("supported", "sets ", "without effect: ")), f"{module} {old.key}"


def test_the_page_says_what_modules_do_with_the_options_that_they_share():
    shared = PATH.read_text(encoding="utf-8").split("### Of every module that handles images\n")[1].split("\n### ")[0]
    here = {row.split("`")[1]: row.rpartition(" | ")[2] for row in shared.splitlines() if row.startswith("| `")}
    assert set(here) == set(f"{EVENT_INFO} {COMMON_MODE}".split())
    assert {key for key, told in here.items() if told.startswith("supported")} == {
        "address", "override_energy", "override_beam_x", "override_beam_y", "laser_1_status", "laser_4_status",
        "laser_wait_time"}
    assert {key for key, told in here.items() if told.startswith("sets ")} == set(
        "calib_dir detz_offset common_mode_correction photon_threshold two_photon_threshold dark_path dark_stddev mask_path "
        "gain_map_path gain_map_level".split())


def test_what_phil_names_and_old_options_set_exists():
    known = {"mpixfel": options_of(RunOptions), **{name: options_of(cls) for name, cls in load_stages().items()}}
    targets = {p.target for p in phil_names.MAPPED} | {f"mpixfel.{t}" for o in old_options.RUN for t in o.targets}
    targets |= {t for rows in old_options.MODULES.values() for o in rows for t in o.targets}
    for target in targets:
        section, _, option = target.partition("=")[0].partition(".")
        assert option in known[section], target


def test_the_page_is_up_to_date():
    assert PATH.read_text(encoding="utf-8") == document(), "run: python -m mpixfel.config.docs"


def test_the_old_sections_names_and_values_are_read():
    s = settings_of("""[pyana]
modules = my_ana_pkg.mod_hitfind:hitfind my_ana_pkg.mod_hitfind:index
num-cpu = 7
[my_ana_pkg.mod_hitfind]
address = CxiDs1-0|Cspad-0
verbose = yes
cache_image = None
[my_ana_pkg.mod_hitfind:hitfind]
dispatch = None
db_logging = True
db_user = me
[my_ana_pkg.mod_hitfind:index]
dispatch = index
""")
    assert [m.full_name for m in s.modules] == ["mod_hitfind:hitfind", "mod_hitfind:index"]
    assert [m.options.dispatch for m in s.modules] == ["nop", "index"]
    notes = [n for n in s.notes if "db_logging" in n]
    assert len(notes) == 1 and "db_user" in notes[0] and "run file replaces the database" in notes[0]
    assert sum("num-cpu" in n for n in s.notes) == 1 and sum("verbose" in n for n in s.notes) == 1


def test_the_old_hit_finder_is_asked_for_by_distl_min_peaks():
    s = settings_of("[psana]\nmodules = mod_hitfind:a mod_hitfind:b\n[mod_hitfind:a]\ndistl_min_peaks = 16\n"
                    "distl_flags = permissive\nthreshold = 450\n")
    a, b = (s.seen_by(m).stage("hitfinding") for m in s.modules)
    assert (a.finder, a.min_peaks, a.threshold_adu, a.distl_flags) == ("distl", 16, 450.0, "permissive")
    assert b == s.stage("hitfinding")
    assert s.resolved()["mod_hitfind:a"]["hitfinding.min_peaks"]["origin"] == "run.cfg:4"


def test_none_is_a_value_where_the_old_program_had_it_as_one():
    s = settings_of("[mod_hitfind:index]\ncommon_mode_correction = none\n[mod_hitfind:hitfind]\n"
                    "common_mode_correction = None\ndark_path = None\n")
    first, second = (s.seen_by(m).stage("calibration") for m in s.modules)
    assert second.common_mode == "none" and first == s.stage("calibration")


def test_darks_are_those_of_the_calibration_relative_to_the_configuration():
    s = settings_of("[mod_hitfind]\ndark_path = d/{run}-avg.h5\ndark_stddev = d/std.h5\n[mpixfel]\nrun = 3\n")
    seen = s.seen_by(s.modules[0]).stage("calibration")
    assert (seen.dark_path, seen.dark_stddev_path) == ("/conf/d/3-avg.h5", "/conf/d/std.h5")


def test_the_stages_offset_and_photon_counting_are_those_of_old():
    s = settings_of("[pyana]\nmodules = mod_hitfind:a\n[mod_hitfind]\ndetz_offset = 581\nphoton_threshold = 12\n"
                    "two_photon_threshold = 30\n")
    assert s.run.detz_offset == 581 and any("detz_offset" in n and "encoder" in n for n in s.notes)
    seen = s.seen_by(s.modules[0]).stage("calibration")
    assert (seen.photon_threshold, seen.two_photon_threshold) == (12.0, 30.0)
    error, = errors_of("[pyana]\nmodules = mod_hitfind:a mod_hitfind:b\n[mod_hitfind:a]\ndetz_offset = 581\n"
                       "[mod_hitfind:b]\ndetz_offset = 575\n")
    assert "detz_offset" in error.what and error.where == "run.cfg:6"


def test_a_region_holds_for_the_hit_finder_and_crops_no_images():
    s = settings_of("[mpixfel]\nmodules = mod_hitfind:a mod_dump:b\n[mod_hitfind:a]\nroi = 1:2,3:4\nthreshold = 450\n"
                    "[mod_dump]\nroi = 1:2,3:4\n")
    a, b = (s.seen_by(m).stage("hitfinding") for m in s.modules)
    assert (a.roi, a.threshold_adu) == ("1:2,3:4", 450.0) and b.roi == ""
    assert any("roi" in n and "whole" in n for n in s.notes)


def test_viewers_within_the_chain_are_noted():
    s = settings_of("[pyana]\nmodules = mod_hitfind:a\n[mod_hitfind:a]\ndispatch = view\n")
    assert s.modules[0].options.dispatch == "nop"
    assert any("dispatch = view" in n and "mpixfel view" in n for n in s.notes)


@pytest.mark.parametrize("keys, events", [("num-events = 10", "0:10"), ("skip-events = 5", "5:"),
                                          ("num-events = 10\nskip-events = 5", "5:15")])
def test_numbers_of_events_become_a_range(keys, events):
    assert settings_of(f"[pyana]\n{keys}\n").run.events == events


@pytest.mark.parametrize("lines, what, where, remedy", [
    ("distl_flags = permissive restrictive", "exclude each other", 3, "keep one"),
    ("distl_flags = permisive", "permisive", 3, "permissive or restrictive"),
    ("distl_min_peaks = 16", "without distl_flags", 3, "add distl_flags"),
    ("roi = 1:2,3:4\ndistl_min_peaks = 16\ndistl_flags = permissive", "roi and distl_min_peaks", 3, "take one"),
    ("roi = 1-2", "not a region", 3, "fast_low:fast_high"),
    ("dark_path = d.h5", "without dark_stddev", 3, "add dark_stddev"),
    ("photon_threshold = 5", "without two_photon_threshold", 3, "add two_photon_threshold"),
    ("thresold = 450", "thresold", 3, "threshold"),
    ("db_logging = perhaps", "perhaps", 3, "true or false"),
    ("sql_buffer_size = big", "big", 3, "whole number"),
    ("dispatch = indx", "indx", 3, "index")])
def test_contradictions_and_slips_are_refused(lines, what, where, remedy):
    error = errors_of(f"[pyana]\n[mod_hitfind:hitfind]\n{lines}\n")[0]
    assert what in error.what and error.where == f"run.cfg:{where}" and remedy in error.remedy, str(error)


def test_a_module_that_does_not_exist_here_is_refused_with_those_that_do():
    error, = errors_of("[pyana]\nmodules = mod_ledge:a\n[mod_ledge:a]\naddress = x\n")
    assert "mod_ledge" in error.what and error.where == "run.cfg:2" and "mod_hitfind" in error.remedy


def write_target(tmp_path, text):
    (tmp_path / "t.phil").write_text(text)
    return settings_of("[pyana]\nmodules = mod_hitfind:a mod_hitfind:b\n[mod_hitfind:b]\nxtal_target = t.phil\n",
                       [f for f in FLAGS if f[1] != "cell"], str(tmp_path))


def test_a_phil_target_sets_what_its_instance_sees_and_the_cell_of_the_run(tmp_path):
    s = write_target(tmp_path, "target_cell = 38 79 79 90 90 90\ntarget_cell_centring_type = P C *I\n"
                               "known_setting = 9\n"
                               "distl { minimum_spot_area = 2 minimum_spot_height=5 }\nindexing.verbose_cv = True\n")
    assert s.run.target_cell == (38, 79, 79, 90, 90, 90) and s.run.target_cell_centring == ("I",)
    assert s.run.known_setting == 9
    a, b = (s.seen_by(m).stage("spotfinder") for m in s.modules)
    assert (b.minimum_spot_area, b.minimum_spot_height) == (2, 5.0) and a == s.stage("spotfinder")
    origin = s.resolved()["mod_hitfind:b"]["spotfinder.minimum_spot_area"]["origin"]
    assert origin == f"{tmp_path}/t.phil:4 (distl.minimum_spot_area)"
    assert any("indexing.verbose_cv" in n for n in s.notes)
    assert any("mod_hitfind:b: distl.* " in n and "finder = distl" in n for n in s.notes)
    assert "t.phil" in s.texts


def test_isoforms_are_forms_of_the_run(tmp_path):
    s = write_target(tmp_path, "target_cell = 80 80 38 90 90 90\n"
                               "isoforms { name = A\n cell = 79 79 38 90 90 90\n lookup_symbol = P4 }\n"
                               "isoforms { name = B\n cell = 77,79,39,90,90,90\n lookup_symbol = 'C 2 2 2' }\n")
    assert s.run.target_cell == (79, 79, 38, 90, 90, 90, 77, 79, 39, 90, 90, 90)
    assert s.run.target_cell_centring == ("P", "C")


def test_misspelt_phil_names_and_wrong_values_are_refused_together(tmp_path):
    with pytest.raises(ManyErrors) as caught:
        write_target(tmp_path, "target_cel = 1\ndistl.minimum_spot_area = many\n")
    slip, value = caught.value.errors
    assert slip.where == f"{tmp_path}/t.phil:1" and "target_cell" in slip.remedy and "target_cel" in slip.what
    assert value.where.startswith(f"{tmp_path}/t.phil:2") and "number" in value.remedy and "many" in value.what


def test_a_missing_target_is_refused(tmp_path):
    with pytest.raises(ManyErrors, match="cannot be read"):
        settings_of("[mod_hitfind:index]\nxtal_target = no.phil\n", FLAGS, str(tmp_path))


def test_a_cell_file_goes_before_the_target_cell(tmp_path):
    (tmp_path / "t.phil").write_text("target_cell = 38 79 79 90 90 90\n")
    s = settings_of("[mod_hitfind:index]\nxtal_target = t.phil\n", FLAGS, str(tmp_path))
    assert s.run.cell == ("/d/cell",) and any("target_cell has no effect" in n for n in s.notes)


def test_two_targets_with_different_cells_are_refused(tmp_path):
    (tmp_path / "a.phil").write_text("target_cell = 38 79 79 90 90 90\n")
    (tmp_path / "b.phil").write_text("target_cell = 78 78 78 90 90 90\n")
    with pytest.raises(ManyErrors) as caught:
        settings_of("[mod_hitfind:hitfind]\nxtal_target = a.phil\n[mod_hitfind:index]\nxtal_target = b.phil\n", FLAGS,
                    str(tmp_path))
    error, = caught.value.errors
    assert "target_cell" in error.what and error.where.endswith("b.phil:1") and "cell =" in error.remedy


def test_files_of_one_name_are_kept_apart(tmp_path):
    for folder, area in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.phil").write_text(f"distl.minimum_spot_area = {area}\n")
    s = settings_of("[mod_hitfind:hitfind]\nxtal_target = a/t.phil\n[mod_hitfind:index]\nxtal_target = b/t.phil\n",
                    FLAGS, str(tmp_path))
    assert sorted(s.texts.values()) == ["distl.minimum_spot_area = 2\n", "distl.minimum_spot_area = 3\n"]


def test_a_chain_of_four_instances_reads_as_of_old(tmp_path):
    (tmp_path / "hitfind-7.1.phil").write_text("distl { minimum_signal_height=5 }\n")
    (tmp_path / "lysozyme.phil").write_text("include file hitfind-7.1.phil\ntarget_cell = 38 79 79 90 90 90\n")
    s = settings_of("""# A configuration of the old modules.
[pyana]
modules = my_ana_pkg.mod_hitfind:hitfind \\
          my_ana_pkg.mod_dump:hit \\
          my_ana_pkg.mod_hitfind:index \\
          my_ana_pkg.mod_dump:index

[my_ana_pkg.mod_hitfind]
address        = CxiDs1-0|Cspad-0
calib_dir      = metrology/CSPad/run4/CxiDs1.0_Cspad.0
dark_path      = darks/Ds1-r0002-avg.pickle
dark_stddev    = darks/Ds1-r0002-stddev.pickle
detz_offset    = 581

[my_ana_pkg.mod_hitfind:hitfind]
dispatch        = nop
distl_flags     = permissive
distl_min_peaks = 16
threshold       = 450
xtal_target     = hitfind-7.1.phil

[my_ana_pkg.mod_hitfind:index]
dispatch             = index
integration_basename = int-
integration_dirname  = integration
xtal_target          = lysozyme

[my_ana_pkg.mod_dump]
address      = CxiDs1-0|Cspad-0

[my_ana_pkg.mod_dump:hit]
out_basename = hit-
out_dirname  = out

[my_ana_pkg.mod_dump:index]
out_basename = idx-
out_dirname  = out
""", FLAGS, str(tmp_path))
    assert [m.full_name for m in s.modules] == ["mod_hitfind:hitfind", "mod_dump:hit", "mod_hitfind:index",
                                                "mod_dump:index"]
    hitfind, hit, index, indexed = s.modules
    assert (hitfind.options.dispatch, index.options.dispatch) == ("nop", "index")
    assert [(m.options.out_basename, m.options.out_dirname) for m in (hit, indexed)] == [
        ("hit-", f"{tmp_path}/out"), ("idx-", f"{tmp_path}/out")]
    assert s.seen_by(hitfind).stage("hitfinding").min_peaks == 16
    assert s.seen_by(index).stage("calibration").dark_path == f"{tmp_path}/darks/Ds1-r0002-avg.pickle"
    assert s.run.target_cell == (38, 79, 79, 90, 90, 90)
    assert sorted(s.texts) == ["hitfind-7.1.phil", "lysozyme.phil"]
