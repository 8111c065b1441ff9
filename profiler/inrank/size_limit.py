"""`--max-bytes`: how many steps of a window a rank may still write."""

from __future__ import annotations


class SizeLimit:
    """Bytes of traces, as the rank writes them (the parent packs them to about a tenth)."""

    def __init__(self, limit: int | None) -> None:
        self.bytes = limit
        self.written = 0

    def steps_of(self, step_bytes: int) -> int:
        """How many steps of this size there is room for."""
        if self.bytes is None:
            raise ValueError("there is no limit")
        return max(self.bytes - self.written, 0) // max(step_bytes, 1)
