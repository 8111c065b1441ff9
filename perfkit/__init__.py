"""perfkit: say why a distributed PyTorch step takes as long as it does, and what to fix."""

from perfkit.version import __version__

__all__ = ["__version__"]
