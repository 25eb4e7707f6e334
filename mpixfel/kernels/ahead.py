"""Kernels compiled before they are called, so that the ranks of a machine can share the work.

`ahead.json` names the kernels that runs call, with the types that they call them with, the slowest to compile first;
`tests/kernels_ahead.py` writes it. What it lacks, or has of another version, is compiled when it is called.
"""
import importlib
import json
from pathlib import Path

import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.np import numpy_support

LIST = Path(__file__).with_suffix(".json")


def listed():
    """[(kernel, [types])] to be compiled: `module.function` in this package, and the types as `described`."""
    try:
        return [tuple(entry) for entry in json.loads(LIST.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def compile_kernel(name, arguments):
    """Compile a kernel for these types, or load it; whether that was possible."""
    module, _, function = name.rpartition(".")
    try:
        kernel = getattr(importlib.import_module(f"{__package__}.{module}"), function)
        kernel.compile(tuple(map(numba_type, arguments)))
        return True
    except (ImportError, AttributeError, TypeError, NumbaError):   # of another version, or without the compiler
        return False


def described(kind):
    """A numba type in terms of JSON. Raises `TypeError` for one that has none."""
    if isinstance(kind, (types.Number, types.Boolean, types.NoneType)):
        return str(kind)
    if isinstance(kind, types.Array):
        return ["array", described(kind.dtype), kind.ndim, kind.layout, not kind.mutable, kind.aligned]
    if isinstance(kind, types.Record):
        return ["rows", *map(list, numpy_support.as_dtype(kind).descr)]
    if isinstance(kind, (types.NamedTuple, types.NamedUniTuple)):
        cls = kind.instance_class
        return ["named", f"{cls.__module__}:{cls.__qualname__}", *map(described, kind.types)]
    if isinstance(kind, (types.UniTuple, types.Tuple)):
        return ["tuple", *map(described, kind.types)]
    if isinstance(kind, types.FunctionType):
        return ["function", described(kind.signature.return_type), *map(described, kind.signature.args)]
    raise TypeError(f"no description of {kind}")


def numba_type(text):
    """The numba type of a description. Raises `TypeError` or `AttributeError` for one that names nothing."""
    if isinstance(text, str):
        return getattr(types, text)
    head, *rest = text
    if head == "array":
        return types.Array(numba_type(rest[0]), rest[1], rest[2], readonly=rest[3], aligned=rest[4])
    if head == "rows":
        return numpy_support.from_dtype(np.dtype(list(map(tuple, rest))))
    if head == "named":
        module, _, name = rest[0].partition(":")
        cls, members = getattr(importlib.import_module(module), name), tuple(map(numba_type, rest[1:]))
        return types.BaseTuple.from_types(members, cls)
    if head == "tuple":
        return types.BaseTuple.from_types(tuple(map(numba_type, rest)))
    if head == "function":
        return types.FunctionType(numba_type(rest[0])(*map(numba_type, rest[1:])))
    raise TypeError(f"no type is {head}")
