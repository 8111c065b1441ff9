"""What a change would do to the step: edits of a replay graph, replayed, and explained.

Every answer is a replay of the same graph with other durations (or without some dependencies);
it holds for the captured steps, the same order of work and the same machine unless the change
says otherwise. Rules and their sources: models.md 5.5. The range of a prediction comes from
predictions of its kind that were compared with measurements (calibration.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from perfkit.analyzers.alphabeta import AlphaBetaFit, Observation, fit_alpha_beta
from perfkit.analyzers.calibration import Expected, Pair, expected
from perfkit.analyzers.critical_path import critical_path
from perfkit.analyzers.graph import StepGraph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, I64, Plan, Schedule, Work
from perfkit.analyzers.replay_edit import busiest_link_ns, busiest_ns
from perfkit.trace.kinds import TimeClass

COMMUNICATION = (TimeClass.COMM_TRANSFER.key,)
ADDS = 0.99
RING_OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A graph under change: its plan, what its work costs now, what may not be hidden."""

    graph: StepGraph
    plan: Plan
    work: Work
    network: AlphaBetaFit | None
    hidden: Work | None = None  # what the transfers cost that nobody waits for any more
    calibration: tuple[Pair, ...] = ()
    quiet_micro_steps: tuple[int, float] = (0, 0.0)  # how many, and the period of one (ns)
    shift_ns: float = 0.0  # what the step gains in length beside the replay
    notes: tuple[str, ...] = ()  # what the changes found and assumed in this run


Edit = Callable[[Setting], "Setting | Refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing to try: how it is named, what it assumes, and its edit of the graph."""

    name: str
    option: str  # of `perfkit whatif`
    assumptions: tuple[str, ...]
    apply: Edit
    last: bool = False  # to be applied behind all changes that it is combined with
    recipe: str | None = None  # the name under `recipes/` that makes the change real


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A predicted step. Shares are of the critical path: what a small change of each would do."""

    changes: tuple[str, ...]
    options: tuple[str, ...]
    step_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float
    expected: Expected
    speed_up: float
    shares_before: dict[str, float]
    shares_after: dict[str, float]
    next_bottleneck: str | None
    assumptions: tuple[str, ...]
    recipes: tuple[str, ...]


def baseline(graph: StepGraph, network: AlphaBetaFit | None) -> Setting:
    """Return the unchanged run."""
    return Setting(graph=graph, plan=graph.plan, work=graph.plan.unchanged, network=network)


def ask(setting: Setting, changes: Sequence[Change]) -> Answer | Refusal:
    """Predict the step under all the changes together, or say which of them cannot be predicted."""
    graph, current = setting.graph, setting
    for change in sorted(changes, key=lambda c: c.last):
        edited = change.apply(current)
        if isinstance(edited, Refusal):
            return Refusal(reason=f"{change.name}: {edited.reason}", remedy=edited.remedy)
        current = edited
    schedule = _replay(current)
    computing, carrying = graph.period_ns(schedule), _carrying_ns(current)
    period = max(0.0, max(computing, carrying) + current.shift_ns)
    quiet, quiet_ns = current.quiet_micro_steps
    period = (period + quiet * quiet_ns) / (1 + quiet)
    # The replay's own error is taken out: the measured step scales with the replayed ratio.
    ratio = period / graph.period_ns(graph.base)
    before = shares(graph, graph.plan, graph.base, graph.plan.unchanged)
    after = shares(graph, current.plan, schedule, current.work)
    if carrying > computing:
        after = {COMMUNICATION[0]: 1.0}
    predicted = graph.step_ns * ratio / 1e6
    trust = expected((c.option for c in changes), setting.calibration)
    low, high = _interval(predicted, graph, trust)
    return Answer(
        changes=tuple(c.name for c in changes),
        options=tuple(c.option for c in changes),
        step_ms=graph.step_ns / 1e6,
        predicted_ms=predicted,
        low_ms=low,
        high_ms=high,
        expected=trust,
        speed_up=1 / ratio if ratio else float("inf"),
        shares_before=before,
        shares_after=after,
        next_bottleneck=max(after, key=after.__getitem__) if after else None,
        assumptions=tuple(
            dict.fromkeys([*(a for c in changes for a in c.assumptions), *current.notes])
        ),
        recipes=tuple(c.recipe for c in changes if c.recipe),
    )


def _carrying_ns(setting: Setting) -> float:
    """Return how long a step's transfers keep the network busy where nobody waits for them."""
    if setting.hidden is None:
        return 0.0
    graph = setting.graph
    busy = max(
        busiest_ns(graph.plan.graph, setting.hidden, COMMUNICATION),
        busiest_link_ns(graph.plan.graph, graph.base, setting.hidden, COMMUNICATION),
    )
    return busy / len(graph.steps)


def _interval(predicted_ms: float, graph: StepGraph, trust: Expected) -> tuple[float, float]:
    """Return the expected range. The sign of an effect is certain, its size is not."""
    now_ms = graph.step_ns / 1e6
    error = max(trust.error, abs(graph.replay_error)) * predicted_ms
    low, high = predicted_ms - error, predicted_ms + error
    if predicted_ms <= now_ms:
        high = min(high, now_ms)
    if predicted_ms >= now_ms:
        low = max(low, now_ms)
    return low, high


def search(setting: Setting, changes: Sequence[Change], *, pairs_of: int = 4) -> tuple[Answer, ...]:
    """Ask for each change alone and for pairs of the most promising; the largest gain first.

    A pair is left out where it gains less than 1 % beyond the better one of the two alone.
    """
    found = [(c, a) for c in changes if not isinstance(a := ask(setting, [c]), Refusal)]
    found.sort(key=lambda pair: pair[1].predicted_ms)
    answers = [answer for _, answer in found]
    best = [(c, a.predicted_ms) for c, a in found if a.speed_up > 1.005][:pairs_of]
    for (first, alone_ms), (second, _) in combinations(best, 2):
        both = ask(setting, [first, second])
        if not isinstance(both, Refusal) and both.predicted_ms < ADDS * alone_ms:
            answers.append(both)
    return tuple(sorted(answers, key=lambda a: (a.predicted_ms, len(a.changes))))


def shares(graph: StepGraph, plan: Plan, schedule: Schedule, work: Work) -> dict[str, float]:
    """Return each class's share of the critical path, without the ranks' skew at the start."""
    path = critical_path(plan, schedule, work)
    skew = TimeClass.OTHER.key
    spent = {kind: ns for kind, ns in path.by_kind_ns.items() if kind != skew and ns > 0}
    total = sum(spent.values())
    return {kind: ns / total for kind, ns in sorted(spent.items(), key=lambda i: -i[1])}


def _replay(setting: Setting) -> Schedule:
    same = setting.plan is setting.graph.plan
    return setting.plan.run(setting.work, base=setting.graph.base if same else None)


def with_durations(setting: Setting, tasks: I64, durations: F64 | float) -> Setting:
    """Return the setting with other durations of some tasks."""
    new = setting.work.duration_ns.copy()
    new[tasks] = durations
    return replace(setting, work=Work(duration_ns=new, lag_ns=setting.work.lag_ns))


def fit_network(graph: StepGraph, *, seed: int) -> AlphaBetaFit | None:
    """Fit latency and bandwidth to the graph's own matched collectives; None if that fails."""
    tasks = graph.plan.graph.collective
    shortest: dict[int, float] = {}
    for number, duration in zip(tasks.tolist(), graph.plan.graph.duration_ns.tolist(), strict=True):
        if number >= 0:
            shortest[number] = min(shortest.get(number, duration), duration)
    observed = [
        Observation(op=move.op, ranks=move.ranks, size_bytes=move.size_bytes, transfer_s=ns / 1e9)
        for number, ns in shortest.items()
        if (move := graph.transfers[number]).size_bytes > 0 and move.op in RING_OPERATIONS
    ]
    fit = fit_alpha_beta(observed, seed=seed, draws=100)
    return None if isinstance(fit, Refusal) else fit
