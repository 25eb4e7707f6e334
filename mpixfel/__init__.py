"""MPI-parallel processing of XFEL serial crystallography."""
__version__ = "0.1.0"


def __getattr__(name):
    # On demand: `mpixfel --version` need not load a compiler.
    if name == "index_spots":
        from mpixfel.stages.indexing import index_spots
        return index_spots
    raise AttributeError(f"module 'mpixfel' has no attribute {name!r}")
