"""What `mpixfel simulate` can be told, and its kinds of experiment."""
from dataclasses import dataclass, fields, replace

from mpixfel.errors import MpixfelError
from mpixfel.simulate.presets import PRESETS
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class SimulateOptions:
    """A run with known truth. `SimulateOptions.of(kind, ...)` starts from one of the kinds."""

    kind: str = option("lysozyme", "kind of experiment: what is not given otherwise comes from it", choices=PRESETS)
    output: str = option("simulated", "folder to write to")
    name: str = option("", "stem of the files; empty: the kind")
    frames: int = option(20, "number of frames", low=1)
    seed: int = option(1, "same seed, same bytes", low=0, high=2 ** 31 - 1)
    overwrite: bool = option(False, "replace files that are there")

    cell: tuple = option((79.34, 79.34, 37.81, 90.0, 90.0, 90.0), "a, b, c, alpha, beta, gamma", "angstrom, degrees")
    space_group: str = option("P43212", "Hermann-Mauguin symbol: symmetry and absences of the intensities")
    reflections: str = option("", "intensities from a CrystFEL .hkl list or an MTZ; empty: Wilson statistics")
    b_factor_angstrom2: float = option(15.0, "temperature factor of the Wilson statistics", "angstrom^2", low=0)
    atoms_per_angstrom3: float = option(0.03, "light atoms in the cell, for the Wilson statistics", "1/angstrom^3", low=0)
    resolution_angstrom: float = option(1.5, "no reflections beyond", "angstrom", low=0.3)

    crystal_um: float = option(5.0, "edge of the illuminated crystal", "um", low=0)
    strength_sigma: float = option(0.5, "log-normal spread of the crystals' strength", low=0)
    fluence_ph_per_um2: float = option(1.8e8, "photons that hit the crystal in a shot", "1/um^2", low=0)
    block_angstrom: float = option(1500.0, "diameter of the mosaic blocks", "angstrom", low=50)
    block_shape: str = option("sphere", "shape of the mosaic blocks", choices=("sphere", "gaussian"))
    mosaicity_deg: float = option(0.05, "full width at half maximum of the mosaic spread", "degrees", low=0)
    cell_sigma: float = option(0.0005, "relative spread of each axis from crystal to crystal", low=0)
    lattices: tuple = option((1,), "numbers of lattices in a hit, one is drawn for each frame")
    blank_fraction: float = option(0.3, "share of frames without crystal", low=0, high=1)

    photon_energy_ev: float = option(9500.0, "photon energy", "eV", low=1000)
    energy_sigma: float = option(0.002, "relative spread of the photon energy from shot to shot", low=0)
    bandwidth_fwhm: float = option(0.001, "relative bandwidth, full width at half maximum", low=0, high=0.2)
    spectrum: str = option("gaussian", "shape of the spectrum", choices=("gaussian", "flat", "sase"))
    divergence_rad: float = option(1e-4, "divergence, one sigma", "rad", low=0)
    polarisation_fraction: float = option(1.0, "share of the intensity that is polarised horizontally", low=0, high=1)

    source_sigma_um: tuple = option((0.0, 0.0, 0.0), "spread of the point of interaction, x, y, z", "um")

    layout: str = option("flat", "detector", choices=("flat", "tiles", "cspad", "jungfrau"))
    size: int = option(1024, "pixels along an edge of the flat or tiled detector", low=16)
    pixel_um: float = option(75.0, "pixel edge", "um", low=1)
    distance_mm: float = option(60.0, "detector distance", "mm", low=1)
    tilt_deg: float = option(0.3, "spread of the tilts of panels, except of the flat detector", "degrees", low=0, high=5)
    point_spread_px: float = option(0.0, "point spread of the detector, one sigma", "pixels", low=0, high=5)

    adu_per_photon: float = option(1.0, "gain", "ADU", low=0.01)
    pedestal_adu: float = option(0.0, "mean pedestal (of the first gain stage)", "ADU", low=0)
    pedestal_sigma_adu: float = option(0.0, "spread of the pedestal over pixels", "ADU", low=0)
    noise_adu: float = option(0.0, "read-out noise, one sigma", "ADU", low=0)
    common_mode_adu: float = option(0.0, "spread of an offset of each panel from shot to shot", "ADU", low=0)
    saturation_adu: int = option(60000, "largest word", "ADU", low=1)
    gain_switching: bool = option(False, "words with the gain stage in the two high bits, as a JUNGFRAU has them")
    dark_frames: int = option(0, "frames of the dark run, one for each gain stage; with it goes NAME-calibration.h5", low=0)
    dead_pixels: int = option(60, "pixels that give 0", low=0)
    hot_pixels: int = option(25, "pixels that give too much", low=0)
    mask_bad_pixels: bool = option(True, "dead and hot pixels are in the mask")
    beam_stop_px: float = option(14.0, "radius of the hole or stop about the beam, masked", "pixels", low=0)

    background_ph: float = option(1.0, "background at the water ring", "photons/pixel", low=0)
    background_sigma: float = option(0.4, "log-normal spread of the background from shot to shot", low=0)
    ice_ph: float = option(0.0, "height of ice rings", "photons/pixel", low=0)
    salt_ph: float = option(0.0, "height of sharp, grainy rings of a salt powder", "photons/pixel", low=0)
    streak_ph: float = option(0.0, "height of a streak of the jet, near the beam", "photons/pixel", low=0)
    shadow: float = option(0.0, "share of the photons that a shadow takes away", low=0, high=1)
    hot_region_ph: float = option(0.0, "photons added in a region of 24 x 24 pixels", "photons/pixel", low=0)

    perturb_px: tuple = option((1.6, -1.1), "shift of the beam in NAME-perturbed.geom, x and y", "pixels")
    perturb_distance: float = option(0.003, "relative error of the distance in NAME-perturbed.geom", low=-0.1, high=0.1)

    def __post_init__(self):
        check_options(self)
        for name, count in (("cell", 6), ("perturb_px", 2), ("source_sigma_um", 3)):
            if len(getattr(self, name)) != count:
                raise MpixfelError(f"{len(getattr(self, name))} values", name, f"give {count}")
        if not self.lattices or min(self.lattices) < 1:
            raise MpixfelError(f"{self.lattices} lattices in a hit", "lattices", "give one or more numbers from 1")

    @classmethod
    def of(cls, kind, **given):
        """Options of a kind, with some given otherwise."""
        if kind not in PRESETS:
            raise MpixfelError(f"unknown kind {kind!r}", "simulate", "one of: " + ", ".join(PRESETS))
        return cls(**{"kind": kind, **PRESETS[kind], **given})

    def but(self, **changes):
        """The same options with some changed."""
        return replace(self, **changes)

    @property
    def stem(self):
        return self.name or self.kind


def option_fields():
    """The data class's fields, in order: name, default, type and metadata make the command line and the docs."""
    return fields(SimulateOptions)
