"""What is counted of the tables of a run: arrays of whole numbers, which add up to the same in any order.

Quantities that are no counts are summed in fixed point: residuals in 1/1024 pixel, I/sigma in 1/1024.
"""
import numpy as np

from mpixfel.model.tables import Flag

FIXED = 1024
SHELL_WIDTH = 0.02      # 1/angstrom
N_SHELLS = 100
LARGEST_INDEX = 1023    # Miller indices beyond do not fit the key by which peaks and predictions are joined
CELLS_OF_MAP = 256      # residual maps: about so many cells over all panels


def count_tables(events, peaks, lattices, reflections, shape):
    """Whole numbers by name, of tables whose indices count within themselves.

    Parameters
    ----------
    events, peaks, lattices, reflections : tables of `model.tables`, or anything that gives their columns by name
    shape : (P, 2) int
        Pixels of each panel in ss, fs.
    """
    return {"peaks_by_shell": histogram(peaks["resolution"]),
            "lattices_by_resolution_limit": histogram(lattices["resolution_limit"]),
            **count_reflections(reflections), **residual_maps(peaks, reflections, shape)}


def shell(resolution):
    """Number of the shell of 1/d; the last one holds all beyond. Not finite: -1."""
    resolution = np.asarray(resolution, float)
    number = np.clip(np.nan_to_num(resolution, nan=0.0, posinf=1e9) / SHELL_WIDTH, 0, N_SHELLS - 1).astype(np.int64)
    return np.where(np.isfinite(resolution), number, -1)


def histogram(resolution):
    """(N_SHELLS,) counts."""
    number = shell(resolution)
    return np.bincount(number[number >= 0], minlength=N_SHELLS).astype(np.int64)


def count_reflections(reflections):
    """Reflections by shell: their number, and the sum of I/sigma in fixed point."""
    number = shell(reflections["resolution"])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = reflections["intensity"].astype(float) / reflections["sigma"]
    good = (number >= 0) & np.isfinite(ratio)
    fixed = np.rint(FIXED * np.clip(ratio[good], -1e6, 1e6)).astype(np.int64)
    sums = np.zeros(N_SHELLS, np.int64)
    np.add.at(sums, number[good], fixed)
    return {"reflections_by_shell": np.bincount(number[good], minlength=N_SHELLS).astype(np.int64),
            "snr_by_shell": sums}


def map_side(n_panels):
    """Cells along each edge of a panel's residual map."""
    return int(np.clip(round((CELLS_OF_MAP / n_panels) ** 0.5), 1, 16))


def residual_maps(peaks, reflections, shape):
    """Peaks minus predictions by place on the panels: (P, B, B) count, sums of fs and ss, sum of squares."""
    n_panels = len(shape)
    side = map_side(n_panels)
    peak, reflection = joined(peaks, reflections)
    own = peaks["panel"][peak] == reflections["panel"][reflection]
    peak, reflection = peak[own], reflection[own]
    panel = peaks["panel"][peak].astype(np.int64)
    known = (panel >= 0) & (panel < n_panels)
    peak, reflection, panel = peak[known], reflection[known], panel[known]
    place = [np.clip(peaks[axis][peak] * side / np.maximum(shape[panel, k], 1), 0, side - 1).astype(np.int64)
             for axis, k in (("ss", 0), ("fs", 1))]
    cell = (panel * side + place[0]) * side + place[1]
    offset = {axis: peaks[axis][peak].astype(float) - reflections[axis][reflection] for axis in ("fs", "ss")}
    good = np.isfinite(offset["fs"] + offset["ss"])
    fixed = {axis: np.rint(FIXED * np.clip(d[good], -100, 100)).astype(np.int64) for axis, d in offset.items()}
    values = {"residual_count": np.ones(good.sum(), np.int64), "residual_fs": fixed["fs"], "residual_ss": fixed["ss"],
              "residual_square": fixed["fs"] ** 2 + fixed["ss"] ** 2}
    out = {}
    for name, value in values.items():
        sums = np.zeros(n_panels * side * side, np.int64)
        np.add.at(sums, cell[good], value)
        out[name] = sums.reshape(n_panels, side, side)
    return out


def joined(peaks, reflections):
    """Rows (of peaks, of reflections) that are the same reflection of the same lattice."""
    indexed = np.flatnonzero(peaks["lattice"] >= 0)
    predicted = np.flatnonzero(reflections["flags"] & Flag.indexed_peak)
    wanted, indexed = keys(peaks, indexed)
    there, predicted = keys(reflections, predicted)
    order = np.argsort(there, kind="stable")
    there, predicted = there[order], predicted[order]
    at = np.minimum(np.searchsorted(there, wanted), max(len(there) - 1, 0))
    same = there[at] == wanted if len(there) else np.zeros(len(wanted), bool)
    return indexed[same], predicted[at[same]] if len(there) else predicted


def keys(table, rows):
    """(one number for lattice and indices, rows); rows whose indices are too large are left out."""
    hkl = table["hkl"][rows].astype(np.int64)
    fits = (np.abs(hkl) <= LARGEST_INDEX).all(axis=1)
    rows, hkl = rows[fits], hkl[fits] + LARGEST_INDEX
    width = 2 * LARGEST_INDEX + 1
    key = table["lattice"][rows].astype(np.int64)
    for axis in range(3):
        key = key * width + hkl[:, axis]
    return key, rows
