"""The commands and options that exist, and what a newcomer is shown."""

import re
from importlib import import_module

import pytest

from perfkit.cli import app
from perfkit.version import __version__
from tests.cli.conftest import Call

OPTIONS = {
    "profile": {
        *("--out", "--window", "--no-trace", "--trace-ranks", "--with-stack", "--analyze"),
        *(
            "--py-spy",
            "--on-hang",
            "--recipe",
            "--memory",
            "--modules",
            "--nsys",
            "--max-bytes",
            "--metrics-port",
        ),
    },
    "analyze": {"--out", "--json", "--step-nvtx", "--jobs", "--engine"},
    "report": {"--light", "--out", "--redact", "--json"},
    "compare": {
        "--base",
        "--new",
        "--max-slowdown",
        "--single-run-sd",
        "--calibration",
        "--json",
        "--format",
    },
    "ceilings": {"--ranks", "--threads", "--quick", "--out", "--json"},
    "roofline": {
        "--ceilings",
        "--plot",
        "--layers",
        "--heads",
        "--head-dim",
        "--sequence",
        "--parameters",
        "--json",
    },
    "whatif": {
        *("--network", "--compression", "--ranks", "--overlap", "--no-stragglers", "--amp"),
        *("--no-input-stall", "--async-checkpoint", "--no-launch", "--no-host-syncs"),
        *("--compute", "--bucket-mb", "--fuse", "--accumulate", "--search", "--json"),
        *("--after", "--calibration", "--gpu", "--recompute", "--step-nvtx"),
        *("--schedule", "--micro-batches"),
    },
    "recipes": {"--json"},
    "capture": {"--steps", "--json"},
    "dump": {"--json"},
    "scale": {
        *("--ranks", "--mode", "--batch", "--repeats", "--from", "--out", "--steps", "--window"),
        *("--time-limit", "--predict", "--network", "--alpha", "--use-oversubscribed", "--json"),
        *("--price-per-gpu-hour", "--samples", "--tokens", "--workdir", "--allow-writes"),
    },
    "faults": {
        *("--kill-rank", "--at-step", "--mtbf", "--out", "--time-limit"),
        *("--workdir", "--allow-writes", "--json"),
    },
    "writeup": {
        *("--out", "--measure", "--repeats", "--window", "--time-limit", "--scale", "--faults"),
        *("--figures", "--price-per-gpu-hour", "--json"),
    },
    "optimize": {
        *("--recipe", "--allow", "--budget", "--workdir", "--allow-writes", "--out", "--json"),
    },
    "export": {"--format", "--out", "--redact", "--json"},
    "schema": set(),
    "doctor": {"--json"},
}
"""Every option of every command: a new one is a decision, and is written down here."""


def test_no_arguments_show_the_three_commands_of_a_newcomer(perfkit: Call) -> None:
    ended = perfkit()
    assert (ended.status, ended.err) == (0, "")
    assert re.findall(r"^  perfkit (\w+)", ended.out, re.MULTILINE) == [
        "profile",
        "analyze",
        "doctor",
    ]


def test_version(perfkit: Call) -> None:
    ended = perfkit("--version")
    assert (ended.status, ended.out, ended.err) == (0, f"perfkit {__version__}\n", "")


def test_help_lists_every_command(perfkit: Call) -> None:
    out = perfkit("--help").out
    for name, line in app.COMMANDS:
        assert re.search(rf"{name}\s+{line.split()[0]}", out)


def test_the_options_are_the_ones_written_down() -> None:
    found = {
        name: {opt for p in app.load(name).params for opt in p.opts if opt.startswith("--")}
        for name, _ in app.COMMANDS
    }
    assert found == OPTIONS


@pytest.mark.parametrize("name", [name for name, _ in app.COMMANDS])
def test_each_command_has_help(perfkit: Call, name: str) -> None:
    ended = perfkit(name, "-h")
    assert (ended.status, ended.err) == (0, "")
    first = import_module(f"perfkit.cli.{name}").command.__doc__.split(".")[0]
    assert first[:40] in ended.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'; see perfkit --help"),
        (["analyze"], "Missing argument 'PATH'; see perfkit analyze --help"),
        (["analyze", "--jso", "x"], "No such option: --jso"),
        (["report", "a", "b"], "see perfkit report --help"),
        (["profile", "--analyze", "later", "--", "true"], "'later'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    perfkit: Call, arguments: list[str], says: str
) -> None:
    ended = perfkit(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("perfkit: ")
    assert ended.err.count("\n") == 1
    assert says in ended.err


def test_python_m_perfkit_is_perfkit(perfkit_process: Call) -> None:
    assert perfkit_process("--version").out == f"perfkit {__version__}\n"
