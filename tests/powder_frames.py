"""Frames without a crystal: water, ice and salt rings, a jet streak, a shadow, a hot region, hot pixels."""
from typing import NamedTuple

import numpy as np
from small_detector import flat_context

SIZE, CENTRE, WAVELENGTH = 384, (192.0, 192.0), 1.305
ICE = (3.897, 3.669, 3.441, 2.671, 2.249, 2.072, 1.948, 1.918, 1.883)
SALT = (3.26, 2.82, 1.994, 1.701)


class Frames(NamedTuple):
    context: object
    radius: np.ndarray        # pixels from the beam
    angle: np.ndarray


def _frames():
    ss, fs = np.indices((SIZE, SIZE)) + 0.5
    radius, angle = np.hypot(fs - CENTRE[0], ss - CENTRE[1]), np.arctan2(ss - CENTRE[1], fs - CENTRE[0])
    return Frames(flat_context(SIZE, mask=(radius < 8)[None]), radius, angle)


FRAMES = _frames()
DISTANCE_PIXELS = 560.0        # shorter than the context's, so that all rings are on the panel


def rings(rng, spacings, height, width):
    """Powder rings, polarised a little."""
    radii = [DISTANCE_PIXELS * np.tan(2 * np.arcsin(WAVELENGTH / 2 / d)) for d in spacings]
    out = sum(rng.uniform(0.1, 1) * np.exp(-0.5 * ((FRAMES.radius - r) / width) ** 2) for r in radii)
    return height * out * (1 + 0.5 * np.cos(2 * FRAMES.angle + rng.uniform(0, 6)))


def streak(rng):
    """A jet's streak on both sides of the beam."""
    turn = FRAMES.angle - rng.uniform(0, 2 * np.pi)
    along, across = FRAMES.radius * np.cos(turn), FRAMES.radius * np.sin(turn)
    width = rng.uniform(1, 3) + 0.01 * np.abs(along)
    return 10 ** rng.uniform(1, 4) * np.exp(-np.abs(along) / rng.uniform(15, 90)) * np.exp(-0.5 * (across / width) ** 2)


def hot_region(rng):
    ss, fs = np.indices((SIZE, SIZE))
    s, f, size = rng.uniform(40, 340), rng.uniform(40, 340), rng.uniform(5, 40)
    if rng.random() < 0.5:
        return 10 ** rng.uniform(0, 2.5) * ((abs(ss - s) < size) & (abs(fs - f) < size / 2))
    return 10 ** rng.uniform(0, 2.5) * np.exp(-0.5 * ((ss - s) ** 2 + (fs - f) ** 2) / size ** 2)


def frame_without_crystal(seed):
    """(1, SIZE, SIZE) photons, NaN behind the beam stop; all nuisances at once."""
    rng = np.random.default_rng(seed)
    level = rng.choice([0.05, 0.3, 1.0, 3.0, 10.0, 50.0])
    q = 2 * np.sin(0.5 * np.arctan(FRAMES.radius / DISTANCE_PIXELS)) / WAVELENGTH
    light = level * (np.exp(-0.5 * ((q - 0.3) / 0.09) ** 2) + 0.6 * np.exp(-q / 0.15) + 0.1)
    light = light + rings(rng, ICE, 0.3 + level * 10 ** rng.uniform(-0.5, 1.5), rng.uniform(1.5, 6))
    light = light + rings(rng, SALT, 1 + level * 10 ** rng.uniform(0, 2), rng.uniform(0.8, 2)) + streak(rng)
    side = np.cos(FRAMES.angle - rng.uniform(0, 2 * np.pi)) * FRAMES.radius
    light = light * np.where(side > rng.uniform(-120, 120), rng.uniform(0.02, 0.6), 1.0) + hot_region(rng)
    image = rng.poisson(light).astype(np.float32)
    image[tuple(rng.integers(0, SIZE, (2, 15)))] += (10 ** rng.uniform(1, 4, 15)).astype(np.float32)
    image[FRAMES.radius < 8] = np.nan
    return image[None]
