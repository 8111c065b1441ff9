"""Shares of the peak by every convention of counting FLOP that the run allows, and why not others.

Per device and honest about parallelism: FLOP are those of each rank's own part of the model, its
own tokens and all micro-batches of a step; the peak is that of the devices that worked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perfkit import units
from perfkit.roofline.architecture import Architecture
from perfkit.roofline.ceilings import Roofs
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.mfu import Convention, palm_flop_per_token
from perfkit.roofline.model import harmonic_peak
from perfkit.roofline.place import Placement

COUNTED_TOO_HIGH = 1.05
"""A convention's FLOP over the captured ones from which the sizes are doubted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSizes:
    """Sizes of a transformer that the user states, of one rank's part; None: read from the run."""

    layers: int | None = None
    heads: int | None = None
    head_size: int | None = None
    sequence: int | None = None
    parameters: int | None = None


NOTHING_GIVEN = GivenSizes()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSizes:
    """What the formulas are fed, of one rank's part of the model; None: not known."""

    layers: float | None
    heads: int | None
    head_size: int | None
    sequence: int | None
    parameters: float | None
    tokens: float | None  # per rank and optimizer step
    linear_products: float | None  # multiplications of linear operators, forward, per step
    source: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the attention sizes that are not known."""
        known = {
            "layers": self.layers,
            "heads": self.heads,
            "head size": self.head_size,
            "sequence": self.sequence,
        }
        return tuple(name for name, value in known.items() if value is None)

    def attention_flop(self) -> float | None:
        """12 L H Q T per token over all tokens of a step; None if a size is not known."""
        if self.missing or self.tokens is None:
            return None
        assert self.layers and self.heads and self.head_size and self.sequence
        each = palm_flop_per_token(
            0.0,
            layers=1,
            heads=self.heads,
            head_size=self.head_size,
            sequence=self.sequence,
        )
        return each * self.layers * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """Achieved share of the peak per device, by one convention of counting FLOP."""

    convention: str
    counts: str  # what it counts, in words
    flop_per_step: float  # of all ranks
    step_s: float
    peak_flop_per_s: float  # of all devices
    peak_source: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCounted:
    """A convention that cannot be told here, and why."""

    convention: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the analysed ranks computed, in what time, on how many devices."""

    placements: Sequence[Placement]
    architectures: Sequence[Architecture]
    configuration: Configuration
    given: GivenSizes
    devices: float
    step_s: float
    peak_note: str = ""  # how the peak of the devices was reckoned

    def executed_flop(self) -> float:
        """Executed matrix FLOP per step of all ranks."""
        return sum(sum(placement.flop_by_precision().values()) for placement in self.placements)

    def model_flop(self) -> float:
        """The same without recomputation."""
        return sum(p.flop for q in self.placements for p in q.points if p.unit == "tensor")


def utilizations(
    work: Work, roofs: Roofs
) -> tuple[tuple[Utilization, ...], tuple[NotCounted, ...], tuple[str, ...]]:
    """Shares by convention, conventions that cannot be told, and findings about them."""
    counted, left_out = _counts(work)
    peak = device_peak(work.placements, roofs)
    if peak is None or not work.step_s:
        return (), tuple(left_out), ()
    value, source = peak
    source += f"; {work.peak_note}" if work.peak_note else ""
    entries = tuple(
        Utilization(
            convention=convention.value,
            counts=what,
            flop_per_step=flop,
            step_s=work.step_s,
            peak_flop_per_s=value * work.devices,
            peak_source=source,
            share=flop / (work.step_s * value * work.devices),
        )
        for convention, what, flop in counted
        if flop
    )
    return entries, tuple(left_out), tuple(_findings(entries))


Count = tuple[Convention, str, float]


def _counts(work: Work) -> tuple[list[Count], list[NotCounted]]:
    executed = "executed matrix products, recomputation included"
    model = "matrix products of the model, without recomputation"
    counted: list[Count] = [
        (Convention.EXECUTED, executed, work.executed_flop()),
        (Convention.OPERATORS, model, work.model_flop()),
    ]
    six_n = work.configuration.six_n_flop
    ranks = len(work.placements)
    if six_n is not None:
        what = "6 x parameters x tokens, without attention"
        counted.append((Convention.SIX_N, what, six_n * ranks))
    left_out: list[NotCounted] = []
    for count in (_palm, _megatron):
        found = [
            count(one, sizes_of(one, work.configuration, work.given)) for one in work.architectures
        ]
        refused = next((one for one in found if isinstance(one, NotCounted)), None)
        if refused is not None:
            left_out.append(refused)
            continue
        told = [one for one in found if not isinstance(one, NotCounted)]
        if told:
            convention, what, _ = told[0]
            counted.append((convention, what, sum(flop for _, _, flop in told)))
    return counted, left_out


def sizes_of(
    found: Architecture, configuration: Configuration, given: GivenSizes
) -> TransformerSizes:
    """What is given stands before what is read. Layers need the number of micro-batches."""
    attention, batches = found.attention, configuration.micro_batches
    layers = found.attention_calls / batches if attention and batches else None
    sequence = given.sequence or (attention.sequence if attention else None)
    tokens = configuration.tokens_per_rank
    if attention and batches:
        tokens = float(attention.samples * attention.sequence * batches)
    stated = [name for name in GivenSizes.__slots__ if getattr(given, name) is not None]
    sources = [found.source] if found.source else []
    sources += [f"given: {', '.join(stated)}"] if stated else []
    return TransformerSizes(
        layers=given.layers or layers,
        heads=given.heads or (attention.heads if attention else None),
        head_size=given.head_size or (attention.head_size if attention else None),
        sequence=sequence,
        parameters=given.parameters or configuration.parameters,
        tokens=tokens,
        linear_products=found.linear_products or None,
        source="; ".join(sources),
    )


def _palm(found: Architecture, sizes: TransformerSizes) -> Count | NotCounted:
    attention = sizes.attention_flop()
    if not found.trains or attention is None:
        return _not_counted(Convention.PALM, found, sizes)
    if sizes.parameters is None:
        why = "the number of parameters that a rank computes with is not recorded"
        return NotCounted(
            convention=Convention.PALM.value, why=why, remedy="give it: --parameters N"
        )
    assert sizes.tokens is not None
    what = (
        f"6N + 12LHQT per token: N {sizes.parameters:,.0f}, {_in_words(sizes)}, attention over "
        "the full square"
    )
    return Convention.PALM, what, 6 * sizes.parameters * sizes.tokens + attention


def _megatron(found: Architecture, sizes: TransformerSizes) -> Count | NotCounted:
    attention = sizes.attention_flop()
    if not found.trains or attention is None:
        return _not_counted(Convention.MEGATRON, found, sizes)
    if sizes.linear_products is None:
        return NotCounted(
            convention=Convention.MEGATRON.value,
            why="no linear operator with recorded shapes ran in the forward pass",
            remedy="record with perfkit profile, or with record_shapes=True",
        )
    what = f"linear layers and half of the attention square: {_in_words(sizes)}"
    return Convention.MEGATRON, what, 6 * sizes.linear_products + attention / 2


def _in_words(sizes: TransformerSizes) -> str:
    return (
        f"L {sizes.layers:g}, H {sizes.heads}, Q {sizes.head_size}, T {sizes.sequence}, "
        f"{sizes.tokens:,.0f} tokens a rank and step ({sizes.source})"
    )


_FLAGS = {
    "layers": "--layers",
    "heads": "--heads",
    "head size": "--head-dim",
    "sequence": "--sequence",
}


def _not_counted(
    convention: Convention, found: Architecture, sizes: TransformerSizes
) -> NotCounted:
    if not found.trains:
        why = "no backward pass was captured, and the formula is of training steps"
        return NotCounted(
            convention=convention.value, why=why, remedy="capture whole training steps"
        )
    if not sizes.missing:
        why = "neither micro-batches nor tokens per step are recorded"
        return NotCounted(
            convention=convention.value, why=why, remedy="record the run with perfkit profile"
        )
    why = found.why_not
    if not why:
        why = "the number of micro-batches per step is not recorded"
    flags = " ".join(f"{_FLAGS[name]} N" for name in sizes.missing)
    return NotCounted(convention=convention.value, why=why, remedy=f"give its sizes: {flags}")


def device_peak(placements: Sequence[Placement], roofs: Roofs) -> tuple[float, str] | None:
    """Peak of one device for this mix of precisions: published where known, as MFU demands."""
    mix: dict[str, float] = {}
    for placement in placements:
        for precision, flop in placement.flop_by_precision().items():
            mix[precision] = mix.get(precision, 0.0) + flop
    for source in (Roofs(published=roofs.published), roofs):
        found = {p: roof for p in mix if (roof := source.matrix(p)) is not None}
        peak = harmonic_peak(mix, {p: roof.value for p, roof in found.items()})
        if peak is not None:
            return peak, "; ".join(sorted({roof.source for roof in found.values()}))
    return None


def _findings(entries: Sequence[Utilization]) -> Iterable[str]:
    by_name: Mapping[str, Utilization] = {entry.convention: entry for entry in entries}
    executed = by_name.get(Convention.EXECUTED.value)
    for entry in entries:
        if entry.share > 1:
            yield _above_one(entry, executed)
    megatron = by_name.get(Convention.MEGATRON.value)
    if megatron and executed:
        ratio = megatron.flop_per_step / executed.flop_per_step
        if ratio > COUNTED_TOO_HIGH:
            yield (
                f"the transformer's sizes ask for {ratio:.2f} times the matrix FLOP that were "
                f"captured ({megatron.counts}): a size is not this rank's, or operators have no "
                "known cost"
            )


def _above_one(entry: Utilization, executed: Utilization | None) -> str:
    text = f"utilization of {entry.share:.0%} ({entry.convention}) cannot be: "
    if executed is not None and executed.share <= 1:
        return text + (
            f"the FLOP are counted too high ({entry.counts}); the captured matrix products reach "
            f"{executed.share:.0%}"
        )
    return text + (
        f"the peak of {units.flops(entry.peak_flop_per_s)} ({entry.peak_source}) is too low, or "
        "the FLOP are counted too high"
    )
