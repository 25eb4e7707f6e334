"""Reads the detector and beam of DIALS experiment lists (`.expt`).

DIALS's frame is ours turned by 180 degrees about y; its lengths are in mm. An experiment list does not say where pixels
lie in the data files: that is taken from the NXmx file that it names, where it is there and has the same panels.
"""
import json
import os
from dataclasses import replace

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.geometry.layout import Block, Geometry, Layout, PanelLayout, Quantity
from mpixfel.io.geometry.nxmx import read_nxmx, rotation
from mpixfel.io.geometry.writer import write_geometry
from mpixfel.model.experiment import Beam, Detector, Panel

TURN = np.diag([-1.0, 1.0, -1.0])
MM = 1e-3


def read_expt(text, path):
    """The `Geometry` of an experiment list's first experiment. Raises `MpixfelError` where it is no such list."""
    try:
        experiments = json.loads(text)
        first = experiments["experiment"][0]
        beam, detector = (experiments[kind][first[kind]] for kind in ("beam", "detector"))
        frames = list(_panels(detector))
        to_lab = _beam_along_z(beam) @ TURN
        wavelength = float(beam["wavelength"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise MpixfelError(f"this is no DIALS experiment list with a beam and a detector: {error!r}", path,
                           "give a .expt, a CrystFEL .geom or an NXmx file") from None
    if not wavelength > 0:
        raise MpixfelError(f"the wavelength is {wavelength} angstrom", path, "correct the beam's wavelength")
    panels = [_panel(record, to_lab @ frame, number) for number, (record, frame) in enumerate(frames)]
    clen = float(np.mean([panel.origin_m[2] for panel in panels]))
    panels = [replace(p, origin_m=(*p.origin_m[:2], p.origin_m[2] - clen)) for p in panels]
    panels, layout = _placed(panels, frames, _images_of(experiments, first, path))
    if layout.photon_energy is None:
        layout = replace(layout, photon_energy=Quantity(wavelength, "", "A", is_wavelength=True))
    layout = replace(layout, clen=Quantity(clen, unit="m"), folder=os.path.dirname(os.path.abspath(path)))
    record = frames[0][0]
    result = Detector(tuple(panels), float(record.get("thickness", 0.0)) * MM, str(record.get("material", "")))
    return Geometry(result, Beam(), layout, write_geometry(result, Beam(), None, None, layout))


def _panels(detector):
    """(record, (3, 3) columns fast, slow, origin in mm in DIALS's laboratory) of every panel, in order."""
    found = {}

    def descend(node, frame):
        here = _inside(frame, node) if "origin" in node else frame
        for child in node.get("children", ()):
            if "panel" in child:
                found[child["panel"]] = _inside(here, detector["panels"][child["panel"]])
            else:
                descend(child, here)
    whole = np.eye(3), np.zeros(3)
    descend(detector.get("hierarchy", {}), whole)
    for number, record in enumerate(detector["panels"]):
        axes, origin = found.get(number) or _inside(whole, record)
        yield record, np.stack([axes[:, 0], axes[:, 1], origin], axis=1)


def _inside(frame, record):
    """The frame (axes, origin) of a record that stands in another."""
    axes, origin = frame
    fast, slow = (np.asarray(record[key], float) for key in ("fast_axis", "slow_axis"))
    own = np.stack([fast, slow, np.cross(fast, slow)], axis=1)
    return axes @ own, origin + axes @ np.asarray(record["origin"], float)


def _beam_along_z(beam):
    """(3, 3) least rotation, in our frame, that takes the beam along +z."""
    towards = -(TURN @ np.asarray(beam["direction"], float))
    towards /= np.linalg.norm(towards)
    axis = np.cross(towards, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(axis)
    if sine < 1e-12:
        return np.eye(3) if towards[2] > 0 else np.diag([-1.0, 1.0, -1.0])
    return rotation(axis, np.arctan2(sine, towards[2]))


def _panel(record, frame, number):
    size, (fast_pixel, slow_pixel) = record["image_size"], record["pixel_size"]
    low, high = record.get("trusted_range", (-np.inf, np.inf))
    metres = lambda vector: tuple(float(x) * MM for x in vector)
    return Panel(record.get("name") or f"p{number}", metres(frame[:, 2]), metres(frame[:, 0] * fast_pixel),
                 metres(frame[:, 1] * slow_pixel), (int(size[1]), int(size[0])), float(record.get("gain") or 1.0),
                 flag_less_than=float(low), flag_more_than=float(high))


def _images_of(experiments, first, path):
    """The geometry that the NXmx file of the first image says of itself, or None."""
    try:
        image = experiments["imageset"][first["imageset"]]
        name = image.get("template") or image["images"][0]
        return read_nxmx(os.path.join(os.path.dirname(path), name))
    except (KeyError, IndexError, TypeError, MpixfelError):
        return None


def _placed(panels, frames, nxmx):
    """(panels, layout): where the panels lie in the data."""
    if nxmx and [p.shape for p in nxmx.detector.panels] == [p.shape for p in panels]:
        return [replace(panel, block=p.block, min_ss=p.min_ss, min_fs=p.min_fs)
                for panel, p in zip(panels, nxmx.detector.panels)], nxmx.layout
    offsets = [tuple(record.get("raw_image_offset", (0, 0))) for record, _ in frames]
    path = nxmx.layout.blocks[0].path if nxmx else "/entry/data/data"
    where = (PanelLayout(),) * len(panels)
    if len(panels) == 1 or len(set(offsets)) == len(panels):
        return [replace(panel, min_fs=int(fs), min_ss=int(ss)) for panel, (fs, ss) in zip(panels, offsets)], \
            Layout((Block(path, ("%", "ss", "fs")),), where, None, None)
    blocks = tuple(Block(path, ("%", number, "ss", "fs")) for number in range(len(panels)))
    return [replace(panel, block=number) for number, panel in enumerate(panels)], Layout(blocks, where, None, None)
