"""SVG figures as pictures, for programs that take no SVG."""

import importlib
import importlib.util

from perfkit.errors import UsageError

SCALE = 2
"""Pixels of a picture per unit of the figure."""

_RENDERER = "resvg_py"


def check() -> None:
    """Raise UsageError if pictures cannot be made here."""
    if importlib.util.find_spec(_RENDERER) is None:
        raise UsageError(
            "a .png needs the package resvg_py, which is not installed",
            hint="pip install 'perfkit[png]', or write an .svg",
        )


def render(svg: str) -> bytes:
    """Return the figure as a picture; its text is set in the fonts of this machine.

    Raises UsageError if pictures cannot be made here.
    """
    check()
    renderer = importlib.import_module(_RENDERER)
    return bytes(renderer.svg_to_bytes(svg_string=svg, zoom=SCALE))
