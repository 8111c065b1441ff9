"""Whether a loader's samples drew from a global generator, which workers would seed anew."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from perfkit.recipes.inrank import observe


def seen_after(*draws: Callable[[], object]) -> dict[str, Any]:
    """Fetch once for each draw, as the loader of the main process does."""
    seen = observe.Seen(lambda kind, **fields: None)
    for draw in draws:
        observe._fetch(seen, lambda fetcher, indices, draw=draw: draw())(None, [0])
    return seen.known


@pytest.fixture(autouse=True)
def amid_its_keys() -> None:
    """Leave numpy's generator where a draw moves its position and not its keys."""
    np.random.seed(0)
    np.random.rand(3)
    np.random.randn(2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.rand(1),
        random.random,
        np.random.rand,
        lambda: np.random.seed(1),
    ],
)
def test_a_draw_from_a_global_generator_is_seen(draw: Callable[[], object]) -> None:
    assert seen_after(draw) == {"loader_draws_global_rng": True}


def test_a_value_that_numpy_had_ready_is_a_draw_too() -> None:
    np.random.randn()  # makes two and keeps one
    assert seen_after(np.random.randn) == {"loader_draws_global_rng": True}


def test_own_generators_are_no_draw() -> None:
    own = torch.Generator().manual_seed(1)
    samples = (
        lambda: torch.rand(1, generator=own),
        lambda: np.random.default_rng(0).random(),
        lambda: random.Random(0).random(),
    )
    assert seen_after(*samples) == {"loader_draws_global_rng": False}


def test_one_draw_among_many_fetches_counts() -> None:
    quiet = [lambda: None] * 50
    assert seen_after(*quiet, random.random, *quiet) == {"loader_draws_global_rng": True}
