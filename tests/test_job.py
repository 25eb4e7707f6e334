"""What a run works on: geometry and options brought together before the first event."""
import numpy as np
import pytest
from source_files import frames, geometry, write

from mpixfel.config.resolve import resolve
from mpixfel.io.geometry import parse_geometry
from mpixfel.job import open_job

TWO = {"p0": (0, 5, 0, 3, "coffset = 0.573"), "p1": (0, 5, 4, 7, "coffset = 0.575")}


def job_of(folder, clen, clen_mm=(), **options):
    (folder / "x.geom").write_text(geometry(clen=clen, panels=TWO).text)
    path = write(folder / "run.h5", data=frames(2), encoder=np.array(clen_mm, float))
    given = {"source": path, "geometry": folder / "x.geom", "output": folder / "out", "target_cell": "79 79 38 90 90 90",
             **options}
    return open_job(resolve((), [("mpixfel", key, str(value), "") for key, value in given.items()]))


def distances(job):
    """(2, 2) mm: each event, each panel."""
    context = job.context()
    return [list(1e3 * context.shot(job.source.event(i)).geometry.origin[:, 2]) for i in range(2)]


def test_an_encoders_offset_takes_the_place_of_the_geometrys(tmp_path):
    job = job_of(tmp_path, "/encoder mm", (-471.0, -470.0), detz_offset=581)
    np.testing.assert_allclose(distances(job), [[109.0, 111.0], [110.0, 112.0]])
    again = parse_geometry(job.geometry.text, "again.geom").detector
    np.testing.assert_allclose([p.origin_m[2] for p in again.panels], [0.580, 0.582])


@pytest.mark.parametrize("clen, values", [("/encoder mm", (110.0, 111.0)), ("0.11 m", (0.0, 0.0))])
def test_a_distance_is_no_encoders_reading(tmp_path, clen, values):
    with_offset, without = (distances(job_of(tmp_path, clen, values, **more)) for more in ({"detz_offset": 581}, {}))
    assert with_offset == without
