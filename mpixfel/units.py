"""Physical constants and conversions. A name carries its unit."""

# CODATA 2018: h c / e in eV angstrom.
HC_EV_ANGSTROM = 12398.419843320026
ELEMENTARY_CHARGE_COULOMB = 1.602176634e-19


def wavelength_angstrom(photon_energy_ev):
    """Wavelength in angstrom of a photon energy in eV (scalar or array)."""
    return HC_EV_ANGSTROM / photon_energy_ev


def photon_energy_ev(wavelength_angstrom):
    """Photon energy in eV of a wavelength in angstrom (scalar or array)."""
    return HC_EV_ANGSTROM / wavelength_angstrom
