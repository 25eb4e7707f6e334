"""One corrected image to one file: HDF5, CXI, TIFF, CBF, NumPy or a plain pickle.

The image is written as the data block that the panels were cut from, in photons, so that the geometry of the input,
with `adu_per_photon = 1`, fits the output too.
"""
import os
import pickle
from dataclasses import dataclass, replace

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io import metrology
from mpixfel.io.exports.blocks import active_areas, block_of
from mpixfel.model import timestamp
from mpixfel.units import ELEMENTARY_CHARGE_COULOMB, wavelength_angstrom

FORMATS = ("h5", "cxi", "tiff", "cbf", "npy", "pickle")
SUFFIX = {"h5": ".h5", "cxi": ".cxi", "tiff": ".tiff", "cbf": ".cbf", "npy": ".npy", "pickle": ".pickle"}


@dataclass(frozen=True)
class CorrectedImage:
    """A corrected image and what must be known of it.

    Attributes
    ----------
    block : (ss, fs) float32
        Photons; NaN where bad.
    active_areas : (P, 4) int
        Each panel's first slow, first fast, last slow + 1, last fast + 1 pixel in `block`.
    beam_centre_mm : (2,)
        Beam centre from the block's first corner along its fast and slow directions, where one panel's plane reaches
        it.
    distance_mm, clen_mm : float
        From the interaction point to the panel nearest to the beam, and the camera length that the geometry adds to.
    saturation : float
        Photons.
    """

    block: np.ndarray
    active_areas: np.ndarray
    beam_centre_mm: tuple
    distance_mm: float
    clen_mm: float
    wavelength_angstrom: float
    pixel_size_mm: float
    saturation: float
    timestamp_ns: int
    address: str
    name: str


def corrected_image(record, shot, detector, address=""):
    """`CorrectedImage` of a record that still holds its image."""
    panels = detector.panels
    block, areas = block_of(record.image.photons, detector), active_areas(detector)
    return CorrectedImage(block, areas, beam_centre_mm(shot.geometry, areas), _distance_mm(shot.geometry),
                          1e3 * shot.clen_m, float(wavelength_angstrom(record.photon_energy_ev)),
                          1e3 * detector.pixel_size_m(),
                          float(min(p.max_adu / g for p, g in zip(panels, shot.gain))), record.id.timestamp_ns, address,
                          record.id.name)


def as_of_old(image, photons, detector, places):
    """The `CorrectedImage` assembled as the old program did, beam in its middle; `photons` (64, 185, 194) of a CSPAD.

    `places` is the `Metrology` that says where the ASICs are.
    """
    order = [detector.names.index(name) for name in metrology.names()]
    middle = metrology.CENTRE * image.pixel_size_mm
    return replace(image, block=metrology.old_image(photons[order], places, np.float32(np.nan)),
                   active_areas=metrology.active_areas(places), beam_centre_mm=(middle, middle))


def _nearest_panel(geometry):
    centre = geometry.middle()
    return int(np.hypot(centre[:, 0], centre[:, 1]).argmin())


def _distance_mm(geometry):
    return float(1e3 * geometry.origin[_nearest_panel(geometry), 2])


def beam_centre_mm(geometry, areas):
    """Where the beam crosses the plane of the panel nearest to it, counted in the block from its corner, mm."""
    i = _nearest_panel(geometry)
    axes = np.array([geometry.fs_axis[i, :2], geometry.ss_axis[i, :2]]).T
    fs, ss = np.linalg.solve(axes, -geometry.origin[i, :2])
    size = [1e3 * np.linalg.norm(a[i]) for a in (geometry.fs_axis, geometry.ss_axis)]
    return (float((areas[i, 1] + fs) * size[0]), float((areas[i, 0] + ss) * size[1]))


def write_image(path, image, file_format):
    """Write one `CorrectedImage`; under another name first, so that a file that is there is whole."""
    if file_format not in FORMATS:
        raise MpixfelError(f"unknown image format {file_format!r}", "out_format", "one of: " + ", ".join(FORMATS))
    part = f"{path}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        _WRITERS[file_format](part, image)
        os.replace(part, path)
    except OSError as e:
        raise MpixfelError(f"cannot write: {e.strerror or e}", str(path), "check the folder and the free space") from e


def header(image):
    """What the old image dictionary held beside the pixels, under its old names."""
    return {
        "ACTIVE_AREAS": image.active_areas.reshape(-1), "BEAM_CENTER_X": image.beam_centre_mm[0],
        "BEAM_CENTER_Y": image.beam_centre_mm[1], "CCD_IMAGE_SATURATION": image.saturation,
        "DETECTOR_ADDRESS": image.address, "DISTANCE": image.distance_mm, "PIXEL_SIZE": image.pixel_size_mm,
        "SATURATED_VALUE": image.saturation, "MIN_TRUSTED_VALUE": float("-inf"), "SIZE1": image.block.shape[0],
        "SIZE2": image.block.shape[1], "SEQUENCE_NUMBER": 0, "WAVELENGTH": image.wavelength_angstrom,
        "TIMESTAMP": timestamp.long_form(image.timestamp_ns) if image.timestamp_ns >= 0 else "",
    }


def _write_h5(path, image):
    with h5py.File(path, "w") as f:
        data = f.create_dataset("data", data=image.block, compression="gzip", compression_opts=1, shuffle=True)
        data.attrs["units"] = "photons"
        for key, value in header(image).items():
            f.create_dataset(key.lower(), data=value)
        f.attrs["event"] = image.name


def create_cxi(path, shape, n):
    """An open CXI file for `n` corrected images of `shape` (ss, fs), without their pixels yet."""
    f = h5py.File(path, "w")
    f["cxi_version"] = 160
    entry = f.create_group("entry_1")
    detector = entry.create_group("instrument_1/detector_1")
    detector.create_dataset("data", (n, *shape), "f4", chunks=(1, *shape), compression="gzip", compression_opts=1,
                            shuffle=True, fillvalue=np.nan)
    detector["data"].attrs.update(units="photons", axes="experiment_identifier:y:x")
    entry["data_1"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
    for name in ("distance", "x_pixel_size", "y_pixel_size"):
        detector.create_dataset(name, (n,), "f8")
    entry.create_dataset("instrument_1/source_1/energy", (n,), "f8").attrs["units"] = "J"
    entry.create_dataset("experiment_identifier", (n,), h5py.string_dtype())
    lcls = f.create_group("LCLS")
    for name, dtype in (("photon_energy_eV", "f8"), ("machineTime", "i8"), ("machineTimeNanoSeconds", "i8"),
                        ("detector_1/EncoderValue", "f8")):
        lcls.create_dataset(name, (n,), dtype)
    return f


def fill_cxi(f, i, image, photon_energy_ev):
    """Put one corrected image into row `i` of a file made by `create_cxi`."""
    detector = f["entry_1/instrument_1/detector_1"]
    detector["data"][i] = image.block
    detector["distance"][i] = 1e-3 * image.distance_mm
    detector["x_pixel_size"][i] = detector["y_pixel_size"][i] = 1e-3 * image.pixel_size_mm
    f["entry_1/instrument_1/source_1/energy"][i] = photon_energy_ev * ELEMENTARY_CHARGE_COULOMB
    f["entry_1/experiment_identifier"][i] = image.name
    seconds, rest = divmod(max(image.timestamp_ns, 0), 1_000_000_000)
    lcls = f["LCLS"]
    lcls["photon_energy_eV"][i] = photon_energy_ev
    lcls["machineTime"][i], lcls["machineTimeNanoSeconds"][i] = seconds, rest
    lcls["detector_1/EncoderValue"][i] = image.clen_mm


def _write_cxi(path, image):
    from mpixfel.units import photon_energy_ev

    with create_cxi(path, image.block.shape, 1) as f:
        fill_cxi(f, 0, image, photon_energy_ev(image.wavelength_angstrom))
        group = f.create_group("mpixfel")
        for key, value in header(image).items():
            group[key.lower()] = value


def _write_tiff(path, image):
    """16 bit, clipped to 0..65535 as of old; bad pixels 0."""
    from fabio.tifimage import TifImage

    TifImage(data=np.clip(np.nan_to_num(np.rint(image.block)), 0, 65535).astype(np.uint16)).write(path)


def _write_cbf(path, image):
    """miniCBF with the customary header; photons are rounded, bad pixels -1."""
    from fabio.cbfimage import CbfImage

    counts = np.where(np.isfinite(image.block), np.rint(image.block), -1).astype(np.int32)
    x, y = (c / image.pixel_size_mm for c in image.beam_centre_mm)
    lines = (f"# Detector: {image.address or 'unknown'}",
             f"# Pixel_size {image.pixel_size_mm * 1e-3:.6e} m x {image.pixel_size_mm * 1e-3:.6e} m",
             f"# Count_cutoff {min(image.saturation, 2**31 - 1):.0f} counts",
             f"# Wavelength {image.wavelength_angstrom:.6f} A",
             f"# Detector_distance {image.distance_mm * 1e-3:.6f} m", f"# Beam_xy ({x:.2f}, {y:.2f}) pixels")
    CbfImage(data=counts, header={"_array_data.header_convention": '"PILATUS_1.2"',
                                  "_array_data.header_contents": "\r\n".join(lines)}).write(path)


def _write_npy(path, image):
    with open(path, "wb") as f:
        np.save(f, image.block)


def _write_pickle(path, image):
    """The old dictionary with NumPy arrays in place of flex ones."""
    with open(path, "wb") as f:
        pickle.dump({**header(image), "DATA": image.block}, f, protocol=4)


_WRITERS = {"h5": _write_h5, "cxi": _write_cxi, "tiff": _write_tiff, "cbf": _write_cbf, "npy": _write_npy,
            "pickle": _write_pickle}
