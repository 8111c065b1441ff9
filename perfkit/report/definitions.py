"""What every number of a report means: one definition a metric, on hover and as a glossary."""

import tomllib
from functools import cache
from importlib import resources

import msgspec


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of one metric in words, and its formula where it has one."""

    title: str
    text: str
    formula: str = ""


@cache
def definitions() -> dict[str, Definition]:
    """Return every definition by its key; classes of time have the key of analysis.json."""
    source = resources.files("perfkit.report").joinpath("assets/definitions.toml")
    return msgspec.convert(tomllib.loads(source.read_text("utf-8")), dict[str, Definition])


def meaning(key: str) -> str:
    """Return the text shown on hover for `key`; "" where `key` is "".

    Raises:
        KeyError: nothing is defined under that key.

    """
    if not key:
        return ""
    found = definitions()[key]
    return f"{found.text} {found.formula}".rstrip()


def as_markdown() -> str:
    """Return all definitions as a Markdown table, for docs/metrics.md."""
    rows = ["| number | what it means | formula |", "|---|---|---|"]
    for found in sorted(definitions().values(), key=lambda one: one.title.lower()):
        formula = f"`{found.formula}`" if found.formula else ""
        cells = (found.title, found.text, formula)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
