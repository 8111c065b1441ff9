"""Whatever command line perfkit suggests, anywhere in its code, is one that exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfkit.cli import app

ROOT = Path(__file__).parents[2]
FOLDERS = ("perfkit", "profiler", "analyzers", "roofline", "recipes")
COMMANDS = (
    *("profile", "analyze", "report", "compare", "ceilings", "roofline", "whatif", "scale"),
    *("faults", "recipes", "optimize", "writeup", "capture", "dump", "export", "schema", "doctor"),
)
"""The commands that perfkit has or is to have: what follows "perfkit" in a suggestion."""
# Inside running text, and also where parts of it are the holes of a format string.
COMMAND = re.compile(
    rf"(?<![\w/.])perfkit ({'|'.join(COMMANDS)})\b((?: +(?:-[-\w]+|[A-Z][\w:.]*|\d[\w:]*))*)"
)
OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")


def literals(path: Path) -> Iterator[str]:
    """Yield every string constant of a module; the holes of a format string read as X."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def suggestions() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield where a command line is written, its command and its options."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(parent.is_symlink() for parent in path.parents):
                continue
            for text in literals(path):
                for command, rest in COMMAND.findall(text):
                    yield str(path.relative_to(ROOT)), command, tuple(OPTION.findall(rest))


SUGGESTIONS = sorted(set(suggestions()))


def test_there_are_suggestions() -> None:
    assert len(SUGGESTIONS) > 5


@pytest.mark.parametrize(("where", "command", "options"), SUGGESTIONS)
def test_a_suggested_command_exists(where: str, command: str, options: tuple[str, ...]) -> None:
    assert command in dict(app.COMMANDS), where
    known = {option for parameter in app.load(command).params for option in parameter.opts}
    assert set(options) <= known, where
