"""Hand-made gradient all-reduces, in buckets: overlapped with backward, or merged after it.

Two steps are watched. If in both every gradient was reduced exactly once by a blocking SUM over
the same group, unchanged since backward, and all ranks say so, then from the next step on flat
buckets are reduced asynchronously in the learned order, and the script's calls become the waits.
The first call of a step asks all ranks, in one number, whether the step went as learned; if not,
the buckets are waited for and thrown away, and the script's own calls are made again for ever.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import torch

from .applying import Applying, agree, min_of, patch, place, sharded
from .steps import steps

LEARN_FROM, LEARN_TO = 1, 3  # steps that are watched, the last one excluded
MIB = 2**20
FIRST_MB = 1.0  # the first bucket, so that transfers begin early; as DDP does


class Bucket:
    """Parameters whose gradients travel together, with the flat buffer that they travel in."""

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self.parameters = parameters
        sizes = [p.numel() for p in parameters]
        self.flat = torch.zeros(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
        self.parts = dict(zip((id(p) for p in parameters), self.flat.split(sizes)))
        self.ready = 0
        self.work: Any = None


class ManualGradients:
    """The state of one rank: watching, then active, then perhaps off for ever."""

    def __init__(self, recipe: Applying, original: Callable[..., Any]) -> None:
        self.recipe = recipe
        self.original = original
        self.overlap = recipe.name == "overlap"
        self.phase = "watch"
        self.order: list[int] = []  # ids in the order in which gradients become final
        self.calls: list[int] = []  # ids in the order in which the script reduces them
        self.versions: dict[int, int] = {}
        self.plans: list[tuple[list[int], list[int]]] = []
        self.trouble = ""
        self.where: Any = None
        self.op: Any = None
        self.group: Any = None
        self.buckets: list[Bucket] = []
        self.bucket_of: dict[int, Bucket] = {}
        self.by_pointer: dict[int, torch.Tensor] = {}
        self.waiting = False  # the script's calls of this step have begun
        self.launched = 0
        self.hooks: list[Any] = []

    # Watching

    def watching(self) -> bool:
        """Whether this is one of the steps that are learned from."""
        return self.phase == "watch" and LEARN_FROM <= steps.done < LEARN_TO

    def after_step(self, _: Any) -> None:
        """Between steps: begin to watch, decide, or make ready for the next step."""
        if self.phase == "watch" and steps.done == LEARN_FROM:
            for p in steps.parameters():
                self.hooks.append(p.register_post_accumulate_grad_hook(self.final))
        elif self.phase == "watch" and steps.done > LEARN_FROM:
            self.plans.append((self.order, self.calls))
            if steps.done == LEARN_TO:
                self.decide()
        elif self.phase == "active":
            self.begin()
        self.order, self.calls, self.by_pointer = [], [], {}

    def final(self, p: torch.Tensor) -> None:
        """A gradient has been accumulated."""
        if self.watching():
            if self.overlap and id(p) in self.order:
                self.trouble = self.trouble or "a step has several backward passes"
            self.order.append(id(p))
            self.versions[id(p)] = _version(p)
        elif self.phase == "active":
            self.fill(p)

    def owner(self, tensor: torch.Tensor) -> Any:
        """The parameter whose gradient this is; None if it is something else."""
        if not self.by_pointer:
            known = steps.parameters()
            self.by_pointer = {p.grad.data_ptr(): p for p in known if p.grad is not None}
        p = self.by_pointer.get(tensor.data_ptr())
        same = p is not None and p.grad is not None and p.grad.numel() == tensor.numel()
        return p if same else None

    def watch(self, tensor: torch.Tensor, op: Any, group: Any, async_op: bool) -> None:
        """Note one all-reduce of the script's."""
        p = self.owner(tensor)
        if p is None:
            if _in_backward():
                self.trouble = self.trouble or "something else is all-reduced during backward"
            return
        self.where = self.where or place()
        reason = self.fault(p, op, group, async_op)
        self.trouble = self.trouble or reason
        self.calls.append(id(p))
        self.op, self.group = op, group

    def fault(self, p: torch.Tensor, op: Any, group: Any, async_op: bool) -> str:
        """What speaks against this call; "" if nothing does."""
        import torch.distributed as dist

        changed = self.overlap and self.versions.get(id(p)) != _version(p)
        other_group = bool(self.calls) and group is not self.group
        faults = (
            (async_op, "the script reduces asynchronously already"),
            (op != dist.ReduceOp.SUM, "a gradient is reduced by something else than SUM"),
            (other_group, "gradients are reduced over several groups"),
            (id(p) in self.calls, "a gradient is reduced more than once in a step"),
            (_in_backward(), "the script reduces during backward already"),
            (changed, "gradients are changed between backward and all-reduce"),
        )
        return next((text for found, text in faults if found), "")

    def reason(self) -> str:
        """Why this rank should not go on; "" if it may."""
        parameters = steps.parameters()
        first = self.plans[0] if self.plans else ([], [])
        kinds = {(p.dtype, p.device) for p in parameters}
        faults = (
            (bool(self.recipe.framework()), self.recipe.framework()),
            (bool(self.trouble), self.trouble),
            (not first[1], "the script makes no all-reduce for each gradient"),
            (sharded(parameters), "parameters are sharded (DTensor or FSDP)"),
            (any(plan != first for plan in self.plans), "the order of gradients changes"),
            (set(first[0]) != set(first[1]), "not every gradient is reduced, once"),
            (len(kinds) > 1, "gradients are of several types or on several devices"),
        )
        return next((text for found, text in faults if found), "")

    def decide(self) -> None:
        """All ranks together: go on, or leave everything as it is."""
        reason = self.reason()
        positions = {id(p): i for i, p in enumerate(steps.parameters())}
        order = self.plans[0][0 if self.overlap else 1] if self.plans else []
        digest = 1
        for each in order:
            digest = (digest * 1_000_003 + positions.get(each, 0) + 1) % (2**61 - 1)
        group = self.group
        if not agree(not reason, group):
            self.off(reason or "another rank refused")
            return
        if min_of(digest, group) != -min_of(-digest, group):
            self.off("gradients become final in another order on another rank")
            return
        by_id = {id(p): p for p in steps.parameters()}
        self.plan([by_id[each] for each in order])
        self.phase = "active"
        kind = "overlapped with backward" if self.overlap else "merged after backward"
        sizes = f"{len(order)} all-reduces of one gradient each"
        self.recipe.applied("gradients", sizes, f"{len(self.buckets)} buckets, {kind}", self.where)
        self.begin()

    def plan(self, order: list[torch.Tensor]) -> None:
        """Cut the order into buckets: a small one first, then of the size that was asked for."""
        cap = float(self.recipe.values["mb"]) * MIB
        limit = min(FIRST_MB * MIB, cap)
        inside: list[torch.Tensor] = []
        size = 0
        for p in order:
            inside.append(p)
            size += p.numel() * p.element_size()
            if size >= limit:
                self.buckets.append(Bucket(inside))
                inside, size, limit = [], 0, cap
        if inside:
            self.buckets.append(Bucket(inside))
        self.bucket_of = {id(p): b for b in self.buckets for p in b.parameters}

    # Active

    def begin(self) -> None:
        """Make ready for the next step."""
        self.waiting, self.launched, self.trouble = False, 0, ""
        self.versions = {}
        for bucket in self.buckets:
            bucket.ready, bucket.work = 0, None

    def fill(self, p: torch.Tensor) -> None:
        """During backward: a gradient joins its bucket; full buckets leave in the plan's order."""
        if id(p) not in self.bucket_of or not self.overlap:
            return
        if id(p) in self.versions or self.waiting:
            self.trouble = "a step has several backward passes"
            return
        bucket = self.bucket_of[id(p)]
        self.versions[id(p)] = _version(p)
        assert p.grad is not None
        bucket.parts[id(p)].copy_(p.grad.reshape(-1))
        bucket.ready += 1
        while self.launched < len(self.buckets):
            first = self.buckets[self.launched]
            if first.ready < len(first.parameters):
                return
            self.launch(first)

    def launch(self, bucket: Bucket) -> None:
        """Start the next bucket of the plan."""
        bucket.work = self.original(bucket.flat, op=self.op, group=self.group, async_op=True)
        self.launched += 1

    def first_call(self) -> bool:
        """The script's first all-reduce of this step: whether all ranks are as learned."""
        self.waiting = True
        if not self.overlap:
            self.collect()
        for bucket in self.buckets[self.launched :]:
            if bucket.ready < len(bucket.parameters):
                self.trouble = self.trouble or "a gradient is missing"
            self.launch(bucket)
        for p in (p for b in self.buckets for p in b.parameters):
            if self.overlap and self.versions.get(id(p)) != _version(p):
                self.trouble = self.trouble or "gradients are changed before their all-reduce"
        reason = self.trouble
        if agree(not reason, self.group):
            return True
        for bucket in self.buckets:
            bucket.work.wait()
        self.off(reason or "another rank went another way")
        return False

    def collect(self) -> None:
        """After backward: fill all buckets with the gradients as they are."""
        for bucket in self.buckets:
            for p in bucket.parameters:
                if p.grad is not None:
                    bucket.parts[id(p)].copy_(p.grad.reshape(-1))
                    bucket.ready += 1

    def wait_for(self, tensor: torch.Tensor, p: torch.Tensor) -> None:
        """The script's all-reduce of one gradient: wait for its bucket, hand the sum over."""
        bucket = self.bucket_of[id(p)]
        bucket.work.wait()
        with torch.no_grad():
            tensor.copy_(bucket.parts[id(p)].view_as(tensor))

    def off(self, reason: str) -> None:
        """Give up for ever; the script's own calls are made again."""
        self.phase = "off"
        for hook in self.hooks:
            hook.remove()
        self.buckets, self.bucket_of = [], {}
        self.recipe.refuse(reason)


def _version(p: torch.Tensor) -> int:
    return -1 if p.grad is None else p.grad._version


def _in_backward() -> bool:
    return int(torch._C._current_graph_task_id()) != -1


def install(recipe: Applying) -> None:
    """Patch all_reduce under both of its names."""
    import torch.distributed as dist

    if not dist.is_available():
        recipe.refuse("this torch has no torch.distributed")
        return
    steps.install()
    original = dist.distributed_c10d.all_reduce
    state = ManualGradients(recipe, original)

    def wrap(_: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(_all_reduce, state)

    patch(dist.distributed_c10d, "all_reduce", wrap)
    patched: Any = dist.distributed_c10d.all_reduce
    patched.__perfkit_original__ = original
    dist.all_reduce = patched
    steps.after.append(state.after_step)


def _all_reduce(
    state: ManualGradients, tensor: Any, op: Any = None, group: Any = None, async_op: bool = False
) -> Any:
    import torch.distributed as dist

    op = dist.ReduceOp.SUM if op is None else op
    if state.watching():
        state.watch(tensor, op, group, async_op)
    elif state.phase == "active" and state.owner(tensor) is not None:
        p = state.owner(tensor)
        known = id(p) in state.bucket_of and not async_op
        if known and (state.waiting or state.first_call()):
            state.wait_for(tensor, p)
            return None
    return state.original(tensor, op=op, group=group, async_op=async_op)
