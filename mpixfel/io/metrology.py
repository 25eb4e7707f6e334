"""Optical metrology of the CSPAD: a `calib_dir` of old, or one of SLAC's geometry files.

An old image is a matrix of 1765 x 1765 pixels: rows run down, columns to the right, for an eye that looks along the
beam, which meets it at (882.5, 882.5). So laboratory x is minus the column, y minus the row. The detector is four
quadrants of eight sections; a section is two ASICs of 185 x 194 pixels, end to end with a gap of three.
"""
import glob
import os
import re
from dataclasses import dataclass, replace

import numpy as np

from mpixfel.errors import MpixfelError

EDGE, QUADRANT, CENTRE = 1765, 850.0, 882.5
LONG, SHORT, GAP = 194, 185, 3
PIXEL_M = 109.92e-6
# Shape of each component: axes x quadrants x sections, and so on.
COMPONENTS = {"center": (3, 4, 8), "center_corr": (3, 4, 8), "rotation": (4, 8), "tilt": (4, 8), "marg_gap_shift": (3, 4),
              "offset": (3, 4), "offset_corr": (3, 4), "quad_rotation": (4,), "quad_tilt": (4,)}
# By how much of gap and shift the quadrants move apart: signs along rows (gap, shift), along columns (gap, shift).
APART = np.array([[[-1, 1], [-1, -1]], [[-1, -1], [1, -1]], [[1, -1], [1, 1]], [[1, 1], [-1, 1]]])


@dataclass(frozen=True)
class Metrology:
    """Where sections lie in the old image.

    Attributes
    ----------
    centre : (4, 8, 2) rows, columns, pixels
    angle : (4, 8) degrees, counted from "long side along the rows", counter-clockwise in (row, column)
    asic_shift : (64, 2) rows, columns: what each ASIC is moved by beside, pixels
    asic_turn : (64,) degrees by which each ASIC is turned about its own centre
    """

    centre: np.ndarray
    angle: np.ndarray
    asic_shift: np.ndarray
    asic_turn: np.ndarray


def read_metrology(path):
    """`Metrology` of a `calib_dir`, or of a geometry file (`geometry/0-end.data`).

    The directory may be the detector's own or the one above it, in which ':' may be written '_' or '.'.

    Raises
    ------
    MpixfelError
        If a component is missing, or has not as many numbers as a CSPAD of 2.3 megapixels.
    """
    if os.path.isfile(path):
        centre, angle = _read_slac(path)
    else:
        centre, angle = _read_calib_dir(_detector_folder(path))
    return Metrology(centre, angle, np.zeros((64, 2)), np.zeros(64))


def _detector_folder(path):
    if not os.path.isdir(path):
        raise MpixfelError("no such directory", path, "check calib_dir")
    if os.path.isdir(os.path.join(path, "center")):
        return path
    inside = [folder for folder in sorted(glob.glob(os.path.join(glob.escape(path), "*")))
              if os.path.isdir(os.path.join(folder, "center"))]
    if len(inside) != 1:
        raise MpixfelError(f"{len(inside)} detectors' directories", path, "name the one with center, rotation, tilt, ...")
    return inside[0]


def _component(folder, name):
    """The numbers of the newest `*-end.data` of a component."""
    files = glob.glob(os.path.join(glob.escape(folder), name, "*-end.data"))
    if not files:
        raise MpixfelError(f"there is no {name}/*-end.data", folder, "give the whole metrology directory")
    newest = max(files, key=lambda f: int(re.match(r"\d*", os.path.basename(f))[0] or 0))
    try:
        with open(newest, encoding="ascii") as f:
            numbers = np.array([float(word) for line in f for word in line.split("#")[0].split()])
        return numbers.reshape(COMPONENTS[name])
    except (OSError, ValueError) as e:
        raise MpixfelError(f"cannot be read: {e}", newest, f"it must hold {int(np.prod(COMPONENTS[name]))} numbers") from None


def _read_calib_dir(folder):
    c = {name: _component(folder, name) for name in COMPONENTS}
    margin, offset, gap, shift = c["marg_gap_shift"][:2].T
    centre = np.moveaxis(c["center"] + c["center_corr"], 0, -1)[..., :2] + margin
    angle = c["rotation"] + c["tilt"]
    for q, turn in enumerate(c["quad_rotation"] + c["quad_tilt"]):
        quarter = int(round(turn / 90.0)) % 4       # as of old: quadrants turn by whole right angles
        angle[q] += 90.0 * quarter
        row, column = centre[q].T
        centre[q] = np.stack([(row, column), (QUADRANT - column, row), (QUADRANT - row, QUADRANT - column),
                              (column, QUADRANT - row)][quarter], axis=-1)
        centre[q] += offset + (c["offset"] + c["offset_corr"])[:2, q]
        centre[q] += APART[q, :, 0] * gap + APART[q, :, 1] * shift
    return centre, angle


def _read_slac(path):
    """Sections of a geometry file: each line is an object, its parent, its place there in um and its angles in degrees."""
    places = {}                                     # (child, its parent): turn, place; numbers begin anew in each quadrant
    try:
        with open(path, encoding="utf-8") as f:
            for line in f:
                words = line.split("#")[0].split()
                if len(words) >= 13:
                    parent, child = (words[0], int(words[1])), (words[2], int(words[3]))
                    numbers = np.array([float(w) for w in words[4:13]])
                    turn = np.radians(numbers[3:6] + numbers[6:9])
                    places[child, parent] = _rotation(*turn), 1e-6 * numbers[:3]
    except (OSError, ValueError) as e:
        raise MpixfelError(f"cannot be read: {e}", path, "give a geometry file of SLAC's, geometry/0-end.data") from None
    quadrants = sorted((k for k in places if k[0][0].startswith("QUAD")), key=lambda k: k[0][1])
    sections = {k: sorted((s for s in places if s[0][0].startswith("SENS2X1") and s[1] == k[0]), key=lambda s: s[0][1])
                for k in quadrants}
    if len(quadrants) != 4 or any(len(s) != 8 for s in sections.values()):
        raise MpixfelError(f"{len(quadrants)} quadrants with {[len(s) for s in sections.values()]} sections", path,
                           "four quadrants of eight sections make a CSPAD")
    centre, angle = np.zeros((4, 8, 2)), np.zeros((4, 8))
    for q, k in enumerate(quadrants):
        outer, place = places[k]
        for s, key in enumerate(sections[k]):
            inner, there = places[key]
            xy = (outer @ there + place)[:2] / PIXEL_M
            fs = outer @ inner @ (1.0, 0.0, 0.0)
            centre[q, s] = CENTRE - xy[1], CENTRE + xy[0]
            angle[q, s] = np.degrees(np.arctan2(fs[0], -fs[1]))
    return centre, angle


def _rotation(z, y, x):
    """(3, 3): about x, then y, then z."""
    cz, sz, cy, sy, cx, sx = np.cos(z), np.sin(z), np.cos(y), np.sin(y), np.cos(x), np.sin(x)
    return (np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]))


def of_run(run):
    """The `Metrology` that a run's options name: `calib_dir`, with the corrections to it."""
    return moved(read_metrology(run.calib_dir), run.quad_translations, run.tile_translations, run.subpixel_translations,
                 run.subpixel_rotations)


def moved(metrology, quadrants=(), tiles=(), shifts=(), turns=()):
    """The metrology with the corrections that PHIL files hold.

    Parameters
    ----------
    quadrants : 8 numbers or none
        distl.quad_translations: rows and columns for the quadrants at upper left, upper right, lower left, lower right.
    tiles, shifts : 128 numbers or none
        distl.tile_translations and integration.subpixel_joint_model.translations: rows and columns for each ASIC.
    turns : 64 numbers or none
        integration.subpixel_joint_model.rotations: degrees.
    """
    shift = metrology.asic_shift.copy()
    for name, numbers, count in (("quad_translations", quadrants, 8), ("tile_translations", tiles, 128),
                                 ("subpixel_translations", shifts, 128), ("subpixel_rotations", turns, 64)):
        if len(numbers) not in (0, count):
            raise MpixfelError(f"{len(numbers)} numbers", name, f"a CSPAD needs {count}")
    if len(quadrants):
        low, right = (np.repeat(metrology.centre.reshape(32, 2), 2, axis=0) >= CENTRE).T
        shift += np.reshape(quadrants, (4, 2))[2 * low + right]
    for numbers in (tiles, shifts):
        if len(numbers):
            shift += np.reshape(numbers, (64, 2))
    turn = metrology.asic_turn + (np.array(turns, float) if len(turns) else 0.0)
    return replace(metrology, asic_shift=shift, asic_turn=turn)


def active_areas(metrology):
    """(64, 4) int: upper, left, lower, right pixel of each ASIC in the old image, the latter two exclusive."""
    areas = np.zeros((32, 2, 4), int)
    for k, (centre, quarter) in enumerate(zip(metrology.centre.reshape(32, 2), quarters(metrology).reshape(32))):
        size = np.array((2 * LONG + GAP, SHORT) if quarter % 2 == 0 else (SHORT, 2 * LONG + GAP))
        corner = np.rint(centre - 0.5 * size).astype(int)
        step = np.array((LONG + GAP, 0) if quarter % 2 == 0 else (0, LONG + GAP))
        asic = np.array((LONG, SHORT) if quarter % 2 == 0 else (SHORT, LONG))
        for a in range(2):
            first = corner + step * (a if quarter < 2 else 1 - a)
            areas[k, a] = (*first, *(first + asic))
    shift = np.rint(metrology.asic_shift).astype(int)
    return areas.reshape(64, 4) + np.tile(shift, 2)


def quarters(metrology):
    """(4, 8) right angles by which the sections are turned, 0 to 3."""
    return np.rint(metrology.angle / 90.0).astype(int) % 4


def old_image(stack, metrology, fill=0):
    """The image of old, (1765, 1765), of ASICs (64, 185, 194): whole pixels, right angles, no interpolation."""
    image = np.full((EDGE, EDGE), fill, stack.dtype)
    for asic, (r0, c0, r1, c1), quarter in zip(stack, active_areas(metrology), np.repeat(quarters(metrology).ravel(), 2)):
        image[r0:r1, c0:c1] = (asic.T[:, ::-1], asic, asic.T[::-1], asic[::-1, ::-1])[quarter]
    return image


def asic_places(metrology, measured=True):
    """(centre (64, 2) rows and columns in pixels, angle (64,) radians): as measured, or as in the old image."""
    if not measured:
        areas = active_areas(metrology)
        return 0.5 * (areas[:, :2] + areas[:, 2:]), np.radians(90.0 * np.repeat(quarters(metrology).ravel(), 2))
    angle = np.radians(np.repeat(metrology.angle.ravel(), 2))
    along = 0.5 * (LONG + GAP) * np.tile((-1.0, 1.0), 32)
    centre = np.repeat(metrology.centre.reshape(32, 2), 2, axis=0)
    centre = centre + along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return centre + metrology.asic_shift, angle + np.radians(metrology.asic_turn)


def names():
    """The panels' names, as geometries of the CSPAD have them: q0a0 ... q3a15."""
    return tuple(f"q{q}a{a}" for q in range(4) for a in range(16))


def is_cspad(detector):
    """Whether the panels are the 64 ASICs of a CSPAD, by name and shape."""
    return set(detector.names) == set(names()) and all(p.shape == (SHORT, LONG) for p in detector.panels)


def placed(detector, metrology, measured=True):
    """The `Detector` with its 64 panels where the metrology says; in z they stay at their mean.

    Raises
    ------
    MpixfelError
        If the panels are not the 64 of a CSPAD by name and shape.
    """
    if not is_cspad(detector):
        raise MpixfelError("calib_dir places the panels q0a0 ... q3a15 of a CSPAD, but the geometry has others", "calib_dir",
                           "take calib_dir away, or name the panels so")
    z = detector.distance_m(0.0)
    of = dict(zip(names(), zip(*asic_places(metrology, measured))))
    return replace(detector, panels=tuple(_panel(p, *of[p.name], z) for p in detector.panels))


def _panel(panel, centre, angle, z):
    pixel = 0.5 * (np.linalg.norm(panel.fs_axis_m) + np.linalg.norm(panel.ss_axis_m))
    fs = pixel * np.array([-np.sin(angle), -np.cos(angle), 0.0])
    ss = pixel * np.array([np.cos(angle), -np.sin(angle), 0.0])
    row, column = centre - CENTRE
    origin = np.array([-column * pixel, -row * pixel, z]) - 0.5 * LONG * fs - 0.5 * SHORT * ss
    return replace(panel, origin_m=tuple(map(float, origin)), fs_axis_m=tuple(map(float, fs)), ss_axis_m=tuple(map(float, ss)))


def metrology_of(detector):
    """The `Metrology` of a CSPAD's panels: what `placed` undoes, but for tilts out of the plane."""
    geometry = detector.geometry(0.0)
    order = [detector.names.index(name) for name in names()]
    pixel = detector.pixel_size_m()
    middle = geometry.origin + 0.5 * (LONG * geometry.fs_axis + SHORT * geometry.ss_axis)
    centre = CENTRE - middle[order][:, 1::-1] / pixel                           # rows from y, columns from x
    fs = geometry.fs_axis[order].reshape(32, 2, 3).mean(axis=1)
    angle = np.degrees(np.arctan2(-fs[:, 0], -fs[:, 1])).reshape(4, 8) % 360.0
    return Metrology(centre.reshape(32, 2, 2).mean(axis=1).reshape(4, 8, 2), angle, np.zeros((64, 2)), np.zeros(64))


def write_calib_dir(metrology, folder):
    """Write a `calib_dir`; quadrants are neither turned nor moved in it, so centres count from the image's corner."""
    quarter = 90.0 * np.rint(metrology.angle / 90.0)
    values = {name: np.zeros(shape) for name, shape in COMPONENTS.items()}
    values["center"][:2] = np.moveaxis(metrology.centre, -1, 0)
    values["rotation"], values["tilt"] = quarter, metrology.angle - quarter
    for name, array in values.items():
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        rows = array.reshape(-1, array.shape[-1])
        with open(os.path.join(folder, name, "0-end.data"), "w", encoding="ascii") as f:
            for k, row in enumerate(rows):
                blank = "\n" if array.ndim == 3 and k and k % array.shape[1] == 0 else ""
                f.write(blank + " ".join(f"{x:.6f}" for x in row) + "\n")
