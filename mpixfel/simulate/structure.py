"""Intensities |F|^2 of a crystal structure: drawn from Wilson's statistics, or read from a reflection file."""
from dataclasses import dataclass

import gemmi
import numpy as np

from mpixfel.errors import MpixfelError

# Mean f^2 of the light atoms of a protein (C, N, O), electrons^2, and how it falls: f^2 exp(-2 B_f / (4 d^2)).
LIGHT_ATOM_F2 = 46.0
LIGHT_ATOM_B = 7.0
INDEX_OFFSET = 1 << 20


def space_group(name):
    """gemmi's space group; `MpixfelError` for an unknown name."""
    found = gemmi.find_spacegroup_by_name(name)
    if found is None:
        raise MpixfelError(f"unknown space group {name!r}", "space_group", "write it as in P 43 21 2 or P43212")
    return found


class Symmetry:
    """What a space group does to indices: canonical index (Friedel mates are equal), multiplicity, absences."""

    def __init__(self, name):
        operations = space_group(name).operations()
        den = gemmi.Op.DEN
        self.rotations = [np.array(op.rot) // den for op in operations.sym_ops]
        self._shifts = [(np.array(op.rot) // den, np.array(op.tran) / den) for op in operations]

    def canonical(self, hkl):
        """(n, 3): the largest, in lexical order, of all equivalents of each index."""
        best = np.full(len(hkl), np.iinfo(np.int64).min)
        for rotation in self.rotations:
            for sign in (1, -1):
                best = np.maximum(best, pack(sign * (hkl @ rotation)))
        return unpack(best)

    def centric(self, hkl):
        """(n,) bool: the structure factor's phase is fixed."""
        return np.any([np.all(hkl @ r == -hkl, axis=1) for r in self.rotations], axis=0)

    def epsilon(self, hkl):
        """(n,) int: how often the index is its own equivalent; the mean intensity is that many times larger."""
        return np.sum([np.all(hkl @ r == hkl, axis=1) for r in self.rotations], axis=0)

    def absent(self, hkl):
        """(n,) bool: extinct by centring, screws or glides."""
        out = np.zeros(len(hkl), bool)
        for rotation, shift in self._shifts:
            phase = hkl @ shift
            out |= np.all(hkl @ rotation == hkl, axis=1) & (np.abs(phase - np.rint(phase)) > 1e-6)
        return out


def pack(hkl):
    """(n,) int64 from (n, 3) indices, in lexical order."""
    h, k, l = (np.asarray(hkl[:, i], np.int64) + INDEX_OFFSET for i in range(3))
    return (h << 42) | (k << 21) | l


def unpack(key):
    """(n, 3) int64 from packed indices."""
    low = (1 << 21) - 1
    return np.stack([key >> 42, (key >> 21) & low, key & low], axis=1) - INDEX_OFFSET


def uniform_of(key, seed, stream):
    """(n,) numbers in (0, 1) that depend on key, seed and stream alone (SplitMix64; Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        x = key.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64((2 * seed + stream + 1) & 0xFFFFFFFF)
        for _ in range(2):
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(11)).astype(float) + 0.5) / 2.0 ** 53


@dataclass(frozen=True)
class WilsonIntensities:
    """Wilson's statistics (Acta Cryst. 2 (1949) 318), the same list for the same seed.

    Acentric: exponential; centric: chi-squared of one degree. Mean: epsilon V atoms_per_angstrom3 f^2 exp(-B / (2 d^2)).
    """

    symmetry: Symmetry
    volume_angstrom3: float
    b_factor_angstrom2: float
    atoms_per_angstrom3: float
    seed: int

    def __call__(self, hkl, q):
        """|F|^2, electrons^2, of (n, 3) indices with |q| = 1/d (n,)."""
        canonical = self.symmetry.canonical(hkl)
        key = pack(canonical)
        u, v = uniform_of(key, self.seed, 0), uniform_of(key, self.seed, 1)
        exponential = -np.log(u)
        # Box and Muller: cos of a uniform angle turns 2 x exponential into the square of a normal number.
        normal_squared = 2.0 * exponential * np.cos(2.0 * np.pi * v) ** 2
        statistic = np.where(self.symmetry.centric(canonical), normal_squared, exponential)
        mean = (self.volume_angstrom3 * self.atoms_per_angstrom3 * LIGHT_ATOM_F2
                * np.exp(-(self.b_factor_angstrom2 + LIGHT_ATOM_B) * q * q / 2.0))
        return np.where(self.symmetry.absent(hkl), 0.0, self.symmetry.epsilon(canonical) * mean * statistic)


@dataclass(frozen=True)
class ListedIntensities:
    """|F|^2 from a list; reflections that are not listed are absent."""

    symmetry: Symmetry
    keys: np.ndarray       # (n,) packed canonical indices, ascending
    values: np.ndarray     # (n,)

    def __call__(self, hkl, q):
        """|F|^2 of (n, 3) indices."""
        key = pack(self.symmetry.canonical(hkl))
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where(self.keys[at] == key, self.values[at], 0.0)


def listed(symmetry, hkl, intensity):
    """`ListedIntensities` of (n, 3) indices and (n,) intensities; negative ones count as 0, equivalents as their mean."""
    key, back = np.unique(pack(symmetry.canonical(np.asarray(hkl, np.int64))), return_inverse=True)
    total = np.bincount(back, np.maximum(intensity, 0.0))
    return ListedIntensities(symmetry, key, total / np.bincount(back))


def read_reflections(path):
    """(n, 3) indices and (n,) intensities of a CrystFEL reflection list (.hkl) or an MTZ file.

    From an MTZ file: the first intensity column (type J), or the first amplitude column (type F) squared.
    """
    try:
        return _read_mtz(path) if str(path).endswith(".mtz") else _read_hkl(path)
    except (OSError, RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise MpixfelError(f"not a reflection file: {error}", str(path), "give a CrystFEL .hkl list or an MTZ") from error


def _read_mtz(path):
    mtz = gemmi.read_mtz_file(str(path))
    table = np.array(mtz, copy=True)
    for kind in ("J", "F"):
        columns = [c for c in mtz.columns if c.type == kind]
        if columns:
            value = table[:, columns[0].idx].astype(float)
            good = np.isfinite(value)
            return table[good, :3].astype(int), value[good] if kind == "J" else value[good] ** 2
    raise ValueError("no column of intensities (J) or amplitudes (F)")


def _read_hkl(path):
    rows, inside = [], False
    with open(path) as lines:
        for line in lines:
            word = line.split()
            if line.startswith("End of reflections"):
                break
            if inside and len(word) >= 4:
                rows.append([float(x) for x in word[:4]])
            inside = inside or word[:4] == ["h", "k", "l", "I"]
    if not rows:
        raise ValueError("no reflections")
    rows = np.array(rows)
    return rows[:, :3].astype(int), rows[:, 3]
