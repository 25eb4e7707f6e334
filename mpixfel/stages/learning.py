"""What the first lattices of a run teach: where the beam is, how far the detector, what cell and what crystals."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpixfel.stages.pixel_fit import expected_of
from mpixfel.stages.relief import learn_relief, learn_tail, learn_tally
from mpixfel.stages.restraints import restraints
from mpixfel.stages.spread import TAIL, UNKNOWN, describe

LEAST_FALL_OFF_SIGMA = 1.0   # angstrom^2: likewise
WIDTHS = ("domain_size", "half_mosaicity", "bandwidth")
LEAST_SAY = 0.002            # information beside the restraint, over the restraint's, below which a shot said nothing
MANY = 10                    # measurements among which outliers can be told
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
    known, expected = restraints(context), expected_of(context)
    shift = [common(*freed(rows["beam_shift"][:, a], rows["beam_shift_sigma"][:, a], -known.shift_m[a],
                           known.beam_sigma[a])) for a in range(2)]
    distance = common(*freed(rows["distance_scale"], rows["distance_scale_sigma"], known.distance_scale,
                             known.beam_sigma[2]))
    if not np.isfinite(distance.error):
        distance = Common(known.distance_scale, known.beam_sigma[2], 0.0)
    cells, cell_sigma = learn_cells(rows, context, known)
    widths = [common(*freed(np.log(rows[name]), rows[f"{name}_sigma"] / rows[name], np.log(width), sigma))
              for name, width, sigma in zip(WIDTHS, describe(expected.spread), expected.width_sigma)]
    size, mosaicity, bandwidth = (float(np.exp(w.mean)) if np.isfinite(w.error) else width
                                  for w, width in zip(widths, known_widths(context)))
    fall_off = common(*freed(rows["b_factor"], rows["b_factor_sigma"], expected.fall_off, expected.fall_off_sigma))
    # What else is learnt of intensities is a departure from the model with these tails.
    tail = {TAIL: np.array(learn_tail(tables, context))}
    context = replace(context, learnt=replace(context.learnt, extra={**context.learnt.extra, **tail}))
    extra = {**context.learnt.extra, "distance_sigma": np.array(distance.error),
             "width_sigma": np.array([expected_width(w, len(rows)) for w in widths]),
             **learn_relief(tables, context), **learn_tally(tables, context)}
    if np.isfinite(fall_off.error):
        extra["fall_off"] = np.array([fall_off.mean, max(fall_off.expected, LEAST_FALL_OFF_SIGMA)])
    # What no shot knew stays as it was.
    moved = [s.mean if np.isfinite(s.error) else -m for s, m in zip(shift, known.shift_m)]
    spread = [s.expected if np.isfinite(s.error) else sigma for s, sigma in zip(shift, known.beam_sigma)]
    return replace(context.learnt, n_events=len(tables.events), n_lattices=len(rows),
                   beam_shift_m=tuple(-m for m in moved), beam_shift_sigma_m=tuple(map(float, spread)),
                   distance_scale=distance.mean, cells=cells, cell_sigma=cell_sigma, domain_size_angstrom=size,
                   half_mosaicity_deg=mosaicity, bandwidth_fwhm=bandwidth, extra=extra)


def known_widths(context):
    """(domain size, half mosaicity, bandwidth) as learnt so far; NaN where they are not."""
    learnt = context.learnt
    return learnt.domain_size_angstrom, learnt.half_mosaicity_deg, learnt.bandwidth_fwhm


def freed(values, errors, mean, sigma):
    """(values, errors) of measurements from which the restraint mean +- sigma that went into each is taken out again.

    Measurements that said nothing beyond their restraint get the error inf.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = 1.0 / errors ** 2 - 1.0 / sigma ** 2
        known = own * sigma ** 2 > LEAST_SAY
        return (np.where(known, (values / errors ** 2 - mean / sigma ** 2) / own, mean),
                np.where(known, np.sqrt(1.0 / np.where(known, own, 1.0)), np.inf))


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


NOTHING = Common(0.0, float("nan"), float("nan"))


def common(values, errors):
    """`Common` of a quantity that was measured in many shots with known errors.

    Maximum likelihood for the spread, the mean weighted by 1 / (error^2 + spread^2); of many measurements, outliers
    beyond five robust standard deviations of the whole are left out.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, errors = values[good], errors[good]
    if not len(values):
        return NOTHING
    middle = np.median(values)
    robust = 1.4826 * np.median(np.abs(values - middle)) + 1e-30
    if len(values) >= MANY:
        near = np.abs(values - middle) < 5 * np.maximum(robust, errors)
        values, errors = values[near], errors[near]
    spreads = np.concatenate([[0.0], np.geomspace(0.01, 3.0, 120) * (robust + np.median(errors))])
    variance = errors ** 2 + spreads[:, None] ** 2
    means = np.sum(values / variance, axis=1) / np.sum(1 / variance, axis=1)
    cost = np.sum(np.log(variance) + (values - means[:, None]) ** 2 / variance, axis=1)
    best = int(np.argmin(cost))
    return Common(float(means[best]), float(np.sum(1 / variance[best]) ** -0.5), float(spreads[best]))


def learn_cells(rows, context, known):
    """(cells, spreads): each of the run's cells as its lattices have it."""
    cells, spreads = [], []
    for form, cell in enumerate(context.best_cells):
        own = rows[rows["form"] == form]
        before = np.abs(known.forms[form].to_cell) @ known.forms[form].sigma
        if len(own) < FEWEST:
            cells.append(cell)
            spreads.append(before)
            continue
        found = []
        for k, (mean, sigma) in enumerate(zip(cell.parameters, before)):
            constant = common(*freed(own["cell"][:, k], own["cell_sigma"][:, k], mean, sigma)) if sigma > 0 else NOTHING
            found.append(constant if np.isfinite(constant.error) else Common(mean, 0.0, sigma))
        cells.append(replace(cell, **dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), (f.mean for f in found)))))
        spreads.append(np.array([f.expected for f in found]))
    return tuple(cells), tuple(spreads)
