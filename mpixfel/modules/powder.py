"""Powder patterns: sum and maximum of images spread over the run. Belongs to every run; is not configured."""
import numpy as np

from mpixfel.kernels.powder import UNITS_PER_PHOTON, add_to_powder
from mpixfel.modules.interface import Module

# An image of 4 Mpx costs 10 ms to add; so many show rings and bad pixels as well as all would.
IMAGES = 256


class Powder(Module):
    """Adds the images of chosen positions, whatever came of their events.

    Parameters
    ----------
    positions : iterable of int
    stack_shape : (P, SS, FS)
    """

    def __init__(self, positions, stack_shape):
        super().__init__("powder", None, None)
        self.positions, self.shape = frozenset(int(p) for p in positions), stack_shape
        self.total = self.largest = None
        self.images = 0

    def add(self, position, record):
        """Add the image of a record, if its position is one of those chosen."""
        if position not in self.positions or record.image is None:
            return
        if self.total is None:
            size = int(np.prod(self.shape))
            self.total, self.largest = np.zeros(size, np.int32), np.full(size, -np.inf, np.float32)
        add_to_powder(record.image.photons.reshape(-1), self.total, self.largest)
        self.images += 1

    def totals(self):
        if self.total is None:
            return {}
        return {"total": self.total, "max_largest": self.largest, "images": np.array(self.images)}

    @staticmethod
    def merge(mine, theirs):
        """A rank that has seen no image has nothing to join."""
        return Module.merge(mine, theirs) if mine and theirs else mine or theirs


def patterns(totals, stack_shape):
    """(sum in photons float64, maximum float32, number of images) as panel stacks; NaN where no image had a value."""
    if not totals:
        empty = np.full(stack_shape, np.nan, np.float32)
        return empty.astype(float), empty, 0
    largest = totals["max_largest"].reshape(stack_shape)
    seen = np.isfinite(largest)
    total = np.where(seen, totals["total"].reshape(stack_shape) / UNITS_PER_PHOTON, np.nan)
    return total, np.where(seen, largest, np.float32(np.nan)), int(totals["images"])
