"""Runs with known truth: for the demo, tests and benchmarks.

`simulate(options)` writes a run; `simulate_frame(scene, i)` makes one frame in memory; `spots.simulate_spots` makes
lists of scattering vectors without images.
"""
from mpixfel.simulate.frame import simulate_frame
from mpixfel.simulate.options import SimulateOptions
from mpixfel.simulate.run import simulate
from mpixfel.simulate.scene import make_scene

__all__ = ["SimulateOptions", "make_scene", "simulate", "simulate_frame"]
