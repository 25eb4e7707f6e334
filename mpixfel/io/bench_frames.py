"""Frames to measure on: Poisson background, spots, compressed as detectors compress them."""
import h5py
import hdf5plugin
import numpy as np

FRAMES = 11
ENERGY_EV, DISTANCE_M, PIXEL_M = 9500.0, 0.1, 75e-6


def write_frames(folder, modules, shape, dtype, spots, seed=1):
    """Write bench.h5 (eleven like frames, bslz4), bench.geom and frame.npy into `folder`.

    `modules` panels of `shape` (ss, fs) stand two abreast, with gaps, around the beam.
    """
    rng = np.random.default_rng(seed)
    frame = rng.poisson(1.0, (modules * shape[0], shape[1])).astype(np.float32)
    profile = np.exp(-0.5 * (np.subtract.outer(np.arange(-3, 4), 0.0) / 0.9) ** 2)
    profile = np.outer(profile, profile) / profile.sum() ** 2
    for _ in range(spots):
        module, s, f = rng.integers(modules), rng.integers(4, shape[0] - 4), rng.integers(4, shape[1] - 4)
        light = rng.poisson(profile * rng.lognormal(5.0, 0.6))
        frame[module * shape[0] + s - 3:module * shape[0] + s + 4, f - 3:f + 4] += light
    np.save(folder / "frame.npy", frame.astype(dtype))
    with h5py.File(folder / "bench.h5", "w") as f:
        data = f.create_dataset("data", (FRAMES, *frame.shape), dtype, chunks=(1, *frame.shape),
                                **hdf5plugin.Bitshuffle(cname="lz4"))
        for k in range(FRAMES):
            data[k] = frame.astype(dtype)
    (folder / "bench.geom").write_text("\n".join(_geometry(modules, shape)) + "\n", encoding="utf-8")


def _geometry(modules, shape):
    yield from (f"photon_energy = {ENERGY_EV:g}", "adu_per_photon = 1", f"clen = {DISTANCE_M:g}",
                f"res = {1 / PIXEL_M:.6f}", "data = /data", "dim0 = %", "dim1 = ss", "dim2 = fs", "max_adu = 60000")
    rows = (modules + 1) // 2
    for k in range(modules):
        row, column = divmod(k, 2)
        yield from (f"m{k}/min_fs = 0", f"m{k}/max_fs = {shape[1] - 1}", f"m{k}/min_ss = {k * shape[0]}",
                    f"m{k}/max_ss = {(k + 1) * shape[0] - 1}", f"m{k}/fs = +1.0x +0.0y", f"m{k}/ss = +0.0x +1.0y",
                    f"m{k}/corner_x = {(column - 1) * (shape[1] + 8) + 4}",
                    f"m{k}/corner_y = {(row - rows / 2) * (shape[0] + 36) + 18}")
