"""Bounds of options, checked where a stage or settings class is made."""
from dataclasses import fields

from mpixfel.errors import MpixfelError


def check_options(instance):
    """Raise `MpixfelError` for the first field of a data class that breaks its declared bounds or choices."""
    for f in fields(instance):
        value, meta = getattr(instance, f.name), f.metadata
        if value is None:
            continue
        where = f"{type(instance).__name__}.{f.name}"
        if meta.get("choices") and value not in meta["choices"]:
            raise MpixfelError(f"{value!r} is not allowed", where, "one of: " + ", ".join(map(str, meta["choices"])))
        low, high = meta.get("low"), meta.get("high")
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise MpixfelError(f"{value!r} is out of range", where, f"from {low} to {high}")
