"""The experiment: beam, panels, detector, and what a run knows of itself."""
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from mpixfel.model.constants import Constants
from mpixfel.model.crystal import UnitCell
from mpixfel.model.sensor import Sensor
from mpixfel.units import wavelength_angstrom


class PanelGeometry(NamedTuple):
    """Geometry as kernels take it: one row for each panel, laboratory frame, metres, C-contiguous float64.

    A point (fs, ss) of panel p, in pixels from the corner of its first pixel, lies at
    origin[p] + fs * fs_axis[p] + ss * ss_axis[p].
    """

    origin: np.ndarray    # (P, 3) m
    fs_axis: np.ndarray   # (P, 3) m per pixel
    ss_axis: np.ndarray   # (P, 3) m per pixel
    shape: np.ndarray     # (P, 2) int64: pixels in ss, fs

    def shifted(self, x_m=0.0, y_m=0.0, z_m=0.0):
        """The same panels moved as a whole, in metres."""
        return self._replace(origin=self.origin + np.array([x_m, y_m, z_m]))

    def middle(self):
        """(P, 3) m: the middle of each panel."""
        return self.origin + 0.5 * (self.shape[:, 1:] * self.fs_axis + self.shape[:, :1] * self.ss_axis)

    def at_depth(self, depth_of):
        """The same panels, each moved along its normal away from the source to where its sensor absorbs photons.

        `depth_of` gives metres for the (P,) cosines between the normals and the rays to the panels' middles. A ray at
        the angle a to the normal ends depth tan(a) farther out than on the front, as it does on the moved panel.
        """
        normal = np.cross(self.fs_axis, self.ss_axis)
        middle = self.middle()
        cosine = np.einsum("ij,ij->i", normal, middle) / np.linalg.norm(normal, axis=1) / np.linalg.norm(middle, axis=1)
        normal *= (np.sign(cosine) * depth_of(np.abs(cosine)) / np.linalg.norm(normal, axis=1))[:, None]
        return self._replace(origin=self.origin + normal)


@dataclass(frozen=True)
class Panel:
    """One panel. `origin` holds z without the camera length, so z is coffset; vectors in metres (per pixel)."""

    name: str
    origin_m: tuple
    fs_axis_m: tuple
    ss_axis_m: tuple
    shape: tuple                      # (ss, fs)
    adu_per_photon: float | None = None
    adu_per_ev: float | None = None
    max_adu: float = float("inf")
    block: int = 0                    # which of the source's data blocks holds the panel,
    min_ss: int = 0                   # and where its first pixel stands in that block
    min_fs: int = 0
    flag_less_than: float = float("-inf")    # raw values strictly below, strictly above, or equal: bad pixels
    flag_more_than: float = float("inf")
    flag_equal: float = float("nan")

    def gain(self, photon_energy_ev):
        """ADU per photon at that energy: the one definition of gain in this program."""
        return self.adu_per_photon if self.adu_per_photon is not None else self.adu_per_ev * photon_energy_ev


@dataclass(frozen=True)
class Detector:
    """All panels. Images are stacks (P, SS, FS); a smaller panel is padded at its high ends."""

    panels: tuple
    sensor_thickness_m: float = 0.0
    sensor_material: str = ""

    @property
    def stack_shape(self):
        """(P, SS, FS) of an image stack."""
        return (len(self.panels), max(p.shape[0] for p in self.panels), max(p.shape[1] for p in self.panels))

    @property
    def names(self):
        return tuple(p.name for p in self.panels)

    def geometry(self, clen_m):
        """`PanelGeometry` with the camera length added to z."""
        rows = lambda name: np.ascontiguousarray([getattr(p, name) for p in self.panels], dtype=np.float64)
        origin = rows("origin_m")
        origin[:, 2] += clen_m
        return PanelGeometry(origin, rows("fs_axis_m"), rows("ss_axis_m"),
                             np.array([p.shape for p in self.panels], dtype=np.int64))

    def distance_m(self, clen_m):
        """Mean distance of the panels' first corners from the interaction point along the beam, m."""
        return clen_m + sum(p.origin_m[2] for p in self.panels) / len(self.panels)

    def pixel_size_m(self):
        """Mean pixel edge over panels, m."""
        return float(np.mean([[np.linalg.norm(p.fs_axis_m), np.linalg.norm(p.ss_axis_m)] for p in self.panels]))


@dataclass(frozen=True)
class Beam:
    """What the configuration and geometry say of the beam; photon energies vary from shot to shot."""

    bandwidth_fwhm: float = 0.0       # relative; 0 unknown or negligible
    divergence_rad: float = 0.0
    polarisation_fraction: float = 1.0
    polarisation_axis: tuple = (1.0, 0.0, 0.0)   # direction of the electric field, laboratory frame


@dataclass(frozen=True)
class Learnt:
    """What the run learnt from its first events, then froze: the same for every rank and number of ranks.

    None or NaN: not learnt; stages then fall back on what was given.
    """

    n_events: int = 0
    n_lattices: int = 0
    beam_shift_m: tuple = (0.0, 0.0)          # mean; is applied to the geometry of later shots
    beam_shift_sigma_m: tuple = (float("nan"), float("nan"))   # spread from shot to shot
    distance_scale: float = 1.0
    cells: tuple = ()                         # UnitCell, refined; one for each given or found form
    cell_sigma: tuple = ()                    # per form (6,), spread from shot to shot
    half_mosaicity_deg: float = float("nan")
    domain_size_angstrom: float = float("nan")
    bandwidth_fwhm: float = float("nan")
    extra: dict = field(default_factory=dict)  # arrays by name, e.g. noise model, spot profiles; plain NumPy only


@dataclass(frozen=True)
class Shot:
    """Beam and detector as they were for one event: what hit finding, indexing and integration need to know."""

    geometry: PanelGeometry
    photon_energy_ev: float
    bandwidth_fwhm: float
    clen_m: float
    gain: np.ndarray                  # (P,) ADU per photon

    @property
    def wavelength_angstrom(self):
        return wavelength_angstrom(self.photon_energy_ev)


@dataclass(frozen=True)
class Context:
    """What stages may know beside the event: the experiment as configured, and what the run has learnt."""

    detector: Detector
    beam: Beam
    cells: tuple = ()                 # UnitCell as given; empty: unknown
    mask: np.ndarray | None = None    # (P, SS, FS) bool, True = bad; static part
    saturation_adu: np.ndarray | None = None   # (P, SS, FS) float32, where a map was given
    learnt: Learnt = field(default_factory=Learnt)
    seed: int = 0
    constants: Constants | None = None   # calibration constants, where darks or gain maps were given
    rehearsal: bool = False           # events are processed to learn or to compile: modules write no files for them
    own_constants: tuple = ()         # (calibration stage, Constants) of module instances with a calibration of their own
    sensor: Sensor | None = None      # where parallax is to be corrected for

    def shot(self, event):
        """The `Shot` of an event: its own energy and camera length, and the learnt shift of beam and distance."""
        x, y = (learnt + read for learnt, read in zip(self.learnt.beam_shift_m, event.shift_m))
        clen = event.clen_m
        geometry = self.detector.geometry(clen).shifted(x, y, self.detector.distance_m(clen) * (self.learnt.distance_scale - 1.0))
        if self.sensor is not None:
            geometry = geometry.at_depth(lambda cosine: self.sensor.mean_depth_m(event.photon_energy_ev, cosine))
        bandwidth = self.beam.bandwidth_fwhm or 0.0
        if np.isfinite(self.learnt.bandwidth_fwhm):
            bandwidth = self.learnt.bandwidth_fwhm
        return Shot(geometry, event.photon_energy_ev, bandwidth, clen,
                    np.array([p.gain(event.photon_energy_ev) for p in self.detector.panels]))

    def wiser(self, learnt):
        """The same context with what was learnt."""
        return replace(self, learnt=learnt)

    def calibrated_by(self, calibration):
        """The context with the constants of a calibration stage, where that has its own."""
        own = [constants for stage, constants in self.own_constants if stage == calibration]
        return replace(self, constants=own[0]) if own else self

    def arrays(self):
        """{name: array} of what is large and never changes: masks, saturation and constants."""
        own = {name: getattr(self, name) for name in ("mask", "saturation_adu")}
        found = {name: array for name, array in own.items() if array is not None}
        for i, constants in enumerate(self._all_constants()):
            if constants is not None:
                found |= {f"{i}.{name}": array for name, array in constants.arrays().items()}
        return found

    def with_arrays(self, arrays):
        """The same context, with those of its arrays replaced that are named: by equal ones that stand elsewhere."""
        first, *others = (constants and constants.with_arrays(
            {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{i}.")})
            for i, constants in enumerate(self._all_constants()))
        own = tuple((stage, constants) for (stage, _), constants in zip(self.own_constants, others))
        return replace(self, constants=first, own_constants=own, mask=arrays.get("mask", self.mask),
                       saturation_adu=arrays.get("saturation_adu", self.saturation_adu))

    def _all_constants(self):
        return (self.constants, *(constants for _, constants in self.own_constants))

    def rng(self, event_id):
        """A generator seeded by the event alone: the answer depends neither on the rank nor on their number."""
        return np.random.default_rng([self.seed, event_id.source, event_id.index])

    @property
    def best_cells(self):
        """The cells as learnt where they were, otherwise as given."""
        return self.learnt.cells or self.cells


__all__ = ["Beam", "Context", "Detector", "Learnt", "Panel", "PanelGeometry", "Shot", "UnitCell"]
