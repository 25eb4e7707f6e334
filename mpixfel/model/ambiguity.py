"""Merohedral ambiguity: changes of indices that a lattice allows and its crystal does not (gemmi).

Indexing sees the lattice alone, so it cannot choose among these. They are noted with a run's cells, and left to
programs that compare intensities of many shots (Brehm and Diederichs, Acta Cryst. D 70 (2014) 101).
"""
import gemmi

OBLIQUITY_DEG = 0.5     # how far a lattice may be from a higher symmetry that counts
# Where the space group is not known: the least symmetric one of each lattice type. {}: the centring.
LEAST = {"triclinic": "P 1", "monoclinic": "{} 1 2 1", "orthorhombic": "{} 2 2 2", "tetragonal": "{} 4", "hexagonal": "P 3",
         "rhombohedral": "R 3:H", "cubic": "{} 2 3"}
MONOCLINIC = {"a": "{} 2 1 1", "b": "{} 1 2 1", "c": "{} 1 1 2"}


def ambiguity(cell):
    """Operations such as ("k,h,-l",) that a `UnitCell`'s lattice allows beside those of its space group.

    Where the space group is not known, of the least symmetric one of its lattice type: these are all that may be.
    """
    group = gemmi.find_spacegroup_by_name(cell.space_group) if cell.space_group else None
    group = group or gemmi.find_spacegroup_by_name(_least(cell))
    if group is None:
        return ()
    found = gemmi.find_twin_laws(gemmi.UnitCell(*cell.parameters), group, OBLIQUITY_DEG, False)
    return tuple(sorted(op.as_hkl().triplet() for op in found))


def _least(cell):
    pattern = LEAST[cell.lattice_type]
    if cell.lattice_type == "monoclinic":
        pattern = MONOCLINIC.get(cell.unique_axis, pattern)
    if cell.lattice_type == "rhombohedral" and abs(cell.gamma - 120) > 1:
        pattern = "R 3:R"
    return pattern.format(cell.centring)
