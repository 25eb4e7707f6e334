"""Row dtypes of the tables in the run file. One column, one line: name, dtype, unit, meaning.

`docs/output.md` and the attributes in the file are made from these lines.
"""
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """One column of a table: HDF5 dataset name, NumPy dtype (with shape), NeXus unit, meaning."""

    name: str
    dtype: object
    unit: str
    meaning: str


def row_dtype(columns):
    """The structured dtype with one field for each column."""
    return np.dtype([(c.name, *(c.dtype if isinstance(c.dtype, tuple) else (c.dtype,))) for c in columns])


PEAK_COLUMNS = (
    Column("panel", "i2", "", "index into /geometry/panel_names"),
    Column("fs", "f4", "pixels", "centroid, fast scan; the first pixel's centre is 0.5"),
    Column("ss", "f4", "pixels", "centroid, slow scan; the first pixel's centre is 0.5"),
    Column("intensity", "f4", "photons", "sum above the local background"),
    Column("sigma", "f4", "photons", "standard error of intensity"),
    Column("snr", "f4", "", "significance above the local background"),
    Column("background", "f4", "photons/pixel", "local background"),
    Column("max_pixel", "f4", "photons", "largest pixel above the local background"),
    Column("n_pixels", "i2", "", "number of pixels"),
    Column("resolution", "f4", "1/angstrom", "length of the scattering vector, 1/d"),
    Column("lattice", "i4", "", "row in /lattices that explains the peak, -1 none"),
    Column("hkl", ("i2", (3,)), "", "Miller indices in that lattice"),
)

LATTICE_COLUMNS = (
    Column("event", "i8", "", "row in /events"),
    Column("reciprocal_axes", ("f8", (3, 3)), "1/angstrom", "rows a*, b*, c* in the laboratory frame; q = h a* + k b* + l c*"),
    Column("cell", ("f8", (6,)), "angstrom, degrees", "a, b, c, alpha, beta, gamma"),
    Column("cell_sigma", ("f4", (6,)), "angstrom, degrees", "standard errors of cell"),
    Column("orientation_sigma", ("f4", (3,)), "degrees", "standard errors of rotations about x, y, z"),
    Column("centring", "S1", "", "P A B C I F R H"),
    Column("space_group", "S16", "", "Hermann-Mauguin symbol where known"),
    Column("form", "i2", "", "which of the run's cells: row in /cells"),
    Column("n_indexed", "i4", "", "peaks explained"),
    Column("n_predicted", "i4", "", "reflections predicted"),
    Column("n_integrated", "i4", "", "reflections integrated"),
    Column("rmsd", "f4", "pixels", "root mean square distance of indexed peaks from their predictions"),
    Column("beam_shift", ("f8", (2,)), "m", "shift of the diffraction pattern on the detector, lab x and y"),
    Column("beam_shift_sigma", ("f4", (2,)), "m", "standard errors of beam_shift"),
    Column("distance_scale", "f8", "", "refined distance over the given one"),
    Column("distance_scale_sigma", "f4", "", "standard error of distance_scale, 0 where it was not refined"),
    Column("half_mosaicity", "f4", "degrees", "half of the full width of the mosaic spread (Sauter et al. 2014)"),
    Column("half_mosaicity_sigma", "f4", "degrees", "standard error of half_mosaicity"),
    Column("domain_size", "f4", "angstrom", "effective mosaic block size"),
    Column("domain_size_sigma", "f4", "angstrom", "standard error of domain_size"),
    Column("bandwidth", "f4", "", "relative spread of the wavelength, full width at half maximum"),
    Column("bandwidth_sigma", "f4", "", "standard error of bandwidth"),
    Column("profile_radius", "f4", "1/angstrom", "radius of the reciprocal-lattice point"),
    Column("resolution_limit", "f4", "1/angstrom", "where the signal falls below the noise"),
    Column("overall_scale", "f4", "photons", "Wilson-like scale"),
    Column("b_factor", "f4", "angstrom^2", "Wilson-like B of the intensities"),
    Column("b_factor_sigma", "f4", "angstrom^2", "standard error of b_factor"),
    Column("seen_fraction", "f4", "", "share of predicted strong reflections that are seen"),
    Column("score", "f4", "", "log10 of the odds against a chance match"),
    Column("first_reflection", "i8", "", "first row in /reflections"),
    Column("n_reflections", "i8", "", "number of rows in /reflections"),
)

REFLECTION_COLUMNS = (
    Column("lattice", "i4", "", "row in /lattices"),
    Column("hkl", ("i2", (3,)), "", "Miller indices"),
    Column("intensity", "f4", "photons", "photons on the detector, uncorrected: the better of summation and profile fit"),
    Column("sigma", "f4", "photons", "standard error of intensity"),
    Column("correction", "f4", "", "polarisation, solid angle, ...: factor by which intensity and sigma are to be multiplied"),
    Column("intensity_sum", "f4", "photons", "plain summation over the foreground"),
    Column("sigma_sum", "f4", "photons", "standard error of intensity_sum"),
    Column("background", "f4", "photons/pixel", "local background"),
    Column("background_sigma", "f4", "photons/pixel", "standard error of background"),
    Column("peak", "f4", "photons", "largest pixel above the background"),
    Column("partiality", "f4", "", "share of the full intensity that the model (Gaussian core, Porod tail) expects"),
    Column("excitation_error", "f4", "1/angstrom", "distance from the Ewald sphere, positive outside"),
    Column("resolution", "f4", "1/angstrom", "1/d"),
    Column("panel", "i2", "", "index into /geometry/panel_names"),
    Column("fs", "f4", "pixels", "predicted position, fast scan"),
    Column("ss", "f4", "pixels", "predicted position, slow scan"),
    Column("flags", "u2", "", "bit field, see model.tables.Flag"),
)

EVENT_COLUMNS = (
    Column("source", "i4", "", "index into /sources/path"),
    Column("index", "i8", "", "position in that source"),
    Column("timestamp", "i8", "ns", "since 1970 UTC, -1 unknown"),
    Column("photon_energy", "f8", "eV", "photon energy"),
    Column("distance", "f8", "m", "interaction point to detector origin"),
    Column("outcome", "u1", "", "how the event ended"),
    Column("stopped_by", "u1", "", "module instance that skipped it"),
    Column("reason", "u2", "", "why it ended there"),
    Column("n_peaks", "i4", "", "number of peaks"),
    Column("n_lattices", "i4", "", "number of lattices"),
    Column("first_peak", "i8", "", "first row in /peaks"),
    Column("first_lattice", "i8", "", "first row in /lattices"),
    *(Column(f"time_{stage}", "f4", "s", f"time to {stage}")
      for stage in ("read", "calibrate", "hitfind", "index", "refine", "integrate", "write")),
    Column("rank", "i4", "", "MPI rank that processed it"),
    Column("background", "f4", "photons/pixel", "median background"),
    Column("max_intensity", "f4", "photons", "largest pixel"),
    Column("resolution", "f4", "1/angstrom", "estimated diffraction limit"),
)


class Flag:
    """Bits of `/reflections/flags`."""

    saturated = 1
    masked = 2
    overlap = 4
    edge = 8
    profile_fitted = 16
    indexed_peak = 32
    recentred = 64


PEAK = row_dtype(PEAK_COLUMNS)
LATTICE = row_dtype(LATTICE_COLUMNS)
REFLECTION = row_dtype(REFLECTION_COLUMNS)
EVENT = row_dtype(EVENT_COLUMNS)
