"""Panels put in their true places: what a person sees, looking along the beam."""
from typing import NamedTuple

import numpy as np


class Assembled(NamedTuple):
    """An assembled image. Row 0 is the top (+y up), column 0 the left (+x, for the eye looks along the beam)."""

    image: np.ndarray     # (rows, columns) float32, NaN where there is no panel or the pixel is bad
    extent_mm: tuple      # (left, right, bottom, top) in laboratory x and y, mm; left > right


def outline_mm(geometry):
    """(P, 5, 2) closed outlines of the panels, laboratory x and y in mm."""
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], float)
    size = geometry.shape[:, None, ::-1] * corners[None]                                # (P, 5, fs ss)
    along_fs, along_ss = size[..., :1] * geometry.fs_axis[:, None], size[..., 1:] * geometry.ss_axis[:, None]
    xyz = geometry.origin[:, None] + along_fs + along_ss
    return 1e3 * xyz[..., :2]


def position_mm(geometry, panel, fs, ss):
    """(n, 2) laboratory x and y in mm of points on panels, `fs` and `ss` in pixels from the panel's corner."""
    panel = np.asarray(panel, int)
    xyz = (geometry.origin[panel] + np.asarray(fs)[:, None] * geometry.fs_axis[panel]
           + np.asarray(ss)[:, None] * geometry.ss_axis[panel])
    return 1e3 * xyz[:, :2]


def assemble(stack, geometry, max_edge=2400, window_mm=None):
    """Nearest-pixel assembly of an image stack.

    Parameters
    ----------
    stack : (P, SS, FS) array
    geometry : PanelGeometry
    max_edge : int
        Longest edge of the result, pixels; the raster is never finer than the detector's own pixels.
    window_mm : (x low, x high, y low, y high), optional
        Part to show; the whole detector otherwise.

    Returns
    -------
    Assembled
        Each output pixel shows the largest of the detector pixels on a 3 x 3 grid in it where the raster is coarser
        than the detector, so that no spot is lost between samples.
    """
    outline = outline_mm(geometry)
    low, high = outline.min((0, 1)), outline.max((0, 1))
    if window_mm is not None:
        low, high = np.array(window_mm)[[0, 2]], np.array(window_mm)[[1, 3]]
    pixel_mm = 1e3 * np.linalg.norm(geometry.fs_axis, axis=1).min()
    step = max(pixel_mm, (high - low).max() / max_edge)
    columns, rows = np.maximum(1, np.ceil((high - low) / step).astype(int))
    out = np.full((rows, columns), np.nan, np.float32)
    offsets = (0.5,) if step < 1.5 * pixel_mm else (1 / 6, 0.5, 5 / 6)
    for panel in range(len(geometry.shape)):
        _paste(out, stack[panel], geometry, panel, outline[panel], low, high, step, offsets)
    return Assembled(out, (high[0], high[0] - columns * step, high[1] - rows * step, high[1]))


def _paste(out, image, geometry, panel, outline, low, high, step, offsets):
    """Put one panel on the raster (in place)."""
    rows, columns = out.shape
    first = np.floor((high - outline.max(0)) / step).astype(int)
    last = np.ceil((high - outline.min(0)) / step).astype(int) + 1
    c0, r0 = np.maximum(first, 0)
    c1, r1 = np.minimum(last, (columns, rows))
    if c0 >= c1 or r0 >= r1:
        return
    axes = 1e3 * np.array([geometry.fs_axis[panel, :2], geometry.ss_axis[panel, :2]]).T
    inverse = np.linalg.inv(axes)
    origin = 1e3 * geometry.origin[panel, :2]
    n_ss, n_fs = geometry.shape[panel]
    view = out[r0:r1, c0:c1]
    for dy in offsets:
        for dx in offsets:
            x = high[0] - (np.arange(c0, c1) + dx) * step - origin[0]
            y = high[1] - (np.arange(r0, r1) + dy) * step - origin[1]
            fs = np.floor(inverse[0, 0] * x[None] + inverse[0, 1] * y[:, None]).astype(int)
            ss = np.floor(inverse[1, 0] * x[None] + inverse[1, 1] * y[:, None]).astype(int)
            inside = (fs >= 0) & (fs < n_fs) & (ss >= 0) & (ss < n_ss)
            values = image[ss[inside], fs[inside]]
            view[inside] = np.fmax(view[inside], values)
