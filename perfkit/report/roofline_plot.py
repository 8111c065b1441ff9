"""A run's roofline alone: as a page, as an SVG figure, as a picture."""

from perfkit.report import figure_png, html, show
from perfkit.report.figure_svg import Chart, figure
from perfkit.report.model import BoundChart, Page, PlotChart
from perfkit.report.names import name
from perfkit.report.roofline_section import roofline_section
from perfkit.roofline.summary import RunRoofline
from perfkit.version import __version__


def page(found: RunRoofline, *, light: bool = False) -> str:
    """Return the whole page."""
    section = roofline_section(found)
    return html.write(
        Page(
            title=_title(found),
            subtitle=_ranks(found),
            version=__version__,
            sections=() if section is None else (section,),
        ),
        light=light,
    )


def svg(found: RunRoofline) -> str:
    """Return the charts of the section as one SVG figure; a figure without charts says why."""
    section = roofline_section(found)
    blocks = section.blocks if section is not None else ()
    charts: list[Chart] = [b for b in blocks if isinstance(b, PlotChart | BoundChart)]
    title = f"{_title(found)}, {_ranks(found)}"
    if charts:
        return figure(title, charts)
    why = "; ".join(f"{entry.claim}: {entry.why}" for entry in found.cannot_tell)
    return figure(f"{title}: nothing to draw ({name(why, 200) or 'no operator has a cost'})", ())


def png(found: RunRoofline) -> bytes:
    """Return the figure as a picture. Raises UsageError if pictures cannot be made here."""
    return figure_png.render(svg(found))


def _title(found: RunRoofline) -> str:
    device = name(found.device_name, 60) or name(found.device_kind, 20).upper()
    return f"Roofline on {device} · perfkit"


def _ranks(found: RunRoofline) -> str:
    return f"{len(found.analysed_ranks)} of {show.plural(found.world_size, 'rank')}"
