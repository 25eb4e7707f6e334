"""Images of a whole run (mean, standard deviation, maximum, mask), as `io.darks` reads them."""
import os

import h5py
import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.exports.blocks import block_of

DEAD, HOT, NOISY = 1, 2, 4


def file_image(stack, detector):
    """A stack (P, SS, FS) in the shape that files have: the data block where the layout has one, else the stack."""
    return stack if any(p.block for p in detector.panels) else block_of(stack, detector, 0)


def bad_pixel_mask(mean, sigma, detector, hot_sigma, noisy_factor):
    """(P, SS, FS) uint8: sums of DEAD (no noise or no value), HOT and NOISY.

    Parameters
    ----------
    mean, sigma : (P, SS, FS) ADU
    hot_sigma : float
        How many robust standard deviations of its panel a hot pixel's mean lies above the median.
    noisy_factor : float
        By what factor a noisy pixel's sigma exceeds the panel's median.
    """
    mask = np.zeros(detector.stack_shape, np.uint8)
    for i, p in enumerate(detector.panels):
        ss, fs = p.shape
        m, s, out = mean[i, :ss, :fs], sigma[i, :ss, :fs], mask[i, :ss, :fs]
        alive = s > 0
        out[~alive] |= DEAD
        if alive.any():
            middle = np.median(m[alive])
            spread = max(1.4826 * np.median(np.abs(m[alive] - middle)), np.median(s[alive]))
            out[alive & (m > middle + hot_sigma * spread)] |= HOT
            out[s > noisy_factor * np.median(s[alive])] |= NOISY
    return mask


def write_run_image(path, image, facts, unit="ADU"):
    """Write dataset `data` with its unit, and what is known of it ({name: value}), all or nothing."""
    part = f"{path}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with h5py.File(part, "w") as f:
            f.create_dataset("data", data=image, compression="gzip", compression_opts=1,
                             shuffle=True).attrs["units"] = unit
            for name, value in facts.items():
                f[name] = value
        os.replace(part, path)
    except OSError as e:
        raise MpixfelError(f"cannot write: {e.strerror or e}", str(path), "check the folder and the free space") from e
