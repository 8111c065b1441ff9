"""A command line in two: perfkit's own words, and the user's command behind `--`."""

from collections.abc import Sequence


def split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first `--`, and those behind it; ([...], []) without one."""
    at = list(args).index("--") if "--" in args else len(args)
    return list(args[:at]), list(args[at + 1 :])
