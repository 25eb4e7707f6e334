"""What all finders share in making their PEAK tables."""
import numpy as np


def resolution(table, shot):
    """1/d (1/angstrom) of the peaks of a PEAK table, from the shot's geometry."""
    geometry, panel = shot.geometry, table["panel"]
    x = (geometry.origin[panel] + table["fs"][:, None] * geometry.fs_axis[panel]
         + table["ss"][:, None] * geometry.ss_axis[panel])
    direction = x / np.linalg.norm(x, axis=1)[:, None] - np.array([0.0, 0.0, 1.0])
    return np.linalg.norm(direction, axis=1) / shot.wavelength_angstrom
