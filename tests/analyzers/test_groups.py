"""Communication by group and by message size adds up to the rows that it was made from."""

import pytest

from perfkit.analyzers.groups import group_rows, size_rows
from tests.report.parts import collective

ROWS = (
    collective("dp", "all_reduce", 25 << 20, 8, {}, 4.0, 1.0, 9.0),
    collective("dp", "all_gather", 1 << 20, 8, {}, 0.5, None, 9.0),
    collective("tp", "all_reduce", 4096, 2, {}, 0.1, 0.2, 0.1),
    collective("", "broadcast", None, 2, {}, None, None, None),
)  # eleven calls a step each


def test_a_group_sums_its_calls_and_admits_what_it_lacks() -> None:
    found = {row.group: row for row in group_rows(ROWS)}
    assert found["dp"].operations == ("all_gather", "all_reduce")
    assert found["dp"].count == 22
    assert found["dp"].bytes == 11 * (26 << 20)
    assert found["dp"].transfer_ms == pytest.approx(11 * 4.5)
    assert found["dp"].wait_ms is None  # one part is not known
    assert found["tp"].wait_ms == pytest.approx(2.2)
    assert found[""].bytes is None and found[""].exposed_ms == pytest.approx(11 * 2.4)


def test_the_most_exposed_group_comes_first() -> None:
    assert [row.group for row in group_rows(ROWS)] == ["dp", "", "tp"]


def test_sizes_fall_into_bins_of_a_factor_of_four() -> None:
    found = size_rows(ROWS)
    assert [(row.low_bytes, row.high_bytes) for row in found] == [
        (4096, 16384),
        (1 << 20, 4 << 20),
        (16 << 20, 64 << 20),
    ]
    assert sum(row.count for row in found) == 33  # the call of unknown size is left out
    assert sum(row.bytes for row in found) == 11 * ((26 << 20) + 4096)


@pytest.mark.parametrize("size", [1, 3, 4, 15, 16, 4095, 4096, (1 << 30) - 1, 1 << 30])
def test_every_size_lies_in_its_bin(size: int) -> None:
    (row,) = size_rows([collective("", "all_reduce", size, 2, {}, None, None, None)])
    assert row.low_bytes <= size < row.high_bytes
