"""Paths in a configuration: fields in braces, environment variables, and the folder that they are relative to."""
import os
import re
import string
import time
from pathlib import Path

from mpixfel.errors import MpixfelError, nearest, suggestion
from mpixfel.model.timestamp import long_form

_HUGE = re.compile(r"\d{4}")    # a format of that width is a slip, or worse
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
FIELDS = {
    "run": "run number (option run)",
    "experiment": "experiment (option experiment, or the variable EXP)",
    "expNum": "the digits at the experiment's end: 78513 of cxi78513",
    "instrument": "the experiment's first three letters, in capitals: CXI of cxi78513",
    "user": "name of the user",
    "jobName": "name of the batch job, or mpixfel",
    "jobNameSub": "the same as jobName: one MPI job has no sub-jobs",
    "epoch": "seconds since 1970 at which the job began",
    "iso8601": "UTC time at which the job began: 2013-03-01T06:08Z58.401",
    "stream": "stream number of the first source, if its name is like e...-r0012-s01-c00; otherwise 0",
    "chunk": "chunk number of the first source, likewise",
    "seqno": "0: one MPI job writes one output",
    "subprocess": "0: one MPI job writes one output",
}


def path_fields(run, experiment, source="", environment=os.environ, now=None):
    """{field: value} for `fill_in`; None stands for what is not known."""
    now = time.time() if now is None else now
    stream = re.search(r"-s(\d+)(?:-c(\d+))?", Path(source).name)
    digits = re.search(r"(\d+)$", experiment or "")
    job = next((environment[v] for v in ("SLURM_JOB_NAME", "LSB_JOBNAME") if environment.get(v)), "mpixfel")
    return {"run": run, "experiment": experiment or None, "expNum": int(digits[1]) if digits else None,
            "instrument": (experiment or "")[:3].upper() or None,
            "user": environment.get("USER") or environment.get("LOGNAME") or None,
            "jobName": job, "jobNameSub": job, "epoch": int(now), "iso8601": long_form(now * 1e9),
            "stream": int(stream[1]) if stream else 0, "chunk": int(stream[2] or 0) if stream else 0,
            "seqno": 0, "subprocess": 0}


def fill_in(text, values, environment=os.environ):
    """A path with its fields `{run:04d}`, `{user!u}` and variables `$DATA`, `${DATA}`, `~` filled in.

    Fields are plain names out of `FIELDS`, with the conversions !u and !l (upper and lower case) and PEP 3101's
    format; nothing is evaluated. Raises `MpixfelError` for an unknown name, an unknown value, or a lone brace.
    """
    if "\0" in text:
        raise MpixfelError(f"{text!r} is not a path", "", "write it without control characters")
    text = _VARIABLE.sub(lambda m: _variable(m[1] or m[2], environment), text)
    if text == "~" or text.startswith("~/"):
        text = _variable("HOME", environment) + text[1:]
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as e:
        raise MpixfelError(f"{text!r}: {e}", "", "write {{ and }} for braces that stand for themselves") from None
    return "".join(literal + (_field(name, conversion, form, values) if name is not None else "")
                   for literal, name, form, conversion in pieces)


def _variable(name, environment):
    if name not in environment:
        close = nearest(name, environment)
        raise MpixfelError(f"the environment variable {name} is not set", "",
                           (f"did you mean {close}? " if close else "") + "set it, or write the path out")
    return environment[name]


def _field(name, conversion, form, values):
    if name not in FIELDS:
        raise MpixfelError(f"unknown field {{{name}}} in a path", "", suggestion(name, FIELDS, "fields"))
    value = values.get(name)
    if value is None:
        what = {"run": "run = NUMBER", "user": "the variable USER"}.get(name, "experiment = NAME")
        raise MpixfelError(f"the value of {{{name}}} is not known", "", f"give {what}")
    if conversion in ("u", "l"):
        value = str(value).upper() if conversion == "u" else str(value).lower()
    elif conversion == "s":
        value = str(value)
    elif conversion:
        raise MpixfelError(f"unknown conversion !{conversion} of {{{name}}}", "", "use !u or !l")
    if "{" in (form or "") or _HUGE.search(form or ""):
        raise MpixfelError(f"{form!r} is not a format for {{{name}}}", "", "write one like {run:04d}")
    try:
        return format(value, form or "")
    except ValueError:
        raise MpixfelError(f"{form!r} is not a format for {{{name}}} = {value!r}", "",
                           "write one like {run:04d}") from None


def relative_to(folder, path):
    """The path, taken from `folder` where it is relative."""
    return os.path.normpath(os.path.join(folder, path))
