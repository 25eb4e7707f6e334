"""Assembled pictures: pixels where the geometry puts them."""
import numpy as np
import pytest

from mpixfel.model.experiment import Detector, Panel, Shot
from mpixfel.report.assemble import assemble, position_mm
from mpixfel.report.images import contrast, ring_radius_mm, ring_resolutions_angstrom, save_event_picture

MM = 1e-3


def detector(pixel_mm=1.0):
    """Two panels of 3 x 4 pixels: one upright at the top left (seen along the beam), one turned at the bottom right."""
    upright = Panel("a", (6 * MM, 5 * MM, 0), (-pixel_mm * MM, 0, 0), (0, -pixel_mm * MM, 0), (3, 4), 1.0)
    turned = Panel("b", (-2 * MM, -2 * MM, 0), (0, -pixel_mm * MM, 0), (-pixel_mm * MM, 0, 0), (3, 4), 1.0)
    return Detector((upright, turned)).geometry(0.1)


def test_each_pixel_lands_where_its_centre_lies():
    geometry = detector()
    stack = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    picture = assemble(stack, geometry)
    left, right, bottom, top = picture.extent_mm
    panel, ss, fs = (a.ravel() for a in np.mgrid[0:2, 0:3, 0:4])
    x, y = position_mm(geometry, panel, fs + 0.5, ss + 0.5).T
    column, row = np.floor(left - x).astype(int), np.floor(top - y).astype(int)
    np.testing.assert_array_equal(picture.image[row, column], stack.ravel())
    assert np.isfinite(picture.image).sum() == 24
    assert (left, top) == (pytest.approx(6), pytest.approx(5)) and left > right and top > bottom


def test_no_bright_pixel_is_lost_when_the_picture_is_coarser_than_the_detector():
    panel = Panel("p", (0, 0, 0), (-1e-4, 0, 0), (0, 1e-4, 0), (300, 300), 1.0)
    geometry = Detector((panel,)).geometry(0.1)
    rng = np.random.default_rng(1)
    for _ in range(20):
        stack = np.zeros((1, 300, 300), np.float32)
        stack[0, rng.integers(300), rng.integers(300)] = 7.0
        assert assemble(stack, geometry, max_edge=120).image.max() == 7.0


def test_a_window_shows_only_its_part():
    picture = assemble(np.ones((2, 3, 4), np.float32), detector(), window_mm=(2, 6, 2, 5))
    assert picture.image.shape == (3, 4) and np.isfinite(picture.image).all()


def test_rings_have_the_radius_that_braggs_law_gives():
    # lambda = 1 A, d = 1 A: theta = 30 degrees, radius = 100 mm tan 60 degrees.
    assert ring_radius_mm(1.0, 1.0, 0.1) == pytest.approx(173.205, abs=1e-3)
    assert np.isnan(ring_radius_mm(0.6, 1.0, 0.1))


def test_rings_stay_on_the_detector():
    geometry = detector()
    for d in ring_resolutions_angstrom(geometry, 1.3):
        assert 0 < ring_radius_mm(d, 1.3, 0.1) < 9


def test_contrast_survives_images_of_nothing_and_of_bad_pixels():
    assert contrast(np.full((5, 5), np.nan)) == (0.0, 1.0)
    flat = np.random.default_rng(0).normal(1000, 5, (100, 100))
    assert 950 < contrast(flat)[0] < contrast(flat)[1] < 1300         # a pedestal is white
    assert contrast(np.random.default_rng(0).poisson(3, (100, 100)))[0] == 0
    low, high = contrast(np.zeros((5, 5)))
    assert high > low


def test_a_picture_of_an_event_is_a_png(tmp_path):
    shot = Shot(detector(), 9500.0, 0.0, 0.1, np.ones(2))
    path = tmp_path / "event.png"
    save_event_picture(path, np.ones((2, 3, 4), np.float32), shot, names=("a", "b"), title="event 0")
    assert path.read_bytes().startswith(b"\x89PNG")
