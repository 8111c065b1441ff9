"""Where perfkit's words end and the user's command begins."""

import pytest

from perfkit.cli.dashes import split


@pytest.mark.parametrize(
    ("args", "own", "command"),
    [
        (
            ["--out", "x", "--", "train.py", "--", "--lr"],
            ["--out", "x"],
            ["train.py", "--", "--lr"],
        ),
        (["--from", "a", "b"], ["--from", "a", "b"], []),
        (["--"], [], []),
    ],
)
def test_the_first_dashes_part_the_line(
    args: list[str], own: list[str], command: list[str]
) -> None:
    assert split(args) == (own, command)
