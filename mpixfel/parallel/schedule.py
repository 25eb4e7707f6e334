"""Who does which event: an iterator over event indices, the same program on one rank and on thousands.

Rank 0 hands out ranges of indices by guided self-scheduling: large ones at first, single events at the end. A worker
asks for its next range when it begins one, so that it does not run dry; what it asks with carries its counters, so
progress costs no messages. On few ranks rank 0 works too and answers between its own events. Between events every rank
hears whether the bell rings: then all of them enter the collective flush together. Ranks with nothing to do sleep.

Messages from rank 0 are (code, start, stop); messages to rank 0 are (kind, counters...). Two MPI calls an event.
"""
import time

import numpy as np

from mpixfel.parallel.survive import double, release
from mpixfel.parallel.world import Nap, meet

# The first counters of a tally belong to the schedule; those after them to the caller.
DONE, BYTES, STOP, BUSY_US = range(4)
OWN_COUNTERS = 4
ASK, TELL = 0, 1
WORK, FLUSH, FINISH, NEWS = 0, 1, 2, 3
TAG = 71
# A master that also works serves this many ranks; beyond, rank 0 only serves.
RANKS_WITH_WORKING_MASTER = 16
SECONDS_IN_RANGE = 1.0
# Longest time a range should last on P ranks: keeps rank 0 below 5 % busy at 20 us a request.
MASTER_SECONDS_PER_REQUEST = 20e-6
MASTER_SHARE = 0.05
# A look over the counters of 10000 ranks takes 0.25 ms: the more ranks, the fewer looks.
SECONDS_BETWEEN_LOOKS = 0.005
RANKS_LOOKED_AT_SO_OFTEN = 1000


def probe_status():
    """What `Iprobe` fills in."""
    from mpi4py import MPI
    return MPI.Status()


class Pool:
    """What is still to be handed out: runs of consecutive indices, in order."""

    def __init__(self, indices, n_workers, chunk=1, largest=0):
        self.runs, self.left = [], 0
        self.n_workers, self.chunk, self.largest = max(1, n_workers), max(1, chunk), largest
        self.add(indices)

    def add(self, indices):
        """Further indices, after all others."""
        indices = np.asarray(indices, np.int64)
        breaks = np.flatnonzero(np.diff(indices) != 1) + 1
        self.runs[:0] = [(int(run[0]), int(run[-1]) + 1) for run in np.split(indices, breaks) if len(run)][::-1]
        self.left += len(indices)

    def take(self, limit):
        """The next (start, stop): at most a third of an even share of what is left, and at most `limit`.

        Whole chunks where it is large enough, so that a storage chunk is read by one rank only.
        """
        start, end = self.runs.pop()
        size = max(1, min(self.left // (3 * self.n_workers), max(limit, self.chunk)))
        stop = min(start + min(size, self.largest or size), end)
        if stop < end and stop - start >= self.chunk:
            stop = max(start + 1, stop - stop % self.chunk) if stop - stop % self.chunk > start else stop
        if stop < end:
            self.runs.append((stop, end))
        self.left -= stop - start
        return start, stop


class Schedule:
    """Iterate over the indices that this rank is to do; collective over `comm`.

    Parameters
    ----------
    comm : communicator
    indices : (n,) int64
        What is to be done, ascending; read on rank 0 only.
    tally : (m,) int64
        Counters of this rank, cumulative, kept up to date by the caller between indices (DONE, BYTES held, STOP wish,
        BUSY_US; then the caller's own).
    flush : callable
        Called on all ranks together when the bell rings.
    flush_due : callable of (m,) sums, (m,) maxima -> bool
        Asked on rank 0.
    progress : callable of (m,) sums
        Told on rank 0, after each message.
    end : callable of (m,) sums -> bool
        Asked on rank 0 after each message: whether the run is to end early. A rank's STOP counter does too.
    chunk : int
        Events that share a storage chunk.
    largest : int
        Most indices handed out at a time, 0 for no limit.
    growth : object, optional
        For indices that come while others are worked on. On rank 0 it is asked `due()`, whether more have come, and
        `over()`, whether none will; `share()`, called on all ranks together, gives them.
    """

    def __init__(self, comm, indices, tally, flush=None, flush_due=None, progress=None, end=None, chunk=1, largest=0,
                 working_master=None, growth=None):
        self.comm = double(comm) if comm.size > 1 else comm   # a flush may send messages of its own meanwhile
        self.tally, self.flush = tally, flush
        self.flush_due, self.progress, self.end = flush_due, progress, end
        works = comm.size <= RANKS_WITH_WORKING_MASTER if working_master is None else working_master
        self.master_works = works or comm.size == 1
        self.pause = SECONDS_BETWEEN_LOOKS * max(1.0, comm.size / RANKS_LOOKED_AT_SO_OFTEN)
        self.pool = Pool(indices, comm.size - (not self.master_works), chunk, largest) if comm.rank == 0 else None
        self.growth, self.stopped = growth, False
        self.waited_s = self.flushed_s = 0.0

    def __iter__(self):
        return self._lead() if self.comm.rank == 0 else self._follow()

    # Rank 0.

    def _lead(self):
        comm, width = self.comm, len(self.tally)
        self.known = np.zeros((comm.size, width), np.int64)
        self.sums = np.zeros(width, np.int64)
        self.handed = np.zeros(comm.size, np.int64)
        self.asking, self.message, self.looked = [], np.empty(1 + width, np.int64), 0.0
        self.status = probe_status()
        nap = Nap(0.001)
        while not self.stopped and (self.pool.left or not self._all_done() or self.growth and not self.growth.over()):
            if self.pool.left and self.master_works:
                start, stop = self.pool.take(self._limit())
                for index in range(start, stop):
                    yield index
                    self._serve()
                    if self.stopped:
                        break
                nap.wake()
            elif self._serve():
                nap.wake()
            elif not (self.pool.left and self.asking):
                before = time.perf_counter()
                nap.sleep()
                self.waited_s += time.perf_counter() - before
        self._ring(FINISH)
        self._drain()

    def _serve(self):
        """Hear all messages that have arrived and answer them; ring the bell where it is time. True if any came."""
        heard = self._hear()
        self._note(0, self.tally)
        while self.asking and self.pool.left:
            worker = self.asking.pop()
            start, stop = self.pool.take(self._limit())
            self.handed[worker] += stop - start
            self._send(worker, WORK, start, stop)
        if self.sums[STOP] or (self.end is not None and self.end(self.sums)):
            self.stopped = True
            return heard
        moment = time.perf_counter()
        if moment - self.looked >= self.pause:
            self.looked = moment
            self._look()
        return heard

    def _look(self):
        """What need not be asked at each event: whether to flush, to tell."""
        if self.flush_due is not None and self.flush_due(self.sums, self.known.max(axis=0)):
            self._ring(FLUSH)
            self._flush()
        if self.growth is not None and self.growth.due():
            self._ring(NEWS)
            self._share()
        if self.progress is not None:
            self.progress(self.sums)

    def _hear(self):
        comm, heard = self.comm, False
        while comm.size > 1 and comm.Iprobe(tag=TAG, status=self.status):
            source = self.status.source
            comm.Recv(self.message, source=source, tag=TAG)
            self._note(source, self.message[1:])
            if self.message[0] == ASK:
                self.asking.append(source)
            heard = True
        return heard

    def _note(self, rank, counters):
        """Keep the sums: adding up all ranks at each message would cost 0.1 ms on some thousand of them."""
        self.sums += counters
        self.sums -= self.known[rank]
        self.known[rank] = counters

    def _limit(self):
        """How many events last as long as a range should: long enough to keep rank 0 idle, short enough for progress."""
        done, busy_us = self.sums[DONE], self.sums[BUSY_US]
        if not done:
            return 2
        seconds = max(SECONDS_IN_RANGE, self.comm.size * MASTER_SECONDS_PER_REQUEST / MASTER_SHARE)
        return int(min(seconds * 1e6 * done / max(1, busy_us), 1 << 20)) + 1

    def _all_done(self):
        return len(self.asking) == self.comm.size - 1 and bool((self.known[1:, DONE] >= self.handed[1:]).all())

    def _ring(self, code):
        for worker in range(1, self.comm.size):
            self._send(worker, code, 0, 0)

    def _send(self, worker, code, start, stop):
        self.comm.Send(np.array([code, start, stop], np.int64), dest=worker, tag=TAG)

    def _drain(self):
        """Messages that were on their way when the end was rung belong to nobody else."""
        meet(self.comm)
        self._hear()
        self._note(0, self.tally)
        if self.progress is not None:
            self.progress(self.sums)
        self._leave()

    def _leave(self):
        if self.comm.size > 1:
            release(self.comm)

    # The others.

    def _follow(self):
        self.orders, self.outgoing = [], []
        self.inbox = np.empty(3, np.int64)
        self.incoming = self.comm.Irecv(self.inbox, source=0, tag=TAG)
        self._tell(ASK)
        nap = Nap()
        while True:
            self._listen()
            if self.stopped:
                break
            if not self.orders:
                if (self.told != self.tally).any():
                    self._tell(TELL)
                before = time.perf_counter()
                nap.sleep()
                self.waited_s += time.perf_counter() - before
                continue
            start, stop = self.orders.pop(0)
            self._tell(ASK)
            nap.wake()
            for index in range(start, stop):
                yield index
                self._listen()
                if self.stopped:
                    break
                if self.tally[STOP] != self.told[STOP]:
                    self._tell(TELL)
        for request in self.outgoing:
            request[0].Wait()
        meet(self.comm)
        self._leave()

    def _listen(self):
        while not self.stopped and self.incoming.Test():
            code, start, stop = (int(x) for x in self.inbox)
            if code == FINISH:
                self.stopped = True
                return
            self.incoming = self.comm.Irecv(self.inbox, source=0, tag=TAG)
            if code == WORK:
                self.orders.append((start, stop))
            elif code == FLUSH:
                self._flush()
            else:
                self._share()

    def _tell(self, kind):
        self.outgoing = [pair for pair in self.outgoing if not pair[0].Test()]
        self.told = self.tally.copy()
        message = np.concatenate([[kind], self.told]).astype(np.int64)
        self.outgoing.append((self.comm.Isend(message, dest=0, tag=TAG), message))

    def _share(self):
        meet(self.comm)
        more = self.growth.share()
        if self.pool is not None:
            self.pool.add(more)

    def _flush(self):
        before = time.perf_counter()
        meet(self.comm)
        if self.flush is not None:
            self.flush()
        self.flushed_s += time.perf_counter() - before
