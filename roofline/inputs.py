"""Typed access to the recorded inputs of one operator call.

Every getter raises UnknownCost where the capture does not say; the dispatch table turns that into
"no cost known", so that a formula never has to guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from perfkit.roofline.cost import UnknownCost
from perfkit.roofline.dtypes import ElementType, element_type
from perfkit.trace.model import OpShape


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor argument: its dimensions and element type."""

    dims: tuple[int, ...]
    kind: ElementType

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a zero-dimensional tensor."""
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        """Size in bytes when read or written once."""
        return self.elements * self.kind.item_bytes

    @property
    def precision(self) -> str:
        """The precision its arithmetic runs in."""
        return self.kind.precision


_ABSENT = frozenset({"", "Scalar", "ScalarList", "TensorList", "None"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments of one call by position; `list_type` is what tensor lists are taken to hold."""

    shape: OpShape
    list_type: ElementType | None = None

    def has_tensor(self, position: int) -> bool:
        """Whether that argument is a tensor (None and scalars are recorded without a dtype)."""
        return position < len(self.shape.dtypes) and self.shape.dtypes[position] not in _ABSENT

    def tensor(self, position: int) -> Tensor:
        """The tensor at that position."""
        found = self.optional(position)
        if found is None:
            raise UnknownCost(f"argument {position} is no recorded tensor")
        return found

    def optional(self, position: int) -> Tensor | None:
        """The tensor at that position, or None where the argument was left out."""
        if not self.has_tensor(position) or position >= len(self.shape.dims):
            return None
        kind = element_type(self.shape.dtypes[position])
        if kind is None:
            raise UnknownCost(f"unknown element type {self.shape.dtypes[position]!r}")
        return Tensor(_dims(self.shape.dims[position]), kind)

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensor arguments in order; lists are left out."""
        found = (self.optional(i) for i in range(len(self.shape.dtypes)))
        return tuple(t for t in found if t is not None)

    def tensor_list(self, position: int) -> tuple[Tensor, ...]:
        """The tensors of a list argument. The profiler records their shapes but no dtypes."""
        if position >= min(len(self.shape.dims), len(self.shape.dtypes)):
            raise UnknownCost(f"no list at {position}")
        entry = self.shape.dims[position]
        if not isinstance(entry, Sequence) or self.shape.dtypes[position] != "TensorList":
            raise UnknownCost(f"argument {position} is no tensor list")
        if not entry or not all(isinstance(item, Sequence) for item in entry):
            raise UnknownCost("the shapes of this tensor list were not recorded")
        if self.list_type is None:
            raise UnknownCost("the element type of a tensor list is not recorded")
        return tuple(Tensor(_dims(item), self.list_type) for item in entry)

    def text(self, position: int) -> str:
        """The recorded value of a scalar argument, as text."""
        if position >= len(self.shape.concrete):
            raise UnknownCost("argument values were not recorded")
        return self.shape.concrete[position]

    def flag(self, position: int) -> bool:
        """A boolean argument."""
        text = self.text(position)
        if text not in ("True", "False"):
            raise UnknownCost(f"argument {position} is no recorded boolean")
        return text == "True"

    def flags(self, position: int) -> tuple[bool, ...]:
        """A list of booleans, such as an output mask."""
        return tuple(word == "True" for word in _words(self.text(position)))

    def integer(self, position: int) -> int:
        """An integer argument."""
        return _integer(self.text(position))

    def integers(self, position: int) -> tuple[int, ...]:
        """A list of integers; a single integer counts as a list of one; () where left out."""
        return tuple(_integer(word) for word in _words(self.text(position)))


def _words(text: str) -> list[str]:
    inner = text.strip().removeprefix("[").removesuffix("]").strip()
    return [word.strip() for word in inner.split(",")] if inner else []


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnknownCost(f"{text!r} is no integer") from None


def _dims(entry: object) -> tuple[int, ...]:
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        raise UnknownCost("shape not recorded")
    sizes: list[int] = []
    for size in entry:
        if not isinstance(size, int):
            raise UnknownCost("shape not recorded")
        sizes.append(size)
    return tuple(sizes)
