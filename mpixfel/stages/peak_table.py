"""What all finders share in making their PEAK tables."""
from mpixfel.kernels.geometry import lengths_of_q


def resolution(table, shot):
    """1/d (1/angstrom) of the peaks of a PEAK table, from the shot's geometry."""
    return lengths_of_q(shot.geometry, table["panel"], table["fs"], table["ss"], shot.wavelength_angstrom)
