"""Element types as the profiler and torch spell them: their size and their precision."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ElementType:
    """One element type: how wide it is and which peak its arithmetic is held against."""

    precision: str  # fp64, fp32, fp16, bf16, fp8, int64, int32, int16, int8, bool, complex64, ...
    item_bytes: int


_FP8 = ElementType("fp8", 1)

ELEMENT_TYPES: dict[str, ElementType] = {
    "double": ElementType("fp64", 8),
    "float": ElementType("fp32", 4),
    "half": ElementType("fp16", 2),
    "bfloat16": ElementType("bf16", 2),
    "long": ElementType("int64", 8),
    "int": ElementType("int32", 4),
    "short": ElementType("int16", 2),
    "char": ElementType("int8", 1),
    "byte": ElementType("int8", 1),
    "bool": ElementType("bool", 1),
    "complexhalf": ElementType("complex32", 4),
    "complexfloat": ElementType("complex64", 8),
    "complexdouble": ElementType("complex128", 16),
    "float8_e4m3fn": _FP8,
    "float8_e4m3fnuz": _FP8,
    "float8_e5m2": _FP8,
    "float8_e5m2fnuz": _FP8,
    "float8_e8m0fnu": _FP8,
}

_SPELLINGS: dict[str, str] = {
    "float64": "double",
    "float32": "float",
    "float16": "half",
    "int64": "long",
    "long int": "long",
    "long long": "long",
    "int32": "int",
    "int16": "short",
    "short int": "short",
    "int8": "char",
    "signed char": "char",
    "uint8": "byte",
    "unsigned char": "byte",
    "complex<half>": "complexhalf",
    "complex<float>": "complexfloat",
    "complex<double>": "complexdouble",
    "complex64": "complexfloat",
    "complex128": "complexdouble",
}


def element_type(spelling: str) -> ElementType | None:
    """The type behind "c10::BFloat16", "long int", "torch.float32", ...; None if unknown."""
    name = spelling.removeprefix("torch.").replace("c10::", "").lower()
    return ELEMENT_TYPES.get(_SPELLINGS.get(name, name))


def is_floating(precision: str) -> bool:
    """Whether arithmetic in this precision counts as floating point."""
    return precision.startswith(("fp", "bf", "tf", "complex"))
