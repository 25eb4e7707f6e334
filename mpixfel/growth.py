"""A run over files that are still being written: news of its source, until a time without any."""
import time

from mpixfel.errors import MpixfelError
from mpixfel.io.disk import writing
from mpixfel.job import write_identity
from mpixfel.report import log
from mpixfel.rounds import EVENTS_PER_LATTICE

SECONDS_BETWEEN_LOOKS = 1.0
# A run that is to learn waits for more to learn from as long as they come.
PATIENCE_S = 10.0


class Growth:
    """What `parallel.schedule` asks about a source that grows.

    Parameters
    ----------
    job : Job
        Its source has `look` and `take`.
    comm : communicator
    progress : Progress
        Told of the number of events.
    """

    def __init__(self, job, comm, progress, clock=time.monotonic):
        self.job, self.comm, self.progress, self.clock = job, comm, progress, clock
        self.news, self.looked, self.last = None, float("-inf"), clock()

    def due(self):
        """Look for news if it is time, on rank 0; whether there are any."""
        if self.clock() - self.looked < SECONDS_BETWEEN_LOOKS:
            return False
        self.news, self.looked = self.job.source.look(), self.clock()
        if self.news is not None:
            self.last = self.looked
        return self.news is not None

    def over(self):
        """Whether nothing has come for so long that nothing is waited for any more; on rank 0."""
        run = self.job.settings.run
        return not run.follow or self.clock() - self.last >= run.follow_timeout_s

    def share(self):
        """Give the news to all ranks; collective. Their positions, in order."""
        source, before = self.job.source, len(self.job.source)
        news = self.comm.bcast(self.news, root=0) if self.comm.size > 1 else self.news
        source.take(news)
        if self.comm.rank == 0:
            with writing(self.job.output / "job.json", self.comm):
                write_identity(self.job)
            self.progress.total = len(source)
            log.LOGGER.info("%d more events, %d in all", len(source) - before, len(source))
        return range(before, len(source))


def wait_for_first(job, has_learnt, sleep=time.sleep, clock=time.monotonic):
    """Wait until there are events, and enough to learn from, as long as they come; on one rank.

    Raises `MpixfelError` where nothing comes.
    """
    source, run = job.source, job.settings.run
    wanted = 1 if has_learnt else max(1, EVENTS_PER_LATTICE * run.learn_hits)
    last = clock()
    while len(source) < wanted:
        news = source.look()
        if news is not None:
            source.take(news)
            last = clock()
        elif clock() - last >= (min(PATIENCE_S, run.follow_timeout_s) if len(source) else run.follow_timeout_s):
            break
        else:
            sleep(SECONDS_BETWEEN_LOOKS)
    if not len(source):
        why = "; ".join(f"{path}: {reason}" for path, reason in list(source.waiting.items())[:3])
        raise MpixfelError(f"no event has come in {run.follow_timeout_s:g} s", " ".join(run.source),
                           f"{why}; " * bool(why) + "check the source, or make follow_timeout_s longer")
