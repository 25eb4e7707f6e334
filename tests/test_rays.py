"""From pixels to scattering vectors and back, for panels of any tilt."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.kernels.geometry import project, scattering_vectors
from mpixfel.model.experiment import PanelGeometry


def tilted(seed, n_panels=3, size=128):
    """Panels of random tilt and place, 0.1 m ahead, that do not cover each other."""
    rng = np.random.default_rng(seed)
    fs, ss, origin = [], [], []
    for p in range(n_panels):
        turn, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
        turn = turn * np.sign(np.diag(turn))
        fs.append(turn[0] * 1e-4)
        ss.append(turn[1] * 1e-4)
        origin.append([0.03 * (p - 1), -0.005 + 0.002 * rng.normal(), 0.1])
    return PanelGeometry(np.array(origin), np.array(fs), np.array(ss), np.full((n_panels, 2), size))


@given(st.integers(0, 10_000), st.floats(0.5, 3.0))
def test_a_pixel_comes_back_from_its_scattering_vector(seed, wavelength):
    geometry, rng = tilted(seed), np.random.default_rng(seed + 1)
    panel, fs, ss = rng.integers(0, 3, 30), rng.uniform(0, 128, 30), rng.uniform(0, 128, 30)
    found = project(geometry, scattering_vectors(geometry, panel, fs, ss, wavelength), wavelength)
    assert np.array_equal(found[0], panel)
    assert np.allclose(found[1], fs, atol=1e-7) and np.allclose(found[2], ss, atol=1e-7)


def test_scattering_vectors_end_on_the_ewald_sphere_and_point_from_the_direct_beam():
    geometry = tilted(7)
    q = scattering_vectors(geometry, [0, 1, 2], [3.0, 60.0, 100.0], [9.0, 64.0, 0.0], 1.3)
    assert np.allclose(np.linalg.norm(q + [0, 0, 1 / 1.3], axis=1), 1 / 1.3)
    point = geometry.origin[1] + 60 * geometry.fs_axis[1] + 64 * geometry.ss_axis[1]
    assert np.allclose(q[1], (point / np.linalg.norm(point) - [0, 0, 1]) / 1.3)


def test_a_ray_that_meets_no_panel_is_on_none():
    panel, fs, ss = project(tilted(1), [[0.7, 0.0, -0.3], [0.0, 0.0, -1.6]], 1.3)
    assert list(panel) == [-1, -1] and np.isnan(fs).all() and np.isnan(ss).all()


def test_no_point_at_all_is_no_error():
    panel, fs, ss = project(tilted(1), np.zeros((0, 3)), 1.3)
    assert panel.shape == fs.shape == ss.shape == (0,)
