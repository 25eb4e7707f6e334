"""mpixfel bench integrate: its figures on small frames."""
import json

import pytest

from mpixfel.cli import bench_integrate
from mpixfel.cli.main import main


@pytest.mark.timeout(300)
def test_the_bench_of_integration_tells_each_stage_and_what_it_integrated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_integrate, "SIZE", 700)
    monkeypatch.setattr(bench_integrate, "DISTANCE_MM", 45.0)
    assert main(["bench", "integrate", "--frames", "3", "--repeat", "1", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    hit, lattice, reflection = figures["ms of a whole hit"], figures["ms of a lattice"], figures["us of a reflection"]
    assert hit["hits"] == 3 and hit["reflections of a hit"] > 50
    assert hit["whole hit"] == pytest.approx(sum(hit[stage] for stage in bench_integrate.STAGES))
    assert min(hit[stage] for stage in ("read", "refine", "integrate")) > 0
    assert lattice["integrate"] > 0 and lattice["refine, 100 spots"] > 0 and reflection["prediction and measurement"] > 0
    assert "goal 12" in capsys.readouterr().out
