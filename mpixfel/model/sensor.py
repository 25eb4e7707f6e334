"""How deep in a sensor photons are absorbed: the parallax of thick sensors."""
from dataclasses import dataclass

import gemmi
import numpy as np

from mpixfel.units import wavelength_angstrom

# Atoms of each kind and density: g/cm^3.
MATERIALS = {"Si": (("Si",), 2.329), "Ge": (("Ge",), 5.323), "GaAs": (("Ga", "As"), 5.318), "CdTe": (("Cd", "Te"), 5.85)}
ELECTRON_RADIUS_M = 2.8179403e-15
AVOGADRO = 6.02214076e23


@dataclass(frozen=True)
class Sensor:
    """The layer in which photons are counted; the geometry places its front."""

    thickness_m: float
    material: str

    def attenuation_per_m(self, photon_energy_ev):
        """Linear photoelectric absorption coefficient, 1/m.

        mu = 2 r_e lambda N f'' (James, The Optical Principles of the Diffraction of X-rays, 1948, ch. 4), with f'' by
        Cromer and Liberman (Acta Cryst. A37 (1981) 267).
        """
        names, density = MATERIALS[self.material]
        elements = [gemmi.Element(name) for name in names]
        per_m3 = 1e6 * density * AVOGADRO / sum(e.weight for e in elements)
        absorbed = sum(gemmi.cromer_liberman(e.atomic_number, photon_energy_ev)[1] for e in elements)
        return 2.0 * ELECTRON_RADIUS_M * 1e-10 * wavelength_angstrom(photon_energy_ev) * per_m3 * absorbed

    def mean_depth_m(self, photon_energy_ev, cosine=1.0):
        """Mean depth below the front, m, at which absorbed photons end that come at this cosine to the normal."""
        mu, path = self.attenuation_per_m(photon_energy_ev), self.thickness_m / np.asarray(cosine, float)
        return cosine * (1.0 / mu - path / np.expm1(mu * path))


def sensor_of(thickness_um, material):
    """The `Sensor` that a run's options name; None for one that is thin."""
    return Sensor(1e-6 * thickness_um, material) if thickness_um else None
