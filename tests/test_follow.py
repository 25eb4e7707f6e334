"""Sources that are still being written: found as they grow, processed once, with the result of the whole."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from engine_fakes import FakeModule, fake_job
from run_contents import assert_same, contents
from source_files import frames, geometry, images, write
from test_run import alone, comm, folder  # noqa: F401  (fixtures)

from mpixfel.errors import MpixfelError
from mpixfel.growth import wait_for_first
from mpixfel.io.sources import open_growing, open_source
from mpixfel.job import write_identity
from mpixfel.parallel.collect import on_root
from mpixfel.pipeline import open_run, process

ENERGY = geometry(energy="/energy")
# Another process writes: what it has open, this one can only open as a reader of SWMR.
WRITER = """
import sys, h5py, numpy as np
file = h5py.File(sys.argv[1], "w", libver="latest")
room = int(sys.argv[2])
data = file.create_dataset("data", (room, 6, 8), "u2", maxshape=(None, 6, 8), chunks=(1, 6, 8), compression="gzip")
energy = file.create_dataset("energy", (room,), "f8", maxshape=(None,))
file.swmr_mode = True
n = 0
for line in sys.stdin:
    for i in range(n, n + int(line)):
        if not room:
            data.resize(i + 1, 0); energy.resize(i + 1, 0)
        data[i] = i; energy[i] = 9000 + i
        data.flush(); energy.flush()
    n += int(line)
    print(n, flush=True)
file.close()
"""


@pytest.fixture
def writer(tmp_path):
    """Starts writers; `more(n)` lets one write n events, `close()` ends it."""
    started = []

    def start(path, room=0):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(room)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        started.append(process)

        def more(n):
            process.stdin.write(f"{n}\n")
            process.stdin.flush()
            assert process.stdout.readline()

        def close():
            process.stdin.close()
            assert process.wait(30) == 0
        return SimpleNamespace(more=more, close=close)
    yield start
    for process in started:
        process.kill()


def taken(source):
    """Let the source look and take; the number of its events."""
    news = source.look()
    if news is not None:
        source.take(news)
    return len(source)


@pytest.mark.parametrize("room", [0, 20])
def test_a_file_is_read_while_another_process_writes_it(tmp_path, writer, room):
    job = writer(tmp_path / "a.h5", room)
    source = open_growing(str(tmp_path / "a.h5"), ENERGY)
    assert taken(source) == 0
    for n in (3, 4, 9):
        job.more(n - len(source))
        assert taken(source) == n
        assert source.look() is None
        assert [source.event(i).photon_energy_ev for i in range(n)] == [9000.0 + i for i in range(n)]
        assert (images(source) == np.arange(n)[:, None, None]).all()
    job.close()
    assert taken(source) == (room or 9)


def test_files_come_and_lose_the_mark_of_being_written(tmp_path):
    source = open_growing(str(tmp_path / "r*.h5"), geometry())
    assert taken(source) == 0
    write(tmp_path / "r1.h5.inprogress", data=frames(2, seed=1))
    assert taken(source) == 2
    first = source.event(0).raw[0].copy()
    (tmp_path / "r1.h5.inprogress").rename(tmp_path / "r1.h5")
    write(tmp_path / "r0.h5", data=frames(3))
    assert taken(source) == 5
    assert source.paths == (str(tmp_path / "r1.h5"), str(tmp_path / "r0.h5"))
    assert (source.event(0).raw[0] == first).all() and (source.event(2).raw[0] == frames(3)[0]).all()


def test_a_list_grows_line_by_line(tmp_path):
    write(tmp_path / "a.h5", data=frames(4))
    (tmp_path / "all.lst").write_text("a.h5 //2\na.h5 //1")
    source = open_growing(str(tmp_path / "all.lst"), geometry())
    assert taken(source) == 1
    (tmp_path / "all.lst").write_text("a.h5 //2\na.h5 //1\na.h5 //7\nb.h5\n")
    assert taken(source) == 2
    write(tmp_path / "b.h5.inprogress", data=frames(1))
    write(tmp_path / "a.h5", data=frames(8))
    assert taken(source) == 4
    assert [source.event_id(i).name for i in range(4)] == ["//2", "//1", "//7", "//0"]


def test_an_event_counts_when_all_that_belongs_to_it_is_there(tmp_path):
    values = {"maxshape": (None,), "chunks": (4,)}
    write(tmp_path / "a.h5", data=frames(5), energy=(np.full(3, 9000.0), values))
    source = open_growing(str(tmp_path / "a.h5"), ENERGY)
    assert taken(source) == 3
    write(tmp_path / "a.h5", data=frames(4), energy=(np.full(6, 9000.0), values))
    assert taken(source) == 4 and source.event(3).photon_energy_ev == 9000.0


def test_a_file_that_cannot_be_read_is_told_when_nothing_else_comes(tmp_path):
    (tmp_path / "a.h5").write_text("half a file")
    job = job_of(tmp_path / "out", tmp_path / "*.h5", follow_timeout_s=0.0)
    with pytest.raises(MpixfelError, match="a.h5: .*no HDF5 file"):
        wait_for_first(job, False)


def test_a_run_waits_for_events_to_learn_from_as_long_as_they_come(tmp_path):
    job, moments = job_of(tmp_path / "out", tmp_path / "*.h5", learn_hits=1, follow_timeout_s=60.0), []

    def sleep(seconds):
        moments.append(seconds)
        if len(moments) < 4:
            write(tmp_path / f"{len(moments)}.h5", data=frames(3))
    wait_for_first(job, False, sleep, lambda: sum(moments))
    assert len(job.source) == 9 and sum(moments) == pytest.approx(13.0)
    write(tmp_path / "5.h5", data=frames(3))
    wait_for_first(job, False, sleep, lambda: sum(moments))
    assert len(job.source) == 12


class Writing(FakeModule):
    """Writes further files while events are processed; ends the run at an event."""

    def __init__(self, *arguments, more=None, end_at=None, **named):
        super().__init__(*arguments, **named)
        self.more, self.end_at = dict(more or {}), end_at

    def event(self, event, record, context):
        if event.id.index == self.end_at and event.id.source == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        for path in self.more.pop((event.id.source, event.id.index), ()):
            os.replace(path, str(path).removesuffix(".later"))
        return super().event(event, record, context)


def job_of(output, source, before=((), ()), more=None, end_at=None, **options):
    """A fake job over a growing source of real files."""
    job = fake_job(output, 0, follow=True, **{"follow_timeout_s": 1.5, **options})
    job = replace(job, source=open_growing(str(source), geometry(), before=before))
    object.__setattr__(job, "chain", lambda: (Writing(folder=output, more=more, end_at=end_at),))
    return job


def whole(output, source, comm):  # noqa: F811
    """The run over the same files when they are complete, on one rank."""
    output.mkdir()
    (output / "segments").mkdir()
    (output / "log").mkdir()
    job = fake_job(output, 0)
    job = replace(job, source=open_source(str(source), geometry()))
    assert process(job, comm) == 0
    return output / "run.h5"


def prepared(folder):  # noqa: F811
    for name in ("out", "out/segments", "out/log", "data"):
        (folder / name).mkdir()
    write(folder / "data" / "a.h5", data=frames(20))
    write(folder / "data" / "b.h5.later", data=frames(30))
    write(folder / "data" / "c.h5.later", data=frames(5))


@pytest.mark.mpi
def test_what_comes_while_a_run_runs_is_processed_by_any_number_of_ranks(folder, comm, alone):  # noqa: F811
    on_root(comm, prepared, folder)
    data = folder / "data"
    job = job_of(folder / "out", data / "*.h5", more={(0, 3): [data / "b.h5.later"], (1, 29): [data / "c.h5.later"]})
    job.source.take(comm.bcast(job.source.look() if comm.rank == 0 else None))
    assert process(job, comm) == 0
    if comm.rank == 0:
        assert len(contents(folder / "out" / "run.h5")["events/index"]) == 55
        assert_same(folder / "out" / "run.h5", whole(folder / "whole", data / "*.h5", alone))
        assert json.loads((folder / "out" / "job.json").read_text())["n_events"] == 55


def test_a_followed_run_that_was_ended_goes_on_with_its_own_order(tmp_path, alone):  # noqa: F811
    prepared(tmp_path)
    data, output = tmp_path / "data", tmp_path / "out"
    (data / "b.h5.later").rename(data / "b.h5")
    job = job_of(output, data / "b.h5", end_at=25, flush_events=4)
    taken(job.source)
    write_identity(job)
    assert process(job, alone) == 3
    assert not h5py.File(output / "run.h5").attrs["complete"]
    (data / "c.h5.later").rename(data / "c.h5")
    known = json.loads((output / "job.json").read_text())
    again = job_of(output, data / "*.h5", before=(known["paths"], known["arrivals"]))
    assert process(again, alone) == 0
    assert again.source.paths == (str(data / "b.h5"), str(data / "a.h5"), str(data / "c.h5"))
    found = contents(output / "run.h5")
    assert found["events/source"].tolist() == [0] * 30 + [1] * 20 + [2] * 5
    assert found["events/index"].tolist() == [*range(30), *range(20), *range(5)]
    assert h5py.File(output / "run.h5").attrs["complete"]


def test_images_that_are_followed_give_the_result_of_the_complete_files(tmp_path, alone):  # noqa: F811
    from test_run_images import images as simulated, settings_of
    data = simulated(tmp_path, frames=6)
    assert process(open_run(settings_of(data, tmp_path / "whole", learn_hits=0)), alone) == 0
    followed = settings_of(data, tmp_path / "followed", learn_hits=0, follow="true", follow_timeout_s=1)
    assert process(open_run(followed), alone) == 0
    assert_same(tmp_path / "followed" / "run.h5", tmp_path / "whole" / "run.h5")
    assert (contents(tmp_path / "whole" / "run.h5")["events/n_lattices"] > 0).sum() > 1


def test_events_of_growing_files_are_not_chosen(tmp_path):
    from test_run_images import settings_of
    with pytest.raises(MpixfelError, match="exclude each other"):
        settings_of(tmp_path, tmp_path / "out", follow="true", events="0:5")
