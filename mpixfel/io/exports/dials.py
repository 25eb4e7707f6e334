"""Experiment lists (`.expt`) and reflection tables (`.refl`) of stills, as DIALS reads them.

DIALS's frame is ours turned by 180 degrees about y, its lengths are in mm. A reflection table is msgpack: of that
format only what is needed is written here (The MessagePack specification: arrays, maps, strings, binary, whole
numbers).
"""
import json
import os
import struct

import gemmi
import numpy as np

from mpixfel.model.tables import Flag

TURN = np.array([-1.0, 1.0, -1.0])
# Bits of the column `flags`.
PREDICTED, OBSERVED, INDEXED, USED, STRONG, INTEGRATED_SUM, INTEGRATED_PRF = (1 << n for n in (0, 1, 2, 3, 5, 8, 9))
OVERLOADED, OVERLAPPED, BAD_FOREGROUND = 1 << 10, 1 << 12, 1 << 14
HALF_BOX = 3          # pixels


def write_experiments(stem, record, shot, geometries, context):
    """Write `stem`.expt.part and `stem`.refl.part; returns the two paths without `.part`.

    Parameters
    ----------
    geometries : list of PanelGeometry
        One for each lattice of the record, as refined.
    """
    # No two experiments of all files that are read together may have one identifier; names of events repeat from file to
    # file and from run to run.
    names = [f"{os.path.basename(stem)} lattice {k}" for k in range(len(record.lattices))]
    paths = f"{stem}.expt", f"{stem}.refl"
    with open(paths[0] + ".part", "w", encoding="utf-8") as f:
        json.dump(experiment_list(record, shot, geometries, context, names), f, indent=1)
    with open(paths[1] + ".part", "wb") as f:
        f.write(reflection_table(record, shot, geometries, names))
    return paths


def experiment_list(record, shot, geometries, context, names):
    """The experiment list as plain values: an experiment, a beam, a detector and a crystal for each lattice."""
    beam = {"__id__": "monochromatic", "direction": [0.0, 0.0, 1.0], "wavelength": float(shot.wavelength_angstrom),
            "divergence": 0.0, "sigma_divergence": 0.0, "polarization_normal": polarisation_normal(context.beam),
            "polarization_fraction": float(context.beam.polarisation_fraction), "flux": 0.0, "transmission": 1.0}
    return {"__id__": "ExperimentList",
            "experiment": [{"__id__": "Experiment", "identifier": name, "beam": 0, "detector": k, "crystal": k}
                           for k, name in enumerate(names)],
            "imageset": [], "beam": [beam],
            "detector": [detector(context.detector, geometry, shot) for geometry in geometries],
            "goniometer": [], "scan": [], "crystal": [crystal(row) for row in record.lattices], "profile": [],
            "scaling_model": []}


def polarisation_normal(beam):
    """Unit vector normal to beam and electric field, in DIALS's frame."""
    normal = np.cross((0.0, 0.0, 1.0), beam.polarisation_axis) * TURN
    return (normal / np.linalg.norm(normal)).tolist()


def detector(panels, geometry, shot):
    """A detector record; trusted ranges in photons."""
    size = lambda axis: float(1e3 * np.linalg.norm(axis))
    return {"panels": [{
        "name": p.name, "type": "SENSOR_PAD", "fast_axis": (fs * TURN / np.linalg.norm(fs)).tolist(),
        "slow_axis": (ss * TURN / np.linalg.norm(ss)).tolist(), "origin": (1e3 * origin * TURN).tolist(),
        "raw_image_offset": [0, 0], "image_size": [int(p.shape[1]), int(p.shape[0])],
        "pixel_size": [size(fs), size(ss)],
        "trusted_range": [-1e6, float(min(p.max_adu / gain, 1e9))], "thickness": 1e3 * panels.sensor_thickness_m,
        "material": panels.sensor_material, "mu": 0.0, "identifier": "", "mask": [], "gain": 1.0, "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"}}
        for p, origin, fs, ss, gain in zip(panels.panels, geometry.origin, geometry.fs_axis, geometry.ss_axis,
                                           shot.gain)]}


def crystal(row):
    """A crystal record of a LATTICE row."""
    axes = np.linalg.inv(row["reciprocal_axes"]).T * TURN
    found = {"__id__": "crystal",
             "space_group_hall_symbol": hall_symbol(row["space_group"].decode(), row["centring"].decode())}
    found.update({f"real_space_{name}": axis.tolist() for name, axis in zip("abc", axes)})
    if np.isfinite(row["half_mosaicity"]) and np.isfinite(row["domain_size"]):
        found.update(ML_half_mosaicity_deg=float(row["half_mosaicity"]), ML_domain_size_ang=float(row["domain_size"]))
    return found


def hall_symbol(space_group, centring):
    """Hall symbol of a Hermann-Mauguin symbol; of the lattice alone where that is not known."""
    known = gemmi.find_spacegroup_by_name(space_group) if space_group else None
    return " " + (known.hall if known else f"{centring.replace('H', 'R') or 'P'} 1")


def reflection_table(record, shot, geometries, names):
    """The bytes of a `.refl` file."""
    r = record.reflections
    n, lattice = len(r), r["lattice"]
    pick = lambda name: np.array([getattr(g, name) for g in geometries])[lattice, r["panel"]] if n else np.zeros((0, 3))
    fs, ss = r["fs"].astype(float), r["ss"].astype(float)
    fs_axis, ss_axis = pick("fs_axis"), pick("ss_axis")
    direction = pick("origin") + fs[:, None] * fs_axis + ss[:, None] * ss_axis
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    zero = np.zeros(n)
    mm = (1e3 * fs * np.linalg.norm(fs_axis, axis=1), 1e3 * ss * np.linalg.norm(ss_axis, axis=1), zero)
    x, y = np.floor(fs).astype(int), np.floor(ss).astype(int)
    box = (x - HALF_BOX, x + HALF_BOX + 1, y - HALF_BOX, y + HALF_BOX + 1, zero, zero + 1)
    vec3 = lambda *columns: ("vec3<double>", np.stack(columns, axis=-1).astype("<f8"))
    number = lambda values: ("double", np.asarray(values, "<f8"))
    with np.errstate(divide="ignore"):
        d = 1.0 / r["resolution"].astype(float)
    columns = {
        "id": ("int", lattice.astype("<i4")), "panel": ("std::size_t", r["panel"].astype("<u8")),
        "miller_index": ("cctbx::miller::index<>", r["hkl"].astype("<i4")), "flags": ("std::size_t", flags_of(r)),
        "intensity.sum.value": number(r["intensity_sum"]),
        "intensity.sum.variance": number(r["sigma_sum"].astype(float) ** 2),
        "intensity.prf.value": number(r["intensity"]), "intensity.prf.variance": number(r["sigma"].astype(float) ** 2),
        "lp": number(r["correction"]), "background.mean": number(r["background"]),
        "partiality": number(r["partiality"]),
        "d": number(d), "xyzcal.px": vec3(fs, ss, zero), "xyzcal.mm": vec3(*mm), "xyzobs.px.value": vec3(fs, ss, zero),
        "s1": ("vec3<double>", (direction / length * TURN / shot.wavelength_angstrom).astype("<f8")),
        "bbox": ("int6", np.stack(box, axis=-1).astype("<i4")), "entering": ("bool", np.zeros(n, np.uint8))}
    return packed(["dials::af::reflection_table", 1, {
        "identifiers": dict(enumerate(names)), "nrows": n,
        "data": {name: [kind, [n, values.tobytes()]] for name, (kind, values) in columns.items()}}])


def flags_of(reflections):
    """(n,) uint64 of DIALS's bits."""
    has = lambda bit: (reflections["flags"] & bit) != 0
    flags = np.full(len(reflections), PREDICTED | INDEXED | INTEGRATED_SUM, "<u8")
    for bit, theirs in ((Flag.profile_fitted, INTEGRATED_PRF), (Flag.indexed_peak, OBSERVED | STRONG | USED),
                        (Flag.saturated, OVERLOADED), (Flag.overlap, OVERLAPPED), (Flag.masked, BAD_FOREGROUND)):
        flags[has(bit)] |= np.uint64(theirs)
    return flags


def packed(value):
    """msgpack bytes of whole numbers, texts, bytes, lists and dicts."""
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value) if not 0 <= value < 128 else struct.pack("B", value)
    if isinstance(value, str):
        data = value.encode()
        return struct.pack(">BI", 0xDB, len(data)) + data
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(packed(k) + packed(v) for k, v in value.items())
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(packed, value))
