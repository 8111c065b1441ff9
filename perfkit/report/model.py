"""What a report shows, typed and free of any output format.

`build.py` turns an Analysis into a Page; `html.py` writes a Page down. Every text is final: numbers
carry their unit, foreign names are made visible and bounded, nothing is computed after this point
but places on the screen. `meaning` fields are keys of definitions.py; "" means none.
"""

import msgspec


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One table cell: its text, what it sorts by, and an optional bar (0..1) behind it."""

    text: str
    value: float | None = None
    bar: float | None = None
    swatch: str = ""  # class of time whose colour marks the cell
    hover: str = ""
    foreign: bool = False  # a name from the capture: monospaced, direction isolated


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One table column."""

    title: str
    meaning: str = ""
    numeric: bool = False
    prose: bool = False  # cells may hold code between backticks


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="table"):
    """Rows of cells; `empty` is shown in place of no rows."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = ""
    note: str = ""


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a stacked bar: percent of the chart's full width."""

    key: str  # class or family
    width: float
    text: str  # shown inside where it fits
    hover: str


class Bar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stacked bar, its name and its total."""

    label: str
    total: str
    segments: tuple[Segment, ...]
    group: str = ""  # bars of one group stand together under this heading
    marked: str = ""  # why this bar is marked, "" if it is not


class BarChart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="bars"):
    """Stacked bars that share one scale."""

    id: str
    caption: str
    bars: tuple[Bar, ...]
    legend: tuple[str, ...]  # keys, in stacking order
    note: str = ""
    dense: bool = False


class SeriesPoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step: place and heights in percent of the plot, and what hovering says."""

    left: float
    width: float
    parts: tuple[tuple[str, float], ...]  # key ("" the unsplit rest) and height, bottom first
    hover: str
    slow: bool = False


class StepBar(msgspec.Struct, frozen=True, kw_only=True):
    """One step in numbers for the zoomable chart: milliseconds of the parts, in legend order."""

    step: int
    parts_ms: tuple[float, ...]
    hover: str
    slow: bool


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """One axis label at a place in percent of the axis."""

    at: float
    text: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A shaded stretch of the x axis in percent of the plot."""

    left: float
    width: float
    label: str


class SeriesChart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="series"):
    """Step time over the run."""

    id: str
    caption: str
    points: tuple[SeriesPoint, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    spans: tuple[Span, ...]
    median: Tick | None
    legend: tuple[str, ...]
    note: str = ""
    steps: tuple[StepBar, ...] = ()
    median_ms: float | None = None
    profiled: tuple[tuple[int, int], ...] = ()  # first and last step of each window


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One span of the timeline: microseconds, index of class and of label, collective or -1."""

    start: float
    duration: float
    key: int
    label: int
    events: int = 1
    collective: int = -1


class Lane(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the timeline."""

    rank: str
    name: str
    marks: tuple[Mark, ...]
    window: tuple[float, float] | None = None
    straggler: bool = False


class TimelineChart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="timeline"):
    """One step over ranks, zoomable where scripts run, drawn as a whole where they do not."""

    id: str
    caption: str
    span_us: float
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    lanes: tuple[Lane, ...]
    note: str = ""


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named value."""

    name: str
    text: str
    meaning: str = ""
    note: str = ""
    foreign: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="facts"):
    """Named values; `tiles` shows them large."""

    items: tuple[Fact, ...]
    caption: str = ""
    tiles: bool = False


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="note"):
    """One paragraph; tone is plain, good, warning or error."""

    text: str
    tone: str = "plain"
    code: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """A line to copy into a shell."""

    caption: str
    line: str


class Advice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="advice"):
    """One finding as something to do."""

    id: str
    severity: str
    title: str
    evidence: str
    ranks: str
    gain: str
    next_step: str  # prose
    command: str = ""  # the line to run, complete
    not_when: str = ""
    recipe: str = ""


class Headline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="headline"):
    """The verdict as the first thing on the page."""

    label: str  # one of the verdict's labels
    badge: str  # the label in words
    sentence: str
    doubts: tuple[str, ...]  # why it may be otherwise
    tiles: tuple[Fact, ...]
    would_change: str


class Axis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One axis of a plot: its range in data units and its labels."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False
    suffix: str = ""  # unit behind a zoomed axis's own labels
    values: tuple[float, ...] = ()  # where the ticks are, for units that labels cannot be made of


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One mark of a plot: data coordinates, radius in pixels, what hovering says."""

    x: float
    y: float
    radius: float
    hover: str


class Dots(msgspec.Struct, frozen=True, kw_only=True):
    """Marks of one kind: one colour, one shape, one entry of the legend."""

    name: str
    key: str  # colour
    shape: str  # circle, square, diamond, triangle
    dots: tuple[Dot, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line through data points, with its name beside it."""

    name: str
    points: tuple[tuple[float, float], ...]
    key: str = ""  # colour, "" the colour of text
    dashed: bool = False
    labelled: bool = True


class PlotChart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="plot"):
    """Marks and lines over two axes: drawn as they are, zoomable where scripts run."""

    id: str
    caption: str
    x: Axis
    y: Axis
    dots: tuple[Dots, ...] = ()
    lines: tuple[Line, ...] = ()
    note: str = ""


class Bound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measured time against the least that the ceilings allow, in percent of the longest."""

    name: str
    key: str
    measured: float
    least: float | None
    text: str
    hover: str


class BoundChart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="bounds"):
    """Measured times against their bounds."""

    id: str
    caption: str
    rows: tuple[Bound, ...]
    legend: tuple[str, ...]
    longest: float  # in `unit`
    unit: str
    across: str = "time per step"  # what the bars' length is
    note: str = ""


Block = (
    Table
    | BarChart
    | SeriesChart
    | TimelineChart
    | PlotChart
    | BoundChart
    | Facts
    | Note
    | Command
    | Advice
    | Headline
)


class Section(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A titled part of the page."""

    id: str
    title: str
    short: str  # in the list of sections
    lead: str
    blocks: tuple[Block, ...]


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole report."""

    title: str
    subtitle: str
    version: str
    sections: tuple[Section, ...]
