"""Spot lists of stills with their bases, as HDF5: /spot/q, hkl, /still/first_spot, n_spots, A (columns a*, b*, c*), wavelength_A."""
from typing import NamedTuple

import h5py
import numpy as np

from mpixfel.errors import MpixfelError


class Still(NamedTuple):
    """One still."""

    q: np.ndarray           # (n, 3) 1/angstrom, laboratory frame
    hkl: np.ndarray         # (n, 3) as indexed by the bases
    axes: np.ndarray        # (3, 3) rows a*, b*, c*
    wavelength: float       # angstrom


def read_spot_lists(path):
    """((a, b, c, alpha, beta, gamma), [Still, ...]) of a file of spot lists."""
    try:
        with h5py.File(path, "r") as f:
            first, count = f["still/first_spot"][:], f["still/n_spots"][:]
            hkl, q, bases, wavelengths = f["spot/hkl"][:], f["spot/q"][:].astype(float), f["still/A"][:], f["still/wavelength_A"][:]
            cell = tuple(map(float, f.attrs["cell"]))
    except (OSError, KeyError) as error:
        raise MpixfelError(f"cannot be read as spot lists: {error}", str(path),
                           "give an HDF5 file with spot/q, spot/hkl and still/first_spot, n_spots, A, wavelength_A") from None
    return cell, [Still(q[a:a + n], hkl[a:a + n], basis.T, float(w)) for a, n, basis, w in zip(first, count, bases, wavelengths)]
