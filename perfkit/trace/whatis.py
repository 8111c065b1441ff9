"""Names a file that is not a readable trace for what it is, and says what to do with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from perfkit.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8."""

_TRACE_HINT = "give the *.pt.trace.json[.gz] that torch.profiler wrote, or a perfkit run folder"

_MAGICS = (
    (b"PK\x03\x04", "a zip archive", "name it *.zip, or unpack it"),
    (b"\x80\x02", "a Python pickle (a memory snapshot or a flight-recorder dump)", _TRACE_HINT),
    (b"\x80\x04", "a Python pickle (a memory snapshot or a flight-recorder dump)", _TRACE_HINT),
    (b"PAR1", "a Parquet file", _TRACE_HINT),
    (b"\x7fELF", "a program", _TRACE_HINT),
    (b"(\xb5/\xfd", "compressed by zstd", "unpack it first (zstd -d)"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first (xz -d)"),
    (b"BZh", "compressed by bzip2", "unpack it first (bzip2 -d)"),
    (b"\xff\xfe\0\0", "text in UTF-32, not UTF-8", "convert it: iconv -f UTF-32 -t UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32, not UTF-8", "convert it: iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "text in UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\x89PNG", "a PNG picture", _TRACE_HINT),
    (b"\xff\xd8\xff", "a JPEG picture", _TRACE_HINT),
    (b"GIF8", "a GIF picture", _TRACE_HINT),
    (b"%PDF", "a PDF document", _TRACE_HINT),
    (b"{\0", "text in UTF-16, not UTF-8", "convert it: iconv -f UTF-16LE -t UTF-8"),
    (b"\0{", "text in UTF-16, not UTF-8", "convert it: iconv -f UTF-16BE -t UTF-8"),
)

_ANALYSIS = "an analysis that perfkit wrote, not a recording"
_BROKEN = "JSON that ends or breaks before its first event"
_UNKNOWN = "JSON without traceEvents"
OBJECTS = frozenset({_ANALYSIS, _BROKEN, _UNKNOWN})
"""Of which whoever expected another document than a trace can say more."""
_OWN = (
    ({"verdict", "budget"}, _ANALYSIS, "give the run folder itself"),
    ({"points", "fits"}, "a result of perfkit scale", "give one of its runs"),
    ({"attempts", "diagnosed"}, "a result of perfkit optimize", "perfkit report shows its folder"),
    ({"killed_rank", "fleet"}, "a result of perfkit faults", "give one of its runs"),
    ({"ceilings", "copy_by_working_set"}, "ceilings that perfkit measured",
     "give them with perfkit roofline RUN --ceilings FILE"),
    ({"binding_constraint", "variants"}, "the ledger of a write-up", "give one of its runs"),
)  # fmt: skip
"""Keys by which perfkit's other files are known."""
_VALUES = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def describe(path: Path, text: bytes, *, torn: bool = False) -> InputError:
    """Return the error that names `path`, given its (decompressed) text or the start of it."""
    what, hint = what_is(text)
    if torn:
        what, hint = "a gzip file cut off before its first event", "copy the file again"
    return InputError(f"{path}: {what}", hint=hint)


def what_is(text: bytes) -> tuple[str, str]:
    """Return what a file that is no trace is, by the (decompressed) text that it begins with.

    The second text says what to do with it.
    """
    if not text.strip():
        return "empty: it holds no events", "was the profiler stopped before the file was written?"
    for magic, what, hint in _MAGICS:
        if text.startswith(magic):
            return what, hint
    if b"ustar" in text[257:263]:
        return "a tar archive", "name it *.tar or *.tar.gz, or unpack it"
    text = text.removeprefix(BYTE_ORDER_MARK)
    if text.lstrip()[:1] == b"{":
        return _name_object(text)
    if b"\x00" in text[:4096]:
        return "binary data, not a trace", _TRACE_HINT
    return _name_text(text), _TRACE_HINT


def _name_text(text: bytes) -> str:
    if text.lstrip()[:1] == b"<":
        return "an HTML or XML document"
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "text that is not JSON"
    return f"JSON that holds nothing but {_VALUES.get(type(found), 'a number')}"


def _name_object(text: bytes) -> tuple[str, str]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _BROKEN, "copy or export the file again"
    keys: Mapping[str, Any] = document if isinstance(document, dict) else {}
    if "nodes" in keys and "schema" in keys:
        return (
            "a PyTorch execution trace (Chakra ET), which has no times",
            "give the Kineto trace of the same run",
        )
    if "entries" in keys and ("pg_status" in keys or "version" in keys):
        return (
            "a c10d flight-recorder dump, which has no kernels and no operators",
            "give the Kineto trace of the same run",
        )
    for own, what, hint in _OWN:
        if own <= keys.keys():
            return what, hint
    return _UNKNOWN, _TRACE_HINT
