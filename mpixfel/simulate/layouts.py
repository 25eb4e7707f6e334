"""Detectors to simulate: panels in the laboratory and their places in the file's data blocks."""
from dataclasses import dataclass

import numpy as np

from mpixfel.model.experiment import Detector, Panel

CSPAD_ASIC = (185, 194)      # ss, fs
JUNGFRAU_MODULE = (512, 1024)


@dataclass(frozen=True)
class Arrangement:
    """A detector and how its panels stand in the file.

    `block_shape` is the shape of one event's data: (ss, fs) for a slab, (module, ss, fs) for a stack of panels.
    """

    detector: Detector
    block_shape: tuple

    @property
    def stacked(self):
        """True if each panel has a plane of its own in the file."""
        return len(self.block_shape) == 3

    def pack(self, images, out):
        """Copy an image stack (P, SS, FS) to its places in `out` (block_shape)."""
        for p, panel in enumerate(self.detector.panels):
            self.place(p, out)[...] = images[p, :panel.shape[0], :panel.shape[1]]

    def place(self, p, out):
        """The view of `out` that holds panel p."""
        panel = self.detector.panels[p]
        plane = out[p] if self.stacked else out
        return plane[panel.min_ss:panel.min_ss + panel.shape[0], panel.min_fs:panel.min_fs + panel.shape[1]]


def make_arrangement(options, rng):
    """The `Arrangement` that the options ask for; tilts come from `rng`."""
    return {"flat": _flat, "tiles": _tiles, "cspad": _cspad, "jungfrau": _jungfrau}[options.layout](options, rng)


def _flat(options, rng):
    """One panel, image upright as seen from the source: fast axis -x, slow axis -y; the beam is a little off centre."""
    n, pixel = options.size, options.pixel_um * 1e-6
    corner = np.array([n / 2 + 5.3, n / 2 - 7.6]) * pixel
    panel = _panel(options, "p0", (*corner, 0.0), (-pixel, 0.0, 0.0), (0.0, -pixel, 0.0), (n, n))
    return Arrangement(Detector((panel,)), (n, n))


def _tiles(options, rng):
    """3 x 3 panels with gaps of 8 to 16 pixels, alternately turned by 90 degrees, tilted; a stack of planes."""
    n, pixel, panels = options.size // 3, options.pixel_um * 1e-6, []
    for i in range(9):
        row, column = divmod(i, 3)
        centre = np.array([(1 - column) * (n + 12) + 5.3, (1 - row) * (n + 8) - 7.6, 0.0]) * pixel
        turn = np.radians(90.0 * (i % 2))
        panels.append(_tilted(options, f"t{i}", centre, turn, (n, n), pixel, rng, block=i))
    return Arrangement(Detector(tuple(panels)), (9, n, n))


def _cspad(options, rng):
    """64 ASICs of 194 x 185 in one slab of 1480 x 1552, four quadrants as blades about a square hole.

    A section is two ASICs with a gap of 3 pixels; each quadrant has 4 pairs of sections, alternately turned by 90 degrees.
    """
    pixel, panels = options.pixel_um * 1e-6, []
    ss, fs = CSPAD_ASIC
    pitch = 2 * fs + 3 + 24
    for quad in range(4):
        blade = np.radians(90.0 * quad)
        middle = _turned(np.array([pitch + 18.0, pitch - 18.0, 0.0]), blade)
        for section in range(8):
            block, half = divmod(section, 2)
            turn = blade + np.radians(90.0 * (block % 2))
            centre = middle + _turned(np.array([(block % 2 - 0.5) * pitch, (block // 2 - 0.5) * pitch, 0.0]), blade)
            centre = centre + _turned(np.array([0.0, (half - 0.5) * (ss + 26), 0.0]), turn)
            tilt = _tilt(options, rng)
            for asic in range(2):
                along = _turned(np.array([(asic - 0.5) * (fs + 3), 0.0, 0.0]), turn) @ tilt.T
                axes = tilt @ _turned(np.eye(3), turn).T
                name = f"q{quad}a{2 * section + asic}"
                panels.append(_centred(options, name, (centre + along) * pixel, axes[:, 0] * pixel, axes[:, 1] * pixel,
                                       CSPAD_ASIC, section * ss, (2 * quad + asic) * fs))
    return Arrangement(Detector(tuple(panels)), (8 * ss, 8 * fs))


def _jungfrau(options, rng):
    """8 modules of 512 x 1024 in two columns about a hole, gaps of 8 and 36 pixels; a stack of planes."""
    pixel, panels = options.pixel_um * 1e-6, []
    ss, fs = JUNGFRAU_MODULE
    for i in range(8):
        row, column = divmod(i, 2)
        centre = np.array([(0.5 - column) * (fs + 8) + (34 if row < 2 else -34), (1.5 - row) * (ss + 36), 0.0]) * pixel
        panels.append(_tilted(options, f"m{i}", centre, np.pi, JUNGFRAU_MODULE, pixel, rng, block=i))
    return Arrangement(Detector(tuple(panels)), (8, ss, fs))


def _turned(rows, angle):
    """Rows turned about z."""
    c, s = np.cos(angle), np.sin(angle)
    return rows @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _tilt(options, rng):
    """(3, 3) small random rotation: about z by `tilt_deg`, about x and y by a third of it (one sigma)."""
    x, y, z = np.radians(options.tilt_deg) * rng.standard_normal(3) * (1 / 3, 1 / 3, 1.0)
    generator = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    u, _, vt = np.linalg.svd(np.eye(3) + generator)
    return u @ vt


def _tilted(options, name, centre_m, turn, shape, pixel, rng, block):
    axes = _tilt(options, rng) @ _turned(np.eye(3), turn).T
    centre_m = centre_m + np.array([0.0, 0.0, 1e-4 * rng.standard_normal()])
    return _centred(options, name, centre_m, axes[:, 0] * pixel, axes[:, 1] * pixel, shape, block=block)


def _centred(options, name, centre_m, fs_axis, ss_axis, shape, min_ss=0, min_fs=0, block=0):
    origin = np.asarray(centre_m) - 0.5 * shape[1] * fs_axis - 0.5 * shape[0] * ss_axis
    return _panel(options, name, origin, fs_axis, ss_axis, shape, min_ss, min_fs, block)


def _panel(options, name, origin, fs_axis, ss_axis, shape, min_ss=0, min_fs=0, block=0):
    # The largest word may stand for any larger signal. Words with a gain stage are not ordered by their signal.
    largest = float("inf") if options.gain_switching else options.saturation_adu - 1.0
    return Panel(name, tuple(map(float, origin)), tuple(map(float, fs_axis)), tuple(map(float, ss_axis)), shape,
                 adu_per_photon=options.adu_per_photon, max_adu=largest, block=block, min_ss=min_ss, min_fs=min_fs)
