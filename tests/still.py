"""A still whose photons are drawn one by one from the crystal's own distributions: truth for prediction and integration.

Nothing of the closed forms under test goes into it: reciprocal-lattice points are clouds of samples (block, mosaic
rotations, wavelengths), the samples that fall on their own Ewald sphere are the spot, and photons are drawn from them.
"""
from typing import NamedTuple

import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.model.event import Event, EventId, Image
from mpixfel.model.experiment import Beam, Context, Detector, Panel
from mpixfel.stages.spread import spread_of

PIXEL_M, DISTANCE_M, ENERGY_EV = 75e-6, 0.06, 9500.0
K0 = ENERGY_EV / 12398.419843320026
CELL = UnitCell(60.0, 60.0, 40.0, 90, 90, 90, lattice_type="tetragonal", centring="P", unique_axis="c")
DOMAIN, MOSAICITY, BANDWIDTH = 1200.0, 0.08, 0.002


class Still(NamedTuple):
    """One simulated shot and its truth."""

    image: Image
    context: Context
    event: Event
    axes: np.ndarray        # (3, 3) rows a*, b*, c*
    hkl: np.ndarray         # (n, 3) of the reflections that were given photons
    photons: np.ndarray     # (n,) what they were given in the mean


def detector(size=384, gap=20):
    """Two panels side by side, the right one tilted and lower, the beam near the gap."""
    left = Panel("left", ((size / 2 + gap) * PIXEL_M, size / 2 * PIXEL_M, 0.0), (-PIXEL_M, 0, 0), (0, -PIXEL_M, 0),
                 (size, size // 2), adu_per_photon=1.0)
    tilt = 0.05
    right = Panel("right", (-gap * PIXEL_M, (size / 2 - 7.3) * PIXEL_M, 2e-4), (-PIXEL_M * np.cos(tilt), 0, PIXEL_M * np.sin(tilt)),
                  (0, -PIXEL_M, 0), (size, size // 2), adu_per_photon=1.0)
    return Detector((left, right))


def context(size=384, **learnt):
    """A context whose run knows the crystal; its detector has `size` pixels on each side."""
    from mpixfel.model.experiment import Learnt
    known = dict(n_events=50, n_lattices=50, beam_shift_sigma_m=(1e-6, 1e-6), cells=(CELL,),
                 cell_sigma=(np.array([0.05, 0.05, 0.03, 0, 0, 0]),), half_mosaicity_deg=MOSAICITY,
                 domain_size_angstrom=DOMAIN, bandwidth_fwhm=BANDWIDTH)
    return Context(detector(size), Beam(bandwidth_fwhm=BANDWIDTH), cells=(CELL,), learnt=Learnt(**{**known, **learnt}))


def event(index=0):
    return Event(EventId(0, index, str(index)), (), ENERGY_EV, DISTANCE_M)


def rotation(rng):
    """A random proper rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def cloud(q, rng, n, spread):
    """(m, 3) unit vectors of the rays of a lattice point's samples that meet their own Ewald sphere, and their share."""
    samples = q + rng.normal(0, np.sqrt(spread.domain), (n, 3))
    samples += np.cross(rng.normal(0, np.sqrt(spread.mosaic), (n, 3)), q)
    k = K0 * (1 + rng.normal(0, np.sqrt(spread.bandwidth), n))
    ray = samples + np.stack([np.zeros(n), np.zeros(n), k], axis=1)
    length = np.linalg.norm(ray, axis=1)
    on = np.abs(length - k) < 4e-5
    return ray[on] / length[on, None], on.mean() / 8e-5


def still(seed=0, scale=2.0, background=0.6, size=384, q_max=0.2, lattices=1):
    """A `Still` of Gaussian spots (no tails) on a flat background.

    Intensities are exponentially distributed (Wilson) about `scale` times the share of samples on the sphere.
    """
    rng = np.random.default_rng(seed)
    experiment = context(size)
    geometry = experiment.shot(event()).geometry
    light = [np.zeros((size, size // 2)), np.zeros((size, size // 2))]
    spread = spread_of(DOMAIN, MOSAICITY, BANDWIDTH)
    every_axes, found, given = [], [], []
    for _ in range(lattices):
        axes = CELL.reciprocal_axes() @ rotation(rng).T
        every_axes.append(axes)
        grid = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3, indexing="ij"), -1).reshape(-1, 3)
        q = grid @ axes
        error = np.abs(np.linalg.norm(q + [0, 0, K0], axis=1) - K0)
        near = (error < 2e-3) & (np.linalg.norm(q, axis=1) < q_max) & np.any(grid != 0, axis=1)
        for hkl, point in zip(grid[near], q[near]):
            rays, share = cloud(point, rng, 20000, spread)
            mean = scale * share * rng.exponential()
            if len(rays) < 30 or mean < 0.05:
                continue
            drawn = rays[rng.integers(0, len(rays), rng.poisson(mean))]
            found.append((len(every_axes) - 1, *hkl))
            given.append(mean * fall_on(light, geometry, drawn, rays))
    photons = np.stack([rng.poisson(background, panel.shape) + panel for panel in light]).astype(np.float32)
    image = Image(photons, np.zeros(0, np.int64), 0.0)
    return Still(image, experiment, event(), np.array(every_axes), np.array(found), np.array(given))


def fall_on(light, geometry, drawn, rays):
    """Count the drawn rays on the panels (each ray on the plane z = constant first, then by brute force); share seen."""
    def places(directions):
        out = []
        for p in range(2):
            basis = np.stack([geometry.fs_axis[p], geometry.ss_axis[p], geometry.origin[p]], axis=1)
            w = np.linalg.solve(basis, directions.T)
            fs, ss = w[0] / w[2], w[1] / w[2]
            inside = (w[2] > 0) & (fs >= 0) & (fs < geometry.shape[p, 1]) & (ss >= 0) & (ss < geometry.shape[p, 0])
            out.append((fs, ss, inside))
        return out
    for panel, (fs, ss, inside) in zip(light, places(drawn)) if len(drawn) else ():
        np.add.at(panel, (ss[inside].astype(int), fs[inside].astype(int)), 1.0)
    return sum(inside.mean() for _, _, inside in places(rays))
