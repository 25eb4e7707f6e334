"""What a geometry says beside where panels stand: where pixels, masks and per-shot values are in the files."""
from dataclasses import dataclass, field

import numpy as np

from mpixfel.model.experiment import Beam, Detector
from mpixfel.units import HC_EV_ANGSTROM

PLACEHOLDER = "%"


@dataclass(frozen=True)
class Quantity:
    """A number, or the place in the data files that holds it (a scalar, or one value for each event).

    `number` is in the unit of `unit`; `scale` takes it to the unit that the program works in (m, eV, angstrom).
    """

    number: float | None = None
    path: str = ""
    unit: str = ""
    scale: float = 1.0
    is_wavelength: bool = False      # number * scale is a wavelength in angstrom; value() is then a photon energy

    def value(self, number=None):
        """The value of a number read from `path` (scalar or array), or of the literal: m, or eV."""
        scaled = (self.number if number is None else number) * self.scale
        return HC_EV_ANGSTROM / scaled if self.is_wavelength else scaled


@dataclass(frozen=True)
class Block:
    """One two-dimensional array of pixels per event: a dataset and which of its axes is what.

    `dims` has one entry for each axis: "%" (event), "ss", "fs", or an int (that index).
    """

    path: str
    dims: tuple


@dataclass(frozen=True)
class MaskRule:
    """A mask: a pixel is bad if any of the `bad` bits is set, or any of the `good` bits is not."""

    path: str
    file: str = ""                   # "": the data file itself
    good: int = 0
    bad: int = 0

    def is_bad(self, values):
        """bool array, True = bad, of integer mask values (any width)."""
        values = np.asarray(values)
        values = values.view(f"u{values.dtype.itemsize}") if values.dtype.kind in "ib" else values
        word = values.dtype.type
        width = 8 * values.dtype.itemsize
        here = (1 << width) - 1
        bad = (values & word(self.bad & here)) != 0
        if self.good:
            # Bits that the mask's type cannot hold are never set.
            bad |= (values & word(self.good & here)) != word(self.good & here)
            bad |= self.good != self.good & here
        return bad


@dataclass(frozen=True)
class PanelLayout:
    """What the files know of one panel beside its pixels."""

    masks: tuple = ()                # MaskRule by number
    mask_numbers: tuple = ()         # 0..7, one for each of `masks`
    saturation_path: str = ""
    saturation_file: str = ""
    edge_pixels: int = 0             # that many outermost pixels are bad
    ignored: bool = False            # the whole panel is bad


@dataclass(frozen=True)
class BadRegion:
    """A rectangle of bad pixels, `low` and `high` inclusive.

    (ss, fs) in the data block, of one panel or ("") of all; or `in_lab`: (x, y), in pixels of each panel.
    """

    name: str
    low: tuple
    high: tuple
    panel: str = ""
    in_lab: bool = False


@dataclass(frozen=True)
class Layout:
    """Where things are in the data files.

    Attributes
    ----------
    blocks : tuple of Block
        Distinct pixel arrays; `Panel.block` indexes them.
    panels : tuple of PanelLayout
        One for each panel of the detector.
    photon_energy, clen, shift_x, shift_y : Quantity
        eV; m; m; m. Shifts move the whole detector.
    folder : str
        Mask files with relative names are looked for here, then in the working directory.
    """

    blocks: tuple
    panels: tuple
    photon_energy: Quantity
    clen: Quantity
    shift_x: Quantity = Quantity(0.0, unit="m")
    shift_y: Quantity = Quantity(0.0, unit="m")
    regions: tuple = ()
    groups: dict = field(default_factory=dict)    # name -> members (panels or groups)
    peak_list: str = ""
    peak_list_type: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Geometry:
    """A geometry as read: the experiment, where its data are, and the text that said so."""

    detector: Detector
    beam: Beam
    layout: Layout
    text: str = ""
    path: str = ""
