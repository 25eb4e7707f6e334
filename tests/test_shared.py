"""Darks, gains and masks: one copy on each node."""
from dataclasses import replace

import numpy as np
import pytest
from small_detector import context_of, event_of, panel

from mpixfel.errors import MpixfelError
from mpixfel.model.constants import Constants
from mpixfel.parallel import shared
from mpixfel.parallel.shared import share
from mpixfel.stages.calibration import Calibration


@pytest.fixture
def comm():
    from mpi4py import MPI
    return MPI.COMM_WORLD


@pytest.mark.mpi
def test_every_rank_has_what_the_first_one_read(comm):
    arrays = {"dark": np.random.default_rng(4).normal(size=(2, 3, 5)), "mask": np.eye(7, dtype=bool), "one": np.int16([3])}
    answer, found = share(comm, lambda: (f"rank {comm.rank} looked", arrays))
    assert answer == "rank 0 looked" and found.keys() == arrays.keys()
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype and not array.flags.writeable
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.mpi
def test_the_ranks_of_a_node_look_at_the_same_memory(comm):
    """All ranks of a test stand on one machine."""
    _, found = share(comm, lambda: (None, {"dark": np.zeros((100, 100), np.float32)}))
    if comm.rank == 0:
        array = found["dark"]
        array.flags.writeable = True
        array[7, 8] = 5.0
    comm.Barrier()
    assert found["dark"][7, 8] == 5.0
    comm.Barrier()


@pytest.mark.mpi
def test_every_node_has_a_copy_of_its_own(comm, monkeypatch):
    """Ranks of even and of odd number play two nodes; what is sent goes in pieces that do not fit the array."""
    monkeypatch.setattr(shared, "node_comm", lambda c: c.Split(c.rank % 2, key=c.rank))
    monkeypatch.setattr(shared, "PIECE", 1000)
    dark = np.random.default_rng(5).normal(size=(17, 41))
    _, found = share(comm, lambda: (None, {"dark": dark}))
    np.testing.assert_array_equal(found["dark"], dark)
    comm.Barrier()
    if comm.rank == 0:
        found["dark"].flags.writeable = True
        found["dark"][0, 0] = 7.0
    comm.Barrier()
    assert (found["dark"][0, 0] == 7.0) == (comm.rank % 2 == 0)
    comm.Barrier()


@pytest.mark.mpi
def test_all_ranks_hear_of_a_file_that_cannot_be_read(comm):
    def look():
        raise MpixfelError("no such file", "dark.h5", "check the path")

    with pytest.raises(MpixfelError, match="no such file"):
        share(comm, look)


def test_a_context_is_the_same_with_arrays_that_stand_elsewhere():
    rng, own = np.random.default_rng(1), Calibration(common_mode="none")
    constants = lambda: Constants(rng.normal(size=(1, 1, 1, 4, 6)).astype("f4"), np.ones((1, 4, 6), "f4"))
    context = context_of(panel("p", (4, 6)), mask=rng.random((1, 4, 6)) < 0.2, constants=constants())
    context = replace(context, own_constants=((own, constants()), (Calibration(), None)))
    arrays = context.arrays()
    assert sum(a.size for a in arrays.values()) == 5 * 24
    bare = context.with_arrays(dict.fromkeys(arrays))
    assert not bare.arrays()
    again = bare.with_arrays({name: array.copy() for name, array in arrays.items()})
    raw, shot = event_of(rng.integers(0, 50, (4, 6))), context.shot(event_of())
    for stage in (Calibration(), own):
        images = [stage(raw, shot, stage.prepare(c.calibrated_by(stage))).photons for c in (context, again)]
        np.testing.assert_array_equal(*images)
        assert np.isnan(images[0]).any() and not np.shares_memory(again.mask, context.mask)
