"""From text to `Settings`: defaults, PHIL, run.cfg and command line, one over the other, with all errors in one go."""
import os
from dataclasses import dataclass, field, replace

from mpixfel import registry
from mpixfel.config import old_options, paths
from mpixfel.config.run_cfg import RUN_SECTIONS, module_and_instance
from mpixfel.config.settings import DEFAULT_CHAIN, STAGES, ModuleSpec, RunOptions, Settings
from mpixfel.config.values import is_path, nearest, options_of, parse, suggestion
from mpixfel.errors import ManyErrors, MpixfelError

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Given:
    """One value as given: `origin` tells the place to people, `folder` is what its paths are relative to."""

    key: str
    text: str
    origin: str
    folder: str
    from_command_line: bool = False


@dataclass
class Resolution:
    """What is gathered on the way: errors and notes for all, origins of values."""

    environment: dict = field(default_factory=lambda: dict(os.environ))
    fields: dict = field(default_factory=dict)
    errors: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    origins: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)

    def refuse(self, what, where="", remedy=""):
        self.errors.append(MpixfelError(what, where, remedy))

    def build(self, cls, section, givens, quiet=False):
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
        if not is_path(option) or value is None:
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
    r = Resolution(texts=dict(texts or {}))
    if environment is not None:
        r.environment = dict(environment)
    given = _by_section(sections, command_line, folder, r)
    run = _run_options(given, r)
    chain = _chain(run, r)
    _default_dispatch(run, given)
    stages = _stages(given, r)
    modules = tuple(_module(name, instance, given, stages, r) for name, instance in chain)
    _refuse_unknown_sections(given, chain, r)
    if r.errors:
        raise ManyErrors(r.errors)
    return Settings(run, stages, modules, r.origins, r.texts, tuple(dict.fromkeys(r.notes)), **flags)


def section_key(name):
    """How a section is filed: `mpixfel` for the run's under all its names, (module, instance) for a module's."""
    if name in RUN_SECTIONS:
        return "mpixfel"
    module, instance = module_and_instance(name)
    return (module, instance) if instance or module.startswith("mod_") else name


def _by_section(sections, command_line, folder, r):
    given = {}
    for s in sections:
        rows = given.setdefault(section_key(s.name), [])
        rows += [Given(e.key, e.text, e.where, folder) for e in s.entries]
        r.origins.setdefault("", {})[section_key(s.name)] = s.where
    for section, key, text, flag in command_line:
        rows = given.setdefault(section_key(section), [])
        rows.append(Given(key, text, f"{COMMAND_LINE} {flag}".strip(), ".", True))
        r.origins.setdefault("", {}).setdefault(section_key(section), f"{COMMAND_LINE} {flag}".strip())
    return given


def _run_options(given, r):
    rows = given.get("mpixfel", [])
    if r.environment.get("EXP") and not any(g.key == "experiment" for g in rows):
        rows = [Given("experiment", r.environment["EXP"], "environment EXP", "."), *rows]
    rows = old_options.translate_run(rows, r)
    first = {g.key: g.text for g in rows if g.key in ("run", "experiment", "source")}
    number = first.get("run", "").strip()
    r.fields = paths.path_fields(int(number) if number.isdigit() else None, first.get("experiment", "").strip(),
                                 (first.get("source", "").split() or [""])[0], r.environment)
    run = r.build(RunOptions, "mpixfel", rows)
    for key in ("source", "geometry", "output") if run else ():
        if not getattr(run, key):
            r.refuse(f"{key} is not given", "[mpixfel]", f"write {key} = ... in [mpixfel], or give --{key}")
    return run


def _chain(run, r):
    """(module, instance) of each configured instance, in order."""
    chain, where = [], r.origins.get("mpixfel", {}).get("modules", "[mpixfel]")
    for word in run.modules if run else ():
        name = module_and_instance(word)
        if name in chain:
            r.refuse(f"{word} stands twice in modules", where, "give each instance its own name after the colon")
        elif name[0] in registry.entries("modules"):
            chain.append(name)
        else:
            try:
                registry.load("modules", name[0], where)
            except MpixfelError as e:
                r.errors.append(e)
    return chain


def _default_dispatch(run, given):
    """Without `modules`, the second instance of the chain indexes."""
    if run and run.modules == DEFAULT_CHAIN:
        for (module, instance), dispatch in ((module_and_instance(DEFAULT_CHAIN[0]), "nop"),
                                             (module_and_instance(DEFAULT_CHAIN[1]), "index")):
            rows = given.setdefault((module, instance), [])
            rows.insert(0, Given("dispatch", dispatch, "default", "."))


def _stages(given, r):
    stages = {}
    for section, reference in STAGES.items():
        try:
            cls = registry.load_class(reference, f"section [{section}]")
        except MpixfelError:
            continue
        stages[section] = r.build(cls, section, given.get(section, []))
    return stages


def _module(name, instance, given, stages, r):
    """The `ModuleSpec` of an instance: its options, and the stages as its section wants them."""
    full_name = f"{name}:{instance}" if instance else name
    cls = registry.load("modules", name)
    rows = given.get((name, ""), []) + (given.get((name, instance), []) if instance else [])
    rows = sorted(rows, key=lambda g: g.from_command_line)
    rows = old_options.translate_module(name, rows, options_of(cls.Options), r)
    options = r.build(cls.Options, full_name, [g for g in rows if "." not in g.key])
    return ModuleSpec(name, instance, options, _own_stages(full_name, [g for g in rows if "." in g.key], given, stages, r))


def _own_stages(full_name, rows, given, stages, r):
    wanted = {}
    for g in rows:
        section, _, key = g.key.partition(".")
        if section in stages:
            wanted.setdefault(section, []).append(replace(g, key=key))
        else:
            r.refuse(f"unknown option {g.key} in [{full_name}]", g.origin, suggestion(section, stages, "stage sections"))
    own = {}
    for section, more in wanted.items():
        common = given.get(section, [])
        order = ([g for g in common if not g.from_command_line] + [g for g in more if not g.from_command_line]
                 + [g for g in common if g.from_command_line] + [g for g in more if g.from_command_line])
        inner = Resolution(r.environment, r.fields)
        stage = inner.build(type(stages[section]), section, order) if stages[section] else None
        r.errors += [e for e in inner.errors if str(e) not in map(str, r.errors)]
        if stage is not None:
            own[section] = stage
        places = inner.origins.get(section, {})
        r.origins.setdefault(full_name, {}).update(
            {f"{section}.{g.key}": places[g.key] for g in more if g.key in places})
    return own


def _refuse_unknown_sections(given, chain, r):
    modules = set(registry.entries("modules")) | set(old_options.MODULES)
    names = {"mpixfel", *STAGES, *modules}
    for key in given:
        where = r.origins.get("", {}).get(key, "")
        if isinstance(key, str) and key not in names:
            r.refuse(f"unknown section [{key}]", where, suggestion(key, names, "sections"))
        elif isinstance(key, tuple) and key[0] not in modules:
            r.refuse(f"unknown module {key[0]}", where, suggestion(key[0], modules, "modules"))
        elif isinstance(key, tuple) and key[1] and key not in chain and chain:
            close = nearest(key[1], [i for m, i in chain if m == key[0]])
            r.notes.append(f"{where}: [{key[0]}:{key[1]}] is not in modules, so it has no effect"
                           + (f" (did you mean {key[0]}:{close}?)" if close else ""))
    r.origins.pop("", None)


