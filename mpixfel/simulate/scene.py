"""What is the same in every frame of a simulated run: detector, masks, pedestals, background."""
from dataclasses import dataclass

import gemmi
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.model.crystal import UnitCell
from mpixfel.model.experiment import PanelGeometry
from mpixfel.simulate import structure
from mpixfel.simulate.layouts import Arrangement, make_arrangement
from mpixfel.simulate.readout import Electronics, make_electronics
from mpixfel.units import wavelength_angstrom

MASK_GAP, MASK_DEAD, MASK_NOISY = 1, 2, 16     # bits of an NXmx pixel mask
ICE_RINGS_ANGSTROM = (3.90, 3.67, 3.44, 2.67, 2.25)    # hexagonal ice
SALT_RINGS_ANGSTROM = (3.26, 2.82, 1.99, 1.70)         # rock salt


@dataclass(frozen=True)
class Scene:
    """Static part of a run. Image arrays are (P, SS, FS) float32; padding counts as masked."""

    options: object
    arrangement: Arrangement
    geometry: PanelGeometry
    cell: UnitCell
    intensities: object          # callable (hkl, q) -> |F|^2
    mask: np.ndarray             # (P, SS, FS) uint32, bits MASK_*
    electronics: Electronics
    water: np.ndarray            # background of level 1 at the water ring, photons/pixel
    dirt: np.ndarray             # rings, streak and hot region, photons/pixel
    transmission: np.ndarray     # share of the photons that the shadow lets through

    @property
    def stack_shape(self):
        return self.arrangement.detector.stack_shape


def make_scene(options):
    """The `Scene` of a run: everything random in it comes from the seed."""
    rng = np.random.default_rng([options.seed, 0])
    arrangement = make_arrangement(options, rng)
    geometry = arrangement.detector.geometry(options.distance_mm * 1e-3)
    cell = _cell(options)
    shape = arrangement.detector.stack_shape
    inside = _inside(arrangement.detector)
    radius_px = _radius(geometry, shape) / (options.pixel_um * 1e-6)
    mask = np.where(inside & (radius_px >= options.beam_stop_px), 0, MASK_GAP).astype(np.uint32)
    usable = np.flatnonzero(mask == 0)
    bad = rng.choice(usable, size=min(options.dead_pixels + options.hot_pixels, usable.size), replace=False)
    dead, hot = np.sort(bad[:options.dead_pixels]), np.sort(bad[options.dead_pixels:])
    if options.mask_bad_pixels:
        mask.reshape(-1)[dead] |= MASK_DEAD
        mask.reshape(-1)[hot] |= MASK_NOISY
    electronics = make_electronics(options, shape, dead, hot, rng)
    water, dirt, transmission = _photon_maps(options, geometry, shape, rng)
    hole = (radius_px < options.beam_stop_px) | ~inside
    for image in (water, dirt):
        image[hole] = 0.0
    return Scene(options, arrangement, geometry, cell, _intensities(options, cell), mask, electronics, water, dirt,
                 transmission)


def _cell(options):
    """The cell with the lattice type, centring and unique axis that its space group has."""
    group = structure.space_group(options.space_group)
    if not gemmi.UnitCell(*options.cell).is_compatible_with_spacegroup(group):
        raise MpixfelError(f"a cell of {options.cell} cannot have space group {options.space_group}", "simulate",
                           "correct cell or space_group")
    lattice, centring = group.crystal_system_str(), group.centring_type()
    if lattice == "trigonal":
        rhombohedral = group.hm.startswith("R")
        lattice = "rhombohedral" if rhombohedral else "hexagonal"
        centring = ("R" if group.ext == "R" else "H") if rhombohedral else centring
    unique = {"monoclinic": group.monoclinic_unique_axis(), "tetragonal": "c", "hexagonal": "c"}.get(lattice, "")
    return UnitCell(*map(float, options.cell), lattice, centring, "c" if centring == "H" else unique,
                    options.space_group, options.kind)


def _intensities(options, cell):
    symmetry = structure.Symmetry(options.space_group)
    if options.reflections:
        return structure.listed(symmetry, *structure.read_reflections(options.reflections))
    return structure.WilsonIntensities(symmetry, cell.volume, options.b_factor_angstrom2, options.atoms_per_angstrom3,
                                       options.seed)


def _inside(detector):
    """(P, SS, FS) bool: a pixel of the panel, not padding of the stack."""
    _, ss, fs = np.indices(detector.stack_shape, sparse=True)
    shape = np.array([p.shape for p in detector.panels])[:, :, None, None]
    return (ss < shape[:, 0]) & (fs < shape[:, 1])


def _pixel_positions(geometry, shape):
    """(P, SS, FS, 3) laboratory positions of pixel centres, m."""
    ss, fs = np.arange(shape[1]) + 0.5, np.arange(shape[2]) + 0.5
    return (geometry.origin[:, None, None, :] + ss[None, :, None, None] * geometry.ss_axis[:, None, None, :]
            + fs[None, None, :, None] * geometry.fs_axis[:, None, None, :])


def _radius(geometry, shape):
    """(P, SS, FS) distance of pixel centres from the beam, m."""
    return np.linalg.norm(_pixel_positions(geometry, shape)[..., :2], axis=-1)


def polarisation(direction, fraction):
    """Share of the intensity that is scattered into unit vectors (..., 3), for a beam polarised along x by `fraction`.

    P = f (1 - u_x^2) + (1 - f) (1 - u_y^2) (Kahn et al., J. Appl. Cryst. 15 (1982) 330).
    """
    return fraction * (1.0 - direction[..., 0] ** 2) + (1.0 - fraction) * (1.0 - direction[..., 1] ** 2)


def _photon_maps(options, geometry, shape, rng):
    """(water, dirt, transmission), each (P, SS, FS) float32."""
    position = _pixel_positions(geometry, shape)
    r = np.linalg.norm(position, axis=-1)
    u = position / r[..., None]
    normal = np.cross(geometry.fs_axis, geometry.ss_axis)
    solid_angle = np.abs(np.einsum("pijk,pk->pij", u, normal)) / r ** 2
    forward = np.abs(normal).max() / (options.distance_mm * 1e-3) ** 2
    seen = polarisation(u, options.polarisation_fraction) * solid_angle / forward
    q = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * u[..., 2])) / wavelength_angstrom(options.photon_energy_ev)
    # A jet of water: scatter of air and solvent at low angles, the ring at 3.2 angstrom, its shoulder, Compton scatter.
    water = (1.2 * np.exp(-q / 0.08) + 0.75 * np.exp(-0.5 * ((q - 0.31) / 0.042) ** 2)
             + 0.30 * np.exp(-0.5 * ((q - 0.47) / 0.07) ** 2) + 0.25 * (1.0 - np.exp(-q / 0.15))) * seen
    dirt = np.zeros(shape)
    if options.ice_ph > 0:
        for ring in ICE_RINGS_ANGSTROM:
            dirt += options.ice_ph * np.exp(-0.5 * ((q - 1.0 / ring) / 0.002) ** 2) * seen
    if options.salt_ph > 0:
        dirt += _salt(options, position, q, seen, rng)
    if options.streak_ph > 0:
        dirt += _streak(options, position)
    if options.hot_region_ph > 0:
        p, ss, fs = rng.integers(shape[0]), rng.integers(shape[1] - 24), rng.integers(shape[2] - 24)
        dirt[p, ss:ss + 24, fs:fs + 24] += options.hot_region_ph
    transmission = np.ones(shape, np.float32)
    if options.shadow > 0:
        angle = np.arctan2(position[..., 1], position[..., 0])
        edge = 0.5 * (1.0 + np.tanh((0.25 - np.abs(angle - 0.9)) / 0.01))
        transmission -= options.shadow * edge.astype(np.float32)
    return water.astype(np.float32), dirt.astype(np.float32), transmission


def _salt(options, position, q, seen, rng):
    """Rings of a coarse powder: their height varies along the ring from one degree to the next."""
    angle = np.degrees(np.arctan2(position[..., 1], position[..., 0])) % 360.0
    out = np.zeros(q.shape)
    for ring in SALT_RINGS_ANGSTROM:
        grains = rng.gamma(2.0, 0.5, size=361)
        out += options.salt_ph * np.exp(-0.5 * ((q - 1.0 / ring) / 0.0012) ** 2) * np.interp(angle, np.arange(361), grains)
    return out * seen


def _streak(options, position):
    """A streak across the beam, as a jet gives it at right angles to itself: height falls as 1 / (1 + r / 3 mm)^2."""
    x, y = position[..., 0], position[..., 1]
    along, across = np.abs(0.94 * x + 0.34 * y), -0.34 * x + 0.94 * y
    return options.streak_ph * np.exp(-0.5 * (across / (1.5e-4 + 0.01 * along)) ** 2) / (1.0 + along / 3e-3) ** 2
