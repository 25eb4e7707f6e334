"""The words of a CrystFEL geometry and how their values are read. Each parser raises ValueError with what is wrong."""
import re

from mpixfel.io.geometry.layout import PLACEHOLDER, Quantity

OLD_MASK_WORDS = {"mask": "mask0_data", "mask_file": "mask0_file",
                  "mask_good": "mask0_goodbits", "mask_bad": "mask0_badbits"}

_VECTOR_TERM = re.compile(r"([+-]?)(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|)([xyz])")


def number(text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def positive(text):
    value = number(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} is not a positive number")
    return value


def finite(text):
    value = number(text)
    if not abs(value) < float("inf"):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def index(text):
    """A pixel index: an integer from 0, also written as 0.0."""
    value = number(text)
    if value < 0 or value != int(value):
        raise ValueError(f"{text!r} is not an integer from 0")
    return int(value)


def bits(text):
    """Bits of a mask: decimal, 0x... or 0..."""
    try:
        value = int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer such as 0xffff") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"{text!r} does not fit into 64 bits")
    return value


def truth(text):
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    try:
        return float(text) != 0
    except ValueError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def vector(text):
    """(x, y, z) of a direction such as `-0.001x +0.99y +0.0z`."""
    rest, total = re.sub(r"\s+", "", text), {"x": 0.0, "y": 0.0, "z": 0.0}
    matches = list(_VECTOR_TERM.finditer(rest))
    if not matches or "".join(m.group(0) for m in matches) != rest:
        raise ValueError(f"{text!r} is not a direction such as -0.001x +0.99y +0.0z")
    if any(not m.group(1) for m in matches[1:]):
        raise ValueError(f"{text!r}: a sign is missing between two components")
    for sign, size, axis in (m.groups() for m in matches):
        total[axis] += float(sign + (size or "1"))
    if not any(total.values()):
        raise ValueError(f"{text!r} has no length")
    return (total["x"], total["y"], total["z"])


def dimension(text):
    if text in ("ss", "fs", PLACEHOLDER):
        return text
    try:
        return index(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of ss, fs, % or an integer from 0") from None


def location(text):
    if not text:
        raise ValueError("a path inside the data file is missing")
    return text if text.startswith("/") else "/" + text


def word(text):
    if not text:
        raise ValueError("a value is missing")
    return text


def list_type(text):
    if text not in ("cxi", "list3", "auto"):
        raise ValueError(f"{text!r} is none of cxi, list3, auto")
    return text


def quantity(units, literal_default, path_default, **kind):
    """A parser for `number [unit]` or `/path [unit]`; `units` takes each unit to the program's own."""
    def parse(text):
        value, unit = text.strip(), None
        parts = text.rsplit(None, 1)
        if len(parts) == 2 and not parts[1].startswith("/"):
            value, unit = parts
            if unit not in units:
                raise ValueError(f"unknown unit {unit!r}; known are {', '.join(units)}")
        if not value:
            raise ValueError("a value is missing")
        is_path = re.match(r"[/A-Za-z_]", value) and value.lower() not in ("nan", "inf", "infinity")
        if is_path:
            if " " in value:
                raise ValueError(f"{text!r} is neither a number nor a path, with a unit")
            unit = unit or path_default
            return Quantity(None, location(value), unit, units[unit], **kind)
        unit = unit or literal_default
        if unit is None:
            raise ValueError(f"{text!r} lacks a unit: {' or '.join(units)}")
        return Quantity(finite(value), "", unit, units[unit], **kind)
    return parse


LENGTH = quantity({"m": 1.0, "mm": 1e-3}, "m", "mm")
SHIFT = quantity({"m": 1.0, "mm": 1e-3}, "m", "m")
ENERGY = quantity({"eV": 1.0, "keV": 1e3, "MeV": 1e6}, "eV", "eV")
WAVELENGTH = quantity({"m": 1e10, "A": 1.0}, "m", "m", is_wavelength=True)

# At the top of the file, for the whole experiment.
GLOBAL = {
    "photon_energy": ENERGY, "wavelength": WAVELENGTH, "electron_voltage": word,
    "bandwidth": finite, "clen": LENGTH, "detector_shift_x": SHIFT, "detector_shift_y": SHIFT,
    "peak_list": location, "peak_list_type": list_type,
}

# For a panel, or at the top as the default of panels first mentioned later.
PANEL = {
    "min_fs": index, "max_fs": index, "min_ss": index, "max_ss": index,
    "corner_x": finite, "corner_y": finite, "fs": vector, "ss": vector, "coffset": finite, "res": positive,
    "adu_per_photon": positive, "adu_per_eV": positive, "max_adu": number, "data": location,
    "saturation_map": location, "saturation_map_file": word,
    "flag_lessthan": number, "flag_morethan": number, "flag_equal": number,
    "no_index": truth, "mask_edge_pixels": index,
    **{f"dim{n}": dimension for n in range(8)},
    **{f"mask{n}_{w}": parse for n in range(8) for w, parse in
       (("data", location), ("file", word), ("goodbits", bits), ("badbits", bits))},
    "mask": location, "mask_file": word, "mask_good": bits, "mask_bad": bits,
}

BAD_REGION = {"min_fs": index, "max_fs": index, "min_ss": index, "max_ss": index, "panel": word,
              "min_x": number, "max_x": number, "min_y": number, "max_y": number}

# Of older versions of the format: accepted, without effect.
IGNORED = {"badrow_direction", "peak_sep", "integr_radius", "peak_info_location", "rail_direction",
           "clen_for_centering"}
