"""Panels in their true places, as modules export them and reports draw them."""
from mpixfel.io.exports.assembled import Assembled, assemble, outline_mm, position_mm

__all__ = ["Assembled", "assemble", "outline_mm", "position_mm"]
