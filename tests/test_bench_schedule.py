"""mpixfel bench schedule: its model, and the whole of it on few requests."""
import pytest

from mpixfel.cli.bench_schedule import model
from mpixfel.cli.main import main
from mpixfel.errors import MpixfelError


def test_the_model_finds_the_cost_of_a_request_beside_that_of_waiting():
    rows = [{"n_ranks": n, "seconds": s, "master_s": 1000 * 20e-6 + 0.04 * s} for n, s in ((2, 1.0), (4, 0.5), (8, 0.1))]
    assert model(rows, 1000) == pytest.approx((20e-6, 0.04))


def test_few_requests_are_measured(capsys):
    assert main(["bench", "schedule", "--ranks", "2,3", "--requests", "200"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 7 and "it serves" in out


def test_one_rank_is_no_measurement():
    with pytest.raises(MpixfelError, match="from 2 on"):
        from mpixfel.cli import bench_schedule
        bench_schedule.run(type("A", (), {"here": False, "ranks": "1,2", "requests": 5}))
