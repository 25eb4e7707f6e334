"""From text to `Settings`: defaults, PHIL, run.cfg and command line, one over the other, with all errors in one go."""
import os
from dataclasses import dataclass, field, replace

from mpixfel import registry
from mpixfel.config import old_options, paths, translate
from mpixfel.config.run_cfg import RUN_SECTIONS, module_and_instance
from mpixfel.config.settings import DEFAULT_CHAIN, STAGES, ModuleSpec, RunOptions, Settings
from mpixfel.config.translate import Given
from mpixfel.config.values import is_path, options_of, parse, split_words, unquote
from mpixfel.errors import ManyErrors, MpixfelError, nearest, suggestion

COMMAND_LINE = "command line"


@dataclass
class Resolution:
    """What is gathered on the way: errors and notes for all, origins of values."""

    environment: dict
    fields: dict = field(default_factory=dict)
    errors: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    origins: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)
    ineffective: dict = field(default_factory=dict)

    def refuse(self, what, where="", remedy=""):
        self.errors.append(MpixfelError(what, where, remedy))

    def without_effect(self, reason, name):
        """Remember an option that has no effect, by reason."""
        self.ineffective.setdefault(reason, {})[name] = None

    def keep_text(self, name, text):
        """Remember the text of a file that was read; files of one name are told apart by a number."""
        number, free = 1, name
        while self.texts.get(free, text) != text:
            number, free = number + 1, f"{number}-{name}"
        self.texts[free] = text

    def all_notes(self):
        """The notes, with one line for each reason why options have no effect."""
        return (*dict.fromkeys(self.notes),
                *(f"without effect: {', '.join(names)} ({reason})" for reason, names in self.ineffective.items()))

    def build(self, cls, section, givens):
        """An options instance of `cls` from what was given, later over earlier; None where something is wrong."""
        known, values, origins, sound = options_of(cls), {}, {}, True
        for g in givens:
            if g.key not in known:
                self.refuse(f"unknown option {g.key} in [{section}]", g.origin, suggestion(g.key, known, "options"))
                sound = False
                continue
            try:
                values[g.key] = self.value(g, *known[g.key])
                origins[g.key] = g.origin
            except MpixfelError as e:
                self.refuse(f"{g.key}: {e.what}", g.origin, e.remedy)
                sound = False
        if not sound:
            return None
        try:
            instance = cls(**values) if cls else None
        except MpixfelError as e:
            key = e.where.rpartition(".")[2]
            self.refuse(f"{key}: {e.what}" if key in known else e.what, origins.get(key, f"[{section}]"), e.remedy)
            return None
        self.origins.setdefault(section, {}).update(origins)
        return instance

    def value(self, given, option, hint):
        """The value of one option; paths filled in and made relative to where they were written."""
        value = parse(given.text.replace("\n", " "), option, hint)
        if not is_path(option) or not value:
            return value
        one = lambda text: self._path(text, given.folder, option.name)
        return tuple(map(one, value)) if isinstance(value, tuple) else one(value)

    def _path(self, text, folder, name):
        text = paths.fill_in(text, self.fields, self.environment)
        if not name.endswith("_basename"):
            return paths.relative_to(folder, text)
        if os.sep in text or text.startswith("."):
            raise MpixfelError(f"{text!r} is not a base name", "", "give the folder in the option ending in _dirname")
        return text


def resolve(sections, command_line, folder=".", texts=None, environment=None, **flags):
    """The settings of a run.

    Parameters
    ----------
    sections : tuple of run_cfg.Section
        The configuration file's; () for none.
    command_line : sequence of (section, key, text, flag)
        Values given as flags; they go before all files.
    folder : str
        Where relative paths of the configuration file begin; those of the command line begin at ".".
    texts : dict
        {name: text} of the files read.
    flags
        Further fields of `Settings` (argv, resume, overwrite, verbosity).

    Raises
    ------
    ManyErrors
        All that is wrong, each with its place, the nearest known name, and what to do.
    """
    r = Resolution(dict(os.environ if environment is None else environment), texts=dict(texts or {}))
    given, places = by_section(sections, command_line, folder)
    rows = _experiment(translate.run_rows(given.get("mpixfel", []), r), r)
    r.fields = _path_fields(rows, r)
    chain = _chain(rows, given, r)
    stage_classes = load_stages(_named_plug_ins(given))
    phil = {name: translate.phil_rows(_rows_of(name, given), r) for name in chain}
    run = _run_options(rows, phil, r)
    stages = {section: r.build(cls, section, given.get(section, [])) for section, cls in stage_classes.items()}
    modules = tuple(_module(name, given, phil[name][1], stages, stage_classes, r) for name in chain)
    _refuse_unknown_sections(given, places, chain, stage_classes, r)
    _check_names(run, stages, r)
    if r.errors:
        raise ManyErrors(sorted(r.errors, key=_line))
    return Settings(run, stages, modules, r.origins, r.texts, r.all_notes(), **flags)


def _line(error):
    """Errors in the order of lines; those without a line last."""
    name, _, number = error.where.partition(" ")[0].rpartition(":")
    return (name, int(number)) if number.isdigit() else ("\uffff", 0)


def load_stages(plug_ins=()):
    """{section: stage class}: this program's own stages, and of those from elsewhere the ones in `plug_ins`."""
    references = dict(STAGES)
    for group in ("hit_finders", "indexers", "integrators"):
        references |= {name: reference for name, reference in registry.entries(group).items()
                       if name in plug_ins and reference not in STAGES.values()}
    return {section: registry.load_class(reference, f"section [{section}]")
            for section, reference in references.items()}


def _named_plug_ins(given):
    """Names that may stand for a stage from elsewhere: of sections, and of the finders chosen."""
    finders = {g.text.strip() for rows in given.values() for g in rows if g.key in ("finder", "hitfinding.finder")}
    return finders | {key for key in given if isinstance(key, str)}


def section_key(name):
    """How a section is filed: `mpixfel` for the run's under all its names, (module, instance) for a module's."""
    if name in RUN_SECTIONS:
        return "mpixfel"
    module, instance = module_and_instance(name)
    return (module, instance) if instance or module.startswith("mod_") else name


def by_section(sections, command_line, folder):
    """({section key: list of Given}, {section key: place}); what the command line says stands last."""
    given, places = {}, {}
    for s in sections:
        given.setdefault(section_key(s.name), []).extend(Given(e.key, e.text, e.where, folder) for e in s.entries)
        places[section_key(s.name)] = s.where
    for section, key, text, flag in command_line:
        given.setdefault(section_key(section), []).append(
            Given(key, text, f"{COMMAND_LINE} {flag}".strip(), ".", True))
        places.setdefault(section_key(section), f"{COMMAND_LINE} {flag}".strip())
    return given, places


def _experiment(rows, r):
    """With the experiment's name from the environment, where it is not given."""
    if r.environment.get("EXP") and not any(g.key == "experiment" for g in rows):
        rows = [Given("experiment", r.environment["EXP"], "environment EXP"), *rows]
    return rows


def _path_fields(rows, r):
    texts = {g.key: g.text.strip() for g in rows}
    number = texts.get("run", "")
    return paths.path_fields(int(number) if number.isdigit() else None, unquote(texts.get("experiment", "")),
                             (texts.get("source", "").split() or [""])[0], r.environment)


def _chain(rows, given, r):
    """(module, instance) of each configured instance, in order; without `modules`, the second one indexes."""
    listed = next((g for g in reversed(rows) if g.key == "modules" and g.text.strip()), None)
    if listed is None:
        for word, dispatch in zip(DEFAULT_CHAIN, ("nop", "index")):
            given.setdefault(module_and_instance(word), []).insert(0, Given("dispatch", dispatch, "default"))
    chain = []
    for word in split_words(listed.text) if listed else DEFAULT_CHAIN:
        name = module_and_instance(word)
        try:
            registry.load("modules", name[0], listed.origin if listed else "")
            if name in chain:
                r.refuse(f"{word} stands twice in modules", listed.origin, "give each its own name after the colon")
            else:
                chain.append(name)
        except MpixfelError as e:
            r.errors.append(e)
    return chain


def _rows_of(name, given):
    """The rows of an instance's section over those of its module's, and the command line's over both."""
    module, instance = name
    rows = given.get((module, ""), []) + (given.get(name, []) if instance else [])
    return sorted(rows, key=lambda g: g.from_command_line)


def _run_options(rows, phil, r):
    cells = {}
    for name, (more, _) in phil.items():
        for g in more:
            first = cells.setdefault(g.key, g)
            if first.text.replace(",", " ").split() != g.text.replace(",", " ").split():
                r.refuse(f"{g.key} of {':'.join(name)} is another one than that of {first.origin}", g.origin,
                         "name all cells with cell = in [mpixfel]" if g.key.startswith("target_cell")
                         else f"give one {g.key} for the run")
    run = r.build(RunOptions, "mpixfel", [*cells.values(), *rows])
    for key in ("source", "geometry", "output"):
        if not (getattr(run, key) if run else any(g.key == key for g in rows)):
            r.refuse(f"{key} is not given", "[mpixfel]", f"write {key} = ... in [mpixfel], or give --{key}")
    if run and run.cell and "target_cell" in cells:
        r.notes.append(f"{cells['target_cell'].origin}: target_cell has no effect, for [mpixfel] names a cell file")
    return run


def _module(name, given, phil, stages, stage_classes, r):
    """The `ModuleSpec` of an instance: its options, and the stages as its section and PHIL file want them."""
    module, instance = name
    full_name = f"{module}:{instance}" if instance else module
    cls = registry.load("modules", module)
    known = {section: options_of(c) for section, c in stage_classes.items()}
    rows = translate.module_rows(module, _rows_of(name, given), options_of(cls.Options), known, r)
    options = r.build(cls.Options, full_name, [g for g in rows if "." not in g.key])
    own = _own_stages(full_name, phil, [g for g in rows if "." in g.key], given, stage_classes, r)
    finder = own.get("hitfinding") or stages.get("hitfinding")
    if finder and finder.finder != "distl" and any(g.key.startswith("spotfinder.") for g in phil):
        r.notes.append(f"{full_name}: distl.* of its PHIL file has no effect unless hitfinding.finder = distl")
    return ModuleSpec(module, instance, options, own)


def _own_stages(full_name, phil, rows, given, stage_classes, r):
    """The stages that an instance sees otherwise. What is more special goes before: PHIL, the stage's section, the
    instance's section; and the command line goes before all of them."""
    sections = {}
    for g in (*phil, *rows):
        section, _, key = g.key.partition(".")
        if section in stage_classes:
            sections.setdefault(section, ([], []))[g in rows].append(replace(g, key=key))
        else:
            r.refuse(f"unknown option {g.key} in [{full_name}]", g.origin,
                     suggestion(section, stage_classes, "stage sections"))
    own = {}
    for section, (from_phil, more) in sections.items():
        layers = sorted([*from_phil, *given.get(section, []), *more], key=lambda g: g.from_command_line)
        inner = Resolution(r.environment, r.fields)
        own[section] = inner.build(stage_classes[section], section, layers)
        r.errors += [e for e in inner.errors if str(e) not in map(str, r.errors)]
        special = {g.key for g in (*from_phil, *more)}
        r.origins.setdefault(full_name, {}).update(
            {f"{section}.{key}": place for key, place in inner.origins.get(section, {}).items() if key in special})
    return own


def _refuse_unknown_sections(given, places, chain, stage_classes, r):
    """Sections of no name, and notes on those of instances that are not in the chain."""
    modules = set(registry.entries("modules")) | set(old_options.MODULES)
    names = {"mpixfel", *STAGES, *stage_classes, *modules}
    for key in given:
        where = places.get(key, "")
        if isinstance(key, str) and key not in names:
            r.refuse(f"unknown section [{key}]", where, suggestion(key, names, "sections"))
        elif isinstance(key, tuple) and key[0] not in modules:
            r.refuse(f"unknown module {key[0]}", where, suggestion(key[0], modules, "modules"))
        elif isinstance(key, tuple) and key not in chain and (key[1] or key[0] not in {m for m, _ in chain}):
            close = nearest(key[1], [i for m, i in chain if m == key[0]])
            r.notes.append(f"{where}: [{key[0]}{':' * bool(key[1])}{key[1]}] is not in modules, so it has no effect"
                           + (f" (did you mean {key[0]}:{close}?)" if close else ""))


def _check_names(run, stages, r):
    """Names of plug-ins that options hold."""
    finding = stages.get("hitfinding")
    for group, section, key, value in (("sources", "mpixfel", "source_format", run and run.source_format),
                                       ("hit_finders", "hitfinding", "finder", finding and finding.finder)):
        if value and value not in registry.entries(group):
            try:
                registry.load(group, value, r.origins.get(section, {}).get(key, ""))
            except MpixfelError as e:
                r.errors.append(e)
