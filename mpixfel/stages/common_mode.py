"""Common mode: the drift that the pixels of a section share in one shot, estimated from those that saw no light.

`robust` looks for the lowest dense cluster of a sample of pixels, as wide as the read-out noise of the dark: light only
adds, so neither a bright ring nor spots move it. The others are those of the old program, whole sections and all:
mean (of pixels below 2 sigma), median, mode (highest of 100 bins from -40 to 40 ADU), gaussian (fitted to these bins),
chebyshev (polynomials along ss, 5 terms, and fs, 10 terms, fitted to the means of rows and columns).
"""
import numpy as np

from numpy.polynomial import chebyshev
from scipy.optimize import curve_fit

from mpixfel.kernels import calibrate
from mpixfel.kernels.common_mode import collect, dark_peaks

METHODS = ("robust", "none", "mean", "median", "mode", "gaussian", "chebyshev")
SAMPLES = 256        # pixels of a section that `robust` looks at


def make_common_mode(options, prepared, detector):
    """A function (raw, panels, cell, shot) -> (P, m, n) float32 offsets in ADU, for one block.

    For chebyshev they are zero: `subtract_waves` works on the finished image.
    """
    if options.common_mode in ("none", "chebyshev") or prepared.pedestal.size == 1:
        zero = np.zeros((len(detector.panels), 1, 1), np.float32)
        return lambda raw, panels, cell, shot: zero
    if options.common_mode == "robust":
        return RobustCommonMode(options.common_mode_sections, prepared, detector)
    return SectionCommonMode(options.common_mode, options.common_mode_sections, prepared)


def sections_of(shape, sections):
    """[(i, j, slice, slice)] of a panel of `shape` (ss, fs), divided as the kernel divides it."""
    (height, width), (rows, columns) = shape, sections
    edge = lambda k, n, size: -(-k * size // n)      # the kernel gives row s to section s * n // size
    return [(i, j, slice(edge(i, rows, height), edge(i + 1, rows, height)),
             slice(j * width // columns, (j + 1) * width // columns))
            for i in range(rows) for j in range(columns)]


class RobustCommonMode:
    """The dark peak of a sample of each section's pixels."""

    def __init__(self, sections, prepared, detector):
        tables, rng = prepared.tables, np.random.default_rng(2)
        n_panels = len(detector.panels)
        self.mask = 0x3FFF if prepared.kind == calibrate.JUNGFRAU else 0
        self.prepared = prepared
        self.offset = np.zeros((n_panels, *sections), np.float32)
        count = int(np.prod(sections))
        self.place = np.zeros((n_panels, count, SAMPLES, 2), np.int64)      # in the panel
        self.sigma = np.ones((n_panels, count))
        self.known = np.zeros((n_panels, count, SAMPLES), bool)
        for p, panel in enumerate(detector.panels):
            for k, (_, _, ss, fs) in enumerate(sections_of(panel.shape, sections)):
                good = np.argwhere(tables.good[p, ss, fs]) + (ss.start, fs.start)
                take = np.sort(rng.choice(len(good), min(SAMPLES, len(good)), replace=False))
                self.place[p, k, :len(take)] = good[take]
                self.known[p, k, :len(take)] = True
                if len(take) and prepared.noise is not None:
                    self.sigma[p, k] = np.median(prepared.noise[p][tuple(good[take].T)])
        self.values = np.empty((n_panels, count, SAMPLES), np.float32)

    def __call__(self, raw, panels, cell, shot):
        pedestal = self.prepared.pedestal[min(cell, self.prepared.pedestal.shape[0] - 1), 0]
        for p in panels:
            place = self.place[p].reshape(-1, 2)
            ss, fs = self.prepared.tables.layout.corner[p]
            rows = np.where(self.known[p].reshape(-1), place[:, 0] + ss, -1)
            collect(raw, self.mask, rows, place[:, 1] + fs, pedestal[p, place[:, 0], place[:, 1]],
                    self.values[p].reshape(-1))
            reach = np.maximum(4 * self.sigma[p], 0.5 * shot.gain[p])
            dark_peaks(self.values[p], self.sigma[p], reach, self.offset[p].reshape(-1))
        return self.offset


class SectionCommonMode:
    """The old program's corrections: from all good pixels of a section."""

    def __init__(self, method, sections, prepared):
        self.method, self.sections, self.prepared = method, sections, prepared
        self.offset = np.zeros((len(prepared.tables.layout.shape), *sections), np.float32)

    def __call__(self, raw, panels, cell, shot):
        tables, noise = self.prepared.tables, self.prepared.noise
        pedestal = self.prepared.pedestal[min(cell, self.prepared.pedestal.shape[0] - 1), 0]
        for p in panels:
            shape, (s0, f0) = tables.layout.shape[p], tables.layout.corner[p]
            for i, j, ss, fs in sections_of(shape, self.sections):
                good = tables.good[p, ss, fs]
                words = raw[s0 + ss.start:s0 + ss.stop, f0 + fs.start:f0 + fs.stop]
                image = words.astype(np.float64) - pedestal[p, ss, fs]
                sigma = noise[p, ss, fs][good] if noise is not None else np.ones(int(good.sum()))
                self.offset[p, i, j] = section_value(self.method, image[good], sigma)
        return self.offset


def section_value(method, values, sigma):
    """The common mode (ADU) of pedestal-subtracted pixels (n,) with read-out noise sigma (n,); 0 without pixels."""
    if values.size == 0:
        return 0.0
    if method == "mean":
        low = values[values < 2 * sigma]
        return float(low.mean()) if low.size else 0.0
    if method == "median":
        return float(np.median(values))
    counts, edges = np.histogram(values, bins=100, range=(-40.0, 40.0))
    centres = 0.5 * (edges[1:] + edges[:-1])
    mode = float(centres[np.argmax(counts)])
    return mode if method == "mode" else gaussian_centre(centres, counts, mode)


def gaussian_centre(centres, counts, mode):
    """Centre of the Gaussian fitted to a histogram by least squares; the mode, where no fit comes near."""
    shape = lambda x, height, centre, width: height * np.exp(-0.5 * ((x - centre) / width) ** 2)
    try:
        (_, centre, _), _ = curve_fit(shape, centres, counts, (counts.max(), mode, 5.0), maxfev=400)
    except RuntimeError:
        return mode
    return float(centre) if abs(centre - mode) <= 40 else mode


def subtract_waves(photons, shape, sections, reach=3.0):
    """The chebyshev common mode, in place on photons (P, SS, FS): smooth waves along ss, then along fs.

    Rows and columns on the edge of a section do not count, nor do pixels further than `reach` robust standard
    deviations from the section's median.
    """
    for p in range(len(photons)):
        for _, _, ss, fs in sections_of(shape[p], sections):
            image = photons[p, ss, fs]
            known = np.where(_quiet(image, reach), image, np.nan)
            if not np.isfinite(known).any():
                continue
            for axis, terms in ((1, 5), (0, 10)):
                wave = np.expand_dims(_wave(known, axis, terms), axis).astype(np.float32)
                image -= wave
                known -= wave


def _quiet(image, reach):
    middle = np.nanmedian(image) if np.isfinite(image).any() else 0.0
    spread = 1.4826 * np.nanmedian(np.abs(image - middle)) if np.isfinite(image).any() else 0.0
    return np.abs(image - middle) <= reach * spread


def _wave(known, axis, terms):
    """Polynomial through the means of `known` (NaN where not) along `axis`; edges and empty lines left out."""
    count = np.isfinite(known).sum(axis=axis)
    means = np.nansum(known, axis=axis) / np.maximum(count, 1)
    x = np.linspace(-1.0, 1.0, len(means))
    use = count > 0
    use[[0, -1]] = False
    if use.sum() <= terms:
        return np.full(len(means), means[use].mean() if use.any() else 0.0)
    return chebyshev.chebval(x, chebyshev.chebfit(x[use], means[use], terms - 1))
