"""What one operator call has to do at least: its FLOP and its compulsory bytes."""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """The part of the machine whose peak an operator's arithmetic is held against."""

    TENSOR = "tensor"  # matrix units: GEMM, convolution, attention
    VECTOR = "vector"  # everything else that computes
    NONE = "none"  # moves data only, or (views) does nothing at all


class UnknownCost(Exception):  # noqa: N818 - not an error: the recorded inputs do not tell
    """The recorded inputs do not say what this call costs; becomes None at the dispatch table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCost:
    """The least work of one operator call, whatever kernels carry it out.

    `flop` is what the mathematics needs (the model's FLOP); `recomputed_flop` is what the usual
    kernels carry out on top, inside a flash-attention backward. Address arithmetic never counts.
    Bytes are compulsory: every input read once, every output written once (models.md 2.2).
    """

    family: str  # gemm, convolution, attention, normalization, ...
    flop: int
    read_bytes: int
    written_bytes: int
    precision: str  # of the arithmetic: fp32, bf16, ...; "" where there is none
    unit: Unit = Unit.VECTOR
    recomputed_flop: int = 0
    assumed: str = ""  # what the capture did not record and was assumed; "" nothing

    @property
    def executed_flop(self) -> int:
        """Model FLOP plus what is computed a second time."""
        return self.flop + self.recomputed_flop

    @property
    def bytes(self) -> int:
        """Compulsory traffic: read plus written."""
        return self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float | None:
        """Executed FLOP per compulsory byte; None where no byte moves."""
        return self.executed_flop / self.bytes if self.bytes else None
