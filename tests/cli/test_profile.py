"""`perfkit profile`: its options, and that the command's end is its own end."""

import signal
from pathlib import Path

import pytest

from perfkit.cli import profile
from perfkit.errors import InputError, UsageError
from tests.cli.conftest import Call


def test_windows() -> None:
    assert profile.parse_window("10:19") == (10, 19)
    assert profile.parse_window("7:7") == (7, 7)


@pytest.mark.parametrize("text", ["", "10", "10:", ":5", "a:b", "-1:4", "5:4", "0:9", "1:2:3"])
def test_windows_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match=r"--window"):
        profile.parse_window(text)


def test_ranks() -> None:
    assert profile.parse_ranks("5,0,2-4,3") == (0, 2, 3, 4, 5)
    assert profile.parse_ranks("all") == "all"
    assert profile.parse_ranks("one-per-node") == "one-per-node"


def test_how_long_a_hang_is() -> None:
    read = map(profile.parse_patience, ("120", "120s", "2m", "1.5 s", "1h"))
    assert list(read) == [120.0, 120.0, 120.0, 1.5, 3600.0]


@pytest.mark.parametrize("text", ["", "soon", "0", "0.9s", "-5", "5 parsecs", "nan"])
def test_hangs_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="--on-hang"):
        profile.parse_patience(text)


def test_sizes() -> None:
    assert profile.parse_size("4096") == 4096
    assert profile.parse_size("200MB") == 200_000_000
    assert profile.parse_size("1.5 GiB") == 3 << 29


@pytest.mark.parametrize("text", ["", "MB", "0", "-1", "3 parsecs", "1e3"])
def test_sizes_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="--max-bytes"):
        profile.parse_size(text)


def test_options_that_exclude_each_other(perfkit: Call) -> None:
    ended = perfkit("profile", "--no-trace", "--memory", "--", "true")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    ended = perfkit("profile", "--nsys", "--max-bytes=1MB", "--", "true")
    assert (ended.status, ended.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("text", ["", ",", "1-", "3-1", "x", "1,,2", "-1"])
def test_ranks_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="--trace-ranks"):
        profile.parse_ranks(text)


def test_a_missing_command_is_wrong_usage(perfkit: Call) -> None:
    for arguments in (["profile"], ["profile", "--"], ["profile", "--with-stack"]):
        ended = perfkit(*arguments)
        assert (ended.status, ended.out) == (2, "")
        assert "needs the training's command after --" in ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "status"),
    [("--window=5:4", 2), ("--trace-ranks=x", 2), ("--out=/dev/null/run", 125)],
)
def test_nothing_starts_before_all_is_well(
    perfkit_process: Call, tmp_path: Path, option: str, status: int
) -> None:
    ended = perfkit_process("profile", option, "--", "touch", tmp_path / "started")
    assert ended.status == status
    assert ended.err.startswith("perfkit: ")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "started").exists()


def test_no_trace_takes_no_trace_options(perfkit_process: Call, tmp_path: Path) -> None:
    ended = perfkit_process("profile", "--no-trace", "--window=1:2", "--", "true")
    assert ended.status == 2
    assert not any(tmp_path.iterdir())


def test_commands_that_cannot_run(perfkit_process: Call, tmp_path: Path) -> None:
    ended = perfkit_process("profile", "--", "no-such-command-here")
    assert (ended.status, ended.out) == (127, "")
    assert "no-such-command-here" in ended.err
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    ended = perfkit_process("profile", "--", plain)
    assert (ended.status, ended.out) == (126, "")
    assert str(plain) in ended.err
    assert sorted(tmp_path.iterdir()) == [plain]


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_status_is_the_commands(perfkit_process: Call, status: int) -> None:
    ended = perfkit_process("profile", "--", "sh", "-c", f"echo out; exit {status}")
    assert (ended.status, ended.out) == (status, "out\n")
    assert "no verdict: " in ended.err
    assert "internal error" not in ended.err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_the_signal_is_the_commands(perfkit_process: Call, name: str) -> None:
    number = int(signal.Signals[name])
    line = f"import os; os.kill(os.getpid(), {number})"
    ended = perfkit_process("profile", "--analyze=never", "--", "python3", "-c", line)
    assert ended.status == -number


def test_options_after_the_command_are_the_commands(perfkit_process: Call) -> None:
    ended = perfkit_process("profile", "--analyze=never", "echo", "--out", "x", "--", "-y")
    assert (ended.status, ended.out) == (0, "--out x -- -y\n")


def test_never_names_the_command_that_analyses(perfkit_process: Call, tmp_path: Path) -> None:
    ended = perfkit_process("profile", "--analyze=never", "--out=run", "--", "true")
    assert ended.err.splitlines()[-1] == "Next: perfkit analyze run"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("nothing here"), "no verdict: nothing here"),
        (ZeroDivisionError("x"), "no verdict: internal error: ZeroDivisionError: x"),
        (KeyboardInterrupt(), "no verdict: interrupted; make it with: perfkit analyze run"),
    ],
)
def test_whatever_fails_after_the_training_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: BaseException,
    says: str,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(profile, "_print_verdict", fail)
    profile.conclude(Path("run"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
