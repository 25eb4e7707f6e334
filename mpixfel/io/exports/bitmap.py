"""Pictures of images: panels in their true places, in the grey or colours of old, as PNG."""
import os

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.assembled import assemble

SCHEMES = {"greyscale": "gray_r", "inverse_greyscale": "gray", "rainbow": "gist_rainbow_r", "heatmap": "hot"}
FULL_SCALE = 2.5          # black is so many times the 90th percentile


def picture(stack, geometry, brightness=1.0, binning=1):
    """(rows, columns) float32 from 0 (no light) to 1 (full), NaN where there is no panel.

    Parameters
    ----------
    stack : (P, SS, FS) photons
    geometry : PanelGeometry
    binning : int
        Pixels joined along each edge: the largest of them is shown.
    """
    good = stack[np.isfinite(stack)]
    full = FULL_SCALE * np.percentile(good, 90) if good.size else 1.0
    if full <= 0:
        full = max(float(good.max(initial=1.0)), 1e-6)
    image = assemble(stack, geometry, max_edge=1 << 16).image
    if binning > 1:
        rows, columns = (n // binning * binning for n in image.shape)
        tiles = image[:rows, :columns].reshape(rows // binning, binning, columns // binning, binning)
        image = np.fmax.reduce(np.fmax.reduce(tiles, axis=3), axis=1)
    return np.clip(image * np.float32(brightness / full), 0, 1)


def write_bitmap(path, values, color_scheme="greyscale"):
    """Write a picture, under another name first; where there is no panel it is beige."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    colours = colormaps[SCHEMES[color_scheme]].with_extremes(bad="#e8e4da")
    part = f"{path}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        imsave(part, colours(np.ma.masked_invalid(values)), format="png")
        os.replace(part, path)
    except OSError as e:
        raise MpixfelError(f"cannot write: {e.strerror or e}", str(path), "check the folder and the free space") from e
