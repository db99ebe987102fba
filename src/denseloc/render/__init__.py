"""Draw localizations as a super-resolved picture and write it to a file."""

from .colour import depth_colours
from .draw import RenderWarning, render
from .picture import read_tiff, save_png, save_tiff

__all__ = ["RenderWarning", "depth_colours", "read_tiff", "render", "save_png", "save_tiff"]
