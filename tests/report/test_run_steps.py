"""The tiles of the whole run: the device's own step time stands beside the host's."""

import msgspec

from perfkit.report.build import build
from perfkit.report.model import Facts
from tests.report.sample import io_bound


def tiles(per_rank: tuple[float | None, ...]) -> dict[str, str]:
    sample = io_bound()
    steps = msgspec.structs.replace(sample.steps, per_rank_device_median_ms=per_rank)
    page = build(msgspec.structs.replace(sample, steps=steps))
    blocks = [block for section in page.sections for block in section.blocks]
    facts = [block for block in blocks if isinstance(block, Facts)]
    return {fact.name: fact.text for block in facts for fact in block.items}


def test_the_device_stands_beside_the_host() -> None:
    found = tiles((122.6, None))
    names = list(found)
    assert names.index("On the device") == names.index("Median step") + 1
    assert found["On the device"] == "123 ms"


def test_without_events_of_a_device_there_is_no_tile() -> None:
    assert "On the device" not in tiles(())
