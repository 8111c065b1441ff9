"""A function over many ranks on a Ray cluster, for runs of thousands of ranks.

The same function runs on the same ranks as in processes of this machine, and its results come back
in the same order, so an analysis has the same bytes. What is large of a result stays in the
cluster's object store. Every node must see the traces under the same paths.
"""

import importlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from perfkit.analyzers.shelf import InMemory
from perfkit.analyzers.survey import Detail, RankSurvey
from perfkit.errors import InputError, UsageError

Item = TypeVar("Item")
Value = TypeVar("Value")

AHEAD = 2
"""Tasks submitted per processor of the cluster: enough to keep it busy, few enough to hold."""


@dataclass(frozen=True, slots=True)
class OnCluster(Generic[Value]):
    """A value in the object store of a Ray cluster."""

    reference: Any

    def get(self) -> Value:
        """Fetch the value."""
        import ray

        value: Value = ray.get(self.reference)
        return value


def start_ray(address: str = "") -> None:
    """Join the cluster at `address`, or at RAY_ADDRESS; without either, start one here.

    Raises UsageError if ray is not installed or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--engine ray needs ray, which is not installed", hint="pip install 'perfkit[ray]'"
        ) from error
    if ray.is_initialized():
        return
    try:
        ray.init(address=address or None, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise UsageError(
            f"no Ray cluster can be joined or started: {reason}",
            hint="check RAY_ADDRESS, or leave --engine ray out",
        ) from error


def map_on_ray(
    function: Callable[[Item], RankSurvey | Exception], items: Sequence[Item], *, jobs: int = 0
) -> Iterator[Any]:
    """Yield `function(item)` for each item, in order, computed on the cluster that was joined.

    `jobs` bounds the tasks in flight; 0: twice the cluster's processors. Raises InputError if a
    task was killed.
    """
    ray: Any = importlib.import_module("ray")
    task: Any = ray.remote(_split).options(
        num_returns=2, max_retries=2, scheduling_strategy="SPREAD"
    )
    kept_function = ray.put(function)
    limit = jobs or max(int(AHEAD * ray.cluster_resources().get("CPU", 1)), 1)
    waiting = iter(items)
    flying: deque[Any] = deque()
    for item in waiting:
        flying.append(task.remote(kept_function, item))
        if len(flying) >= limit:
            yield _landed(ray, flying.popleft())
    while flying:
        yield _landed(ray, flying.popleft())


def _split(function: Callable[[Item], RankSurvey | Exception], item: Item) -> tuple[Any, Any]:
    """Return the small part of a survey, and its detail, which stays in the object store."""
    outcome = function(item)
    if not isinstance(outcome, RankSurvey):
        return outcome, None
    nothing = Detail(parts=None, marks={})  # type: ignore[arg-type]  # stands for the reference
    return replace(outcome, detail=InMemory(nothing)), outcome.detail.get()


def _landed(ray: Any, references: Sequence[Any]) -> Any:
    small, detail = references
    try:
        outcome = ray.get(small)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"a Ray task that was reading a trace was lost: {reason}",
            hint="check the cluster's nodes and their memory",
        ) from error
    if isinstance(outcome, RankSurvey):
        return replace(outcome, detail=OnCluster(detail))
    return outcome
