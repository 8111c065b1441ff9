"""Lines folded to the width of a terminal, so that tables stay tables."""

import re
from collections.abc import Iterator

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_TOKEN = re.compile(r"\s+|(?:\x1b\[[0-9;]*m|\S)+")
_GAP = re.compile(r"\s{2,}(?=\S)")
HANG_AT_MOST = 0.6
"""Of the width: a column that begins further right leaves too little room to fold into."""


def fold(text: str, width: int) -> str:
    """Return the text with lines longer than `width` columns folded between words.

    What is folded stands below the last column of its line, as far as that leaves room. Words are
    never broken: paths and commands can be copied. Colours take no room.
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> Iterator[str]:
    if _columns(line) <= width:
        yield line
        return
    hang = " " * _hang(_ESCAPE.sub("", line), width)
    part, empty = "", True
    for token in _TOKEN.findall(line):
        if not empty and not token.isspace() and _columns(part) + _columns(token) > width:
            yield part.rstrip()
            part, empty = hang, True
        if empty and part and token.isspace():
            continue  # a fold takes the place of the space
        part += token
        empty = empty and token.isspace()
    yield part.rstrip()


def _hang(line: str, width: int) -> int:
    indent = len(line) - len(line.lstrip())
    columns = [
        gap.end() for gap in _GAP.finditer(line, indent) if gap.end() <= width * HANG_AT_MOST
    ]
    return columns[-1] if columns else min(indent + 2, width // 2)


def _columns(text: str) -> int:
    return len(_ESCAPE.sub("", text))
