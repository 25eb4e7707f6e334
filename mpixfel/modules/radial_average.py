"""mod_radial_average: the mean of each image over rings about the beam, as a text file of 2theta and photons."""
import os
from dataclasses import dataclass

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.modules.calibrated import Calibrated
from mpixfel.modules.names import check_basename, event_stem
from mpixfel.modules.shots import ShotOptions
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options(ShotOptions):
    """Options of mod_radial_average."""

    out_dirname: str = option("", "folder of the text files, one for each event; none: no files", unit="path")
    out_basename: str = option("", "what their names begin with")
    two_theta_low: float | None = option(None, "the intensity at this angle is reported", "degrees", low=0.0,
                                         high=180.0)
    two_theta_high: float | None = option(None, "and at this one", "degrees", low=0.0, high=180.0)

    def __post_init__(self):
        super().__post_init__()
        check_basename(self.out_basename, "out_basename")
        if self.out_basename and not self.out_dirname:
            raise MpixfelError("out_basename without out_dirname", "out_basename", "give out_dirname")


class ModRadialAverage(Calibrated):
    """One instance of mod_radial_average."""

    Options = Options

    def begin(self, context):
        super().begin(context)
        self.rings = None

    def event(self, event, record, context):
        record, shot = self.calibrated(event, record, context)
        if record.skip:
            return record
        if self.rings is None or not same_place(self.rings.geometry, shot.geometry):
            self.rings = Rings(shot.geometry, context.detector.stack_shape)
        angle, mean = self.rings.average(record.image.photons)
        o = self.options
        at = [(t, float(np.interp(t, angle, mean))) for t in (o.two_theta_low, o.two_theta_high) if t is not None]
        notes = tuple(f"{value:.6g} photons at two theta {t:g} degrees" for t, value in at)
        if o.out_dirname:
            write_curve(os.path.join(o.out_dirname, f"{o.out_basename}{event_stem(record.id)}.txt"), angle, mean,
                        (f"event {record.id.name}, wavelength {shot.wavelength_angstrom:.6f} angstrom", *notes))
        return record.but(notes=record.notes + notes)


def same_place(one, other):
    """Whether rings of one geometry serve for another: corners within a hundredth of a pixel."""
    return bool(np.abs(one.origin - other.origin).max() < 0.01 * np.linalg.norm(one.fs_axis[0]))


class Rings:
    """Rings of one pixel's width about the beam.

    Parameters
    ----------
    geometry : PanelGeometry
    stack_shape : (P, SS, FS)
    """

    def __init__(self, geometry, stack_shape):
        self.geometry = geometry
        ss, fs = np.mgrid[:stack_shape[1], :stack_shape[2]] + 0.5
        two_theta = np.empty(stack_shape)
        for p in range(stack_shape[0]):
            x, y, z = (geometry.origin[p, a] + fs * geometry.fs_axis[p, a] + ss * geometry.ss_axis[p, a]
                       for a in range(3))
            two_theta[p] = np.arctan2(np.hypot(x, y), z)
        self.width = float(np.linalg.norm(geometry.fs_axis[0]) / np.abs(geometry.origin[:, 2].mean()))
        self.number = (two_theta / self.width).astype(np.int32).reshape(-1)
        self.n = int(self.number.max()) + 1
        self.angle_sum = two_theta.reshape(-1)

    def average(self, photons):
        """(two theta in degrees, mean photons per pixel) of the rings that have good pixels."""
        good = np.isfinite(photons.reshape(-1))
        number = self.number[good]
        count = np.bincount(number, minlength=self.n)
        total = np.bincount(number, photons.reshape(-1)[good].astype(float), self.n)
        angle = np.bincount(number, self.angle_sum[good], self.n)
        seen = count > 0
        return np.degrees(angle[seen] / count[seen]), total[seen] / count[seen]


def write_curve(path, angle, mean, remarks):
    """Two columns of text, remarks before them."""
    part = f"{path}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        np.savetxt(part, np.column_stack([angle, mean]), "%.6f %.6g",
                   header="\n".join((*remarks, "two_theta/degrees photons/pixel")))
        os.replace(part, path)
    except OSError as e:
        raise MpixfelError(f"cannot write: {e.strerror or e}", path, "check the folder and the free space") from e
