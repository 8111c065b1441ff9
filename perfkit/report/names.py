"""Foreign text made safe to show: control and direction characters become visible, length bounded.

Kernel, rank, host and path names come from files that anyone may have written. Escaping for HTML
is the template's task; here a name loses what could move the cursor of a terminal, reverse the
reading direction of a page or hide in it, and nothing else.
"""

import unicodedata

NAME_LIMIT = 400
"""Characters of a name that a page shows; longer names lose their middle."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return `text` with every control, format and unassigned character written as \uXXXX.

    Newlines and tabs become one space, so that a name stays on its line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_character(c) for c in text)


def shorten(text: str, limit: int = NAME_LIMIT) -> str:
    """Return `text` with its middle left out where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    if limit < 24:
        return text[: max(limit - 1, 0)] + "…"
    note = f" … {len(text)} characters … "
    kept = max(limit - len(note), 2)
    return text[: kept - kept // 3] + note + text[len(text) - kept // 3 :]


def name(text: str, limit: int = NAME_LIMIT) -> str:
    """Return a foreign name as it may be shown: visible characters only, at most `limit`."""
    return shorten(visible(text), limit)


def cells(text: str) -> int:
    """Return how many terminal columns `text` takes: wide characters two, combining none."""
    return sum(_cell_width(c) for c in text)


def fit(text: str, width: int) -> str:
    """Return `text` cut at its end to at most `width` terminal columns."""
    if cells(text) <= width:
        return text
    kept: list[str] = []
    used = 0
    for character in text:
        used += _cell_width(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _cell_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _visible_character(character: str) -> str:
    if character in "\n\t\r":
        return " "
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
