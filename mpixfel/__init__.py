"""MPI-parallel processing of XFEL serial crystallography."""
__version__ = "0.1.0"
