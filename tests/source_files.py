"""Small HDF5 files and geometries for tests of sources."""
import h5py
import numpy as np

from mpixfel.io.geometry import parse_geometry

GEOMETRY = """
photon_energy = {energy}
clen = {clen}
res = 10000
adu_per_photon = 1
data = {data}
{dims}
"""


def geometry(data="/data", dims=("%", "ss", "fs"), energy="9500", clen="0.1 m", top="", panels=None, path="x.geom"):
    """A geometry of panels {name: (min_ss, max_ss, min_fs, max_fs, own lines)}; default: one of 6 x 8 pixels."""
    text = GEOMETRY.format(data=data, energy=energy, clen=clen, dims=axes(dims)) + top + "\n"
    for n, (name, (min_ss, max_ss, min_fs, max_fs, *own)) in enumerate((panels or {"p0": (0, 5, 0, 7)}).items()):
        lines = [f"min_ss = {min_ss}", f"max_ss = {max_ss}", f"min_fs = {min_fs}", f"max_fs = {max_fs}",
                 f"corner_x = {20 * n}", "corner_y = 0", "fs = x", "ss = y", *own]
        text += "".join(f"{name}/{line}\n" for line in lines)
    return parse_geometry(text, str(path))


def axes(dims):
    return "\n".join(f"dim{n} = {d}" for n, d in enumerate(dims) if d is not None)


def frames(n=4, shape=(6, 8), dtype="u2", seed=0):
    return np.random.default_rng(seed).integers(0, 1000, (n, *shape)).astype(dtype)


def write(path, **datasets):
    """An HDF5 file; names with __ for /; a value is an array or (array, options of create_dataset)."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            array, options = value if isinstance(value, tuple) else (value, {})
            file.create_dataset(name.replace("__", "/"), data=array, **options)
    return str(path)


def images(source, block=0):
    return np.array([source.event(i).raw[block].copy() for i in range(len(source))])
