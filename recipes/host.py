"""The host's own settings: threads, garbage collection, allocator, communication libraries."""

from collections.abc import Mapping

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import (
    after_blame,
    exposed_ms,
    finding,
    is_cpu,
    no_steps,
    only_ceiling,
    predicted,
    share,
    step_ms,
)
from perfkit.recipes.recipe import (
    Application,
    Numerics,
    Parameter,
    Prediction,
    Recipe,
    Situation,
    Values,
)

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all")
PARALLEL = 0.8
"""Part of CPU compute that more threads speed up (Amdahl), cautious."""


def threads(situation: Situation) -> Prediction | Refusal:
    """Compute' = compute ((1 - p) + p old/new); never beyond processors / ranks."""
    if refusal := no_steps(situation):
        return refusal
    if not is_cpu(situation):
        return Refusal(reason="the step computes on a device")
    if "OMP_NUM_THREADS" in situation.environ:
        return Refusal(reason="OMP_NUM_THREADS is set in the environment")
    world = situation.analysis.world
    ranks = max(world.size // max(world.nodes, 1), 1)
    processors, now = int(situation.number("cpus_available")), int(situation.number("threads"))
    fair = processors // ranks
    if not now or fair <= now:
        return Refusal(reason=f"{processors} processors for {ranks} ranks allow no more threads")
    step, part = step_ms(situation.analysis), after_blame(situation.analysis, "compute")
    then = step * (1 - part * PARALLEL * (1 - now / fair))
    why = f"{fair} instead of {now} threads for {part:.0%} of the step, if the processors are idle"
    return predicted(step, then, part, why, {"threads": fair})


def no_variable(name: str, values: Values, environ: Mapping[str, str]) -> Refusal | None:
    """Refuse where the user has set the variable."""
    if name in environ:
        return Refusal(reason=f"{name}={environ[name]} is set in the environment")
    return None


def _threads(values: Values, environ: Mapping[str, str]) -> Mapping[str, str] | Refusal:
    return no_variable("OMP_NUM_THREADS", values, environ) or {}


def pauses(situation: Situation) -> Prediction | Refusal:
    """All collections after the first steps vanish."""
    if refusal := no_steps(situation):
        return refusal
    part = share(situation.analysis, "host_gc")
    if part < 0.005:
        return Refusal(reason="garbage collection takes under 0.5 % of the step")
    step = step_ms(situation.analysis)
    why = f"collections take {part:.1%} of the step"
    return predicted(step, step * (1 - 0.9 * part), part, why)


def allocation(situation: Situation) -> Prediction | Refusal:
    """Retries and growth of the caching allocator vanish."""
    if refusal := no_steps(situation):
        return refusal
    if is_cpu(situation):
        return Refusal(reason="the caching allocator is a device's")
    found = finding(situation.analysis, ALLOCATOR.findings)
    if found is None:
        return Refusal(reason="the allocator neither calls the driver during steps nor retries")
    return only_ceiling(share(situation.analysis, "host_alloc"), "calls of the driver vanish")


def _allocator(values: Values, environ: Mapping[str, str]) -> Mapping[str, str] | Refusal:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if refusal := no_variable(name, values, environ):
            return refusal
    return {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def _nccl(values: Values, environ: Mapping[str, str]) -> Mapping[str, str] | Refusal:
    name, value = str(values["name"]), str(values["value"])
    return no_variable(name, values, environ) or {name: value}


def _gloo(values: Values, environ: Mapping[str, str]) -> Mapping[str, str] | Refusal:
    interfaces = str(values["interfaces"]).replace("+", ",")
    if not interfaces:
        return Refusal(reason="name the interfaces: gloo-environment:interfaces=eth0+eth1")
    name = "GLOO_SOCKET_IFNAME"
    return no_variable(name, values, environ) or {name: interfaces}


def backend(name: str, situation: Situation) -> Prediction | Refusal:
    """Return the ceiling of better transfers, where the backend is the one that is tuned."""
    if refusal := no_steps(situation):
        return refusal
    if situation.analysis.run.backend != name:
        return Refusal(reason=f"the backend is not {name}")
    exposed = exposed_ms(situation.analysis, *COLLECTIVES)
    part = min(exposed / step_ms(situation.analysis), 0.99)
    return only_ceiling(part, f"{exposed:.0f} ms of collectives are exposed")


def nccl(situation: Situation) -> Prediction | Refusal:
    """Transfers over NCCL."""
    return backend("nccl", situation)


def gloo(situation: Situation) -> Prediction | Refusal:
    """Transfers over gloo."""
    return backend("gloo", situation)


THREADS = Recipe(
    id="threads",
    title="As many threads a rank as it has processors",
    addresses="compute",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=threads,
    in_rank="threads",
    environment=_threads,
    parameters=(
        Parameter(name="threads", default=0, help="threads a rank; 0: processors / local ranks"),
        Parameter(name="pin", default=False, help="give each rank processors of its own"),
    ),
    refuses=("OMP_NUM_THREADS is set", "there are no more processors than ranks x threads"),
    for_good="OMP_NUM_THREADS={threads} torchrun ...",
    caveat="sums in another order; on processors that others use it is slower (0.36x measured)",
)
GC_FREEZE = Recipe(
    id="gc-freeze",
    title="Keep Python's garbage collector away from what lives for ever",
    addresses="host",
    findings=("gc_pauses",),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=pauses,
    in_rank="gc_freeze",
    parameters=(
        Parameter(
            name="threshold", default=50_000, help="new objects before a collection", least=1
        ),
    ),
    refuses=("the script turned collection off or froze objects itself",),
    for_good="""\
gc.collect(); gc.freeze()  # once, after the first steps
gc.set_threshold({threshold}, 20, 100)""",
    caveat="reference cycles live longer: watch the memory",
)
ALLOCATOR = Recipe(
    id="allocator",
    title="Let the device allocator's segments grow",
    addresses="host",
    findings=("allocator", "allocator_retries"),
    application=Application.ENVIRONMENT,
    numerics=Numerics.EXACT,
    applicable=allocation,
    environment=_allocator,
    refuses=("PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF is set", "a CPU run"),
    for_good="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True torchrun ...",
    caveat="not with tensors shared between processes by CUDA IPC",
)
NCCL = Recipe(
    id="nccl-environment",
    title="Try a variable of NCCL",
    addresses="communication",
    findings=(),
    application=Application.ENVIRONMENT,
    numerics=Numerics.NUMERICS,
    applicable=nccl,
    environment=_nccl,
    parameters=(
        Parameter(
            name="name", default="NCCL_MIN_CTAS", help="the variable", pattern="NCCL_[A-Z0-9_]+"
        ),
        Parameter(name="value", default="16", help="its value"),
    ),
    refuses=("the variable is set in the environment", "the backend is not NCCL"),
    for_good="{name}={value} torchrun ...",
    caveat="tried and reported, never kept: NCCL lists most of them as debugging variables",
    keeps=False,
)
GLOO = Recipe(
    id="gloo-environment",
    title="Let gloo use several network interfaces",
    addresses="communication",
    findings=(),
    application=Application.ENVIRONMENT,
    numerics=Numerics.EXACT,
    applicable=gloo,
    environment=_gloo,
    parameters=(
        Parameter(name="interfaces", default="", help="interfaces joined by +: eth0+eth1"),
    ),
    refuses=("GLOO_SOCKET_IFNAME is set", "the backend is not gloo", "no interface is named"),
    for_good="GLOO_SOCKET_IFNAME={interfaces} torchrun ...",
    keeps=False,
    caveat="depends on the machine: tried and reported, never kept",
)
