"""Writes a simulated run: images, dark run, geometry, cell, configuration, truth."""
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mpixfel import __version__
from mpixfel.errors import MpixfelError
from mpixfel.io import metrology, nxmx
from mpixfel.io.cell import write_cell
from mpixfel.io.geometry.layout import Block, Layout, MaskRule, PanelLayout, Quantity
from mpixfel.io.geometry.writer import write_geometry
from mpixfel.io.truth import TruthWriter, read_config
from mpixfel.model.experiment import Beam, Detector
from mpixfel.simulate import frame as frames
from mpixfel.simulate.readout import STAGE_CODE
from mpixfel.simulate.scene import make_scene
from mpixfel.units import wavelength_angstrom


def simulate(options, progress=None):
    """Write a run with known truth into `options.output`.

    Parameters
    ----------
    options : SimulateOptions
    progress : callable, optional
        Called with the number of finished frames.

    Returns
    -------
    pathlib.Path
        The folder. A folder that holds this very run already is left as it is.

    Raises
    ------
    MpixfelError
        If the folder holds another run and `overwrite` is not set.
    """
    folder = Path(options.output)
    config = {**asdict(options), "version": __version__}
    del config["output"], config["overwrite"]
    text = json.dumps(config)
    if (folder / "truth.h5").exists() and not options.overwrite:
        if read_config(folder / "truth.h5") == text:
            return folder
        raise MpixfelError("another simulated run is there", str(folder), "give --overwrite or another --output")
    folder.mkdir(parents=True, exist_ok=True)
    scene = make_scene(options)
    write_inputs(folder, scene)
    if options.dark_frames:
        _write_calibration(folder / f"{options.stem}-calibration.h5", scene)
        for stage in range(scene.electronics.stages):
            _write_dark(folder / f"{options.stem}-dark{f'-g{stage}' if stage else ''}.h5", scene, stage)
    truth = TruthWriter(_attributes(scene, text))
    _write_images(folder / f"{options.stem}.h5", scene, truth, progress)
    # Last, under its final name only when whole: its presence says that the run is complete.
    truth.write(folder / "truth.h5.part")
    os.replace(folder / "truth.h5.part", folder / "truth.h5")
    return folder


def _write_images(path, scene, truth, progress):
    options, arrangement = scene.options, scene.arrangement
    energies = []
    block = np.zeros(arrangement.block_shape, scene.electronics.dtype)
    stack = np.zeros(scene.stack_shape, scene.electronics.dtype)
    with nxmx.StackWriter(path, f"simulated {options.stem}", options.frames, block.shape, block.dtype) as out:
        for i in range(options.frames):
            frame = frames.simulate_frame(scene, i)
            scene.electronics.words(frame.counted, frame.rng, stack)
            arrangement.pack(stack, block)
            out.frame(i, block)
            energies.append(frame.shot.photon_energy_ev)
            truth.add(_frame_row(scene, frame), frame.lattices, frame.reflections)
            if progress:
                progress(i + 1)
        out.beam(energies, options.bandwidth_fwhm)
        _write_detector(out, scene)


def _write_dark(path, scene, stage):
    """Frames without any photon, in the layout of the images; in a gain stage of its own where there are several."""
    options, arrangement, electronics = scene.options, scene.arrangement, scene.electronics
    block = np.zeros(arrangement.block_shape, electronics.dtype)
    stack = np.zeros(scene.stack_shape, electronics.dtype)
    nothing = np.zeros(scene.stack_shape, np.int32)
    with nxmx.StackWriter(path, f"simulated {options.stem}, dark", options.dark_frames, block.shape, block.dtype) as out:
        for i in range(options.dark_frames):
            electronics.words(nothing, np.random.default_rng([options.seed, 2, stage, i]), stack, stage)
            arrangement.pack(stack, block)
            out.frame(i, block)
        out.beam(np.full(options.dark_frames, options.photon_energy_ev), options.bandwidth_fwhm)
        _write_detector(out, scene)


def _write_detector(out, scene):
    """The mask and what describes the detector: the images' geometry fits the dark run, too."""
    options = scene.options
    mask = np.full(scene.arrangement.block_shape, 1, np.uint32)
    scene.arrangement.pack(scene.mask, mask)
    out.detector(mask, options.distance_mm * 1e-3, options.pixel_um * 1e-6, options.saturation_adu)


def _write_calibration(path, scene):
    arrangement, electronics = scene.arrangement, scene.electronics
    pedestal = np.zeros((electronics.stages, *arrangement.block_shape), np.float32)
    for stage, plane in zip(electronics.pedestal, pedestal):
        arrangement.pack(stage.reshape(scene.stack_shape), plane)
    codes = STAGE_CODE[:electronics.stages]
    nxmx.write_calibration(path, pedestal, electronics.noise, electronics.gain, codes)


def write_inputs(folder, scene):
    """Geometry, perturbed geometry, cell and a configuration of four lines; raw words need the constants, too."""
    options = scene.options
    stem, detector, clen = options.stem, scene.arrangement.detector, options.distance_mm * 1e-3
    beam = Beam(bandwidth_fwhm=_gaussian_fwhm(options))
    layout = _file_layout(scene, clen)
    pixel = options.pixel_um * 1e-6
    moved = tuple(replace(p, origin_m=(p.origin_m[0] + options.perturb_px[0] * pixel,
                                       p.origin_m[1] + options.perturb_px[1] * pixel, p.origin_m[2]))
                  for p in detector.panels)
    for name, panels, z in ((stem, detector.panels, clen),
                            (f"{stem}-perturbed", moved, clen * (1.0 + options.perturb_distance))):
        text = write_geometry(Detector(panels), beam, z, None, layout)
        (folder / f"{name}.geom").write_text(f"; simulated {name}\n" + text)
    if options.layout == "cspad":
        metrology.write_calib_dir(metrology.metrology_of(detector), folder / "metrology" / "CxiDs1.0_Cspad.0")
    (folder / f"{stem}.cell").write_text(write_cell(scene.cell))
    (folder / "run.cfg").write_text(f"[mpixfel]\nsource = {stem}.h5\ngeometry = {stem}.geom\ncell = {stem}.cell\n"
                                    "output = out\n" + _calibration_section(options))


def _calibration_section(options):
    """What a configuration says of the true electronics, where their file is written."""
    if not options.dark_frames:
        return ""
    file = f"{options.stem}-calibration.h5"
    text = f"\n[calibration]\ndark_path = {file}:/pedestal\ndark_stddev_path = {file}:/stddev\n"
    if options.gain_switching:
        text += f"gain_map_path = {file}:/gain_map\ngain_map_unit = adu_per_photon\ngain_switching = jungfrau\n"
    return text


def _gaussian_fwhm(options):
    """Bandwidth as a geometry file states it: by its standard deviation, whatever the shape."""
    if options.spectrum == "flat":
        return options.bandwidth_fwhm / np.sqrt(12.0) * frames.FWHM
    return options.bandwidth_fwhm


def _file_layout(scene, clen_m):
    panels = scene.arrangement.detector.panels
    if scene.arrangement.stacked:
        blocks = tuple(Block(nxmx.DATA, ("%", i, "ss", "fs")) for i in range(len(panels)))
    else:
        blocks = (Block(nxmx.DATA, ("%", "ss", "fs")),)
    masked = PanelLayout(masks=(MaskRule(nxmx.MASK, bad=0xffff),), mask_numbers=(0,))
    return Layout(blocks, (masked,) * len(panels), Quantity(path=nxmx.ENERGY, unit="eV"), Quantity(clen_m, unit="m"))


def _attributes(scene, config):
    options = scene.options
    out = {"set": options.stem, "config": config, "cell": np.array(options.cell, float),
           "space_group": options.space_group, "structure_factors": options.reflections or "wilson",
           "distance_mm": options.distance_mm, "pixel_mm": options.pixel_um * 1e-3,
           "gain_adu_per_photon": options.adu_per_photon}
    panel = scene.arrangement.detector.panels[0]
    if len(scene.arrangement.detector.panels) == 1:
        pixel = options.pixel_um * 1e-6
        fast, slow = np.array(panel.fs_axis_m) / pixel, np.array(panel.ss_axis_m) / pixel
        origin = np.array(panel.origin_m) / pixel
        out.update(fast_axis=fast, slow_axis=slow, beam_centre_px=np.array([-origin @ fast, -origin @ slow]))
    return out


def _frame_row(scene, frame):
    shot = frame.shot
    return {"is_blank": shot.is_blank, "photon_energy_eV": shot.photon_energy_ev,
            "wavelength_A": wavelength_angstrom(shot.photon_energy_ev), "background_ph_at_ring": shot.background_ph,
            "bandwidth_rel_fwhm": scene.options.bandwidth_fwhm, "distance_mm": scene.options.distance_mm,
            "source_m": shot.source_m}
