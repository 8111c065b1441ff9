"""The DataLoader: workers that fetch ahead, kept alive, into pinned memory."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import ceiling_of, no_steps, only_ceiling, predicted, share, step_ms
from perfkit.recipes.recipe import (
    Application,
    Numerics,
    Parameter,
    Prediction,
    Recipe,
    Situation,
    Value,
)

MOST_WORKERS = 8
SPARE = 0.9
"""Workers are enough when their batches come in this share of the rest of the step."""


def workers_for(situation: Situation, fetch_ms: float, rest_ms: float) -> int:
    """Return how many workers keep up, within what the machine has; two at least."""
    ranks = max(situation.analysis.world.size // max(situation.analysis.world.nodes, 1), 1)
    processors = int(situation.number("cpus_available")) or 2
    limit = max(min(processors // ranks, MOST_WORKERS), 2)
    wanted = next((w for w in range(1, limit) if fetch_ms / w <= SPARE * rest_ms), limit)
    return max(wanted, 1)


def predict(situation: Situation) -> Prediction | Refusal:
    """Step' = max(fetch / workers, the rest of the step): fetching runs beside it."""
    if refusal := no_steps(situation) or _own_choice(situation):
        return refusal
    analysis = situation.analysis
    now = step_ms(analysis)
    waits = [r.classes.get("input_wait") for r in analysis.budget.per_rank]
    fetch = max((w.ms for w in waits if w is not None), default=0.0)
    if not waits or fetch < 0.01 * now:
        return Refusal(reason="no rank waits for its batches")
    rest = max(now - fetch, 0.0)
    workers = workers_for(situation, fetch, rest)
    if situation.fact("loader", "iterable"):
        workers = 1
    values: dict[str, Value] = {"workers": workers}
    why = f"{fetch:.0f} ms of fetching by {workers} workers beside {rest:.0f} ms of the rest"
    return predicted(now, max(fetch / workers, rest), min(fetch / now, 0.99), why, values)


def _own_choice(situation: Situation) -> Refusal | None:
    workers = situation.fact("loader", "num_workers")
    if situation.fact("loader") is None:
        return Refusal(reason="the script uses no torch DataLoader")
    if isinstance(workers, int) and workers > 0:
        return Refusal(reason=f"the script chose num_workers={workers} itself")
    return None


def is_exact(situation: Situation) -> bool:
    """Whether workers change no number: no `__getitem__` drew from a global generator."""
    return situation.seen.get("loader_draws_global_rng") is False


def pinned(situation: Situation) -> Prediction | Refusal:
    """Copies from pinned memory run at the link's speed; only on a device."""
    if refusal := no_steps(situation):
        return refusal
    if situation.analysis.world.device_kind == "cpu":
        return Refusal(reason="nothing is copied to a device")
    if situation.fact("loader", "pin_memory"):
        return Refusal(reason="the loader pins its memory already")
    copies = share(situation.analysis, "memcpy")
    return only_ceiling(copies, f"at most {ceiling_of(copies):.2f}x if all copies vanished")


RECIPE = Recipe(
    id="loader",
    title="Fetch batches in worker processes, ahead of time",
    addresses="io",
    findings=("slow_loader",),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=predict,
    in_rank="loader",
    parameters=(
        Parameter(
            name="workers",
            default=0,
            help="worker processes a rank; 0: by the machine's processors",
            choices=(2, 4, 1, 8),
        ),
        Parameter(name="prefetch", default=4, help="batches that a worker keeps ready", least=1),
    ),
    refuses=(
        "the script sets num_workers above 0, or a worker_init_fn",
        "the dataset holds locks or tensors on a device",
        "an IterableDataset gets one worker only, lest samples come twice",
    ),
    for_good="loader = DataLoader(dataset, num_workers={workers}, persistent_workers=True, "
    "prefetch_factor={prefetch})",
    caveat="exact only if no __getitem__ draws from a global generator (seen in the baseline)",
)
PIN_MEMORY = Recipe(
    id="pin-memory",
    title="Fetch batches into pinned memory",
    addresses="io",
    findings=("pageable_copies", "exposed_copies"),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=pinned,
    in_rank="loader",
    refuses=("the script sets pin_memory itself", "no CUDA device is in use"),
    for_good="loader = DataLoader(dataset, pin_memory=True)\n"
    "batch = batch.to(device, non_blocking=True)",
    caveat="copies overlap with compute only with non_blocking=True",
)
