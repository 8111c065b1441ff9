"""Shell lines of the documentation: what stands in its indented and fenced blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("perfkit", "make", "pip", "torchrun", "python", "NAME=")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> list[list[str]]:
    """Return the words of every shell line of a page, comments left out."""
    lines = [shlex.split(line, comments=True) for line in _lines(page.read_text("utf-8"))]
    return [words for words in lines if words and words[0] in PROGRAMS]


def _lines(text: str) -> Iterator[str]:
    for language, body in _FENCE.findall(text):
        if language in {"sh", "bash"}:
            yield from body.replace("\\\n", " ").splitlines()
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("    ") and line.strip().split(" ")[0] in PROGRAMS:
            yield line.strip()
