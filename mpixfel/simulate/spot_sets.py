"""Sets of spot lists with known lattices that indexing is measured on."""
from dataclasses import dataclass, field, replace

import numpy as np

from mpixfel.model.crystal import UnitCell
from mpixfel.simulate.spots import SpotList, simulate_spots

CELLS = {
    "lysozyme": UnitCell(79.1, 79.1, 38.0, 90, 90, 90, "tetragonal", "P", "c"),
    "thermolysin": UnitCell(93.3, 93.3, 131.0, 90, 90, 120, "hexagonal", "P", "c"),
    "monoclinic": UnitCell(60.2, 75.5, 100.3, 90, 104.5, 90, "monoclinic", "P", "b"),
    "triclinic": UnitCell(41.0, 52.3, 63.1, 82, 95, 107),
    "photosystem": UnitCell(281, 281, 165.2, 90, 90, 120, "hexagonal", "P", "c"),
    "small": UnitCell(12.1, 15.3, 18.2, 90, 98, 90, "monoclinic", "P", "b"),
}
DISTANCE, PIXEL, WAVELENGTH = 0.15, 75e-6, 1.3
SAME = np.radians(1.5)      # how far axes may be off, relative, in a right answer
# What crystals of small cells diffract to, angstrom.
REACH = {"small": 1.2}


@dataclass(frozen=True)
class SpotSet:
    """One set: what is simulated, and what the indexer is told."""

    name: str
    cell: str
    n_spots: int
    options: dict = field(default_factory=dict)     # of `simulate_spots`
    cell_error: float = 0.0                         # relative, of the axes that are given
    lattices: int = 1
    number: int = 20                                # of lists
    wanted: int = 0                                 # right lattices, of all lists together

    @property
    def given_cell(self):
        """The `UnitCell` that the indexer is given."""
        true, scale = CELLS[self.cell], 1 + self.cell_error
        return replace(true, a=true.a * scale, b=true.b * scale, c=true.c * scale)

    def lists(self):
        """The `SpotList`s, one after the other."""
        options = {"d_min_angstrom": REACH.get(self.cell, 2.5), "distance_m": DISTANCE, "pixel_m": PIXEL,
                   "wavelength_angstrom": WAVELENGTH, "lattices": self.lattices, **self.options}
        seed = [sum(map(ord, self.cell)), self.n_spots, self.lattices, int(100 * options.get("position_error_px", 0.35))]
        return (simulate_spots(CELLS[self.cell], self.n_spots, [*seed, k], **options) for k in range(self.number))


def part(foreign, whole):
    return {"foreign_fraction": foreign / whole}


GOALS = (
    SpotSet("lysozyme, 9 + 2 foreign", "lysozyme", 11, part(2, 11), number=40, wanted=38),
    SpotSet("lysozyme, 12 + 3 foreign", "lysozyme", 15, part(3, 15), number=40, wanted=38),
    SpotSet("lysozyme, 30 + 30 foreign, 0.7 px, cell 0.7 % off", "lysozyme", 60,
            {"position_error_px": 0.7, **part(30, 60)}, cell_error=0.007, number=40, wanted=40),
    SpotSet("photosystem I, 100 + 15 foreign", "photosystem", 115, part(15, 115), number=20, wanted=20),
    SpotSet("lysozyme, 3 lattices of 40 + 18 foreign", "lysozyme", 138, part(18, 138), lattices=3, number=40, wanted=120),
)


def random_list(n, d_min, seed):
    """A `SpotList` of n spots that follow no lattice, spread evenly over the detector."""
    return simulate_spots(CELLS["lysozyme"], n, seed, foreign_fraction=1.0, d_min_angstrom=d_min, distance_m=DISTANCE,
                          pixel_m=PIXEL, wavelength_angstrom=WAVELENGTH)


def same_lattice(one, other, tolerance=SAME):
    """Whether rows a*, b*, c* of two bases span the same lattice, up to a relative error."""
    change = np.rint(one @ np.linalg.inv(other))
    if abs(abs(np.linalg.det(change)) - 1) > 1e-6:
        return False
    return bool(np.max(np.abs(np.linalg.inv(change @ other) @ one - np.eye(3))) < tolerance)


def count_right(found, axes, tolerance=SAME):
    """(right, false) lattices among bases (k, 3, 3) found, of the true ones (m, 3, 3); the same one twice is false."""
    match = np.array([[same_lattice(f, a, tolerance) for a in axes] for f in found], bool).reshape(len(found), len(axes))
    right = int(match.any(axis=0).sum())
    return right, len(found) - right


__all__ = ["CELLS", "DISTANCE", "GOALS", "PIXEL", "SpotList", "SpotSet", "WAVELENGTH", "count_right", "part",
           "random_list", "same_lattice"]
