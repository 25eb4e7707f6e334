"""One simulated frame: crystals, expected photons, and what the detector makes of them."""
from dataclasses import dataclass

import numpy as np

from mpixfel.kernels import exposure, simulate
from mpixfel.kernels.geometry import panel_inverses
from mpixfel.simulate import crystals
from mpixfel.simulate.scene import polarisation
from mpixfel.units import wavelength_angstrom

CLASSICAL_ELECTRON_RADIUS_ANGSTROM = 2.8179403e-5
DRAWN_FROM_PHOTONS = 0.02     # a Gaussian that would add less is not drawn,
LISTED_FROM_PHOTONS = 0.2     # and a reflection with less is not in the truth file
VISIBLE_SIGMAS, STRONG_SIGMAS = 6.0, 12.0     # photons over the least possible sigma
FWHM = 2.3548200450309493


@dataclass(frozen=True)
class Crystal:
    """One crystal in the beam. `axes` (3, 3): columns a*, b*, c*, 1/angstrom, laboratory frame."""

    axes: np.ndarray
    rotation: np.ndarray
    cell: object
    edge_um: float


@dataclass(frozen=True)
class Shot:
    """What differs from frame to frame."""

    photon_energy_ev: float
    background_ph: float
    dirt: float               # how strong rings and streak are, relative to their stated height
    crystals: tuple
    spectrum: np.ndarray      # (s, 3), see crystals.spectrum_lines
    source_m: np.ndarray      # (3,) where beam and jet meet, laboratory frame
    is_blank: bool


@dataclass(frozen=True)
class Frame:
    """A frame with its truth. `lattice_rows` and `reflections` are dicts of columns (see io.truth)."""

    shot: Shot
    counted: np.ndarray       # (P, SS, FS) int32 photons
    expected: np.ndarray      # (P, SS, FS) float32 photons
    lattices: tuple           # dicts
    reflections: tuple        # dicts of arrays, one for each lattice
    rng: np.random.Generator


def frame_rng(seed, index):
    """The generator of frame `index`: frames do not depend on one another nor on their order."""
    return np.random.default_rng([seed, 1, index])


def draw_shot(scene, rng):
    """A random `Shot`."""
    options = scene.options
    energy = options.photon_energy_ev * (1.0 + options.energy_sigma * rng.standard_normal())
    background = options.background_ph * np.exp(options.background_sigma * rng.standard_normal())
    dirt = np.exp(options.background_sigma * rng.standard_normal())
    blank = bool(rng.random() < options.blank_fraction)
    number = 0 if blank else int(rng.choice(options.lattices))
    lines = crystals.spectrum_lines(options.spectrum, options.bandwidth_fwhm, rng)
    source = 1e-6 * np.array(options.source_sigma_um) * rng.standard_normal(3)
    return Shot(float(energy), float(background), float(dirt), tuple(_draw_crystal(scene, rng) for _ in range(number)),
                lines, source, blank)


def _draw_crystal(scene, rng):
    options = scene.options
    rotation = crystals.random_rotation(rng)
    cell = crystals.jittered_cell(scene.cell, options.cell_sigma, rng)
    edge = options.crystal_um * np.exp(options.strength_sigma * rng.standard_normal() / 3.0)
    return Crystal(rotation @ cell.reciprocal_axes().T, rotation, cell, float(edge))


def simulate_frame(scene, index):
    """The `Frame` number `index` of a run."""
    rng = frame_rng(scene.options.seed, index)
    shot = draw_shot(scene, rng)
    return expose(scene, shot, rng)


def expose(scene, shot, rng):
    """The `Frame` of a given shot."""
    expected = (np.float32(shot.background_ph) * scene.water + np.float32(shot.dirt) * scene.dirt) * scene.transmission
    flat = expected.reshape(-1)
    drawn = [_draw_crystal_spots(scene, shot, crystal) for crystal in shot.crystals]
    for spots in drawn:
        exposure.add_spots(spots["pixel"], spots["photons"], flat)
    measured = [_measure(scene, crystal, spots, flat) for crystal, spots in zip(shot.crystals, drawn)]
    counted = np.empty(flat.size, np.int32)
    exposure.count_photons(rng, flat, counted)
    return Frame(shot, counted.reshape(expected.shape), expected, tuple(m[0] for m in measured),
                 tuple(m[1] for m in measured), rng)


def _draw_crystal_spots(scene, shot, crystal):
    """Candidates near the Ewald sphere, drawn: dict with hkl, excitation, first, pixel, photons."""
    options = scene.options
    k0 = 1.0 / wavelength_angstrom(shot.photon_energy_ev)
    profile = simulate.Profile(crystals.block_transform(options.block_shape, options.block_angstrom), shot.spectrum,
                               np.radians(options.mosaicity_deg) / FWHM, options.divergence_rad, options.point_spread_px)
    hkl, excitation = _candidates(scene, crystal, k0, profile)
    q0 = np.ascontiguousarray(hkl @ crystal.axes.T)
    strength = _strength(scene, crystal, hkl, q0, k0)
    seen = strength > 0
    hkl, excitation, q0, strength = hkl[seen], excitation[seen], q0[seen], strength[seen]
    geometry = scene.geometry.shifted(*-shot.source_m)
    inverse, shape = panel_inverses(geometry), scene.stack_shape
    first, patch = np.zeros(len(hkl) + 1, np.int64), np.empty((min(shape[1], 512), min(shape[2], 512)))
    room = 200_000
    while True:
        pixel, photons = np.empty(room, np.int64), np.empty(room, np.float32)
        used = simulate.draw_spots(geometry, inverse, k0, q0, strength, profile, DRAWN_FROM_PHOTONS, first, pixel, photons,
                                   patch)
        if used <= room:
            break
        room = used
    pixel = pixel[:used]
    photons = photons[:used] * scene.transmission.reshape(-1)[pixel]
    return {"hkl": hkl, "excitation": excitation, "first": first, "pixel": pixel, "photons": photons}


def _candidates(scene, crystal, k0, profile):
    """Indices (n, 3) and excitation errors (n,) of reflections that could be on the image."""
    options = scene.options
    q_max = 1.0 / options.resolution_angstrom
    limits = np.floor(q_max * np.array(crystal.cell.parameters[:3])).astype(np.int64)
    half_band = np.abs(profile.spectrum[:, 1] - 1.0).max() + 5.0 * profile.spectrum[:, 2].max()
    reach = 4.0 * profile.blocks[:, 1].max() + 5.0 * profile.divergence * k0
    room = 20_000
    while True:
        hkl, excitation = np.empty((room, 3), np.int32), np.empty(room)
        n = simulate.near_sphere(np.ascontiguousarray(crystal.axes), limits, k0, 0.01, q_max, reach, 5.0 * profile.eta,
                                 half_band, hkl, excitation)
        if n <= room:
            return hkl[:n].astype(np.int64), excitation[:n]
        room = n


def _strength(scene, crystal, hkl, q0, k0):
    """(n,) photons angstrom^-3 to be multiplied with N(q - q0; C) and the solid angle.

    A crystal of volume V and cell volume v scatters fluence r_e^2 P |F|^2 V / v^2 N(q - q0) photons into a steradian
    (the kinematic theory; the integral of N over reciprocal space is 1).
    """
    options = scene.options
    volume = (crystal.edge_um * 1e4) ** 3
    ray = q0 + np.array([0.0, 0.0, k0])
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    f2 = scene.intensities(hkl, np.linalg.norm(q0, axis=1))
    fluence = options.fluence_ph_per_um2 * 1e-8
    return (fluence * CLASSICAL_ELECTRON_RADIUS_ANGSTROM ** 2 * volume / crystal.cell.volume ** 2 * f2
            * polarisation(ray, options.polarisation_fraction))


def _measure(scene, crystal, spots, expected):
    """(row of the lattice, columns of its reflections) of the truth file."""
    options = scene.options
    good = (scene.mask == 0).reshape(-1)
    variance = scene.electronics.variance(expected)
    rows = np.zeros((len(spots["hkl"]), 5))
    exposure.measure_spots(spots["first"], spots["pixel"], spots["photons"], expected, good, variance,
                          *scene.stack_shape[1:], rows)
    listed = rows[:, 0] >= LISTED_FROM_PHOTONS
    photons, bound = rows[listed, 0], rows[listed, 4]
    hkl = spots["hkl"][listed]
    lattice = {
        "A": crystal.axes, "U": crystal.rotation, "cell": np.array(crystal.cell.parameters),
        "mosaicity_deg": options.mosaicity_deg, "block_size_A": options.block_angstrom,
        "block_cells": np.maximum(1, np.rint(options.block_angstrom / np.array(crystal.cell.parameters[:3]))).astype(int),
        "crystal_size_um": crystal.edge_um, "scale": (crystal.edge_um * 1e4) ** 3 / crystal.cell.volume ** 2,
        "bragg_photons": rows[:, 0].sum(), "n_visible": int((photons >= VISIBLE_SIGMAS * bound).sum()),
        "n_strong": int((photons >= STRONG_SIGMAS * bound).sum()),
    }
    reflections = {"hkl": hkl, "photons": photons, "panel": rows[listed, 1].astype(int), "fs": rows[listed, 2],
                   "ss": rows[listed, 3], "sigma_bound": bound, "excitation_error": np.abs(spots["excitation"][listed])}
    return lattice, reflections
