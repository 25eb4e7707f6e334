"""Geometries: where panels stand in the laboratory and where their pixels are in the files."""
from mpixfel.io.geometry.formats import read_geometry
from mpixfel.io.geometry.layout import BadRegion, Block, Geometry, Layout, MaskRule, PanelLayout, Quantity
from mpixfel.io.geometry.reader import parse_geometry
from mpixfel.io.geometry.regions import geometry_mask
from mpixfel.io.geometry.writer import write_geometry

__all__ = ["BadRegion", "Block", "Geometry", "Layout", "MaskRule", "PanelLayout", "Quantity",
           "geometry_mask", "parse_geometry", "read_geometry", "write_geometry"]
