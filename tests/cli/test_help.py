"""Help that can be followed: an example for every command, of options that exist; completion."""

import json
import re
import shlex
from importlib import import_module

import pytest

from perfkit.analyzers.result_schema import json_schema
from perfkit.cli import app
from tests.cli.conftest import Call

NAMES = [name for name, _ in app.COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_an_example_of_options_that_exist(name: str) -> None:
    text = app.flowing(import_module(f"perfkit.cli.{name}").command.__doc__)
    examples = re.findall(rf"perfkit {name}[^;\n`]*", text.partition("Example")[2])
    assert examples, "no example"
    known = {opt for p in app.load(name).params for opt in p.opts}
    for example in examples:
        own = example.partition(" -- ")[0]
        assert {w for w in shlex.split(own) if w.startswith("--")} <= known, example


def completed(perfkit_process: Call, line: str) -> list[str]:
    """Ask for completions as bash does after `line`."""
    words = line.split(" ")
    environment = {"_PERFKIT_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment |= {"COMP_CWORD": str(len(words) - 1), "PATH": "/bin:/usr/bin"}
    ended = perfkit_process(environment=environment)
    assert ended.err == ""
    return ended.out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("perfkit pro", ["profile"]),
        ("perfkit compare --max", ["--max-slowdown"]),
        ("perfkit export --format par", ["parquet"]),
    ],
)
def test_the_shell_completes_commands_options_and_choices(
    perfkit_process: Call, line: str, expected: list[str]
) -> None:
    assert completed(perfkit_process, line) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same(perfkit_process: Call, shell: str) -> None:
    environment = {"_PERFKIT_COMPLETE": f"complete_{shell}", "PATH": "/bin:/usr/bin"}
    environment |= {"_TYPER_COMPLETE_ARGS": "perfkit compare --max"}
    environment |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    ended = perfkit_process(environment=environment)
    assert ended.err == ""
    assert re.findall(r"--[a-z-]+", ended.out) == ["--max-slowdown"]


def test_schema_prints_what_analyses_are_held_against(perfkit: Call) -> None:
    assert json.loads(perfkit("schema").out) == json.loads(json.dumps(json_schema()))
