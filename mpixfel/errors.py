"""Bad news that the user can repair."""
import difflib


class MpixfelError(Exception):
    """Something that the user can repair: printed as one line, exit code 2, never a traceback.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str
        File, line, option or event in which it is wrong.
    remedy : str
        What to do about it.
    """

    def __init__(self, what, where="", remedy=""):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self):
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class ManyErrors(MpixfelError):
    """Several repairable errors, reported in one go: one line each."""

    def __init__(self, errors):
        self.errors = tuple(errors)
        super().__init__("\n".join(str(e) for e in self.errors))

    def __reduce__(self):
        return ManyErrors, (self.errors,)


class BadData(MpixfelError):
    """The data of one event cannot be used (truncated chunk, wrong shape): the event fails, the run goes on."""


def nearest(name, known):
    """The known name most like `name`, or ""."""
    lower = {k.lower(): k for k in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


def suggestion(name, known, what="names"):
    """Remedy for an unknown name: the nearest one, or else all of them (as far as a line is readable)."""
    close = nearest(name, known)
    if close:
        return f"did you mean {close}?"
    if not known:
        return f"there are no {what} here"
    listed = ", ".join(sorted(known)[:40]) + (", ..." if len(known) > 40 else "")
    return f"{what}: {listed}"
