"""A run from end to end, without images: what is in the run file, whoever did the work."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
from engine_fakes import FakeModule, fake_job
from run_contents import assert_same, contents

from mpixfel.config.settings import RunOptions
from mpixfel.errors import MpixfelError
from mpixfel.io.run_file import open_output
from mpixfel.model.event import Outcome, Reason
from mpixfel.parallel.collect import on_root
from mpixfel.pipeline import attempt, process

PROGRAM = pathlib.Path(__file__).with_name("engine_fakes.py")


@pytest.fixture
def comm():
    from mpi4py import MPI
    return MPI.COMM_WORLD


@pytest.fixture
def alone():
    from mpi4py import MPI
    return MPI.COMM_SELF


@pytest.fixture
def folder(comm):
    """A folder that all ranks see, gone at the end."""
    path = on_root(comm, tempfile.mkdtemp)
    yield pathlib.Path(path)
    comm.Barrier()
    if comm.rank == 0:
        shutil.rmtree(path)


def run_fake(folder, name, comm, n=40, **options):
    on_root(comm, open_output, folder / name)
    code = process(fake_job(folder / name, n, **options), comm)
    return folder / name / "run.h5", code


def run_program(output, *arguments, ranks=2, limit=600):
    """`engine_fakes.py` under mpirun, as another program would start it; `limit` in s for a write that does not end."""
    command = ["mpirun", "-n", str(ranks), sys.executable, str(PROGRAM), str(output), *map(str, arguments)]
    return subprocess.run(["timeout", "-k", "5", "120", *command], capture_output=True, text=True,
                          env={**os.environ, "MPIXFEL_WRITE_LIMIT_S": str(limit)})


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_any_number_of_ranks_gives_the_same_run_file(folder, comm, alone, n):
    path, code = run_fake(folder, "together", comm, n, flush_events=9)
    assert code == 0
    if comm.rank == 0:
        reference, _ = run_fake(folder, "alone", alone, n)
        assert_same(path, reference)
        assert len(contents(path)["events/index"]) == n


def test_the_run_file_holds_what_the_modules_made(tmp_path, alone):
    path, _ = run_fake(tmp_path, "out", alone, 30, flush_events=7)
    job = fake_job(tmp_path / "other", 30)
    records = [attempt(i, job, (FakeModule(),), job.context()) for i in range(30)]
    found = contents(path)
    assert found["events/index"].tolist() == list(range(30))
    assert found["events/event_id"].tolist() == [f"fake.h5 //{i}".encode() for i in range(30)]
    assert found["events/photon_energy"].tolist() == [9000.0 + i for i in range(30)]
    assert found["events/outcome"].tolist() == [r.outcome for r in records]
    assert found["events/reason"].tolist() == [r.skip.reason if r.skip else 0 for r in records]
    for table, part in (("peaks", "peaks"), ("lattices", "lattices"), ("reflections", "reflections")):
        expected = np.concatenate([getattr(r, part) for r in records])
        for name in expected.dtype.names:
            if name not in ("lattice", "event", "first_reflection"):
                assert found[f"{table}/{name}"].tobytes() == np.ascontiguousarray(expected[name]).tobytes(), name
    owners = np.repeat(np.arange(30), [len(r.lattices) for r in records])
    assert found["lattices/event"].tolist() == owners.tolist()
    first = np.cumsum([len(r.lattices) for r in records]) - [len(r.lattices) for r in records]
    peak_lattices = np.concatenate([np.where(r.peaks["lattice"] < 0, -1, r.peaks["lattice"] + f)
                                    for r, f in zip(records, first)])
    assert found["peaks/lattice"].tolist() == peak_lattices.tolist()


def test_every_dataset_has_unit_and_description(tmp_path, alone):
    path, _ = run_fake(tmp_path, "out", alone)
    missing = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: missing.append(name) if isinstance(item, h5py.Dataset)
                        and not {"units", "description"} <= set(item.attrs) else None)
        assert file.attrs["format_version"] == 1
        assert h5py.check_enum_dtype(file["events/outcome"].dtype) == {o.name: int(o) for o in Outcome}
        assert h5py.check_enum_dtype(file["events/reason"].dtype) == {r.name: int(r) for r in Reason}
        assert h5py.check_enum_dtype(file["events/stopped_by"].dtype) == {"none": 0, "mod_fake:one": 1}
    assert missing == []


def test_a_run_without_any_peak_has_empty_tables(tmp_path, alone):
    path, code = run_fake(tmp_path, "out", alone, 5, null=True)
    found = contents(path)
    assert code == 0 and len(found["events/index"]) == 5
    assert len(found["peaks/fs"]) == len(found["lattices/cell"]) == len(found["reflections/hkl"]) == 0
    assert found["events/message"][3] == b"fake: event 3 has none (peaks 3)"


def test_the_run_file_can_be_moved_with_its_segments(tmp_path, alone):
    path, _ = run_fake(tmp_path, "out", alone, flush_events=5)
    before = contents(path)
    moved = path.parent.rename(tmp_path / "elsewhere") / "run.h5"
    assert {k: v.tobytes() for k, v in contents(moved).items() if v.dtype != object} == {
        k: v.tobytes() for k, v in before.items() if v.dtype != object}


def test_a_failing_event_is_stored_with_its_traceback_and_the_run_goes_on(tmp_path, alone):
    path, code = run_fake(tmp_path, "out", alone, 20, mishaps={4: "raise no such thing", 9: "bad"})
    found = contents(path)
    assert code == 1
    assert np.flatnonzero(found["events/outcome"] == Outcome.failed).tolist() == [4, 9]
    assert found["events/reason"][[4, 9]].tolist() == [Reason.exception, Reason.bad_data]
    message = found["events/message"][4].decode()
    assert "no such thing" in message and "Traceback" in message and "fake.h5 //4" in message and os.uname().nodename in message
    assert found["events/index"].tolist() == list(range(20))


def test_unreadable_events_alone_do_not_make_the_run_fail(tmp_path, alone):
    _, code = run_fake(tmp_path, "out", alone, 20, mishaps={9: "bad"})
    assert code == 0


def test_an_event_that_hangs_is_ended(tmp_path, alone):
    path, _ = run_fake(tmp_path, "out", alone, 6, mishaps={2: "hang 60"}, event_timeout_s=0.2)
    assert contents(path)["events/reason"].tolist()[2] == Reason.timeout


def test_a_repairable_error_in_an_event_ends_the_run_with_it(tmp_path, alone):
    with pytest.raises(MpixfelError, match="repair it"):
        run_fake(tmp_path, "out", alone, 6, mishaps={2: "user"})


@pytest.mark.mpi
def test_a_repairable_error_on_one_rank_reaches_all(folder, comm):
    with pytest.raises(MpixfelError, match="repair it"):
        run_fake(folder, "out", comm, 30, mishaps={17: "user"})


@pytest.mark.mpi
def test_too_many_failures_end_the_run(folder, comm):
    path, code = run_fake(folder, "out", comm, 400, seconds=0.001, mishaps=dict.fromkeys(range(10, 400), "bad"),
                          max_failures=5)
    assert code == 1
    if comm.rank == 0:
        assert 5 < (contents(path)["events/outcome"] == Outcome.failed).sum() < 390


@pytest.mark.mpi
def test_a_run_goes_on_where_it_ended(folder, comm, alone):
    on_root(comm, open_output, folder / "out")
    assert process(fake_job(folder / "out", 400, 0.001, mishaps=dict.fromkeys(range(30, 400), "bad"), max_failures=3,
                            flush_events=8), comm) == 1
    before = on_root(comm, lambda: len(contents(folder / "out" / "run.h5")["events/index"]))
    assert before < 400
    on_root(comm, drop_failed, folder / "out")
    assert process(fake_job(folder / "out", 400), comm) == 0
    if comm.rank == 0:
        reference, _ = run_fake(folder, "alone", alone, 400)
        assert_same(folder / "out" / "run.h5", reference)


@pytest.mark.mpi
def test_what_modules_sum_up_counts_each_event_once_over_several_starts(folder, comm, alone):
    on_root(comm, open_output, folder / "out")
    ended = FakeModule.event

    def event(self, event, record, context):
        if event.id.index == 33:
            raise MpixfelError("ends here")
        return ended(self, event, record, context)

    FakeModule.event = event
    try:
        with pytest.raises(MpixfelError, match="ends here"):
            process(fake_job(folder / "out", 50, flush_events=4), comm)
    finally:
        FakeModule.event = ended
    assert process(fake_job(folder / "out", 50), comm) == 0
    if comm.rank == 0:
        reference, _ = run_fake(folder, "alone", alone, 50)
        assert_same(folder / "out" / "run.h5", reference)
        assert (folder / "out" / "seen.txt").read_text() == (folder / "alone" / "seen.txt").read_text()
        assert (folder / "out" / "seen.txt").read_text().startswith(f"50 {sum(range(50))} ")


def drop_failed(output):
    """Delete the segments that hold failed events."""
    for path in (output / "segments").glob("*.h5"):
        with h5py.File(path) as file:
            failed = (file["events"].fields("outcome")[:] == Outcome.failed).any()
        if failed:
            path.unlink()


def test_an_existing_output_is_refused_unless_it_is_to_be_resumed_or_overwritten(tmp_path, alone):
    path, _ = run_fake(tmp_path, "out", alone)
    with pytest.raises(MpixfelError, match="--resume"):
        open_output(path.parent)
    open_output(path.parent, resume=True)
    assert path.exists()
    open_output(path.parent, overwrite=True)
    assert not path.exists()


def test_overwrite_deletes_no_directory_that_is_not_a_runs_output(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MpixfelError, match="not the output of a run"):
        open_output(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("ranks", [3, 8])
def test_ranks_of_another_program_start_give_the_same_file(tmp_path, alone, ranks):
    done = run_program(tmp_path / "out", "--events", 61, "--flush-events", 11, ranks=ranks)
    assert done.returncode == 0, done.stderr
    reference, _ = run_fake(tmp_path, "alone", alone, 61)
    assert_same(tmp_path / "out" / "run.h5", reference)


@pytest.mark.mpi
def test_segments_begin_where_the_file_system_likes_it(folder, comm, alone):
    path, code = run_fake(folder, "out", comm, 60, write_alignment=4096, write_hints=("cb_nodes=1", "striping_factor=4"))
    assert code == 0
    if comm.rank == 0:
        with h5py.File(path.parent / "segments" / "00000.h5") as file:
            large = [d for d in file["reflections"].values() if d.chunks is None and d.nbytes > 4096]
            assert large and [d.id.get_offset() % 4096 for d in large] == [0] * len(large)
        reference, _ = run_fake(folder, "alone", alone, 60)
        assert_same(path, reference)


def test_a_hint_without_value_is_refused():
    with pytest.raises(MpixfelError, match="KEY=VALUE"):
        RunOptions(write_hints=("cb_nodes",))
