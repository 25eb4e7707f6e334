"""Lists of scattering vectors with known lattices, without images: for the indexing benchmark and its tests."""
from dataclasses import dataclass

import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.simulate.crystals import jittered_cell, random_rotation
from mpixfel.simulate.structure import Symmetry, WilsonIntensities


@dataclass(frozen=True)
class SpotList:
    """Spots of one shot, strongest first.

    Attributes
    ----------
    q : (n, 3) scattering vectors as measured, 1/angstrom, laboratory frame
    intensity : (n,) photons
    sigma_q : (n,) position error, one sigma, 1/angstrom
    lattice : (n,) the lattice a spot comes from, -1: none
    hkl : (n, 3) Miller indices, 0 for foreign spots
    axes : (m, 3, 3) true bases: rows a*, b*, c*, 1/angstrom
    """

    q: np.ndarray
    intensity: np.ndarray
    sigma_q: np.ndarray
    lattice: np.ndarray
    hkl: np.ndarray
    axes: np.ndarray


def simulate_spots(cell, n_spots, seed, *, lattices=1, foreign_fraction=0.15, position_error_px=0.35, pixel_m=75e-6,
                   distance_m=0.15, wavelength_angstrom=1.3, d_min_angstrom=2.5, radius_per_angstrom=0.0012,
                   cell_sigma=0.0, missing_fraction=0.1, bandwidth_fwhm=0.0, beam_shift_px=(0.0, 0.0),
                   space_group="P1"):
    """A `SpotList` as a hit finder might report it.

    Every lattice gives its strongest reflections within reach of the Ewald sphere: intensities follow Wilson's
    statistics times exp(-s^2 / 2 r^2), with s the excitation error. A spot is measured on a flat detector with a
    normal error in x and y, and turned back into q as if it lay on the Ewald sphere, so the excitation error is lost
    as it is in an experiment.

    Parameters
    ----------
    cell : UnitCell
    n_spots : int
        All spots together; lattices share them equally, fewer if their reflections do not suffice.
    seed : int or sequence of int
    foreign_fraction : float
        Share of spots that belong to no lattice, spread evenly over the detector's radius.
    missing_fraction : float
        Share of the reflections that the hit finder misses, whatever their strength.
    radius_per_angstrom : float
        r above, 1/angstrom.
    beam_shift_px : (x, y)
        Error of the beam centre: all spots are measured that far off.
    space_group : str
        Symmetry and absences of the intensities.
    """
    rng = np.random.default_rng(seed)
    k0, pixel = 1.0 / wavelength_angstrom, pixel_m / distance_m
    n_foreign = int(round(foreign_fraction * n_spots))
    share = np.diff(np.linspace(0, n_spots - n_foreign, lattices + 1).astype(int))
    model = WilsonIntensities(Symmetry(space_group), cell.volume, 20.0, 0.03, int(rng.integers(2 ** 31)))
    scale = 100.0 / (cell.volume * 0.03 * 46.0)
    xy, intensity, owner, hkl, bases = [], [], [], [], []
    for number in range(lattices):
        own = jittered_cell(cell, cell_sigma, rng)
        axes = own.reciprocal_axes() @ random_rotation(rng).T
        index, position, strength = _reflections(own, axes, model, k0, 1.0 / d_min_angstrom, radius_per_angstrom,
                                                 bandwidth_fwhm, rng)
        kept = np.flatnonzero(rng.random(len(index)) >= missing_fraction)
        kept = kept[np.argsort(-strength[kept], kind="stable")[:share[number]]]
        xy.append(position[kept])
        intensity.append(scale * strength[kept])
        owner.append(np.full(len(kept), number))
        hkl.append(index[kept])
        bases.append(axes)
    edge = np.tan(2.0 * np.arcsin(min(0.999, 0.5 * wavelength_angstrom / d_min_angstrom)))
    radius, angle = edge * np.sqrt(rng.uniform(0.01, 1.0, n_foreign)), rng.uniform(0.0, 2.0 * np.pi, n_foreign)
    xy.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    typical = np.median(np.concatenate(intensity)) if any(len(i) for i in intensity) else 100.0
    intensity.append(typical * rng.exponential(1.0, n_foreign))
    owner.append(np.full(n_foreign, -1))
    hkl.append(np.zeros((n_foreign, 3), int))
    xy = np.concatenate(xy)
    xy = xy + pixel * (position_error_px * rng.standard_normal(xy.shape) + np.asarray(beam_shift_px))
    order = np.argsort(-np.concatenate(intensity), kind="stable")
    q = _on_sphere(xy, k0)[order]
    return SpotList(q, np.concatenate(intensity)[order], np.full(len(q), max(position_error_px, 0.05) * pixel * k0),
                    np.concatenate(owner)[order], np.concatenate(hkl)[order], np.array(bases))


def _reflections(cell: UnitCell, axes, model, k0, q_max, radius, bandwidth_fwhm, rng):
    """(indices, (x, y) / distance, intensity) of reflections with some intensity."""
    limits = np.floor(q_max * np.array(cell.parameters[:3])).astype(int)
    grid = np.indices(2 * limits + 1).reshape(3, -1).T - limits
    q = grid @ axes
    length = np.linalg.norm(q, axis=1)
    ray = q + [0.0, 0.0, k0]
    error = np.linalg.norm(ray, axis=1) - k0
    width = np.hypot(radius, bandwidth_fwhm / 2.3548 * length ** 2 / (2.0 * k0))
    near = (length < q_max) & (length > 0.01) & (np.abs(error) < 3.0 * width) & (ray[:, 2] > 0)
    grid, ray, length, error, width = grid[near], ray[near], length[near], error[near], width[near]
    strength = model(grid, length) * np.exp(-0.5 * (error / width) ** 2) * radius / width
    some = strength > 0
    return grid[some], ray[some, :2] / ray[some, 2:], strength[some]


def _on_sphere(xy, k0):
    """(n, 3) scattering vectors of points (x, y) / distance on a flat detector."""
    ray = np.column_stack([xy, np.ones(len(xy))])
    return k0 * (ray / np.linalg.norm(ray, axis=1)[:, None] - [0.0, 0.0, 1.0])
