"""Darks, gain maps and masks: HDF5, NumPy, and old pickles, cut into panels."""
from pathlib import Path

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.old_pickle import read_old_pickle
from mpixfel.model.constants import Constants

# Where an HDF5 file may hold its one image, tried in this order; a group holds one dataset for each gain stage.
USUAL = ("data", "DATA", "entry_1/data_1/data", "entry/data/data", "data/data", "mean", "pedestal", "offset", "stddev",
         "rms", "noise", "gain", "gain_map", "mask", "pixel_mask")
OLD_BAD = (-2, -100000)
STAGES = {"none": 1, "jungfrau": 3, "agipd": 3}


def load_constants(options, detector):
    """`Constants` named by the options of `stages.calibration.Calibration`, or None where they name no file.

    Raises
    ------
    MpixfelError
        If a file is missing, damaged, or does not fit the geometry; both shapes are told.
    """
    stages = STAGES[options.gain_switching]
    cut = lambda path, n: None if not path else panels_of(read_array(path), detector, path, n)
    pedestal, factor = cut(options.dark_path, stages), cut(options.gain_map_path, stages)
    noise = cut(options.dark_stddev_path, 1)
    bad = _bad(options.mask_path, detector)
    threshold = None
    if options.gain_switching == "agipd":
        path = split_path(options.dark_path)[0] + ":threshold"
        threshold = panels_of(read_array(path), detector, path, 2)
    if pedestal is None and factor is None and noise is None and bad is None:
        return None
    unit = "adu"
    if factor is not None:
        factor, unit = _factors(factor, options)
    return Constants(pedestal, None if noise is None else noise[0, 0], factor, threshold, bad, unit)


def split_path(path):
    """(file, name of the dataset or "") of FILE or FILE:/dataset."""
    file, colon, inside = path.rpartition(":")
    return (path, "") if not colon or Path(path).exists() else (file, inside)


def _factors(gain, options):
    """What `raw - pedestal` is to be multiplied with, and the unit that gives."""
    if options.gain_map_level is not None:
        gain = np.where(gain != 0, np.float32(1), np.float32(options.gain_map_level))
    if options.gain_map_unit == "factor":
        return gain, "adu"
    with np.errstate(divide="ignore"):
        factor = (1.0 / gain).astype(np.float32)
    factor[~np.isfinite(factor)] = np.nan
    return factor, {"adu_per_photon": "photon", "adu_per_kev": "kev"}[options.gain_map_unit]


def _bad(path, detector):
    """(P, SS, FS) bool of a mask file; old pickles mark bad pixels with -2 or -100000."""
    if not path:
        return None
    mask = panels_of(read_array(path), detector, path, 1)[0, 0]
    return np.isin(mask, OLD_BAD) if _is_pickle(path) else mask != 0


def _is_pickle(path):
    return Path(path).suffix.lower() in (".pickle", ".pkl")


def read_array(path):
    """One array of numbers from `FILE.h5`, `FILE.h5:/dataset`, `FILE.npy`, `FILE.npz` or an old pickle.

    An HDF5 group of datasets of one shape is stacked in the order of their names (G0, G1, G2).
    """
    file, inside = split_path(path)
    if not Path(file).is_file():
        raise MpixfelError("no such file", file, "check the path")
    suffix = Path(file).suffix.lower()
    if suffix in (".pickle", ".pkl"):
        found = read_old_pickle(file)
        array = found.get(inside or "DATA") if isinstance(found, dict) else found
    elif suffix in (".npy", ".npz"):
        array = _read_numpy(file, inside)
    else:
        array = _read_hdf5(file, inside)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.ndim < 2:
        raise MpixfelError("holds no image", path, "name the dataset: FILE:/path/to/dataset")
    return array


def _read_numpy(file, name):
    try:
        found = np.load(file, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else found[name or found.files[0]]
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise MpixfelError(f"cannot be read: {error}", file, "give a NumPy file of one array of numbers") from None


def _read_hdf5(file, name):
    try:
        with h5py.File(file, "r") as f:
            if not name:
                name = next((n for n in USUAL if n in f), None) or _only(f, file)
            if name not in f:
                raise MpixfelError(f"there is no {name}", file, "the file holds: " + ", ".join(f))
            found = f[name]
            if isinstance(found, h5py.Dataset):
                return found[()]
            return np.stack([found[k][()] for k in sorted(found) if found[k].ndim >= 2 and _is_stage(k, found)])
    except (OSError, ValueError) as error:
        raise MpixfelError(f"cannot be read: {error}", file, "check that it is a sound HDF5 file") from None


def _is_stage(name, group):
    """Whether a dataset is one of the stages: G0, G1, G2 where there are such, otherwise any."""
    named = [k for k in group if len(k) == 2 and k[0] in "Gg" and k[1].isdigit()]
    return name in named if named else True


def _only(f, file):
    names = []
    f.visititems(lambda name, o: names.append(name) if isinstance(o, h5py.Dataset) and o.ndim >= 2 else None)
    if len(names) != 1:
        raise MpixfelError(f"{len(names)} datasets may be meant", file, "name one: FILE:/path/to/dataset")
    return names[0]


def panels_of(array, detector, path, stages):
    """An array as (M, G, P, SS, FS) float32 for a detector; G must be `stages`, M memory cells may lead.

    The array is a stack of panels, (..., P, SS, FS), or the data block of all panels, (..., ss, fs).
    """
    array = np.asarray(array)
    stack = detector.stack_shape
    for split, cut in ((3, _as_stack), (2, _as_block)):
        if array.ndim < split:
            continue
        lead = _lead(array.shape[:-split], stages)
        found = cut(array, detector, stack) if lead else None
        if found is not None:
            return np.ascontiguousarray(found.reshape(*lead, *stack), np.float32)
    need = np.max([(p.min_ss + p.shape[0], p.min_fs + p.shape[1]) for p in detector.panels], axis=0)
    raise MpixfelError(f"an array of shape {array.shape} does not fit the geometry", path,
                       f"a stack {stack} or a block of at least {tuple(map(int, need))} is needed"
                       + (f", {stages} of them for the gain stages" if stages > 1 else ""))


def _lead(shape, stages):
    """(M, G) of the leading axes, or None where they make no sense."""
    shape = tuple(n for n in shape)
    if stages == 1:
        shape = tuple(n for n in shape if n != 1)
        return (1, 1) if shape == () else (shape[0], 1) if len(shape) == 1 else None
    if not shape or stages not in shape[-2:]:
        return None
    if len(shape) == 1:
        return (1, stages)
    return shape if len(shape) == 2 and shape[1] == stages else None


def _as_stack(array, detector, stack):
    return array if array.shape[-3:] == stack else None


def _as_block(array, detector, stack):
    if any(p.block for p in detector.panels):
        return None
    out = np.zeros((*array.shape[:-2], *stack), np.float32)
    for i, p in enumerate(detector.panels):
        ss, fs = p.shape
        part = array[..., p.min_ss:p.min_ss + ss, p.min_fs:p.min_fs + fs]
        if part.shape[-2:] != (ss, fs):
            return None
        out[..., i, :ss, :fs] = part
    return out
