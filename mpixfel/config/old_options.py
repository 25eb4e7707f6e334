"""The options of the old pyana modules: a table of what each was, and what has become of it.

`targets` name what an option sets here: `spotfinder.threshold` (a stage's option), `hitfinding.finder=distl` (a fixed
value). An option without targets that the module class knows itself is supported; any other is without effect, for
the reason given.
"""
from typing import NamedTuple


class Old(NamedTuple):
    """One option as it was: `default` as its documentation wrote it; `kind` is the type of its value.

    `values` holds (old value, value here, why) where a value is called otherwise, or means nothing, here.
    """

    key: str
    default: str
    kind: type
    meaning: str
    targets: tuple = ()
    reason: str = ""
    values: tuple = ()


NO_USE = "the module has no use for it"
DATABASE = "the run file replaces the database"
RAYONIX = "the source is read as the geometry file describes it"
LOG = "the log has its own options (--verbose, log_format)"
ONLINE = "mpixfel status and mpixfel report show this"
VIEW = "mpixfel view shows images and spots"

EVENT_INFO = (
    Old("address", "required", str, "detector and device, CxiDs1-0|Cspad-0"),
    Old("detz_offset", "575", float, "mm, added to the stage's position to get the distance", ("mpixfel.detz_offset",)),
    Old("check_beam_status", "True", bool, "skip shots that lack time, wavelength, pulse length or charge",
        reason="a shot without photon energy or distance fails by itself"),
    Old("verbose", "False", bool, "log wavelength, distance and so on of each shot", reason=LOG),
    Old("delta_k", "0.0", float, "correction of the undulator's K",
        reason="photon energies are read, not calculated from the electrons' energy; override_energy sets one"),
    Old("override_energy", "None", float, "photon energy in eV, for all shots"),
)
COMMON_MODE = (
    Old("calib_dir", "None", str, "directory of the optical metrology", ("mpixfel.calib_dir",)),
    Old("common_mode_correction", "none", str, "none, mean, median, mode, gaussian, chebyshev",
        ("calibration.common_mode",)),
    Old("photon_threshold", "None", float, "photon counting: one photon from here", ("calibration.photon_threshold",)),
    Old("two_photon_threshold", "None", float, "photon counting: two photons from here",
        ("calibration.two_photon_threshold",)),
    Old("dark_path", "None", str, "average dark image", ("calibration.dark_path",)),
    Old("dark_stddev", "None", str, "standard deviation of the dark image", ("calibration.dark_stddev_path",)),
    Old("mask_path", "None", str, "mask of bad pixels", ("calibration.mask_path",)),
    Old("gain_map_path", "None", str, "gain map, multiplied in", ("calibration.gain_map_path",)),
    Old("gain_map_level", "None", float, "factor of low-gain pixels in a map of 0 and 1",
        ("calibration.gain_map_level",)),
    Old("cache_image", "True", bool, "keep the corrected image for later instances",
        reason="work done by an earlier instance is never done twice"),
    Old("roi", "None", str, "region to which images are cut, fast_low:fast_high,slow_low:slow_high",
        reason="images are written whole"),
    Old("laser_1_status", "None", str, "accept shots of this state of laser 1"),
    Old("laser_4_status", "None", str, "accept shots of this state of laser 4"),
    Old("laser_wait_time", "None", float, "ms after a change of the laser's state"),
    Old("override_beam_x", "None", float, "beam centre, px"),
    Old("override_beam_y", "None", float, "beam centre, px"),
    Old("bin_size", "None", int, "binning of a Rayonix", reason=RAYONIX),
    Old("crop_rayonix", "False", bool, "cut a Rayonix image", reason=RAYONIX),
)
IMAGE = EVENT_INFO + COMMON_MODE
HITFIND = (
    Old("dispatch", "None", str, "what is done with a hit: nop, index, view, spots, write_dict",
        values=(("view", "nop", VIEW), ("spots", "nop", VIEW))),
    Old("threshold", "None", int, "ADU that an image's maximum, or a peak, must reach", ("hitfinding.threshold_adu",)),
    Old("roi", "None", str, "region in which threshold must be reached, fast_low:fast_high,slow_low:slow_high",
        ("hitfinding.roi",)),
    Old("distl_min_peaks", "None", int, "least number of accepted peaks of a hit",
        ("hitfinding.min_peaks", "hitfinding.finder=distl")),
    Old("distl_flags", "None", str, "permissive or restrictive", ("hitfinding.distl_flags",)),
    Old("xtal_target", "None", str, "PHIL file for spot finding and indexing"),
    Old("integration_dirname", "None", str, "directory of the integration files"),
    Old("integration_basename", "None", str, "begin of the names of the integration files"),
    Old("out_dirname", "None", str, "directory of images, for write_dict"),
    Old("out_basename", "None", str, "begin of the names of images, for write_dict"),
    Old("negate_hits", "False", bool, "keep the misses, skip the hits"),
    Old("trial_id", "None", int, "trial in the database", reason=DATABASE),
    Old("trial", "None", int, "trial in the database", reason=DATABASE),
    Old("rungroup_id", "None", int, "group of runs in the database", reason=DATABASE),
    Old("db_logging", "False", bool, "write each shot to the database", reason=DATABASE),
    Old("progress_logging", "False", bool, "write progress to the database", reason=DATABASE),
    Old("db_version", "v1", str, "layout of the database", reason=DATABASE),
    Old("sql_buffer_size", "1", int, "rows written at a time", reason=DATABASE),
    Old("db_host", "None", str, "the database's computer", reason=DATABASE),
    Old("db_name", "None", str, "the database's name", reason=DATABASE),
    Old("db_table_name", "None", str, "table", reason=DATABASE),
    Old("db_experiment_tag", "None", str, "experiment in the database", reason=DATABASE),
    Old("db_user", "None", str, "user of the database", reason=DATABASE),
    Old("db_password", "None", str, "password of the database", reason=DATABASE),
    Old("db_tags", "None", str, "tags of the shots in the database", reason=DATABASE),
)
OUTPUT = (
    Old("out_dirname", "None", str, "directory of the files written"),
    Old("out_basename", "None", str, "begin of the files' names"),
)
AVERAGE = (
    Old("avg_dirname", "None", str, "directory of the mean image"),
    Old("avg_basename", "None", str, "begin of its name"),
    Old("stddev_dirname", "None", str, "directory of the image of standard deviations"),
    Old("stddev_basename", "None", str, "begin of its name"),
    Old("max_dirname", "None", str, "directory of the image of maxima"),
    Old("max_basename", "None", str, "begin of its name"),
    Old("mean_out", "None", str, "path of the mean image"),
    Old("std_out", "None", str, "path of the image of standard deviations"),
    Old("max_out", "None", str, "path of the image of maxima"),
    Old("background_path", "None", str, "image to subtract"),
    Old("flags", "None", str, "inactive, noelastic, nohot, nonoise, symnoise, skew, sigma_scaling, output"),
    Old("hot_threshold", "None", float, "pixels of the dark above this, times its median, are hot"),
    Old("gain_threshold", "None", float, "pixels of the gain map above this are left out"),
    Old("noise_threshold", "7", float, "values below this are noise"),
    Old("elastic_threshold", "9", float, "values above this are elastic scattering"),
    Old("symnoise_threshold", "4", float, "values nearer to 0 than this are noise"),
    Old("n", "None", int, "number of shots to average", reason="write events = START:STOP in [mpixfel]"),
)
RADIAL = OUTPUT + (
    Old("xtal_target", "None", str, "PHIL file with the beam centre"),
    Old("two_theta_low", "None", float, "degrees; the value there is reported"),
    Old("two_theta_high", "None", float, "degrees; the value there is reported"),
)
FILTER = (
    Old("timestamps_path", "None", str, "file of timestamps"),
    Old("timestamps_interval", "None", str, "first and last timestamp"),
    Old("negate", "False", bool, "skip what is listed, instead of all else"),
)
EVENT_CODE = (
    Old("event_codes", "None", str, "event codes"),
    Old("alist_names", "None", str, "names of the lists"),
    Old("integration_dirname", "None", str, "directory of the integration files",
        reason="the lists tell the number of lattices of each shot"),
    Old("out_dirname", "None", str, "directory of the lists"),
)
BITMAP = OUTPUT + (
    Old("binning", "1", int, "pixels joined to one"),
    Old("brightness", "1.0", float, "brightness"),
    Old("color_scheme", "greyscale", str, "colours"),
    Old("format", "png", str, "format of the files"),
)
MODULES = {
    "mod_hitfind": HITFIND + tuple(o for o in IMAGE if o.key not in {h.key for h in HITFIND}),
    "mod_dump": OUTPUT + (Old("out_format", "pickle", str, "format of the files"),) + IMAGE,
    "mod_average": AVERAGE + IMAGE,
    "mod_radial_average": RADIAL + IMAGE,
    "mod_filter": FILTER,
    "mod_param": (),
    "mod_hdf5": (Old("path", "None", str, "file to write, one group for each timestamp"),) + IMAGE,
    "mod_image_dict": (Old("out_key", "None", str, "name under which the image is passed on",
                           reason="modules find the image in record.image"),) + IMAGE,
    "mod_event_code": EVENT_CODE + EVENT_INFO,
    "mod_illumination_filter": (Old("illumination", "None", str, "dark, light or other"),
                                Old("laser_wait_time", "2000", float, "ms after a change")) + EVENT_INFO,
    "mod_view": (Old("n_collate", "None", int, "shots shown together"), Old("n_update", "120", int, "shots between "
                 "two pictures")) + IMAGE,
    "mod_dump_bitmap": BITMAP + IMAGE,
    "mod_daq_status": EVENT_INFO,
    "mod_ledge": EVENT_INFO, "mod_mar": EVENT_INFO, "mod_pulnix_dump": OUTPUT, "mod_spectrum_filter": EVENT_INFO,
    "mod_onecolor_spectrum_filter": EVENT_INFO, "mod_xes": AVERAGE + IMAGE, "pixel_histograms": IMAGE,
    "xes_finalise": OUTPUT,
}
# What the driver's own section could hold.
RUN = (
    Old("files", "None", str, "files to process", ("source",)),
    Old("num-cpu", "1", int, "processes", reason="mpirun -n says how many ranks there are"),
    Old("num_cpu", "1", int, "processes", reason="mpirun -n says how many ranks there are"),
    Old("num-events", "None", int, "number of events", reason="write events = START:STOP"),
    Old("skip-events", "None", int, "events to pass over first", reason="write events = START:STOP"),
    Old("job-name", "None", str, "name of the job", reason="the batch system names the job"),
    Old("calib-dir", "None", str, "directory of calibrations", reason="the geometry file and [calibration] name them"),
    Old("verbose", "0", int, "amount of messages", reason=LOG),
)
