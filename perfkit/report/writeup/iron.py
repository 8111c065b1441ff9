"""The terms of the Iron Law of a run: work over ceilings, what binds, and the decision ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit import units
from perfkit.analyzers.faults_result import Faults
from perfkit.analyzers.iron_law import FleetTerms
from perfkit.analyzers.scaling_result import Scaling
from perfkit.report.writeup.evidence import Arm, Evidence, speed_up
from perfkit.roofline.utilization import Utilization

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
                    note="binds" if key == self.binding else "",
                )
            )
        rows.append(Term(title="overhead", work="", ceiling="", time=units.seconds(self.overhead_s),
                         note="the step less the largest term"))  # fmt: skip
        rows.append(Term(title="step, measured", work="", ceiling="",
                         time=units.seconds(self.step_s), note=""))  # fmt: skip
        return rows

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
    return Terms(
        step_s=None if step is None else step / 1e3,
        flop=max((r.executed_flop for r in ranks), default=None),
        peak_flop_per_s=max((r.peak_flop_per_s or 0.0 for r in ranks), default=0.0) or None,
        bytes=max((r.bytes for r in ranks), default=None),
        network_bytes=max((level.bus_bytes for level in levels), default=None),
        compute_s=max((r.flop_s or 0.0 for r in ranks), default=0.0) or None,
        memory_s=max((r.memory_s for r in ranks), default=0.0) or None,
        network_s=max(times, default=None),
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


def ledger(found: Evidence, terms: Terms) -> dict[str, object]:
    """Return the decision in a form for machines; null: not measured."""
    base = found.base
    entries = []
    for arm in [base, *found.others]:
        gain = speed_up(base, arm)
        rate = arm.rate
        size = arm.first.world.size
        guess = arm.guess
        entries.append(
            {
                "variant": arm.role,
                "changed": arm.applied or None,
                "binding_constraint": arm.first.verdict.label,
                "batch_size": arm.first.run.facts.get("loader batch size"),
                "precision": arm.first.run.facts.get("autocast") or "as the model's parameters",
                "samples_per_s": rate,
                "predicted_speed_up": None if guess is None else guess.speed_up,
                "speed_up": 1.0 if arm is base else None if gain is None else gain.ratio,
                "speed_up_low": None if gain is None or arm is base else gain.low,
                "speed_up_high": None if gain is None or arm is base else gain.high,
                "cost_rank_seconds_per_sample": None if not rate else size / rate,
                "final_loss": arm.loss,
            }
        )
    step = base.first.roofline
    known = [s.intensity for s in step.ranks if s.intensity] if step is not None else []
    return {
        "schema_version": 1,
        "binding_constraint": terms.binding or base.first.verdict.label,
        "arithmetic_intensity_flop_per_byte": sum(known) / len(known) if known else None,
        "compute_s": terms.compute_s,
        "memory_s": terms.memory_s,
        "network_s": terms.network_s,
        "overhead_s": terms.overhead_s,
        "step_s": terms.step_s,
        "variants": entries,
    }
