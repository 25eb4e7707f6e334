"""`target_cell` to unit cells: six numbers and a centring, with the lattice that their metric has."""
import itertools

from mpixfel.errors import MpixfelError
from mpixfel.model.crystal import UnitCell

LENGTH_TOLERANCE = 1e-3     # relative
ANGLE_TOLERANCE = 0.05      # degrees
TRICLINIC_SETTING = 1       # number that the old program gave to the triclinic setting of any cell


def target_cells(run):
    """The `UnitCell` of each form in `run.target_cell`, in the conventional setting of its metric symmetry.

    Raises `MpixfelError` for numbers that are no cell, and for a centring that the lattice cannot have.
    """
    numbers, letters = run.target_cell, run.target_cell_centring
    forms = [numbers[i:i + 6] for i in range(0, len(numbers), 6)]
    if len(letters) not in (1, len(forms)):
        raise MpixfelError(f"{len(letters)} centrings for {len(forms)} cells", "mpixfel.target_cell_centring",
                           "give one letter, or one for each cell")
    letters = letters * len(forms) if len(letters) == 1 else letters
    return tuple(_cell(form, letter, run.known_setting == TRICLINIC_SETTING) for form, letter in zip(forms, letters))


def _cell(form, centring, triclinic):
    if triclinic and centring != "P":
        raise MpixfelError(f"a triclinic cell cannot be {centring}-centred", "mpixfel.known_setting",
                           "leave known_setting away, or give the primitive cell")
    kind, order = ("triclinic", (0, 1, 2)) if triclinic else _lattice(form, centring)
    lengths, angles = [form[i] for i in order], [form[3 + i] for i in order]
    if centring in "ABC":
        centring = "ABC"[order.index("ABC".index(centring))]
    if centring == "R" and kind == "hexagonal":
        centring = "H"
    axis = {"tetragonal": "c", "hexagonal": "c", "monoclinic": "b"}.get(kind, "")
    return UnitCell(*lengths, *angles, lattice_type=kind, centring=centring, unique_axis=axis, name="target_cell")


def _lattice(form, centring):
    """(lattice type, order of the axes that makes the setting conventional)."""
    for order in itertools.permutations(range(3)):
        a, b, c = (form[i] for i in order)
        alpha, beta, gamma = (form[3 + i] for i in order)
        if _same(a, b) and _right(alpha) and _right(beta) and abs(gamma - 120) < ANGLE_TOLERANCE:
            return "hexagonal", order
        if _same(a, b) and _right(alpha, beta, gamma) and not _same(a, c) and centring in "PI":
            return "tetragonal", order
    lengths, angles = form[:3], form[3:]
    if _right(*angles):
        cubic = _same(*lengths) and centring in "PIF"
        return "cubic" if cubic else "orthorhombic", (0, 1, 2)
    if _same(*lengths) and max(angles) - min(angles) < ANGLE_TOLERANCE and centring in "PR":
        return "rhombohedral", (0, 1, 2)
    oblique = [i for i in range(3) if not _right(angles[i])]
    if len(oblique) == 1:
        return "monoclinic", tuple((oblique[0] + shift) % 3 for shift in (2, 0, 1))
    return "triclinic", (0, 1, 2)


def _same(*lengths):
    return max(lengths) - min(lengths) < LENGTH_TOLERANCE * max(lengths)


def _right(*angles):
    return all(abs(angle - 90) < ANGLE_TOLERANCE for angle in angles)
