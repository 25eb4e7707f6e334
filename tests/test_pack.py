"""One file of a run: the same content, sorted by event, without segments."""
import h5py
import numpy as np
import pytest
from engine_fakes import fake_job
from run_contents import assert_same
from test_run import alone, comm, folder, run_fake  # noqa: F401  (fixtures)

from mpixfel.cli.main import main
from mpixfel.errors import MpixfelError
from mpixfel.io import pack as packing
from mpixfel.io.pack import pack, runs
from mpixfel.io.run_file import is_complete, open_output
from mpixfel.pipeline import process


@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_a_packed_run_holds_what_it_held_without_its_segments(tmp_path, alone, monkeypatch, at_once):  # noqa: F811
    monkeypatch.setattr(packing, "ROWS_AT_ONCE", at_once)
    path, _ = run_fake(tmp_path, "out", alone, 40, flush_events=7)
    reference, _ = run_fake(tmp_path, "reference", alone, 40, flush_events=7)
    pack(path.parent)
    assert not (path.parent / "segments").exists() and not list(path.parent.glob("totals-*"))
    assert_same(path, reference)
    with h5py.File(path) as file, h5py.File(reference) as before:
        assert not any(item.is_virtual for item in (*file["peaks"].values(), *file["reflections"].values()))
        assert file["peaks/fs"].attrs["units"] == before["peaks/fs"].attrs["units"]
        assert (np.diff(file["events/first_peak"][:]) >= 0).all()
        assert (file["reflections/lattice"][:] == np.sort(file["reflections/lattice"][:])).all()


def test_a_packed_run_can_be_packed_again(tmp_path, alone):  # noqa: F811
    path, _ = run_fake(tmp_path, "out", alone)
    assert main(["pack", str(path.parent)]) == 0
    size = path.stat().st_size
    assert main(["pack", str(path.parent)]) == 0
    assert path.stat().st_size == size


@pytest.mark.mpi
def test_packed_at_the_end_the_file_is_the_same_for_any_number_of_ranks(folder, comm, alone):  # noqa: F811
    path, code = run_fake(folder, "together", comm, 40, pack=True, flush_events=9)
    assert code == 0
    if comm.rank == 0:
        reference, _ = run_fake(folder, "alone", alone, 40, pack=True)
        with h5py.File(path) as file, h5py.File(reference) as other:
            for table in ("peaks", "reflections", "lattices"):
                for name in file[table]:
                    assert file[table][name][:].tobytes() == other[table][name][:].tobytes(), name


def test_a_run_that_is_not_complete_is_not_packed(tmp_path, alone):  # noqa: F811
    output = tmp_path / "out"
    open_output(output)
    process(fake_job(output, 20, mishaps=dict.fromkeys(range(5, 20), "bad"), max_failures=2, flush_events=2), alone)
    with pytest.raises(MpixfelError, match="not complete"):
        pack(output)
    assert list((output / "segments").iterdir())


def test_what_is_no_run_is_not_packed(tmp_path):
    with pytest.raises(MpixfelError, match="cannot be packed"):
        pack(tmp_path)


def test_rows_that_follow_each_other_are_read_in_one_go():
    assert runs(np.array([0, 3, 3, 10, 12]), np.array([3, 0, 2, 2, 1])) == [(0, 5), (10, 13)]
    assert runs(np.array([5, 0]), np.array([2, 5])) == [(5, 7), (0, 5)]
    assert runs(np.zeros(0, int), np.zeros(0, int)) == []


def test_a_complete_run_is_known_as_such(tmp_path, alone):  # noqa: F811
    path, _ = run_fake(tmp_path, "out", alone)
    assert is_complete(path.parent)
    pack(path.parent)
    assert is_complete(path.parent)
    path.unlink()
    assert not is_complete(path.parent)
