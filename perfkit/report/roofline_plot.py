"""A run's roofline as a page of its own: the roofline section of the report, alone."""

from perfkit.report import html, show
from perfkit.report.model import Page
from perfkit.report.names import name
from perfkit.report.roofline_section import roofline_section
from perfkit.roofline.summary import RunRoofline
from perfkit.version import __version__


def page(found: RunRoofline, *, light: bool = False) -> str:
    """Return the whole page."""
    device = name(found.device_name, 60) or name(found.device_kind, 20).upper()
    section = roofline_section(found)
    return html.write(
        Page(
            title=f"perfkit · roofline on {device}",
            subtitle=f"{len(found.analysed_ranks)} of {show.plural(found.world_size, 'rank')}",
            version=__version__,
            sections=() if section is None else (section,),
        ),
        light=light,
    )
