"""What a search's summary and page say, from ledgers made by hand."""

import pytest
from msgspec.structs import replace

from perfkit.recipes import ledger
from perfkit.recipes.ledger import Ablation, Change, Forecast, Optimization, Pairs
from perfkit.report import optimize_page, optimize_text
from tests.recipes.laboratory import empty_book

FASTER = Pairs(
    trials=(("a", "b"), ("c", "d"), ("e", "f")),
    base_ms=(150.0, 151.0, 149.0),
    variant_ms=(100.0, 101.0, 99.0),
    ratio=1.5,
    low=1.45,
    high=1.55,
    outcome="faster",
    resolves=1.03,
)
FORECAST = Forecast(
    ceiling=1.8, expected=1.52, low=1.4, high=1.6, basis="formula", why="max(160, 158) ms"
)
KEPT = ledger.Attempt(
    recipe="overlap",
    label="overlap",
    title="Overlap",
    numerics="exact",
    forecast=FORECAST,
    decision="kept",
    reason="",
    measured=FASTER,
    numbers=ledger.Numbers(ok=True, reason="", trajectory=0.0),
)
REFUSED = replace(
    KEPT,
    recipe="loader",
    label="loader",
    decision="refused",
    reason="the script chose num_workers=2 itself",
    measured=None,
    numbers=None,
)


def book(**fields: object) -> Optimization:
    base = replace(
        empty_book(), baseline_ms=150.0, noise_log_sd=0.004, resolves=1.02, pairs=5,
        attempts=(KEPT, REFUSED), stack=("overlap",), confirmation=FASTER, confirmed=True,
        stopped="the budget is spent", complete=True,
    )  # fmt: skip
    found = replace(base, **fields)
    return replace(found, sentence=optimize_text.sentence(found))


def test_the_summary_has_prediction_measurement_and_decision() -> None:
    shown = optimize_text.render(book(), report_path="x.html")
    assert "1.52x [1.40, 1.60]" in shown
    assert "1.50x [1.45, 1.55] over 3 pairs" in shown
    assert "loader: the script chose num_workers=2 itself" in shown
    assert "overlap: 1.50x [1.45, 1.55] over 3 pairs, confirmed on fresh runs" in shown
    assert "It ended because the budget is spent." in shown
    assert "too noisy" not in shown


def test_parameters_that_were_searched_are_shown() -> None:
    settings = (
        ledger.Setting(label="ddp-buckets:mb=4", expected=1.3, step_ms=(80.04, 81.0)),
        ledger.Setting(label="ddp-buckets:mb=1", expected=1.2, step_ms=(), reason="it hung"),
    )
    found = book(attempts=(replace(KEPT, searched=settings),))
    shown = "mb=4 80.0 and 81.0 ms; mb=1 failed"
    assert shown in optimize_text.render(found, report_path="x.html")
    assert shown in optimize_page.render(found)


def test_a_prediction_says_how_earlier_ones_fared() -> None:
    assert "either way" not in optimize_text.announced("overlap", FORECAST)
    known = replace(FORECAST, past=3, past_error=0.08)
    shown = optimize_text.announced("overlap", known)
    told = "expect 8.0% either way, from 3 measured predictions of it"
    assert told in shown
    assert told in optimize_page.render(book(attempts=(replace(KEPT, forecast=known),)))


def test_what_was_not_confirmed_is_not_recommended() -> None:
    shown = optimize_text.render(book(confirmed=False), report_path="x.html")
    assert "Do not rely on it" in shown
    assert "confirmed on fresh runs" not in shown


def test_nothing_kept_and_noise_are_said() -> None:
    shown = optimize_text.render(book(stack=(), resolves=1.25), report_path="x.html")
    assert "Nothing was kept" in shown
    assert "too noisy to see less than 25%" in shown


@pytest.mark.parametrize(
    ("numerics", "trajectory", "ok", "says"),
    [
        ("exact", 0.0, True, "equal"),
        ("numerics", 3e-4, True, "within 0.0003"),
        ("algorithm", 0.02, True, "not judged (0.02)"),
        ("exact", 0.1, False, "differ"),
        ("exact", None, True, "not seen"),
    ],
)
def test_losses_in_a_word(numerics: str, trajectory: float | None, ok: bool, says: str) -> None:
    moved = ledger.Numbers(ok=ok, reason="", trajectory=trajectory)
    assert optimize_text.numbers(replace(KEPT, numerics=numerics, numbers=moved)) == says


def test_the_page_shows_ledger_stack_and_diff() -> None:
    found = book(
        changes=(Change(label="overlap", text="--- a/t.py\n+++ b/t.py\n+    <x>", is_diff=True),),
        ablations=(Ablation(label="overlap", measured=None, reason="the budget is spent"),),
    )
    shown = optimize_page.render(found)
    assert "1.50x [1.45, 1.55] over 3 pairs" in shown
    assert "the script chose num_workers=2 itself" in shown
    assert "&lt;x&gt;" in shown and "<x>" not in shown
    assert "confirmed" in shown
    assert "+    &lt;x&gt;".replace(" ", "\N{NO-BREAK SPACE}") in shown  # the indent is kept
    assert "150.0 -&gt; 100.0 ms" in shown


def test_foreign_text_cannot_move_the_terminal() -> None:
    evil = replace(REFUSED, reason="no\x1b[2J")
    shown = optimize_text.render(book(attempts=(evil,)), report_path="x.html")
    assert "\x1b" not in shown
