"""What a diagnosis looks at: a sample of a run's hits, with their peaks, lattices and scattering vectors."""
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np

from mpixfel.model.event import Outcome
from mpixfel.model.experiment import Context, Learnt
from mpixfel.stages.cells import pattern
from mpixfel.stages.indexing import spots_from_peaks

MOST_EVENTS = 200       # hits that are looked at in detail
MOST_PEAKS = 200        # more peaks make a pattern no better for a survey
FEWEST_PEAKS = 12       # of a pattern that is worth a survey
SURVEYED = 24


@dataclass(frozen=True, eq=False)
class Look:
    """One hit."""

    row: int                # in the events
    shot: object            # `Shot` as the run had it: beam and distance as learnt
    given: object           # `Shot` by the geometry alone
    peaks: np.ndarray       # PEAK, `lattice` counts the event's own
    lattices: np.ndarray    # LATTICE

    @cached_property
    def spots(self):
        """`Spots` of the peaks, by the run's geometry."""
        return spots_from_peaks(self.peaks, self.shot)

    def pattern(self, distance_scale=1.0):
        """`Pattern` (stages.cells) of the peaks by the given geometry, its distance times `distance_scale`."""
        shot = self.given
        if distance_scale != 1.0:
            distance = float(np.mean(shot.geometry.origin[:, 2]))
            shot = replace(shot, geometry=shot.geometry.shifted(z_m=distance * (distance_scale - 1)))
        pixel = float(np.mean(np.linalg.norm(shot.geometry.fs_axis, axis=1)))
        return pattern(spots_from_peaks(self.peaks, shot), shot, pixel_m=pixel)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run's hits, some of them in detail."""

    results: object         # io.results.Results
    looks: tuple            # `Look` of hits spread over the run

    @cached_property
    def hits(self):
        """(n,) bool, of all events."""
        return np.isin(self.results.events["outcome"], (Outcome.hit, Outcome.indexed))

    @cached_property
    def unindexed(self):
        """(n,) bool, of all events: hits that the run tried to index without success."""
        events = self.results.events
        return (events["outcome"] == Outcome.hit) & (events["reason"] > 0)

    @property
    def share_unindexed(self):
        """Of the hits that were to be indexed."""
        tried = int(np.sum(self.unindexed)) + int(np.sum(self.results.events["outcome"] == Outcome.indexed))
        return float(np.sum(self.unindexed)) / tried if tried else 0.0

    @property
    def cells(self):
        """The cells that the run used, as given where it was given some."""
        return tuple(self.results.given_cells or self.results.learnt.cells)

    @property
    def pixel_m(self):
        return self.results.geometry.detector.pixel_size_m()

    @property
    def distance_m(self):
        """Typical, of the sample."""
        return float(np.median([np.mean(look.given.geometry.origin[:, 2]) for look in self.looks]))

    def worth_a_survey(self, unindexed_only=False):
        """`Look`s with the most peaks, best first: those without a lattice, where asked, else of all."""
        chosen = [look for look in self.looks if len(look.peaks) >= FEWEST_PEAKS
                  and not (unindexed_only and len(look.lattices))]
        return sorted(chosen, key=lambda look: (-min(len(look.peaks), MOST_PEAKS), look.row))[:SURVEYED]


def gather(results):
    """`Evidence` of `io.results.Results`."""
    events, detector = results.events, results.geometry.detector
    known = np.isfinite(events["photon_energy"]) & (events["photon_energy"] > 0) & np.isfinite(events["distance"])
    hits = np.flatnonzero(np.isin(events["outcome"], (Outcome.hit, Outcome.indexed)) & known & (events["n_peaks"] > 0))
    rows = np.concatenate([spread(hits[chosen(events["outcome"][hits])]) for chosen in
                           (lambda o: o == Outcome.hit, lambda o: o == Outcome.indexed)])
    given = Context(detector, results.geometry.beam, learnt=Learnt(), sensor=results.sensor)
    learnt = Context(detector, results.geometry.beam, learnt=results.learnt, sensor=results.sensor)
    looks = []
    rows = np.sort(rows)
    for row, peaks in zip(rows, results.peaks_of(rows)):
        event = SimpleNamespace(clen_m=events["distance"][row] - detector.distance_m(0.0),
                                photon_energy_ev=float(events["photon_energy"][row]), shift_m=(0.0, 0.0))
        looks.append(Look(int(row), learnt.shot(event), given.shot(event), peaks,
                          results.lattices_of(row)))
    return Evidence(results, tuple(looks))


def spread(rows):
    """At most half of `MOST_EVENTS` rows, evenly."""
    return rows[::max(1, -(-len(rows) // (MOST_EVENTS // 2)))]
