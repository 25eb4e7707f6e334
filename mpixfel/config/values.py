"""Text to values: what a word in a configuration means, judged by the field of the data class it is for."""
import math
import types
import typing
from dataclasses import MISSING, fields

from mpixfel.errors import MpixfelError, nearest

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")
PATH_ENDINGS = ("_path", "_dir", "_dirname", "_basename", "_file")


def split_words(text):
    """Words of a list, parted by blanks or commas; quotes keep blanks and commas in a word.

    Raises `MpixfelError` for a quote that is not closed.
    """
    words, word, quote, started = [], "", "", False
    for c in text:
        if quote:
            quote, word = ("", word) if c == quote else (quote, word + c)
        elif c in "\"'":
            quote, started = c, True
        elif c.isspace() or c == ",":
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + c, True
    if quote:
        raise MpixfelError(f"the quote {quote} is not closed", "", "close it")
    return tuple(words + [word] if started else words)


def unquote(text):
    """The text without the pair of quotes around it, if the pair belongs together."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def is_path(field):
    """Whether the option holds paths (or base names), in which fields and variables are filled in."""
    return field.metadata.get("unit") == "path" or field.name.endswith(PATH_ENDINGS)


def options_of(cls):
    """{name: (field, type hint)} of an options class; {} for None (a module without options)."""
    if cls is None:
        return {}
    hints = typing.get_type_hints(cls)
    return {f.name: (f, hints.get(f.name, str)) for f in fields(cls) if f.init}


def default_of(field):
    """The default of a data class field, or None where it must be given."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def members(hint):
    """The types that a hint allows, as a tuple: `float | None` gives (float, NoneType)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(m for h in typing.get_args(hint) for m in members(h))
    return (hint,)


def parse(text, field, hint):
    """The value of an option from its text.

    Parameters
    ----------
    text : str
        As written. Empty or `None` mean "not given" where the option allows it.
    field : dataclasses.Field
        Made with `stages.interface.option`: choices and bounds are checked.
    hint : type
        The field's type: bool, int, float, str, tuple (of one of them), or several of them joined by `|`.

    Raises
    ------
    MpixfelError
        What is wrong and what to do; the caller knows where.
    """
    allowed, text = members(hint), text.strip()
    tuples = [h for h in allowed if h is tuple or typing.get_origin(h) is tuple]
    if is_unset(text, field.metadata.get("choices", ())):
        return _nothing(text, field, allowed, tuples)
    if tuples:
        value = _parse_tuple(text, tuples[0], default_of(field))
    else:
        value = _parse_scalar(unquote(text), allowed)
    check(value, field.metadata)
    return value


def is_unset(text, choices=()):
    """Whether a text means "not given": nothing, or None where that is not one of the choices."""
    return text.strip().lower() in ("", "none") and text.strip() not in choices


def _nothing(text, field, allowed, tuples):
    if type(None) in allowed or default_of(field) is None:
        return None
    if tuples:
        return ()
    if str in allowed and "" in (default_of(field), *field.metadata.get("choices", ())):
        return ""
    raise MpixfelError(f"{text or 'nothing'!r} is not a value of {field.name}", "",
                       f"give {describe(allowed)}, or leave the line away for {default_of(field)!r}")


def _parse_tuple(text, hint, default):
    elements = [a for a in typing.get_args(hint) if a is not Ellipsis]
    kind = elements[0] if elements else type(default[0]) if default else None
    text = text.strip()
    if kind is not str and text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    words = split_words(text)
    if len(elements) > 1 and len(words) != len(elements) and Ellipsis not in typing.get_args(hint):
        raise MpixfelError(f"{text!r} has {len(words)} words", "", f"give {len(elements)}")
    if kind is None:
        try:
            return tuple(float(w) for w in words)
        except ValueError:
            return words
    return tuple(_parse_scalar(w, members(kind)) for w in words)


def _parse_scalar(text, allowed):
    for kind in (bool, int, float, str):
        if kind in allowed:
            try:
                return _READ[kind](text)
            except ValueError:
                continue
    raise MpixfelError(f"{text!r} is not {describe(allowed)}", "", f"give {describe(allowed)}")


def _read_bool(text):
    if text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    raise ValueError(text)


def _read_float(text):
    value = float(text)
    if math.isnan(value):
        raise ValueError(text)
    return value


_READ = {bool: _read_bool, int: int, float: _read_float, str: str}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def describe(allowed):
    """The types in words, for messages and documentation."""
    names = []
    for hint in allowed:
        if hint in _NAMES:
            names.append(_NAMES[hint])
        elif hint is tuple or typing.get_origin(hint) is tuple:
            kinds = [a for a in typing.get_args(hint) if a is not Ellipsis]
            names.append({int: "whole numbers", float: "numbers"}.get(kinds[0] if kinds else str, "a list"))
    return " or ".join(dict.fromkeys(names)) or "text"


def check(value, metadata):
    """Raise `MpixfelError` where a value, or an element of a tuple, breaks the declared choices or bounds."""
    choices, low, high = metadata.get("choices"), metadata.get("low"), metadata.get("high")
    for v in value if isinstance(value, tuple) else (value,):
        if choices and v not in choices:
            close = nearest(str(v), [str(c) for c in choices])
            raise MpixfelError(f"{v!r} is not allowed", "", (f"did you mean {close}? " if close else "")
                               + "one of: " + ", ".join(map(str, choices)))
        if isinstance(v, (int, float)) and not isinstance(v, bool):
            if (low is not None and not v >= low) or (high is not None and not v <= high):
                raise MpixfelError(f"{v!r} is out of range", "", bounds(low, high))


def bounds(low, high):
    """A range in words."""
    if low is None or high is None:
        return f"at least {low}" if high is None else f"at most {high}"
    return f"from {low} to {high}"
