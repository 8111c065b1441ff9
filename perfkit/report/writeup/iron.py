"""The terms of the Iron Law of a run: work over ceilings, what binds, and the fleet form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfkit import units
from perfkit.analyzers.faults_result import Faults
from perfkit.analyzers.iron_law import FleetTerms
from perfkit.analyzers.scaling_result import Scaling
from perfkit.report.writeup.evidence import Arm
from perfkit.roofline.utilization import Utilization

CACHED = 1.05
"""A memory term faster than main memory by more than this holds bytes that fit the cache."""
WORDS = {"compute": "compute", "memory": "memory traffic", "network": "the network"}
FORMULAS = {
    "compute": "compute / FLOPS",
    "memory": "bytes / bandwidth",
    "network": "network bytes / bandwidth",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term as texts."""

    title: str
    work: str
    ceiling: str
    time: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Least times in seconds, of the rank that has most of each; None: no ceiling is known."""

    step_s: float | None
    flop: float | None
    peak_flop_per_s: float | None
    bytes: float | None
    network_bytes: float | None
    compute_s: float | None
    memory_s: float | None
    network_s: float | None
    main_memory_bytes_per_s: float | None = None

    @property
    def known(self) -> dict[str, float]:
        """The terms whose ceilings are known."""
        times = {"compute": self.compute_s, "memory": self.memory_s, "network": self.network_s}
        return {name: time for name, time in times.items() if time}

    @property
    def binding(self) -> str | None:
        """The largest term; None where none is known."""
        return max(self.known, key=lambda n: self.known[n]) if self.known else None

    @property
    def overhead_s(self) -> float | None:
        """What the step takes beyond its largest term."""
        if self.step_s is None or self.binding is None:
            return None
        return self.step_s - self.known[self.binding]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Terms without a ceiling."""
        wanted = ["compute", "memory", *(["network"] if self.network_bytes else [])]
        return tuple(f"the ceiling of the {n} term" for n in wanted if n not in self.known)

    def rows(self) -> list[Term]:
        """Return the terms for a table, with the overhead and the step."""
        work = {
            "compute": "-" if self.flop is None else f"{units.count(self.flop)} FLOP",
            "memory": units.size(self.bytes),
            "network": units.size(self.network_bytes),
        }
        amounts = {"compute": self.flop, "memory": self.bytes, "network": self.network_bytes}
        rows = []
        for key, formula in FORMULAS.items():
            time, amount = self.known.get(key), amounts[key]
            speed = None if not time or amount is None else amount / time
            shown = units.flops(speed) if key == "compute" else units.bandwidth(_giga(speed))
            rows.append(
                Term(
                    title=formula,
                    work=work[key],
                    ceiling="not known" if time is None else shown,
                    time=units.seconds(time),
                    note="; ".join(self._notes(key, speed)),
                )
            )
        rows.append(Term(title="overhead", work="", ceiling="", time=units.seconds(self.overhead_s),
                         note="the step less the largest term"))  # fmt: skip
        rows.append(Term(title="step, measured", work="", ceiling="",
                         time=units.seconds(self.step_s), note=""))  # fmt: skip
        return rows

    def _notes(self, key: str, speed: float | None) -> Iterator[str]:
        if key == self.binding:
            yield "binds"
        main = self.main_memory_bytes_per_s
        if key == "memory" and speed and main and speed > main * CACHED:
            yield f"partly from the cache; main memory gives {units.bandwidth(main / 1e9)}"

    def sentence(self) -> str:
        """Return which term binds and how much of the step it explains."""
        if self.binding is None or self.step_s is None:
            return (
                "No ceiling of this machine is known, so that no term can be stated as a least "
                "time; the budget above says where the time goes all the same."
            )
        share = self.known[self.binding] / self.step_s
        return (
            f"Among the terms with a known ceiling {WORDS[self.binding]} binds: it explains "
            f"{units.percent(share)} of the step of {units.seconds(self.step_s)}, the other "
            f"{units.percent(1 - share)} is overhead. Making a term that does not bind smaller "
            "changes nothing in this law; making the binding one smaller helps until the next one "
            "binds."
        )


def _giga(value: float | None) -> float | None:
    return None if value is None else value / 1e9


def terms_of(arm: Arm) -> Terms:
    """Return the terms of an arm's first run."""
    run, step = arm.first.roofline, arm.step_ms
    ranks = run.ranks if run is not None else ()
    levels = [level for rank in ranks for level in rank.levels]
    times = [level.least_s for level in levels if level.least_s]
    used = run.ceilings if run is not None else ()
    return Terms(
        step_s=None if step is None else step / 1e3,
        flop=max((r.executed_flop for r in ranks), default=None),
        peak_flop_per_s=max((r.peak_flop_per_s or 0.0 for r in ranks), default=0.0) or None,
        bytes=max((r.bytes for r in ranks), default=None),
        network_bytes=max((level.bus_bytes for level in levels), default=None),
        compute_s=max((r.flop_s or 0.0 for r in ranks), default=0.0) or None,
        memory_s=max((r.memory_s for r in ranks), default=0.0) or None,
        network_s=max(times, default=None),
        main_memory_bytes_per_s=next((c.value for c in used if c.quantity == "memory"), None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The factors of the fleet form as rows, what they give, and what is missing."""

    rows: tuple[tuple[str, ...], ...]
    sentence: str
    lacking: tuple[tuple[str, str], ...]  # what, command


def fleet(arm: Arm, scalings: Sequence[Scaling], faults: Faults | None) -> Fleet:
    """Return the factors that are known. FLOPs are of one step; the time is that of a step."""
    run = arm.first
    used = _utilization(arm)
    efficiency = _efficiency(scalings, run.world.size)
    goodput = _goodput(faults, run.world.size)
    lacking: list[tuple[str, str]] = []
    if used is None:
        lacking.append(("MFU: no peak is known", "perfkit ceilings --out RUN/ceilings.json"))
    if efficiency is None:
        lacking.append(
            ("scaling efficiency", "perfkit scale --ranks 1,2 --mode weak --out DIR -- CMD")
        )
    if goodput is None:
        lacking.append(("goodput", "perfkit faults --out DIR -- CMD"))
    scaled = efficiency if efficiency is not None else 1.0
    rows = (
        ("FLOPs of a step", "-" if used is None else units.count(used.flop_per_step),
         "not known" if used is None else used.counts),
        ("N", str(run.world.size), "ranks"),
        ("peak of one", "-" if used is None else units.flops(used.peak_flop_per_s / run.world.size),
         "not known" if used is None else used.peak_source),
        ("MFU of one rank", "-" if used is None else units.percent(used.share / scaled),
         "utilisation over the scaling efficiency" if efficiency is not None else "utilisation"),
        ("scaling efficiency", units.percent(efficiency),
         "perfkit scale" if efficiency is not None else "missing: inside MFU above"),
        ("goodput", units.percent(goodput),
         "perfkit faults: today's interval, one rank failing as often as it assumes"
         if goodput is not None else "missing: taken as 1"),
    )  # fmt: skip
    if used is None:
        return Fleet(rows=rows, sentence="Without MFU the product cannot be formed.",
                     lacking=tuple(lacking))  # fmt: skip
    terms = FleetTerms(
        flops=used.flop_per_step,
        devices=run.world.size,
        peak_flop_per_s=used.peak_flop_per_s / run.world.size,
        mfu=used.share / scaled,
        scaling_efficiency=scaled,
        goodput=goodput or 1.0,
    )
    text = (
        f"The product gives {units.seconds(terms.seconds)} of wall time a step, lost work and "
        f"restarts included; {units.seconds(used.step_s)} without them was measured."
    )
    return Fleet(rows=rows, sentence=text, lacking=tuple(lacking))


def _goodput(faults: Faults | None, ranks: int) -> float | None:
    """Return the goodput to be expected of a long run at the interval of the measured one."""
    rows = faults.fleet if faults is not None else ()
    return next((row.goodput_now for row in rows if row.ranks == ranks), None)


def _utilization(arm: Arm) -> Utilization | None:
    run = arm.first.roofline
    return next(iter(run.utilization), None) if run is not None else None


def _efficiency(scalings: Sequence[Scaling], ranks: int) -> float | None:
    """Return the efficiency at this number of ranks, of a weak series if there is one."""
    order = sorted(scalings, key=lambda s: s.mode != "weak")
    return next((p.efficiency for s in order for p in s.points if p.ranks == ranks), None)
