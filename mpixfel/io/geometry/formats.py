"""Which reader a geometry file is for."""
import os

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.expt import read_expt
from mpixfel.io.geometry.nxmx import read_nxmx
from mpixfel.io.geometry.reader import parse_geometry

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_geometry(path):
    """Read a geometry: CrystFEL's `.geom`, DIALS's `.expt`, or what an NXmx data file says of itself.

    Returns
    -------
    Geometry

    Raises
    ------
    MpixfelError
        All that is wrong with the file, each with its line where it has lines.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(len(HDF5_SIGNATURE))
            if content == HDF5_SIGNATURE:
                return read_nxmx(path)
            content += file.read()
    except OSError as error:
        raise MpixfelError(f"cannot read the geometry: {error.strerror}", path, "check the path") from None
    text = content.decode("utf-8", errors="replace")
    return read_expt(text, path) if path.endswith(".expt") else parse_geometry(text, path)
