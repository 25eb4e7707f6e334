"""Bounds of options, checked where a stage or settings class is made."""
from dataclasses import fields

from mpixfel.errors import MpixfelError


def check_options(instance):
    """Raise `MpixfelError` for the first field of a data class that breaks its declared bounds or choices.

    Of a tuple, each element is held against them.
    """
    for f in fields(instance):
        given, meta = getattr(instance, f.name), f.metadata
        where = f"{type(instance).__name__}.{f.name}"
        low, high = meta.get("low"), meta.get("high")
        for value in given if isinstance(given, tuple) else (given,):
            if value is None:
                continue
            if meta.get("choices") and value not in meta["choices"]:
                raise MpixfelError(f"{value!r} is not allowed", where, "one of: " + ", ".join(map(str, meta["choices"])))
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                raise MpixfelError(f"{value!r} is out of range", where, f"from {low} to {high}")
