"""Timestamps in the forms that file names have had since the first hard X-ray lasers. UTC, milliseconds."""
import re
from datetime import datetime, timezone

from mpixfel.errors import MpixfelError

_LONG = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)Z(\d\d)\.(\d{3})")
_DIGITS = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{3})")
MILLISECOND_NS = 1_000_000


def _parts(timestamp_ns):
    """(datetime to the second, milliseconds), rounded down."""
    seconds, rest = divmod(int(timestamp_ns), 1_000_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc), rest // MILLISECOND_NS


def long_form(timestamp_ns):
    """`2013-03-01T06:08Z58.401` of nanoseconds since 1970 UTC."""
    when, milliseconds = _parts(timestamp_ns)
    return f"{when:%Y-%m-%dT%H:%MZ%S}.{milliseconds:03d}"


def digits(timestamp_ns):
    """`20130301060858401` of nanoseconds since 1970 UTC."""
    when, milliseconds = _parts(timestamp_ns)
    return f"{when:%Y%m%d%H%M%S}{milliseconds:03d}"


def parse(text):
    """Nanoseconds since 1970 UTC of either form. Raises `MpixfelError` for anything else."""
    match = _LONG.fullmatch(text.strip()) or _DIGITS.fullmatch(text.strip())
    try:
        *when, milliseconds = map(int, match.groups())
        seconds = int(datetime(*when, tzinfo=timezone.utc).timestamp())
    except (AttributeError, ValueError):
        raise MpixfelError(f"{text!r} is no timestamp", "",
                           "write 2013-03-01T06:08Z58.401 or 20130301060858401") from None
    return seconds * 1_000_000_000 + milliseconds * MILLISECOND_NS
