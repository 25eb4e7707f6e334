"""Corrected images in one HDF5 file, a group for each event, named after its timestamp."""
import os

import h5py

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.images import header
from mpixfel.io.exports.parts import new_part, open_whole, parts_of


class Part:
    """The groups of one process."""

    def __init__(self, path):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        path = new_part(path)
        try:
            self.file = h5py.File(path, "w")
        except OSError as e:
            raise MpixfelError(f"cannot write: {e}", path, "check the folder and the free space") from e

    def add(self, name, image):
        """Append a `CorrectedImage` as group `name`."""
        group = self.file.create_group(name)
        data = group.create_dataset("data", data=image.block, compression="gzip", compression_opts=1, shuffle=True)
        data.attrs["units"] = "photons"
        group.attrs["event"] = image.name
        for key, value in header(image).items():
            group[key.lower()] = value

    def close(self):
        self.file.attrs["complete"] = True
        self.file.close()


def join(path):
    """Move the groups of all parts into the file, beside those that are there; the parts are removed."""
    paths = parts_of(path)
    with h5py.File(path, "a") as out:
        for part in paths:
            f = open_whole(part, lambda f: "complete" in f.attrs)
            if f is None:
                continue
            with f:
                for name in f:
                    if name in out:
                        del out[name]
                    f.copy(name, out)
    for part in paths:
        os.remove(part)
