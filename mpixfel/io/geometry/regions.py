"""The bad pixels that a geometry alone knows: padding, panel edges, ignored panels, bad regions."""
import numpy as np


def geometry_mask(geometry):
    """(P, SS, FS) bool, True = bad: what holds for every event without looking into any file."""
    detector, layout = geometry.detector, geometry.layout
    mask = np.ones(detector.stack_shape, bool)
    for p, (panel, where) in enumerate(zip(detector.panels, layout.panels)):
        n_ss, n_fs = panel.shape
        edge = where.edge_pixels
        if not where.ignored:
            mask[p, edge:n_ss - edge, edge:n_fs - edge] = False
    for region in layout.regions:
        if region.in_lab:
            _mask_lab_region(mask, detector, region)
        else:
            _mask_panel_region(mask, detector, region)
    return mask


def _mask_panel_region(mask, detector, region):
    for p, panel in enumerate(detector.panels):
        if region.panel in ("", panel.name):
            rows, columns = (slice(max(low - first, 0), max(high - first + 1, 0))
                             for low, high, first in zip(region.low, region.high, (panel.min_ss, panel.min_fs)))
            mask[p, rows, columns] = True


def _mask_lab_region(mask, detector, region):
    """Pixels whose centres lie in the rectangle, in pixels of their panel."""
    geometry = detector.geometry(0.0)
    for p, panel in enumerate(detector.panels):
        n_ss, n_fs = panel.shape
        fs, ss = np.arange(n_fs) + 0.5, (np.arange(n_ss) + 0.5)[:, None]
        pixel = np.linalg.norm(panel.fs_axis_m)
        x, y = ((geometry.origin[p, k] + fs * geometry.fs_axis[p, k] + ss * geometry.ss_axis[p, k]) / pixel
                for k in (0, 1))
        mask[p, :n_ss, :n_fs] |= ((x >= region.low[0]) & (x <= region.high[0])
                                  & (y >= region.low[1]) & (y <= region.high[1]))
