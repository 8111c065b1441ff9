"""A write-up as GitHub-flavoured Markdown. Names from a run can be nothing but text in it."""

import re
from collections.abc import Iterator

from perfkit.report.writeup.document import (
    Block,
    Bullets,
    Code,
    Document,
    Figure,
    Gap,
    Grid,
    Heading,
    Paragraph,
    YourTurn,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$])")


def text_of(text: str) -> str:
    """Return plain text in which no character has a meaning of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def render(document: Document, figures: str, drawn: str = "svg") -> str:
    """Return the document; `figures` is the folder of its figures, relative to it, `drawn` how."""
    blocks = [Heading(text=document.title, level=1), *document.blocks]
    return "\n\n".join("\n".join(_lines(block, figures, drawn)) for block in blocks) + "\n"


def _lines(block: Block, figures: str, drawn: str) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * block.level} {text_of(block.text)}"
        case Paragraph():
            yield text_of(block.text)
        case Bullets():
            yield from (f"- {text_of(item)}" for item in block.items)
        case Grid():
            yield from _grid(block)
        case Figure():
            yield f"![{text_of(block.caption)}]({figures}/{block.name}.{drawn})"
        case Gap():
            yield f"> **Missing:** {text_of(block.what)}. To fill it:"
            yield ">"
            yield f">     {block.command}"
        case YourTurn():
            yield f"> **Your reasoning:** {text_of(block.question)}"
        case Code():
            yield from (f"    {line}" for line in block.lines)


def _grid(block: Grid) -> Iterator[str]:
    yield f"| {' | '.join(map(text_of, block.header))} |"
    rules = ["---:" if block.is_numeric(i) else "---" for i in range(len(block.header))]
    yield f"| {' | '.join(rules)} |"
    yield from (f"| {' | '.join(map(text_of, row))} |" for row in block.rows)
