"""The command `mpixfel`: parse, call, print."""
import argparse
import ast
import importlib
import os
import re
import sys
import textwrap
import traceback
from pathlib import Path

from mpixfel import __version__
from mpixfel.errors import MpixfelError, nearest, suggestion

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "MV2_COMM_WORLD_RANK")


class UsageError(MpixfelError):
    """The command line makes no sense."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors name the nearest flag and do not end the program."""

    def __init__(self, **options):
        width = {"formatter_class": lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 26, 80)}
        super().__init__(allow_abbrev=False, **{**width, **options})

    def error(self, message):
        raise UsageError(message, "", f"{self.prog} --help lists the flags")

    def parse(self, argv):
        """The parsed arguments; raises `UsageError`."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            word = unknown[0].partition("=")[0]
            close = nearest(word, known) if word.startswith("-") else ""
            raise UsageError(f"unknown argument {unknown[0]}", "",
                             f"did you mean {close}?" if close else f"{self.prog} --help lists the flags")
        return arguments


def run_parser():
    """The parser of the main form."""
    parser = Parser(prog="mpixfel", usage="mpixfel -c run.cfg [flags]   or   mpixfel SUBCOMMAND ...",
                    description="Process an XFEL serial crystallography run, from images to intensities.",
                    epilog="subcommands (each with --help):\n" + "\n".join(subcommand_lines()) + "\n\n"
                    "exit codes: 0 done, 1 a defect or too many failed events, 2 something that you\n"
                    "can repair, 3 ended early but in order (--resume goes on)")
    what = parser.add_argument_group("what to process (a flag overrides the configuration file)")
    what.add_argument("-c", "--config", metavar="FILE", help="configuration (run.cfg)")
    what.add_argument("--source", metavar="FILE", nargs="+", help="image files, globs, .lst lists")
    what.add_argument("--geometry", metavar="FILE", help="detector geometry (.geom)")
    what.add_argument("--cell", metavar="FILE", nargs="+", help="unit cells (.cell, .pdb)")
    what.add_argument("--output", metavar="DIR", help="directory of the results")
    what.add_argument("--events", metavar="A:B:STEP", help="events to process")
    what.add_argument("--set", metavar="SECTION.KEY=VALUE", action="append", default=[],
                      help="any option of any section; may be given several times")
    how = parser.add_argument_group("how")
    how.add_argument("--event", metavar="I", type=int, help="process event I alone and tell every step")
    how.add_argument("--dry-run", action="store_true", help="show configuration, events and detector, process nothing")
    how.add_argument("--resume", action="store_true", help="go on with an output that is not complete")
    how.add_argument("--overwrite", action="store_true", help="delete an existing output first")
    loudness = how.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    loudness.add_argument("-v", "--verbose", action="store_true", help="print the resolved configuration first")
    how.add_argument("--log-format", metavar="text|json", help="form of the log lines (mpixfel.log_format)")
    how.add_argument("--version", action="version", version=f"mpixfel {__version__}")
    return parser


def subcommands():
    """Names of the subcommands: the modules of this folder that take arguments."""
    names = {p.stem.partition("_")[0] if p.stem.startswith("bench_") else p.stem
             for p in Path(__file__).parent.glob("*.py") if "def add_arguments(" in p.read_text(encoding="utf-8")}
    return sorted(names - {"main"})


def subcommand_lines():
    """One line for each subcommand, from its docstring."""
    for name in subcommands():
        path = Path(__file__).parent / f"{name}.py"
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None
        line = (text or "measure how fast and how right a part is").split("\n")[0].rstrip(".")
        yield f"  {name:<14}" + textwrap.shorten(line, 63, placeholder=" ...")


def main(argv=None):
    """Run the command line; returns the exit code: 0 done, 1 a defect, 2 something that the user can repair."""
    argv = list(sys.argv[1:] if argv is None else argv)
    comm = None
    try:
        if not argv or {"-h", "--help", "--version"} & set(argv) and argv[0].startswith("-"):
            run_parser().parse(argv or ["--help"])
        if not argv[0].startswith("-"):
            return _subcommand(argv)
        from mpixfel.parallel.world import world
        comm = world()
        code = run_command(argv, comm)
        sys.stdout.flush()
        return code
    except SystemExit as e:
        return int(e.code or 0)
    except MpixfelError as e:
        if _rank(comm) == 0:
            print_error(e)
        return 2
    except KeyboardInterrupt:
        return _end_together(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _end_together(1)
    except Exception:
        place = f"rank {_rank(comm)} on {os.uname().nodename}"
        print(f"mpixfel: defect on {place}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return _end_together(1)


def run_command(argv, comm):
    """The main form, on every rank: rank 0 reads, and its settings or its error are given to all."""
    from mpixfel.parallel.collect import on_each, on_root
    arguments = on_root(comm, run_parser().parse, argv)
    from mpixfel.config.resolve import load_stages
    on_each(comm, load_stages)    # on all ranks at once: the compiler takes a second to load
    settings = on_root(comm, read_settings, arguments, argv)
    if comm.rank == 0 and not arguments.quiet:
        for note in settings.notes:
            print(f"mpixfel: note: {note}", file=sys.stderr)
    if arguments.dry_run:
        from mpixfel.cli.dry_run import dry_run
        return on_root(comm, dry_run, settings)
    if comm.rank == 0 and arguments.verbose:
        from mpixfel.cli.dry_run import configuration_lines
        print("\n".join(configuration_lines(settings)), flush=True)
    from mpixfel import pipeline
    if arguments.event is not None:
        return on_root(comm, pipeline.explain_event, settings, arguments.event)
    return pipeline.run(settings, comm)


def read_settings(arguments, argv):
    """`Settings` of a command line, and of the configuration file that it names."""
    from mpixfel.config.resolve import resolve
    from mpixfel.config.run_cfg import read_run_cfg
    if arguments.resume and arguments.overwrite:
        raise UsageError("--resume and --overwrite exclude each other", "", "give one of them")
    sections, texts, folder = (), {}, "."
    if arguments.config:
        sections, text = read_run_cfg(arguments.config)
        folder, name = os.path.split(arguments.config)
        texts, folder = {name: without_secrets(text)}, folder or "."
    return resolve(sections, given_flags(arguments), folder, texts, argv=tuple(argv), resume=arguments.resume,
                   overwrite=arguments.overwrite, verbosity=arguments.verbose - arguments.quiet)


def without_secrets(text):
    """The configuration's text as it is kept with the results: other people read these."""
    return re.sub(r"(?m)^(\s*db_password\s*[=:]).*$", r"\1 withheld", text)


def given_flags(arguments):
    """(section, key, text, flag) of every flag that sets an option."""
    rows = []
    for text in arguments.set:
        match = re.match(r"([^.=]+)\.([^=]+)=(.*)$", text, re.DOTALL)
        if not match:
            raise UsageError(f"--set {text} is not SECTION.KEY=VALUE", "", "write --set indexing.max_lattices=3")
        rows.append((match[1].strip(), match[2].strip(), match[3], f"--set {text}"))
    for key in ("source", "geometry", "cell", "output", "events", "log_format"):
        value = getattr(arguments, key, None)
        if value is not None:
            text = value if isinstance(value, str) else " ".join(map(_quoted, value))
            rows.append(("mpixfel", key, text, "--" + key.replace("_", "-")))
    return rows


def _quoted(path):
    mark = "'" if '"' in path else '"'
    return f"{mark}{path}{mark}"


def _subcommand(argv):
    name, rest = argv[0], argv[1:]
    known = subcommands()
    if name not in known:
        if os.path.exists(name):
            raise UsageError(f"{name} is a file", "", f"write mpixfel -c {name}")
        raise UsageError(f"unknown subcommand {name}", "", suggestion(name, known, "subcommands"))
    if name == "bench":
        name, rest = _bench(rest)
    module = importlib.import_module(f"mpixfel.cli.{name}")
    parser = Parser(prog="mpixfel " + name.replace("_", " "), description=(module.__doc__ or "").strip())
    module.add_arguments(parser)
    return module.run(parser.parse(rest)) or 0


def _bench(rest):
    folder = Path(__file__).parent
    known = sorted(p.stem[len("bench_"):] for p in folder.glob("bench_*.py"))
    if not rest or rest[0] not in known:
        if {"-h", "--help"} & set(rest):
            print("usage: mpixfel bench " + "|".join(known))
            raise SystemExit(0)
        raise UsageError(f"unknown benchmark {rest[0]}" if rest else "no benchmark named", "",
                         suggestion(rest[0] if rest else "", known, "benchmarks"))
    return f"bench_{rest[0]}", rest[1:]


def _rank(comm):
    if comm is not None:
        return comm.rank
    return next((int(os.environ[v]) for v in RANK_VARIABLES if os.environ.get(v, "").isdigit()), 0)


def print_error(error):
    """Each error on one line of stderr."""
    for e in getattr(error, "errors", (error,)):
        print("mpixfel: error: " + " ".join(str(e).split()), file=sys.stderr)


def _end_together(code):
    """End the other ranks too: they may stand in any collective call. A subcommand may have taken the world itself."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() and mpi.COMM_WORLD.size > 1:
        mpi.COMM_WORLD.Abort(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
