"""Hit or miss."""
from dataclasses import dataclass

from mpixfel.model.event import Reason, Skip
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class HitFinding:
    """Which finder is used, and how many of its peaks make a hit."""

    finder: str = option("robust", "hit finder: robust, peakfinder8, distl, or another one found by entry point")
    min_peaks: int = option(4, "least number of peaks of a hit", low=0)

    def __post_init__(self):
        check_options(self)

    def decide(self, peaks, image, shot):
        """The peaks of a hit, or the `Skip` of a miss."""
        if len(peaks) < self.min_peaks:
            return Skip("hitfinding", Reason.too_few_peaks, f"{len(peaks)} peaks, {self.min_peaks} make a hit",
                        {"peaks": len(peaks)})
        return peaks
