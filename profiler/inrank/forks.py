"""A forked child is an ordinary process again, until it shows evidence of its own."""

from __future__ import annotations

import os

from . import activation, finish, optimizers, ranges


def install() -> None:
    """Have the interpreter tell every forked child."""
    os.register_at_fork(after_in_child=_start_afresh)


def _start_afresh() -> None:
    finish.unwatch()
    if activation.this.rank is not None:
        activation.this.rank.stream.close()
    ranges.state.recording = False
    activation.forget()
    optimizers.reset()
