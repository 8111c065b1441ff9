"""What the documentation says can be typed, is there: links, options, make targets, metrics."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.cli import app
from perfkit.report.definitions import as_markdown
from tests.docs.commands import ROOT, shell_lines

PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)\s]*)?\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target, _ in LINK.findall(page.read_text("utf-8"))]
    own = [target for target in targets if not target.startswith(("http:", "https:", "mailto:"))]
    assert [target for target in own if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_lines_use_commands_options_and_targets_that_exist(page: Path) -> None:
    known = {name: app.load(name) for name, _ in app.COMMANDS}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for words in shell_lines(page):
        if words[0] == "make":
            assert {w for w in words[1:] if "=" not in w} <= targets, words
        elif words[0] == "perfkit" and len(words) > 1 and not words[1].startswith("-"):
            options = {opt for p in known[words[1]].params for opt in p.opts}
            own = words[2 : words.index("--")] if "--" in words else words[2:]
            given = {word.partition("=")[0] for word in own if word.startswith("--")}
            assert given <= options, words


def test_metrics_are_the_definitions_of_the_report() -> None:
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert page.endswith(as_markdown()), "write perfkit.report.definitions.as_markdown() into it"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/quick-start.html").exists()


def test_the_gate_of_the_example_workflow_is_the_command_line() -> None:
    text = (ROOT / "docs/ci.md").read_text("utf-8")
    (gate,) = re.findall(r"perfkit compare .*?(?= \|)", text.replace("\\\n", " "), re.DOTALL)
    options = {opt for p in app.load("compare").params for opt in p.opts}
    assert set(re.findall(r"--[\w-]+", gate)) <= options
    assert "set -o pipefail" in text  # or tee's status would hide the gate's


def test_the_table_of_json_names_every_command_that_has_it() -> None:
    page = (ROOT / "docs/command-line.md").read_text("utf-8")
    table = page.partition("| command | what `--json` prints |")[2].partition("\n\n")[0]
    named = [word for row in table.splitlines() for word in re.findall(r"`(\w+)`", row[:40])]
    have = {n for n, _ in app.COMMANDS if any("--json" in p.opts for p in app.load(n).params)}
    assert have == set(named) & {name for name, _ in app.COMMANDS}
    assert {n for n, _ in app.COMMANDS} - have == {"profile", "schema"}  # the page says why
