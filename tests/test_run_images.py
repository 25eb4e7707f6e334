"""Runs with images, from calibration to integration: an event's answer is its own, whoever does it and when."""
import numpy as np
import pytest
from run_contents import assert_same, contents
from test_run import comm, folder  # noqa: F401  (fixtures)

from mpixfel import rounds
from mpixfel.config.resolve import resolve
from mpixfel.io.learnt import read_learnt
from mpixfel.io.run_file import open_output
from mpixfel.job import open_job
from mpixfel.parallel.collect import on_root
from mpixfel.pipeline import attempt, open_run, process
from mpixfel.report.progress import Progress
from mpixfel.simulate import SimulateOptions, simulate


def images(folder, **given):
    """A simulated run of crystals, some with two lattices, and blanks; few large pixels, so that it is quick."""
    wanted = {"output": str(folder / "data"), "name": "run", "frames": 12, "size": 400, "pixel_um": 150.0, "lattices": (1, 2),
              "fluence_ph_per_um2": 6e8, **given}
    simulate(SimulateOptions.of("lysozyme", **wanted))
    return folder / "data"


def settings_of(data, output, **options):
    """Settings of a run over simulated images."""
    given = {"source": data / "run.h5", "geometry": data / "run.geom", "cell": data / "run.cell", "output": output,
             "report": "false", **options}
    return resolve((), [("mpixfel", key, str(value), "") for key, value in given.items()], verbosity=-1)


@pytest.mark.mpi
def test_images_give_the_same_run_file_for_any_number_of_ranks(folder, comm):  # noqa: F811
    from mpi4py import MPI
    data = on_root(comm, images, folder)
    job = on_root(comm, open_run, settings_of(data, folder / "together", flush_events=4))
    assert process(job, comm) == 0
    if comm.rank == 0:
        assert process(open_run(settings_of(data, folder / "alone")), MPI.COMM_SELF) == 0
        assert_same(folder / "together" / "run.h5", folder / "alone" / "run.h5")
        assert (contents(folder / "alone" / "run.h5")["events/n_lattices"] > 0).sum() >= 5


def test_the_answer_of_an_event_does_not_depend_on_the_events_before_it(tmp_path):
    """Stages reuse their buffers: nothing of an event may be left in them."""
    from mpi4py import MPI
    data = images(tmp_path)
    job = open_run(settings_of(data, tmp_path / "out"))
    assert process(job, MPI.COMM_SELF) == 0
    learnt = read_learnt(tmp_path / "out")
    for context in (job.context(), job.context().wiser(learnt)):
        there, back = (processed(job, context, order) for order in (range(12), range(12)[::-1]))
        for i in range(12):
            for table in ("peaks", "lattices", "reflections"):
                assert getattr(there[i], table).tobytes() == getattr(back[i], table).tobytes(), f"{table} of event {i}"
            assert there[i].outcome == back[i].outcome
        assert sum(len(record.lattices) for record in there.values()) >= 5


def processed(job, context, order):
    """{position: record}, by a chain that has seen nothing before."""
    chain = job.chain()
    rounds.begin(chain, context)
    return {i: attempt(i, job, chain, context).but(image=None) for i in order}


def test_what_was_learnt_is_used_again_by_a_run_that_goes_on(tmp_path, monkeypatch):
    from mpi4py import MPI
    data, told = images(tmp_path), []
    monkeypatch.setattr(Progress, "learning", lambda self, words: told.append(words))
    assert process(open_run(settings_of(data, tmp_path / "whole", flush_events=1)), MPI.COMM_SELF) == 0
    assert process(open_run(settings_of(data, tmp_path / "cut", flush_events=1)), MPI.COMM_SELF) == 0
    assert [words.split(":")[0] for words in told[:3]] == ["loading the compiled kernels",
                                                           "looking at 12 images for hot and dead pixels", "round 1 of 2"]
    told.clear()
    for path in sorted((tmp_path / "cut" / "segments").iterdir())[3:]:
        path.unlink()
    (tmp_path / "cut" / "run.h5").unlink()
    open_output(tmp_path / "cut", resume=True)
    assert process(open_job(settings_of(data, tmp_path / "cut")), MPI.COMM_SELF) == 0
    assert_same(tmp_path / "whole" / "run.h5", tmp_path / "cut" / "run.h5")
    assert not told


def test_rounds_take_events_from_the_whole_run():
    for n in (1, 2, 7, 64, 1000):
        order = rounds.spread(n)
        assert sorted(order) == list(range(n))
        beginning = np.sort(order[:max(1, n // 8)])
        assert np.diff(beginning, prepend=0, append=n).max() <= 2 * n / len(beginning) + 1
