"""Options that say otherwise what a shot was like, and which shots are wanted: those of every module of old."""
from dataclasses import dataclass, replace

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.model.event import Outcome, Reason, Skip
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option

# A laser's state in `Event.extra`, and for how long it has been so.
LASER, LASER_WAIT_MS = "laser_{}_status", "laser_{}_ms_since_change"


@dataclass(frozen=True)
class ShotOptions:
    """What all modules that handle images may be told."""

    address: str = option("", "detector and device as of old, CxiDs1-0|Cspad-0: is written into files")
    override_energy: float | None = option(None, "photon energy of all shots, instead of the source's", "eV", low=1.0)
    override_beam_x: float | None = option(None, "beam centre along the fast direction of the data block", "pixels")
    override_beam_y: float | None = option(None, "beam centre along its slow direction", "pixels")
    laser_1_status: bool | None = option(None, "accept only shots of this state of laser 1 (where the source tells it)")
    laser_4_status: bool | None = option(None, "accept only shots of this state of laser 4")
    laser_wait_time: float | None = option(None, "... and only so long after its last change", "ms", low=0.0)

    def __post_init__(self):
        check_options(self)
        if (self.override_beam_x is None) != (self.override_beam_y is None):
            raise MpixfelError("only one of override_beam_x and override_beam_y", "override_beam_x", "give both")

    def unwanted(self, event):
        """The `Skip` of a shot whose lasers are not as wanted; None for the others."""
        for number, wanted in ((1, self.laser_1_status), (4, self.laser_4_status)):
            if wanted is None:
                continue
            state = known(event, LASER.format(number))
            since = known(event, LASER_WAIT_MS.format(number)) if self.laser_wait_time else None
            if bool(state) != wanted or (since is not None and since < self.laser_wait_time):
                return Skip("laser", Reason.filtered, f"laser {number} is {'on' if state else 'off'}"
                            + (f" since {since:g} ms" if since is not None else ""))
        return None

    def shot(self, event, record, context):
        """(record, `Shot`) with energy and beam centre as they are overridden; the record may have `skip` set."""
        skip = self.unwanted(event)
        if skip is not None:
            return record.but(skip=skip, outcome=Outcome.filtered), None
        if self.override_energy is not None:
            event = replace(event, photon_energy_ev=self.override_energy)
            record = record.but(photon_energy_ev=self.override_energy)
        shot = context.shot(event)
        if self.override_beam_x is not None:
            x, y = self._centre_m(shot.geometry, context.detector)
            shot = replace(shot, geometry=shot.geometry.shifted(-x, -y))
        return record, shot

    def _centre_m(self, geometry, detector):
        """Laboratory x, y of the given pixel of the data block: on the panel that holds it, or the nearest to it."""
        fs = np.array([self.override_beam_x - p.min_fs for p in detector.panels])
        ss = np.array([self.override_beam_y - p.min_ss for p in detector.panels])
        outside = [np.maximum(np.maximum(-v, v - geometry.shape[:, k]), 0) for k, v in ((1, fs), (0, ss))]
        i = int(np.hypot(*outside).argmin())
        return (geometry.origin[i] + fs[i] * geometry.fs_axis[i] + ss[i] * geometry.ss_axis[i])[:2]


def known(event, name):
    """A value of the shot. Raises `MpixfelError` where the source has none of that name."""
    if name not in event.extra:
        raise MpixfelError(f"the source has no {name}", event.id.name,
                           "it has: " + (", ".join(sorted(event.extra)) or "no such values"))
    return event.extra[name]
