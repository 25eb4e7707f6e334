"""Names of the files that modules write: folder, base name, and what tells the event."""
import os

from mpixfel.errors import MpixfelError
from mpixfel.model import timestamp


def check_basename(basename, where):
    """Raise `MpixfelError` for a base name that would leave its folder or hide the file."""
    if "/" in basename or os.sep in basename or "\0" in basename or basename.startswith("."):
        raise MpixfelError(f"{basename!r} is not a base name", where,
                           "give the folder in " + where.replace("base", "dir"))


def event_stem(event_id):
    """What an image file's name ends in: the 17-digit timestamp, or source and index where there is none.

    From the second event of a millisecond on its number follows, `_00001` and so on.
    """
    if event_id.timestamp_ns >= 0:
        return timestamp.digits(event_id.timestamp_ns) + (f"_{event_id.twin:05d}" if event_id.twin else "")
    return f"{event_id.source:03d}-{event_id.index:07d}"


def long_stem(event_id):
    """What an integration file's name ends in: the long timestamp, or source and index; and the image number of old.

    That number counts the images of one timestamp.
    """
    if event_id.timestamp_ns >= 0:
        return f"{timestamp.long_form(event_id.timestamp_ns)}_{event_id.twin:05d}"
    return f"{event_id.source:03d}-{event_id.index:07d}_00000"


def given_path(path, dirname, basename, suffix):
    """The path of a file that is named as a whole, or by folder and base name; "" where neither is given.

    `suffix` is added to a name that has none of its own.
    """
    path = path or (os.path.join(dirname or ".", basename) if basename else "")
    return path + suffix if path and not os.path.splitext(path)[1] else path
