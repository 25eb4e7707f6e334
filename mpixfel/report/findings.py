"""What a diagnosis finds: one suspicion, the numbers behind it, what to do about it."""
from typing import NamedTuple


class Finding(NamedTuple):
    """One suspicion.

    Attributes
    ----------
    title : str
        In a few words.
    text : str
        What was seen, and what to do.
    numbers : dict
        Behind it; plain numbers, texts and lists.
    likelihood : float
        0 to 1: how likely this is what costs lattices.
    """

    title: str
    text: str
    numbers: dict
    likelihood: float
