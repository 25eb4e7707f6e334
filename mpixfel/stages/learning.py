"""What the first lattices of a run teach: where the beam is, how far the detector, what cell and what crystals."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

FEWEST = 3     # lattices from which a run begins to learn


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
    shift, shift_sigma = zip(*(common(rows["beam_shift"][:, a], rows["beam_shift_sigma"][:, a]) for a in range(2)))
    cells, cell_sigma = learn_cells(rows, context)
    return replace(context.learnt, n_events=len(tables.events), n_lattices=len(rows),
                   beam_shift_m=tuple(-np.array(shift)), beam_shift_sigma_m=shift_sigma,
                   distance_scale=float(np.median(rows["distance_scale"])), cells=cells, cell_sigma=cell_sigma)


def common(values, errors):
    """(mean, spread) of a quantity that varies from shot to shot and is measured with known errors.

    Maximum likelihood for the spread, the mean weighted by 1 / (error^2 + spread^2); outliers beyond five robust
    standard deviations of the whole are left out.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, errors = values[good], errors[good]
    if not len(values):
        return 0.0, float("nan")
    middle = np.median(values)
    robust = 1.4826 * np.median(np.abs(values - middle)) + 1e-30
    near = np.abs(values - middle) < 5 * np.maximum(robust, errors)
    values, errors = values[near], errors[near]
    spreads = np.concatenate([[0.0], np.geomspace(0.01, 3.0, 120) * (robust + np.median(errors))])
    variance = errors ** 2 + spreads[:, None] ** 2
    means = np.sum(values / variance, axis=1) / np.sum(1 / variance, axis=1)
    cost = np.sum(np.log(variance) + (values - means[:, None]) ** 2 / variance, axis=1)
    best = int(np.argmin(cost))
    return float(means[best]), float(spreads[best])


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
                 else (cell.parameters[k], 0.0) for k in range(6)]
        mean, spread = zip(*found)
        cells.append(replace(cell, a=mean[0], b=mean[1], c=mean[2], alpha=mean[3], beta=mean[4], gamma=mean[5]))
        spreads.append(np.array(spread))
    return tuple(cells), tuple(spreads)
