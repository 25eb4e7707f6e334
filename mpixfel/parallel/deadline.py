"""Signals: an event that takes too long, and the wish of user or batch system that the run should end."""
import signal
import threading
from contextlib import contextmanager

ENDING = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


class TooLong(BaseException):
    """An event has had its time. Not an `Exception`, so that no stage takes it for one of its own."""


class Deadline:
    """`with Deadline(seconds):` raises `TooLong` in the block when the time is over; 0 sets no limit.

    By SIGALRM, so in the main thread only, and only between two Python instructions: a call that never comes back to
    Python is not ended.
    """

    def __init__(self, seconds):
        self.seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0

    def __enter__(self):
        if self.seconds:
            self.before = signal.signal(signal.SIGALRM, self._over)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def _over(self, number, frame):
        raise TooLong

    def __exit__(self, *exception):
        if self.seconds:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, self.before)


@contextmanager
def no_longer_than(seconds, otherwise):
    """Call `otherwise`, on a thread of its own, if the block has not ended in time: also where it waits within MPI."""
    timer = threading.Timer(seconds, otherwise)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class EndSignals:
    """While entered, SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are remembered, and told to `wish`, instead of ending the program.

    Attributes
    ----------
    caught : str
        Name of the first that came; empty for none. A second SIGINT interrupts at once.
    """

    def __init__(self, wish):
        self.wish, self.caught = wish, ""

    def __enter__(self):
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for name in ENDING:
                self.before[name] = signal.signal(getattr(signal, name), self._remember)
        return self

    def _remember(self, number, frame):
        name = signal.Signals(number).name
        if self.caught == name == "SIGINT":
            raise KeyboardInterrupt
        self.caught = self.caught or name
        self.wish()

    def __exit__(self, *exception):
        for name, handler in self.before.items():
            signal.signal(getattr(signal, name), handler)
