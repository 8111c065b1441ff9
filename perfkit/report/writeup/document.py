"""A write-up, typed and free of any output format. Texts are final; figures are SVG documents."""

from collections.abc import Sequence
from dataclasses import dataclass, field

ANALYSIS = "Analysis"
"""The chapter that a lab sheet calls so, and whose length it gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A title; level 1 is the document's."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """One paragraph of plain text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list of plain texts."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of plain texts; columns from `numeric` up to `prose` are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 1
    prose: int | None = None

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return self.numeric <= column < (len(self.header) if self.prose is None else self.prose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An SVG document, to be written beside the text as `name`.svg."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Evidence that is missing, and the command that brings it."""

    what: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class YourTurn:
    """A place for the student's own reasoning, with a question to answer."""

    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Lines to copy into a shell."""

    lines: tuple[str, ...]


Block = Heading | Paragraph | Bullets | Grid | Figure | Gap | YourTurn | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole write-up. `ledger` is the machine-readable decision log, {} if it has none."""

    title: str
    blocks: tuple[Block, ...]
    ledger: dict[str, object] = field(default_factory=dict)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is missing."""
        return tuple(block for block in self.blocks if isinstance(block, Gap))

    @property
    def words(self) -> int:
        """Words of running text: paragraphs and lists, without tables and places to fill in."""
        return _words(self.blocks)

    @property
    def words_of_analysis(self) -> int | None:
        """The same of the analysis; None where the document has no chapter of that name."""
        chapters = [i for i, b in enumerate(self.blocks) if isinstance(b, Heading) and b.level == 2]
        ends = [*chapters[1:], len(self.blocks)]
        for begin, end in zip(chapters, ends, strict=False):
            if self.blocks[begin] == Heading(text=ANALYSIS):
                return _words(self.blocks[begin:end])
        return None


def _words(blocks: Sequence[Block]) -> int:
    texts = [block.text for block in blocks if isinstance(block, Paragraph)]
    texts += [text for b in blocks if isinstance(b, Bullets) for text in b.items]
    return sum(len(text.split()) for text in texts)
