"""Colours: every class has one, text on it can be read, families stay apart without hue."""

import itertools

import pytest

from perfkit.report import palette
from perfkit.report.definitions import definitions, meaning
from perfkit.trace.kinds import ROLLUP, TimeClass

BACKGROUNDS = {"light": "#ffffff", "dark": "#12161c"}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_agrees_with_the_known_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_class_and_family_has_a_look_and_a_definition() -> None:
    assert set(palette.CLASSES) == {c.key for c in TimeClass}
    assert list(palette.FAMILIES) == list(ROLLUP)
    assert set(palette.TERMINAL) == set(ROLLUP)
    for key in (*palette.CLASSES, *palette.FAMILIES):
        assert meaning(key)


@pytest.mark.parametrize("key", [*palette.CLASSES, *palette.FAMILIES])
def test_text_on_a_fill_is_readable_in_both_themes(key: str) -> None:
    look = palette.look(key)
    assert contrast(look.light, look.light_text) >= 4.5
    assert contrast(look.dark, look.dark_text) >= 4.5


def test_no_two_classes_share_both_fill_and_hatching() -> None:
    for theme in ("light", "dark"):
        seen = [(getattr(v, theme), v.hatched) for v in palette.CLASSES.values()]
        assert len(seen) == len(set(seen)), theme


def test_families_differ_in_glyph_and_for_deuteranopes() -> None:
    """Simulated with the linear-RGB matrix of Viénot, Brettel and Mollon (1999)."""
    glyphs = [glyph for glyph, _ in palette.TERMINAL.values()]
    assert len(set(glyphs)) == len(glyphs)
    for theme in ("light", "dark"):
        fills = [getattr(v, theme) for v in palette.FAMILIES.values()]
        for one, other in itertools.combinations(fills, 2):
            assert distance(deuteranope(one), deuteranope(other)) > 0.12, (theme, one, other)


def deuteranope(colour: str) -> tuple[float, ...]:
    red, green, blue = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    mixed = (0.29275 * red + 0.70725 * green,) * 2
    last = -0.02234 * red + 0.02234 * green + blue
    return tuple(max(c, 0.0) ** (1 / 2.2) for c in (*mixed, last))


def distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)


def test_definitions_are_sentences() -> None:
    for key, definition in definitions().items():
        assert definition.title and definition.text.endswith("."), key
