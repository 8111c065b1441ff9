"""Puts perfkit.pth beside the package when a wheel is built (pyproject.toml: cmdclass)."""

from pathlib import Path

from setuptools.command.build_py import build_py

NAME = "perfkit.pth"


class BuildWithPth(build_py):  # type: ignore[misc]  # setuptools has no types
    """The usual build, and the file that Python executes at start-up from a site-packages folder.

    An editable install has no such file: there PYTHONPATH alone leads to the boot folder.
    """

    def run(self) -> None:
        """Build; then copy the file to the top of what is installed."""
        super().run()
        if not self.editable_mode:
            source = Path(__file__).with_name(NAME)
            self.copy_file(str(source), str(Path(self.build_lib) / NAME))
