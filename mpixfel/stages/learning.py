"""What the first lattices of a run teach: where the beam is, how far the detector, what cell and what crystals."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpixfel.stages.relief import learn_relief, learn_tally
from mpixfel.stages.spread import UNKNOWN

LEAST_FALL_OFF_SIGMA = 1.0   # angstrom^2: likewise
FEWEST = 3                   # lattices from which a run begins to learn
LEAST_WIDTH_SIGMA = 0.05     # of the logarithm of a width: no shot is taken as more like the others


class Tables(NamedTuple):
    """The first events of a run in fixed order; rows cross-linked as in the run file."""

    events: np.ndarray
    peaks: np.ndarray
    lattices: np.ndarray
    reflections: np.ndarray


def learn(tables, context):
    """-> Learnt, from the lattices of the first events; what they cannot tell stays as it was."""
    rows = tables.lattices
    if len(rows) < FEWEST:
        return context.learnt
    shift = [common(rows["beam_shift"][:, a], rows["beam_shift_sigma"][:, a]) for a in range(2)]
    distance = common(rows["distance_scale"], rows["distance_scale_sigma"])
    cells, cell_sigma = learn_cells(rows, context)
    widths = [common(np.log(rows[name]), rows[f"{name}_sigma"] / rows[name])
              for name in ("domain_size", "half_mosaicity", "bandwidth")]
    size, mosaicity, bandwidth = (float(np.exp(w.mean)) if np.isfinite(w.error) else np.nan for w in widths)
    fall_off = common(rows["b_factor"], rows["b_factor_sigma"])
    extra = {**context.learnt.extra, "distance_sigma": np.array(distance.error),
             "width_sigma": np.array([expected_width(w, len(rows)) for w in widths]), **learn_relief(tables, context),
             **learn_tally(tables, context)}
    if np.isfinite(fall_off.error):
        extra["fall_off"] = np.array([fall_off.mean, max(fall_off.expected, LEAST_FALL_OFF_SIGMA)])
    return replace(context.learnt, n_events=len(tables.events), n_lattices=len(rows),
                   beam_shift_m=tuple(-s.mean for s in shift), beam_shift_sigma_m=tuple(s.expected for s in shift),
                   distance_scale=distance.mean, cells=cells, cell_sigma=cell_sigma, domain_size_angstrom=size,
                   half_mosaicity_deg=mosaicity, bandwidth_fwhm=bandwidth, extra=extra)


def expected_width(width, n_lattices):
    """How far the logarithm of a shot's width may be from the run's mean; few lattices say little of their spread."""
    if not np.isfinite(width.error):
        return UNKNOWN
    return float(np.sqrt(max(width.expected, LEAST_WIDTH_SIGMA) ** 2 + UNKNOWN ** 2 / (4.0 * n_lattices)))


class Common(NamedTuple):
    """A quantity that varies from shot to shot."""

    mean: float
    error: float      # of the mean; NaN where no shot knew anything
    spread: float     # from shot to shot

    @property
    def expected(self):
        """How far another shot's value may be from the mean."""
        return float(np.hypot(self.spread, self.error))


def common(values, errors):
    """`Common` of a quantity that was measured in many shots with known errors.

    Maximum likelihood for the spread, the mean weighted by 1 / (error^2 + spread^2); outliers beyond five robust
    standard deviations of the whole are left out.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, errors = values[good], errors[good]
    if not len(values):
        return Common(0.0, float("nan"), float("nan"))
    middle = np.median(values)
    robust = 1.4826 * np.median(np.abs(values - middle)) + 1e-30
    near = np.abs(values - middle) < 5 * np.maximum(robust, errors)
    values, errors = values[near], errors[near]
    spreads = np.concatenate([[0.0], np.geomspace(0.01, 3.0, 120) * (robust + np.median(errors))])
    variance = errors ** 2 + spreads[:, None] ** 2
    means = np.sum(values / variance, axis=1) / np.sum(1 / variance, axis=1)
    cost = np.sum(np.log(variance) + (values - means[:, None]) ** 2 / variance, axis=1)
    best = int(np.argmin(cost))
    return Common(float(means[best]), float(np.sum(1 / variance[best]) ** -0.5), float(spreads[best]))


def learn_cells(rows, context):
    """(cells, spreads): each of the run's cells as its lattices have it."""
    cells, spreads = [], []
    for form, cell in enumerate(context.best_cells):
        own = rows[rows["form"] == form]
        if len(own) < FEWEST:
            cells.append(cell)
            spreads.append(np.array(cell.parameters) * 0.003)
            continue
        found = [common(own["cell"][:, k], own["cell_sigma"][:, k]) if np.any(own["cell_sigma"][:, k] > 1e-9)
                 else Common(cell.parameters[k], 0.0, 0.0) for k in range(6)]
        cells.append(replace(cell, **dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), (f.mean for f in found)))))
        spreads.append(np.array([f.expected for f in found]))
    return tuple(cells), tuple(spreads)
