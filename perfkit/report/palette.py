"""The one place that gives a class of time its colour, its words and its mark.

Families take hues that stay apart for every common colour vision (after Okabe and Ito, "Color
Universal Design"): compute blue, communication orange, io green, host pink; waiting is hatched, so
that no difference rests on hue alone. Text on a fill keeps a contrast of at least 4.5 (WCAG AA),
which a test holds for both themes.
"""

from dataclasses import dataclass

from perfkit.trace.kinds import ROLLUP, TimeClass

WHITE, INK = "#ffffff", "#10141a"


@dataclass(frozen=True, slots=True)
class Look:
    """How one class or family is shown: fills and the text on them, by theme."""

    label: str
    light: str
    dark: str
    hatched: bool = False
    light_text: str = INK
    dark_text: str = INK


FAMILIES: dict[str, Look] = {
    "compute": Look("compute", "#0b66a8", "#4aa8e8", light_text=WHITE),
    "communication": Look("communication", "#e0701a", "#f08a3c"),
    "io": Look("I/O", "#16a07a", "#2fbf96"),
    "host": Look("host", "#d08ab5", "#d795be"),
}
"""The four families of the roll-up, in the order in which they are stacked."""

CLASSES: dict[str, Look] = {
    "compute": FAMILIES["compute"],
    "comm_transfer": Look("communication transfer", "#e0701a", "#f08a3c"),
    "pipe_bubble": Look("pipeline bubble", "#ffd9a8", "#d9b98c", hatched=True),
    "comm_wait": Look("waiting for ranks", "#f7b26e", "#f5b673", hatched=True),
    "comm_unmatched": Look("communication, unsplit", "#d3a079", "#c39a78"),
    "memcpy": Look("host-device copies", "#6fc9a8", "#7fd3b5"),
    "checkpoint": Look("checkpoint", "#8ed081", "#9bdc8d"),
    "input_wait": Look("waiting for input", "#16a07a", "#2fbf96", hatched=True),
    "host_sync": Look("host waits for device", "#d08ab5", "#d795be", hatched=True),
    "host_alloc": Look("device allocation", "#a77bc2", "#b488d0"),
    "host_compile": Look("compilation", "#c9a0e0", "#cfaae6"),
    "host_gc": Look("garbage collection", "#e39aa8", "#eaa6b3"),
    "host_launch": Look("Python and launch", "#d9a3c6", "#dcaacb"),
    "launch_latency": Look("launch latency", "#b3a1cf", "#a898c6"),
    "idle_dependency": Look("idle, dependency", "#c3c8d0", "#9aa3b0", hatched=True),
    "other": Look("unexplained", "#d5d9df", "#aab2bd"),
}
"""Every class of the budget by its name in analysis.json."""

LIMITS: dict[str, Look] = {
    "limit-tensor": Look("tensor-bound", "#0b66a8", "#4aa8e8", light_text=WHITE),
    "limit-vector": Look("vector-bound", "#4fb0dc", "#8fd0f2"),
    "limit-memory": Look("memory-bound", "#c99700", "#e5bf45"),
    "limit-launch": Look("launch-bound", "#d08ab5", "#d795be"),
    "limit-network": Look("network", "#e0701a", "#f08a3c"),
    "limit-none": Look("measured", "#8b95a3", "#a4adba"),
}
"""What bounds an operator on the roofline: hues of the families where they mean the same."""

TERMINAL: dict[str, tuple[str, str]] = {
    "compute": ("█", "38;5;32"),
    "communication": ("▓", "38;5;208"),
    "io": ("▒", "38;5;36"),
    "host": ("░", "38;5;175"),
}
"""Per family: the glyph that tells it apart without colour, and its ANSI colour."""

ORDER: tuple[str, ...] = tuple(c.key for c in TimeClass)
"""Classes in the order in which bars stack them."""

FAMILY_OF: dict[str, str] = {c.key: family for family, classes in ROLLUP.items() for c in classes}
"""The family of each class."""


def look(key: str) -> Look:
    """Return how the class or family `key` is shown; an unknown class looks like `other`."""
    return CLASSES.get(key) or FAMILIES.get(key) or LIMITS.get(key) or CLASSES["other"]


def label(key: str) -> str:
    """Return the words for a class or family; an unknown one keeps its own name."""
    known = CLASSES.get(key) or FAMILIES.get(key) or LIMITS.get(key)
    return known.label if known else key
