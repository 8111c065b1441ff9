"""Orders to a run that is going on: RUN/orders/NAME.json, looked for once a second.

`{"order": "window", "first": 310, "last": 319}` records a trace of these steps;
`{"order": "flight"}` writes the newest collectives to orders-NAME.json in the rank's folder, which
works while the training thread hangs inside one.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, Protocol

from . import flight
from .files import write_whole

FOLDER = "orders"
PERIOD_S = 1.0
NEWEST = 64  # collectives in an answer


class Ordered(Protocol):
    """What an order needs of its rank."""

    folder: str
    step: int
    ended: bool

    @property
    def window(self) -> Any:
        """The rank's Window."""

    def warn(self, text: str) -> None:
        """Record a failure of ours."""


class Orders:
    """Looks for orders until the rank ends; `traced` says whether this rank records traces."""

    def __init__(self, rank: Ordered, run_dir: str, traced: bool) -> None:
        self.rank = rank
        self.traced = traced
        self.path = os.path.join(run_dir, FOLDER)
        self.seen = set(self._names())  # orders of an earlier attempt

    def watch(self) -> None:
        """Start to look."""
        threading.Thread(target=self._watch, name="perfkit-orders", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(PERIOD_S) and not self.rank.ended:
            try:
                self.look()
            except Exception as error:  # an order that fails must not end the training
                self.rank.warn(f"an order was not carried out: {error!r}")

    def look(self) -> None:
        """Carry out what is new."""
        for name in self._names():
            if name not in self.seen:
                self.seen.add(name)
                with open(os.path.join(self.path, name), "rb") as file:
                    self._carry_out(name, json.load(file))
        self.rank.window.remind()

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.path) if name.endswith(".json"))
        except OSError:
            return []

    def _carry_out(self, name: str, order: dict[str, Any]) -> None:
        if order["order"] == "window" and self.traced:
            self.rank.window.add(int(order["first"]), int(order["last"]))
        elif order["order"] == "flight":
            answer = {"step": self.rank.step, "collectives": newest_collectives()}
            write_whole(os.path.join(self.rank.folder, f"{FOLDER}-{name}"), answer)


def newest_collectives() -> list[dict[str, Any]] | None:
    """The last entries of torch's flight recorder, oldest first; None where there is none."""
    entries = flight.read_entries()
    return None if entries is None else [flight.summary(entry) for entry in entries[-NEWEST:]]
