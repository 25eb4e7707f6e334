"""Drawn spots against independent physics: Bragg's law, Darwin's formula, sums over many blocks and wavelengths."""
import numpy as np
import pytest

from mpixfel.kernels import simulate
from mpixfel.kernels.geometry import panel_inverses
from mpixfel.model.experiment import Detector, Panel

WAVELENGTH, DISTANCE, PIXEL = 1.3, 0.06, 75e-6
K0 = 1.0 / WAVELENGTH
CENTRE = (60.25, 48.75)     # fs, ss of the beam


def flat(shape=(96, 120), pixel=PIXEL, first=(0, 0), centre=CENTRE):
    """Image fast axis -x, slow axis -y; `first` is the (fs, ss) at which the panel starts."""
    origin = ((centre[0] - first[0]) * pixel, (centre[1] - first[1]) * pixel, 0.0)
    return Panel("p", origin, (-pixel, 0.0, 0.0), (0.0, -pixel, 0.0), shape, adu_per_photon=1.0)


def profile(block=2e-3, eta=0.0, bandwidth=0.0, divergence=0.0, spread=0.0, lines=None):
    lines = [[1.0, 1.0, bandwidth]] if lines is None else lines
    return simulate.Profile(np.array([[1.0, block]]), np.array(lines), eta, divergence, spread)


def draw(panels, q0, shape, strength=1e8, faintest=1e-9, distance=DISTANCE):
    """Image stack of one or more reflections."""
    detector = Detector(tuple(panels))
    geometry = detector.geometry(distance)
    q0 = np.atleast_2d(np.asarray(q0, float))
    first = np.zeros(len(q0) + 1, np.int64)
    pixel, photons = np.empty(200_000, np.int64), np.empty(200_000, np.float32)
    stack = detector.stack_shape
    used = simulate.draw_spots(geometry, panel_inverses(geometry), K0, q0, np.full(len(q0), strength), shape, faintest,
                               first, pixel, photons, np.empty(stack[1:]))
    image = np.zeros(stack)
    np.add.at(image.reshape(-1), pixel[:used], photons[:used])
    return image


def at(fs, ss, stretch=1.0, distance=DISTANCE):
    """Scattering vector of a point of the flat detector, for the wavelength WAVELENGTH / stretch."""
    x, y = -(np.asarray(fs) - CENTRE[0]) * PIXEL, -(np.asarray(ss) - CENTRE[1]) * PIXEL
    v = np.stack(np.broadcast_arrays(x, y, distance), axis=-1)
    return K0 * stretch * (v / np.linalg.norm(v, axis=-1, keepdims=True) - [0.0, 0.0, 1.0])


def moments(image, axis):
    """Centroid (fs, ss) of an image and the variances along `axis` (fs, ss) and across it, pixels^2."""
    ss, fs = np.indices(image.shape) + 0.5
    total = image.sum()
    centre = np.array([(image * fs).sum(), (image * ss).sum()]) / total
    axis = np.asarray(axis) / np.linalg.norm(axis)
    along = (fs - centre[0]) * axis[0] + (ss - centre[1]) * axis[1]
    across = -(fs - centre[0]) * axis[1] + (ss - centre[1]) * axis[0]
    return centre, (image * along ** 2).sum() / total, (image * across ** 2).sum() / total


@pytest.mark.parametrize("d_angstrom, azimuth_deg", [(25.0, 20.0), (18.0, 140.0), (40.0, 260.0)])
def test_a_reflection_on_the_sphere_falls_where_braggs_law_puts_it(d_angstrom, azimuth_deg):
    theta = np.arcsin(WAVELENGTH / (2.0 * d_angstrom))
    azimuth = np.radians(azimuth_deg)
    # q points half a turn minus theta away from the beam
    q = np.array([np.cos(theta) * np.cos(azimuth), np.cos(theta) * np.sin(azimuth), -np.sin(theta)]) / d_angstrom
    radius = DISTANCE * np.tan(2.0 * theta) / PIXEL
    expected = CENTRE[0] - radius * np.cos(azimuth), CENTRE[1] - radius * np.sin(azimuth)
    centre, _, _ = moments(draw([flat()], q, profile(block=5e-4))[0], (1, 0))
    np.testing.assert_allclose(centre, expected, atol=0.01)


def test_a_reflection_turned_through_the_sphere_gives_darwins_integral():
    # Sum over a turn about an axis across the plane of scattering: strength lambda^3 / sin(2 theta) (Darwin, 1914).
    q = at(100.0, 30.0)
    theta = np.arcsin(np.linalg.norm(q) * WAVELENGTH / 2.0)
    axis = np.cross([0.0, 0.0, 1.0], q)
    axis /= np.linalg.norm(axis)
    angles = np.linspace(-0.16, 0.16, 161)
    turned = [q * np.cos(a) + np.cross(axis, q) * np.sin(a) for a in angles]
    total = draw([flat()], turned, profile(block=1.5e-3)).sum() * (angles[1] - angles[0])
    assert total == pytest.approx(1e8 * WAVELENGTH ** 3 / np.sin(2.0 * theta), rel=0.02)


def test_a_spot_is_the_sum_over_many_blocks_wavelengths_and_directions():
    rng = np.random.default_rng(5)
    block, eta, bandwidth, divergence, n = 1.2e-3, 0.012, 0.012, 0.0012, 6000
    q0 = at(92.0, 26.0) + [0.0, 0.0, 4e-4]
    got = draw([flat()], q0, profile(block, eta, bandwidth, divergence))[0]
    turns = eta * rng.standard_normal((n, 3))
    blocks = q0 + np.cross(turns, q0) + 0.5 * np.cross(turns, np.cross(turns, q0))
    k = K0 / (1.0 + bandwidth * rng.standard_normal(n))
    beams = np.column_stack([divergence * rng.standard_normal((n, 2)), np.ones(n)])
    ss, fs = np.mgrid[14:38, 80:106]
    rays = at(fs.ravel() + 0.5, ss.ravel() + 0.5) / K0 + [0.0, 0.0, 1.0]
    want = np.zeros(fs.size)
    for one in range(n):
        miss = k[one] * (rays - beams[one]) - blocks[one]
        want += np.exp(-0.5 * (miss ** 2).sum(1) / block ** 2)
    solid = PIXEL ** 2 / DISTANCE ** 2 * rays[:, 2] ** 3
    want *= 1e8 * solid / n / (2.0 * np.pi * block ** 2) ** 1.5
    patch = got[14:38, 80:106].ravel()
    assert patch.sum() == pytest.approx(want.sum(), rel=0.03)
    assert np.corrcoef(patch, want)[0, 1] > 0.998
    assert np.abs(patch - want).max() < 0.05 * want.max()


def test_block_size_makes_round_spots_and_mosaicity_with_bandwidth_radial_streaks():
    near = 0.012     # m: diffraction angles of 17 degrees
    q = at(104.0, 20.0, distance=near)
    radial = np.array([104.0, 20.0]) - CENTRE
    _, along, across = moments(draw([flat()], q, profile(block=8e-3), distance=near)[0], radial)
    assert np.sqrt(along / across) == pytest.approx(1.0 / np.cos(2.0 * angle_of(q)), rel=0.05)   # oblique incidence
    _, along, across = moments(draw([flat()], q, profile(block=1e-3, eta=0.02, bandwidth=0.06), distance=near)[0], radial)
    assert np.sqrt(along) > 2.5 * np.sqrt(across)
    # Mosaicity alone turns lattice points about the origin: arcs across the radius, as long as eta |q|.
    _, along, across = moments(draw([flat()], q, profile(block=1e-3, eta=0.06), distance=near)[0], radial)
    assert np.sqrt(across) > 3.0 * np.sqrt(along)
    step = np.linalg.norm(q) / np.hypot(*radial)     # an arc's length in q over that in pixels
    assert np.sqrt(across) == pytest.approx(0.06 * np.linalg.norm(q) / step, rel=0.1)


def angle_of(q):
    """Bragg angle, rad."""
    return np.arcsin(np.linalg.norm(q) * WAVELENGTH / 2.0)


def test_a_perfect_crystal_diffracts_each_colour_in_one_direction_whatever_the_bandwidth():
    # A Laue spot: its direction is that of the lattice row, here met at a wavelength 1 % shorter than the mean.
    q = at(95.0, 30.0, stretch=1.01, distance=0.004)
    centre, _, _ = moments(draw([flat()], q, profile(block=2e-4, bandwidth=0.02), distance=0.004)[0], (1, 0))
    np.testing.assert_allclose(centre, (95.0, 30.0), atol=0.03)


def test_the_point_spread_adds_its_variance_in_pixels():
    q = at(80.3, 60.4)
    sharp, blurred = (draw([flat()], q, profile(block=1e-3, spread=s))[0] for s in (0.0, 1.3))
    for axis in ((1, 0), (0, 1), (1, 1)):
        grown = moments(blurred, axis)[1] - moments(sharp, axis)[1]
        assert grown == pytest.approx(1.3 ** 2, rel=0.02)
    assert blurred.sum() == pytest.approx(sharp.sum(), rel=1e-3)


def test_spots_much_smaller_than_a_pixel_keep_their_photons():
    q = at(80.31, 60.42)
    coarse = draw([flat()], q, profile(block=1.5e-4))[0].sum()
    fine = draw([flat((960, 1200), PIXEL / 10, centre=(602.5, 487.5))], q, profile(block=1.5e-4))[0].sum()
    assert coarse == pytest.approx(fine, rel=1e-3)


def test_lines_of_a_spectrum_add_up_to_the_band_they_make():
    q = at(92.0, 26.0)
    offsets = np.linspace(-0.03, 0.03, 25)
    weights = np.exp(-0.5 * (offsets / 0.008) ** 2)
    lines = np.column_stack([weights / weights.sum(), 1.0 + offsets, np.full(25, 0.002)])
    many = draw([flat()], q, profile(block=8e-4, eta=0.006, lines=lines))[0]
    one = draw([flat()], q, profile(block=8e-4, eta=0.006, bandwidth=np.hypot(0.008, 0.002)))[0]
    assert many.sum() == pytest.approx(one.sum(), rel=0.02)
    assert np.abs(many - one).max() < 0.04 * one.max()


def test_a_detector_cut_into_panels_sees_the_same_image():
    rng = np.random.default_rng(2)
    q = at(rng.uniform(0, 120, 60), rng.uniform(0, 96, 60)) + 4e-4 * rng.standard_normal((60, 3))
    q = np.vstack([q, at(60.0, 30.0), at(60.0, 48.0)])     # on the seams
    shape = profile(block=1e-3, eta=0.002, bandwidth=0.003)
    whole = draw([flat()], q, shape)[0]
    parts = draw([flat((48, 60)), flat((48, 60), first=(60, 0)), flat((48, 60), first=(0, 48)),
                  flat((48, 60), first=(60, 48))], q, shape)
    put_together = np.block([[parts[0], parts[1]], [parts[2], parts[3]]])
    np.testing.assert_allclose(put_together, whole, rtol=1e-4, atol=2e-3)
    assert put_together.sum() == pytest.approx(whole.sum(), rel=1e-4)


def test_tilted_panels_see_spots_where_their_rays_meet_them():
    # Turned by 1 degree about y: the ray meets the plane x' along its axis where plain trigonometry says.
    turn = np.radians(1.0)
    fast = (-PIXEL * np.cos(turn), 0.0, PIXEL * np.sin(turn))
    panel = Panel("t", (CENTRE[0] * PIXEL, CENTRE[1] * PIXEL, 0.0), fast, (0.0, -PIXEL, 0.0), (96, 120), adu_per_photon=1.0)
    q = at(100.0, 30.0)
    ray = q + [0.0, 0.0, K0]
    slope = ray[0] / ray[2]
    # x0 - s cos = slope (D + s sin)  for the distance s along the fast axis
    s = (CENTRE[0] * PIXEL - slope * DISTANCE) / (np.cos(turn) + slope * np.sin(turn))
    ss = CENTRE[1] - ray[1] / ray[2] * (DISTANCE + s * np.sin(turn)) / PIXEL
    centre, _, _ = moments(draw([panel], q, profile(block=4e-4))[0], (1, 0))
    np.testing.assert_allclose(centre, (s / PIXEL, ss), atol=0.02)


def test_reflections_near_the_sphere_are_all_found_and_no_others():
    axes = np.diag([1 / 31.0, 1 / 27.0, 1 / 35.0]) @ np.linalg.qr(np.random.default_rng(8).standard_normal((3, 3)))[0]
    hkl, excitation = np.empty((4000, 3), np.int32), np.empty(4000)
    n = simulate.near_sphere(axes, np.array([20, 20, 20]), K0, 0.02, 0.4, 2e-3, 0.01, 0.003, hkl, excitation)
    assert n < 4000
    grid = np.indices((41, 41, 41)).reshape(3, -1).T - 20
    q = grid @ axes.T
    length = np.linalg.norm(q, axis=1)
    error = np.linalg.norm(q + [0, 0, K0], axis=1) - K0
    wanted = (length <= 0.4) & (length >= 0.02) & (np.abs(error) <= 2e-3 + 0.01 * length + 0.003 * length ** 2 / (2 * K0))
    assert set(map(tuple, hkl[:n])) == set(map(tuple, grid[wanted]))
    index = {tuple(h): e for h, e in zip(grid[wanted], error[wanted])}
    np.testing.assert_allclose(excitation[:n], [index[tuple(h)] for h in hkl[:n]], atol=1e-12)


def test_too_little_room_is_told_and_nothing_is_written_beyond_it():
    geometry = Detector((flat(),)).geometry(DISTANCE)
    pixel, photons = np.full(12, -7, np.int64), np.zeros(12, np.float32)
    q = at(np.array([80.0, 90.0]), np.array([60.0, 30.0]))
    used = simulate.draw_spots(geometry, panel_inverses(geometry), K0, q, np.full(2, 1e4), profile(), 1e-9,
                               np.zeros(3, np.int64), pixel[:8], photons[:8], np.empty((96, 120)))
    assert used > 8 and np.all(pixel[8:] == -7)
