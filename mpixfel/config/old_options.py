"""Options of the old pyana modules, and what has become of each."""
MODULES = {}


def translate_run(rows, resolution):
    """The rows of `[pyana]` in the words of `[mpixfel]`."""
    return rows


def translate_module(name, rows, known, resolution):
    """The rows of a module's section in the words of its `Options` and of the stages."""
    return rows
