"""Thick sensors: photons that come at an angle are seen farther out than where they entered."""
import numpy as np
import pytest
from small_detector import PIXEL, context_of, event_of, panel

from mpixfel.kernels.geometry import project
from mpixfel.model.sensor import Sensor


@pytest.mark.parametrize("material, energy_ev, length_um", [
    # 1 / (density x mass photoabsorption coefficient), from NIST's tables of X-ray mass attenuation coefficients.
    ("Si", 8000.0, 68.0), ("Si", 10000.0, 130.5), ("Si", 20000.0, 1066.0)])
def test_photons_are_absorbed_over_the_length_that_tables_give(material, energy_ev, length_um):
    assert 1e6 / Sensor(1e-3, material).attenuation_per_m(energy_ev) == pytest.approx(length_um, rel=0.05)


@pytest.mark.parametrize("thickness_m", [320e-6, 1e-3])
def test_rays_are_predicted_where_their_photons_end_on_average(thickness_m):
    energy, sensor, rng = 13000.0, Sensor(thickness_m, "Si"), np.random.default_rng(3)
    # A small panel far off the beam, and turned: its rays come at much the same angle.
    tilted = panel("t", (64, 64), centre=(-700.0, 90.0))
    context = context_of(tilted, sensor=sensor)
    shot = context.shot(event_of(np.zeros((64, 64)), energy=energy))
    front = context.detector.geometry(event_of().clen_m)
    at = front.origin[0] + 32 * front.fs_axis[0] + 30 * front.ss_axis[0]
    ray, normal = at / np.linalg.norm(at), np.array([0.0, 0.0, 1.0])
    # Photons fly on from where they enter the sensor until they are absorbed, if that is before its back.
    path = rng.exponential(1.0 / sensor.attenuation_per_m(energy), 400000)
    path = path[path * (ray @ normal) < thickness_m]
    ends = at + np.mean(path) * ray
    seen = np.array([(ends - front.origin[0])[k] / PIXEL for k in (0, 1)])
    assert np.hypot(*(seen - [32, 30])) > 0.5
    wavelength = 12398.41984 / energy
    q = (ray - [0.0, 0.0, 1.0]) / wavelength
    found, fs, ss = project(shot.geometry, q[None], wavelength)
    assert found[0] == 0 and np.hypot(fs[0] - seen[0], ss[0] - seen[1]) < 0.02


def test_without_a_thickness_panels_stay_where_the_geometry_has_them():
    context = context_of(panel("p", (32, 32), centre=(-500.0, 0.0)))
    shot = context.shot(event_of(np.zeros((32, 32))))
    assert np.array_equal(shot.geometry.origin, context.detector.geometry(event_of().clen_m).origin)
