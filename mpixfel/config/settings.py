"""What a run is asked to do: every option as a frozen data class, with the place that each value came from."""
from dataclasses import dataclass, field, fields, replace

from mpixfel.errors import MpixfelError
from mpixfel.model.sensor import MATERIALS
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option

# Sections of the stages, in the order of an event's way.
STAGES = {
    "calibration": "mpixfel.stages.calibration:Calibration",
    "hitfinding": "mpixfel.stages.hitfinding:HitFinding",
    "robust": "mpixfel.stages.robust:RobustFinder",
    "peakfinder8": "mpixfel.stages.peakfinder8:Peakfinder8",
    "spotfinder": "mpixfel.stages.distl:Distl",
    "indexing": "mpixfel.stages.indexing:StagedIndexer",
    "refinement": "mpixfel.stages.refinement:Refinement",
    "integration": "mpixfel.stages.integration:ProfileIntegrator",
}
DEFAULT_CHAIN = ("mod_hitfind:hitfind", "mod_hitfind:index")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Section `[mpixfel]` (`[pyana]` and `[psana]` are its old names): what is processed, and how the run is run."""

    source: tuple[str, ...] = option((), "files to process: several, glob patterns, .lst event lists", unit="path")
    source_format: str = option("hdf5", "how the sources are read: the name of a source plug-in")
    geometry: str | None = option(None, "detector geometry, CrystFEL .geom", unit="path")
    cell: tuple[str, ...] = option((), "unit cells, .cell or .pdb, one file for each crystal form", unit="path")
    target_cell: tuple[float, ...] = option((), "unit cell as six numbers (angstrom, degrees), where there is no file; "
                                                "twelve for two crystal forms, and so on")
    target_cell_centring: tuple[str, ...] = option(("P",), "its centring, one letter for each form",
                                                   choices=tuple("PABCIFRH"))
    known_setting: int | None = option(None, "1: target_cell is triclinic, whatever its metric says", low=1, high=44)
    calib_dir: str | None = option(None, "optical metrology of a CSPAD, a directory or SLAC's geometry/*-end.data: "
                                         "places the geometry's panels", unit="path")
    calib_angles: str = option("measured", "how calib_dir places panels: with the angles as measured, or in right "
                                           "angles and whole pixels as the old program did",
                               choices=("measured", "right"))
    quad_translations: tuple[float, ...] = option((), "calib_dir: 8 numbers, by which the quadrants at upper left, upper "
                                                      "right, lower left, lower right are moved; slow, fast",
                                                  unit="pixels")
    tile_translations: tuple[float, ...] = option((), "calib_dir: 128 numbers, by which each ASIC is moved; slow, fast",
                                                  unit="pixels")
    subpixel_translations: tuple[float, ...] = option((), "calib_dir: 128 more of them", unit="pixels")
    subpixel_rotations: tuple[float, ...] = option((), "calib_dir: 64 numbers, by which each ASIC is turned about its "
                                                       "centre", unit="degrees")
    detz_offset: float | None = option(None, "distance at which the detector's encoder reads 0, in place of the "
                                             "geometry's coffset: holds where the camera length in the files is such a "
                                             "reading, that is, 0 or less", "mm", low=0.0)
    sensor_thickness_um: float = option(0.0, "thickness of the detector's sensor, for its parallax; 0: thin, or corrected "
                                             "for in the geometry", "um", low=0.0)
    sensor_material: str = option("Si", "what it is made of", choices=tuple(MATERIALS))
    output: str | None = option(None, "directory of the results", unit="path")
    modules: tuple[str, ...] = option(DEFAULT_CHAIN, "module instances that each event passes, in this order")
    events: str = option("", "events to process, START:STOP:STEP, of all events in the order of the sources")
    run: int | None = option(None, "run number, for {run} in paths", low=0)
    experiment: str | None = option(None, "name of the experiment, for {experiment} in paths")
    seed: int = option(0, "seed of the random numbers", low=0)
    learn_hits: int = option(100, "hits from which the run learns beam shift, distance, cell and spot shape before it "
                                  "starts; 0: learn nothing", low=0)
    chunk: int = option(0, "most events handed out at a time; 0: as the source and the number of ranks suggest", low=0)
    flush_interval_s: float = option(60.0, "a segment is written at the latest after this time", unit="s", low=0.1)
    flush_events: int = option(50000, "... or after this number of events", low=1)
    flush_bytes: int = option(1 << 28, "... or when a rank holds this much", unit="bytes", low=1)
    write_alignment: int = option(0, "in segments, what is larger than this begins at a multiple of it: the stripe or block "
                                     "size of a parallel file system; 0: anywhere", unit="bytes", low=0)
    write_hints: tuple[str, ...] = option((), "hints for MPI-IO, KEY=VALUE each: cb_nodes=8 striping_factor=16")
    max_failures: int = option(1000, "the run ends when more events than this have failed", low=0)
    event_timeout_s: float = option(300.0, "an event that takes longer fails; 0: no limit", unit="s", low=0)
    report: bool = option(True, "write report.html, report.json and report.pdf at the end")
    event_lines: bool = option(False, "print a line for each event: Spotfinder YES HIT ..., or with log_format = json "
                                      "an object")
    pack: bool = option(False, "join the segments to one file, run.h5, when the run is complete")
    follow: bool = option(False, "the sources are still being written (HDF5 SWMR, growing datasets and file lists, "
                                 "files named *.inprogress): process what comes")
    follow_timeout_s: float = option(60.0, "follow: the run ends when nothing has come for so long", unit="s", low=0)
    log_format: str = option("text", "form of the log lines", choices=("text", "json"))

    def __post_init__(self):
        check_options(self)
        self.event_range  # noqa: B018  (raises for a text that is no range)
        if self.follow and self.events:
            raise MpixfelError("follow and events exclude each other", "mpixfel.follow",
                               "choose events of complete files, or follow all")
        wrong = [hint for hint in self.write_hints if not all(hint.partition("="))]
        if wrong:
            raise MpixfelError(f"{wrong[0]!r} is no hint", "mpixfel.write_hints", "write KEY=VALUE, blanks between hints")
        if len(self.target_cell) % 6:
            raise MpixfelError(f"target_cell has {len(self.target_cell)} numbers", "mpixfel.target_cell",
                               "give a b c alpha beta gamma for each form")

    @property
    def event_range(self):
        """`events` as a slice; slice(None) for all."""
        words = self.events.split(":")
        try:
            numbers = [int(w) if w.strip() else None for w in words]
        except ValueError:
            numbers = ()
        if len(words) > 3 or not numbers or any(n is not None and n < 0 for n in numbers) or numbers[2:] == [0]:
            raise MpixfelError(f"{self.events!r} is not a range of events", "mpixfel.events",
                               "write START:STOP or START:STOP:STEP, counted from 0")
        if len(words) == 1:
            return slice(None) if numbers[0] is None else slice(numbers[0], numbers[0] + 1)
        return slice(*numbers)


@dataclass(frozen=True)
class ModuleSpec:
    """One configured module instance.

    Attributes
    ----------
    name, instance : str
        `mod_hitfind` and `index` of `mod_hitfind:index`.
    options : object
        Instance of the module class's `Options`, or None where the class has none.
    stages : mapping
        The stages (by section) that this instance sees otherwise than the run does, because its section or its PHIL
        file says so.
    """

    name: str
    instance: str
    options: object = None
    stages: dict = field(default_factory=dict)

    @property
    def full_name(self):
        return f"{self.name}:{self.instance}" if self.instance else self.name


@dataclass(frozen=True)
class Settings:
    """The whole configuration of a run; plain data, the same on every rank.

    Attributes
    ----------
    run : RunOptions
    stages : dict
        Section to stage instance.
    modules : tuple of ModuleSpec
        The chain, in order.
    origins : dict
        {section: {key: origin}}; an origin is `default`, `FILE:LINE`, `command line`, `environment NAME`.
    texts : dict
        {name: text} of the files that the configuration was read from, run.cfg first.
    notes : tuple of str
        What the user should know of the configuration, one line each: options without effect here, for example.
    argv : tuple of str
    resume, overwrite : bool
        What to do with an existing output.
    verbosity : int
        -1 quiet, 0 normal, 1 verbose.
    """

    run: RunOptions
    stages: dict
    modules: tuple
    origins: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)
    notes: tuple = ()
    argv: tuple = ()
    resume: bool = False
    overwrite: bool = False
    verbosity: int = 0

    def stage(self, section):
        """The stage instance of a section. `seen_by` gives the settings in which a module's own values stand."""
        if section not in self.stages:
            raise MpixfelError(f"there is no stage section [{section}]", "", "sections: " + ", ".join(self.stages))
        return self.stages[section]

    def seen_by(self, spec):
        """The settings as the module instance `spec` sees them: with the stage options of its own section."""
        return replace(self, stages={**self.stages, **spec.stages})

    def resolved(self):
        """{section: {option: {"value", "origin"}}}, plain enough for JSON: what the run file keeps."""
        sections = {"mpixfel": self.run, **self.stages}
        for spec in self.modules:
            sections[spec.full_name] = spec.options
        found = {name: {key: {"value": value, "origin": self.origins.get(name, {}).get(key, "default")}
                        for key, value in as_plain(instance).items()} for name, instance in sections.items()}
        for spec in self.modules:
            for section, stage in spec.stages.items():
                for key, value in as_plain(stage).items():
                    origin = self.origins.get(spec.full_name, {}).get(f"{section}.{key}")
                    if origin:
                        found[spec.full_name][f"{section}.{key}"] = {"value": value, "origin": origin}
        return found


def as_plain(instance):
    """{option: value} of an options instance, tuples as lists; {} for None."""
    if instance is None:
        return {}
    values = {f.name: getattr(instance, f.name) for f in fields(instance) if f.init}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


