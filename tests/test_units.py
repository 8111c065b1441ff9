"""How each quantity reads, at the borders where a unit or a digit changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1e-9, "1.00 ns"),
        (999.4e-9, "999 ns"),
        (999.6e-9, "1.00 us"),
        (0.0123456, "12.3 ms"),
        (-0.00125, "-1.25 ms"),
        (37, "37.0 s"),
        (119.4, "119 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (float("inf"), "inf s"),
        (float("nan"), "-"),
        (None, "-"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


def test_every_time_unit_agrees() -> None:
    shown = {
        units.seconds(0.25),
        units.milliseconds(250),
        units.microseconds(250_000),
        units.nanoseconds(250_000_000),
    }
    assert shown == {"250 ms"}
    assert units.milliseconds(None) == units.microseconds(None) == units.nanoseconds(None) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (25 * 2**20, "25 MiB"),
        (1_572_864_000, "1.46 GiB"),
        (2**50, "1,020 TiB"),
        (None, "-"),
    ],
)
def test_size(value: float | None, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B/s"), (0.187, "187 MB/s"), (12.34, "12.3 GB/s"), (1800, "1.80 TB/s"), (None, "-")],
)
def test_bandwidth_counts_in_powers_of_ten(value: float | None, text: str) -> None:
    assert units.bandwidth(value) == text


def test_flops() -> None:
    assert units.flops(312e12) == "312 TFLOP/s"
    assert units.flops(None) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 samples/s"),
        (1.5, "1.50 samples/s"),
        (1234.5, "1,230 samples/s"),
        (1.25e6, "1.25 M samples/s"),
        (None, "-"),
    ],
)
def test_rate(value: float | None, text: str) -> None:
    assert units.rate(value, "samples") == text


def test_count() -> None:
    shown = [units.count(n) for n in (0, 2.5, 1234, 99_999, 100_000, 124_400_000, None)]
    assert shown == ["0", "2.5", "1,234", "99,999", "100 k", "124 M", "-"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (0.0004, "<0.1%"),
        (-0.0004, ">-0.1%"),
        (0.0429, "4.3%"),
        (0.0994, "9.9%"),
        (0.0996, "10%"),
        (0.62, "62%"),
        (0.9999, "99.9%"),
        (1, "100%"),
        (None, "-"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert units.percent(share) == text


def test_change_shows_its_sign() -> None:
    shown = [units.change(share) for share in (0.031, -0.12, 0, None)]
    assert shown == ["+3.1%", "-12%", "0%", "-"]


def test_ratio() -> None:
    assert [units.ratio(r) for r in (1.178, 24, 0, None)] == ["1.18x", "24.0x", "0x", "-"]


@given(st.floats(min_value=1e-9, max_value=119))
def test_a_shown_duration_is_within_half_a_percent(value: float) -> None:
    text, unit = units.seconds(value).split()
    factor = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert math.isclose(float(text.replace(",", "")) * factor, value, rel_tol=0.0051)
