"""Foreign names keep what they say and lose what could move a cursor or reverse a page."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.report.names import cells, fit, name, shorten, visible
from tests.report.parts import HOSTILE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("aten::addmm", "aten::addmm"),
        ("nul\x00bell\x07", "nul\\u0000bell\\u0007"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("two\nlines\tand tabs", "two lines and tabs"),
        ("مرحبا 你好 é", "مرحبا 你好 é"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(), st.integers(1, 500))
def test_a_name_is_visible_and_bounded(text: str, limit: int) -> None:
    shown = name(text, limit)
    assert len(shown) <= max(limit, 1)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in shown)


@given(st.text(), st.integers(1, 200))
def test_fit_never_exceeds_its_columns(text: str, width: int) -> None:
    assert cells(fit(text, width)) <= max(width, 1)


def test_a_long_name_keeps_both_ends_and_says_how_long_it_was() -> None:
    shown = shorten("begin" + "x" * 10_240 + "end", 100)
    assert shown.startswith("begin") and shown.endswith("end") and "10248 characters" in shown


def test_wide_and_combining_characters_count_as_a_terminal_counts_them() -> None:
    assert (cells("你好"), cells("e\u0301"), cells("abc")) == (4, 1, 3)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_one_line(text: str) -> None:
    assert "\n" not in name(text) and len(name(text)) <= 400
