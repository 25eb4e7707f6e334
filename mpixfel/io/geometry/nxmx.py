"""Reads the geometry that NXmx data files carry themselves (applications/NXmx.nxdl.xml).

Their laboratory frame is ours: +z along the beam, +y up.
"""
import logging
import os

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import Block, Geometry, Layout, MaskRule, PanelLayout, Quantity
from mpixfel.io.geometry.writer import write_geometry
from mpixfel.model.experiment import Beam, Detector, Panel

METRES = {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "um": 1e-6, "micron": 1e-6, "nm": 1e-9, "angstrom": 1e-10, "a": 1e-10}
ELECTRONVOLTS = {"ev": 1.0, "kev": 1e3, "j": 1 / 1.602176634e-19}
LOG = logging.getLogger("mpixfel")
# What pixel_mask calls bad: its bits 0 to 15; 31 marks virtual pixels between modules.
BAD_BITS = 0xFFFF


def read_nxmx(path):
    """The `Geometry` of an NXmx file. NXmx knows no gain: one ADU is taken as one photon.

    Raises
    ------
    MpixfelError
        What is missing or has no meaning here.
    """
    path = os.fspath(path)
    try:
        with h5py.File(path, "r") as file:
            detector, beam, layout = _read(file, path)
    except OSError as error:
        raise MpixfelError(f"cannot read the geometry: {error}", path,
                           "give a CrystFEL .geom or an NXmx file") from None
    LOG.warning("%s: NXmx knows no gain: one ADU is taken as one photon", path)
    return Geometry(detector, beam, layout, write_geometry(detector, beam, None, None, layout))


def _read(file, path):
    entry = _first(file, "NXentry", path)
    instrument = _first(entry, "NXinstrument", path)
    detector = _first(instrument, "NXdetector", path)
    data = _image_data(entry, detector, path)
    modules = _all(detector, "NXdetector_module")
    if not modules:
        raise MpixfelError(f"{detector.name} has no NXdetector_module", path, "give a CrystFEL .geom")
    frames = [_frame(module, path) for module in modules]
    clen = _distance(detector, frames)
    blocks, panels = {}, []
    for number, (module, (origin, fast, slow)) in enumerate(zip(modules, frames)):
        dims, low, size = _place(module, data, number, path)
        block = blocks.setdefault(Block(data.name, dims), len(blocks))
        panels.append(Panel(module.name.rpartition("/")[2], tuple(map(float, origin - [0, 0, clen])),
                            tuple(map(float, fast)), tuple(map(float, slow)), size, 1.0, None, float("inf"),
                            block, *low, *_limits(detector, data)))
    masks = [name for name in detector if name == "pixel_mask" or name.startswith("pixel_mask_")][:8]
    where = PanelLayout(tuple(MaskRule(f"{detector.name}/{name}", bad=BAD_BITS) for name in masks),
                        tuple(range(len(masks))))
    energy, bandwidth = _beam(entry, instrument, path)
    layout = Layout(tuple(blocks), (where,) * len(panels), energy, Quantity(clen, unit="m"),
                    folder=os.path.dirname(os.path.abspath(path)))
    sensor = _scalar(detector, "sensor_thickness", METRES, 0.0), _text(detector.get("sensor_material"))
    return Detector(tuple(panels), *sensor), Beam(bandwidth), layout


def _all(group, nx_class):
    """The sub-groups of a NeXus class, in the order of their names' numbers."""
    groups = (node for node in group.values() if isinstance(node, h5py.Group))
    found = [node for node in groups if _text(node.attrs.get("NX_class")) == nx_class]
    return sorted(found, key=lambda node: (len(node.name), node.name))


def _first(group, nx_class, path):
    found = _all(group, nx_class)
    if not found:
        raise MpixfelError(f"there is no {nx_class} in {group.name}", path,
                           "this is no NXmx file: give a CrystFEL .geom")
    return found[0]


def _text(value):
    if isinstance(value, h5py.Dataset):
        value = value[()]
    value = np.asarray(value).reshape(-1)[0] if value is not None and np.size(value) else ""
    return value.decode() if isinstance(value, bytes) else str(value)


def _image_data(entry, detector, path):
    """The images: the signal of NXdata, or the detector's own data."""
    for group in _all(entry, "NXdata"):
        data = group.get(_text(group.attrs.get("signal")) or "data")
        if isinstance(data, h5py.Dataset) and data.ndim >= 2:
            return data
    data = detector.get("data")
    if isinstance(data, h5py.Dataset):
        return data
    raise MpixfelError(f"there are no images in {entry.name}", path, "expected NXdata/data")


def _unit(units, node, name="units", default=1.0):
    unit = _text(node.attrs.get(name)).lower().replace("å", "a")
    if not unit:
        return default
    if unit not in units:
        raise MpixfelError(f"{node.name} has the unit {unit!r}", node.file.filename, f"known: {', '.join(units)}")
    return units[unit]


def _scalar(group, name, units, default=None):
    node = group.get(name)
    if not isinstance(node, h5py.Dataset) or node.size != 1:
        return default
    return float(np.asarray(node[()]).reshape(-1)[0]) * _unit(units, node)


# Transformations ------------------------------------------------------------------------------------------------


def _step(node):
    """(4, 4) of one axis: a translation or rotation by its (first) value, after its offset."""
    vector = np.asarray(node.attrs["vector"], float).reshape(3)
    value = float(np.asarray(node[()]).reshape(-1)[0])
    matrix = np.eye(4)
    offset = np.asarray(node.attrs.get("offset", np.zeros(3)), float).reshape(3)
    matrix[:3, 3] = offset * _unit(METRES, node, "offset_units", _unit(METRES, node) if offset.any() else 1.0)
    if _text(node.attrs["transformation_type"]) == "rotation":
        angle = value if _text(node.attrs.get("units")).startswith("rad") else np.radians(value)
        matrix[:3, :3] = rotation(vector, angle)
    else:
        matrix[:3, 3] += vector * value * _unit(METRES, node)
    return matrix


def rotation(axis, angle):
    """(3, 3) right-handed rotation about `axis` by `angle` in radians (Rodrigues)."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def _chain(node, path, known=()):
    """(4, 4) from an axis's own frame to the laboratory: the axis and all that it depends on."""
    if node.name in known:
        raise MpixfelError(f"the axes of {node.name} depend on each other", path, "correct depends_on")
    return _parents(node, path, known) @ _step(node)


def _parents(node, path, known=()):
    """(4, 4) to the laboratory from the frame that an axis stands in."""
    name = _text(node.attrs.get("depends_on"))
    if name in ("", "."):
        return np.eye(4)
    parent = node.parent.get(name)
    if not isinstance(parent, h5py.Dataset):
        raise MpixfelError(f"{node.name} depends on {name}, which is not there", path, "correct depends_on")
    return _chain(parent, path, (*known, node.name))


def _frame(module, path):
    """Origin (m), fast and slow axes (m per pixel) of a module in the laboratory, float64 (3,) each."""
    axes = []
    for name in ("fast_pixel_direction", "slow_pixel_direction"):
        node = module.get(name)
        if not isinstance(node, h5py.Dataset):
            raise MpixfelError(f"there is no {module.name}/{name}", path, "give a CrystFEL .geom")
        size = float(np.asarray(node[()]).reshape(-1)[0]) * _unit(METRES, node)
        axes.append(_parents(node, path)[:3, :3] @ np.asarray(node.attrs["vector"], float).reshape(3) * size)
    start = module.get("module_offset")
    matrix = _chain(start, path) if start is not None else _parents(module["fast_pixel_direction"], path)
    return matrix[:3, 3], *axes


def _distance(detector, frames):
    """The camera length, m: the detector's distance, or the mean z of the modules' first pixels."""
    distance = _scalar(detector, "distance", METRES)
    return distance if distance else float(np.mean([origin[2] for origin, _, _ in frames]))


def _place(module, data, number, path):
    """(dims of the block, (min_ss, min_fs), (ss, fs) size) of a module."""
    low = [int(n) for n in np.asarray(module["data_origin"][()]).reshape(-1)]
    size = [int(n) for n in np.asarray(module["data_size"][()]).reshape(-1)]
    fixed = data.ndim - 3
    if not 2 <= data.ndim <= 4 or len(low) < 2 or len(low) != len(size):
        raise MpixfelError(f"{module.name}: data of shape {data.shape}, module at {low} of size {size}", path,
                           "give a CrystFEL .geom")
    # Some files name the module's index in the data with its origin, some leave it to the order of the modules.
    index = (low[-3] if len(low) > 2 else number,) if fixed == 1 else ()
    dims = (("%",) if data.ndim > 2 else ()) + index + ("ss", "fs")
    return dims, tuple(low[-2:]), tuple(size[-2:])


def _limits(detector, data):
    """(flag_less_than, flag_more_than) from underload_value, saturation_value and the type's largest two words."""
    low = _scalar(detector, "underload_value", {}, -np.inf)
    high = _scalar(detector, "saturation_value", {}, np.inf)
    if data.dtype.kind == "u" and data.dtype.itemsize > 1:
        high = min(high, np.iinfo(data.dtype).max - 2)
    return float(low), float(high)


def _beam(entry, instrument, path):
    """(Quantity of the photon energy, relative bandwidth as full width at half maximum)."""
    groups = _all(instrument, "NXbeam") + [b for s in _all(entry, "NXsample") for b in _all(s, "NXbeam")]
    for group in groups:
        wavelength, energy = group.get("incident_wavelength"), group.get("incident_energy")
        if isinstance(wavelength, h5py.Dataset):
            angstrom = _unit(METRES, wavelength, default=1e-10) * 1e10
            return _wavelength(group, wavelength, angstrom, path), _bandwidth(group, wavelength, angstrom)
        if isinstance(energy, h5py.Dataset):
            return _quantity(energy, _unit(ELECTRONVOLTS, energy), {1.0: "eV", 1e3: "keV"}, "eV", path), 0.0
    raise MpixfelError("there is neither incident_wavelength nor incident_energy", path, "give a CrystFEL .geom")


def _wavelength(group, wavelength, angstrom, path):
    weights = group.get("incident_wavelength_weights")
    if isinstance(weights, h5py.Dataset) and weights.shape == wavelength.shape and wavelength.size > 1:
        # One spectrum for all: its mean stands for it.
        mean = float(np.average(wavelength[()], weights=weights[()])) * angstrom
        return Quantity(mean, "", "A", 1.0, is_wavelength=True)
    return _quantity(wavelength, angstrom, {1.0: "A", 1e10: "m"}, "A", path, is_wavelength=True)


def _quantity(dataset, scale, units, plain_unit, path, **kind):
    """A `Quantity` of a dataset, in a unit that a .geom can name too; one number may have any unit."""
    if scale in units:
        return Quantity(None, dataset.name, units[scale], scale, **kind)
    if dataset.size == 1:
        return Quantity(float(np.asarray(dataset[()]).reshape(-1)[0]) * scale, "", plain_unit, 1.0, **kind)
    raise MpixfelError(f"{dataset.name} is in {_text(dataset.attrs.get('units'))!r}", path,
                       f"units of per-event values can be {', '.join(units.values())}")


def _bandwidth(group, wavelength, angstrom):
    """Relative full width: incident_wavelength_spread is a length where it has such a unit, otherwise relative."""
    spread = group.get("incident_wavelength_spread")
    if not isinstance(spread, h5py.Dataset) or not spread.size:
        return 0.0
    width = float(np.mean(spread[()]))
    unit = _text(spread.attrs.get("units")).lower()
    if unit in METRES:
        width *= METRES[unit] * 1e10 / (float(np.mean(wavelength[()])) * angstrom)
    return width if 0 <= width < 1 else 0.0
