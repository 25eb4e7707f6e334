"""Unit cells and crystals."""
from dataclasses import dataclass

import numpy as np

from mpixfel.errors import MpixfelError


@dataclass(frozen=True)
class UnitCell:
    """A unit cell in its conventional setting: angstrom and degrees.

    `lattice_type` is one of triclinic, monoclinic, orthorhombic, tetragonal, rhombohedral, hexagonal, cubic;
    `centring` one of P A B C I F R H; `unique_axis` a, b, c or "".
    """

    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float
    lattice_type: str = "triclinic"
    centring: str = "P"
    unique_axis: str = ""
    space_group: str = ""
    name: str = ""

    def __post_init__(self):
        finite = all(np.isfinite(x) for x in self.parameters)
        if not finite or min(self.parameters) <= 0 or max(self.parameters[3:]) >= 180 or self._volume_squared() <= 1e-6:
            raise MpixfelError(f"unit cell {self.parameters} has no volume", self.name,
                               "give a, b, c in angstrom, alpha, beta, gamma in degrees")

    @property
    def parameters(self):
        """(a, b, c, alpha, beta, gamma)."""
        return (self.a, self.b, self.c, self.alpha, self.beta, self.gamma)

    def _volume_squared(self):
        ca, cb, cg = np.cos(np.radians(self.parameters[3:]))
        return (self.a * self.b * self.c) ** 2 * (1 - ca * ca - cb * cb - cg * cg + 2 * ca * cb * cg)

    @property
    def volume(self):
        """Angstrom^3."""
        return float(np.sqrt(self._volume_squared()))

    def direct_axes(self):
        """(3, 3) rows a, b, c in angstrom; a along x, b in the xy plane (Busing and Levy, Acta Cryst. 22 (1967) 457)."""
        ca, cb, cg = np.cos(np.radians(self.parameters[3:]))
        sg = np.sin(np.radians(self.gamma))
        cy = (ca - cb * cg) / sg
        return np.array([[self.a, 0.0, 0.0],
                         [self.b * cg, self.b * sg, 0.0],
                         [self.c * cb, self.c * cy, self.c * np.sqrt(max(0.0, 1 - cb * cb - cy * cy))]])

    def reciprocal_axes(self):
        """(3, 3) rows a*, b*, c* in 1/angstrom, in the frame of `direct_axes`."""
        return np.linalg.inv(self.direct_axes()).T


def cell_parameters(reciprocal_axes):
    """(6,) cell constants, angstrom and degrees, of (3, 3) rows a*, b*, c*."""
    axes = np.linalg.inv(np.asarray(reciprocal_axes, float)).T
    lengths = np.linalg.norm(axes, axis=1)
    unit = axes / lengths[:, None]
    cosines = np.array([unit[1] @ unit[2], unit[2] @ unit[0], unit[0] @ unit[1]])
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))])
