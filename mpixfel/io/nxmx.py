"""Writes stacks of raw frames as NXmx-like HDF5, as simulated runs and dark runs need them."""
import h5py
import hdf5plugin
import numpy as np

from mpixfel.units import wavelength_angstrom

DATA = "/entry/data/data"
ENERGY = "/entry/instrument/beam/incident_energy"
MASK = "/entry/instrument/detector/pixel_mask"
FIRST_TIMESTAMP_NS = 1_704_067_200_000_000_000     # 2024-01-01T00:00:00Z
PERIOD_NS = 8_333_333                              # 120 Hz


class StackWriter:
    """A file with `frames` frames of `block_shape` (ss, fs) or (module, ss, fs); a context manager.

    Frames are chunks of their own, compressed with bitshuffle and LZ4. Times of creation are not stored: the same
    frames give the same bytes.
    """

    def __init__(self, path, title, frames, block_shape, dtype):
        self._file = h5py.File(path, "w", libver=("v108", "v108"))
        self._block_shape = tuple(block_shape)
        f = self._file
        f.attrs["NX_class"], f.attrs["default"] = "NXroot", "entry"
        for group, nx_class in (("entry", "NXentry"), ("entry/data", "NXdata"), ("entry/instrument", "NXinstrument"),
                                ("entry/instrument/beam", "NXbeam"), ("entry/instrument/detector", "NXdetector"),
                                ("entry/sample", "NXsample"), ("entry/source", "NXsource"), ("entry/event", "NXcollection")):
            f.create_group(group).attrs["NX_class"] = nx_class
        f["entry"].attrs["default"], f["entry/data"].attrs["signal"] = "data", "data"
        for name, text in (("definition", "NXmx"), ("title", title), ("start_time", "2024-01-01T00:00:00Z"),
                           ("instrument/name", "simulated"), ("source/name", "simulated"), ("sample/name", title),
                           ("sample/depends_on", ".")):
            f[f"entry/{name}"] = text
        # One chunk a plane: a reader can take single panels.
        chunk = (1,) * (len(block_shape) - 1) + tuple(block_shape[-2:])
        self._data = f.create_dataset(DATA, (frames, *block_shape), dtype, chunks=chunk,
                                      **hdf5plugin.Bitshuffle(cname="lz4"))
        f["entry/event/pulse_id"] = np.arange(frames, dtype=np.uint64)
        f["entry/event/timestamp_ns"] = FIRST_TIMESTAMP_NS + PERIOD_NS * np.arange(frames, dtype=np.uint64)

    def frame(self, i, block):
        """Write frame i, an array of `block_shape`."""
        self._data[i] = block

    def beam(self, photon_energy_ev, bandwidth_fwhm):
        """Photon energies (n,), eV; relative bandwidth."""
        energy = np.asarray(photon_energy_ev, float)
        self._file[ENERGY] = energy
        self._file[ENERGY].attrs["units"] = "eV"
        group = self._file["/entry/instrument/beam"]
        group["incident_wavelength"] = wavelength_angstrom(energy)
        group["incident_wavelength"].attrs["units"] = "angstrom"
        group["incident_wavelength_spread"] = float(bandwidth_fwhm)
        group["incident_wavelength_spread"].attrs["description"] = "full width at half maximum over wavelength"

    def detector(self, mask, distance_m, pixel_m, saturation, sensor_m=320e-6):
        """Mask (block_shape) uint32 with NXmx bits, and what describes the detector."""
        group = self._file["/entry/instrument/detector"]
        group.create_dataset("pixel_mask", data=mask.astype(np.uint32), compression="gzip", shuffle=True)
        for name, value, unit in (("distance", distance_m, "m"), ("x_pixel_size", pixel_m, "m"),
                                  ("y_pixel_size", pixel_m, "m"), ("sensor_thickness", sensor_m, "m")):
            group[name] = float(value)
            group[name].attrs["units"] = unit
        group["saturation_value"] = int(saturation)
        group["sensor_material"] = "Si"
        group["description"] = "simulated"

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def write_calibration(path, pedestal, noise, gain, codes):
    """What the electronics of a simulated detector truly are.

    Parameters
    ----------
    pedestal : (s, *block_shape) ADU, for each gain stage
    noise, gain : (s,) ADU (one sigma), ADU per photon
    codes : (s,) the two high bits of the stages; all 0 where words have no stage
    """
    with h5py.File(path, "w") as f:
        f.create_dataset("pedestal", data=np.asarray(pedestal, np.float32), compression="gzip", shuffle=True)
        f["noise"], f["gain"], f["stage_code"] = np.asarray(noise, float), np.asarray(gain, float), np.asarray(codes)
        # The same as maps, as `[calibration]` takes them.
        for name, values in (("stddev", np.full(pedestal.shape[1:], noise[0], np.float32)),
                             ("gain_map", np.float32(gain)[(slice(None), *(None,) * (pedestal.ndim - 1))]
                              * np.ones(pedestal.shape, np.float32))):
            f.create_dataset(name, data=values, compression="gzip", shuffle=True)
        for name, unit in (("pedestal", "ADU"), ("noise", "ADU"), ("gain", "ADU/photon"), ("stddev", "ADU"),
                           ("gain_map", "ADU/photon")):
            f[name].attrs["units"] = unit
        f.attrs["doc"] = "true electronics of the simulated detector; first axis: gain stage"
