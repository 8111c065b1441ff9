"""Ports for trainings that this machine's tests start beside each other."""

import random
import socket
from contextlib import suppress

BELOW_EPHEMERAL = range(10_000, 32_000)
"""What Linux gives to no outgoing connection by itself: minutes may pass until a rank listens."""


def free_port() -> int:
    """Return a port on which nobody listens, and which nobody comes by without asking for it."""
    for _ in range(1000):
        port = random.SystemRandom().choice(BELOW_EPHEMERAL)
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("there is no free port")
