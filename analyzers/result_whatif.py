"""The part of analysis.json that says what is worth trying, and what would gain nothing."""

import msgspec


class Prospect(msgspec.Struct, frozen=True, kw_only=True):
    """One change or pair of changes, replayed on the captured steps."""

    changes: tuple[str, ...]
    options: tuple[str, ...]  # of `perfkit whatif`
    predicted_ms: float
    low_ms: float
    high_ms: float
    speed_up: float
    next_bottleneck: str | None  # class that leads the critical path afterwards
    recipes: tuple[str, ...]


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The search of `perfkit whatif`. refused: why there is none, all else is then empty."""

    steps: tuple[int, ...] = ()
    step_ms: float | None = None
    replay_error: float | None = None  # replayed / measured - 1
    worth_trying: tuple[Prospect, ...] = ()  # largest gain first; of pairs the best two only
    no_gain: tuple[Prospect, ...] = ()  # single changes: the Optimization Trap
    refused: str = ""
