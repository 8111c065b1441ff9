"""facts.json: what is known of a rank, rewritten whole whenever something is added."""

from __future__ import annotations

import os
import platform
import sys
import threading
import weakref
from typing import Any

import torch

from .capture import Capture
from .files import write_whole
from .identity import Identity, clock_pair, cpus_available
from .secrets import redact_arguments


class Facts:
    """The facts of one rank. Unknown facts are absent."""

    def __init__(self, folder: str, request: Capture, who: Identity, evidence: str) -> None:
        self.path = os.path.join(folder, "facts.json")
        self.ddp: weakref.ref[Any] | None = None  # the first DDP; never kept alive by us
        self.known: dict[str, Any] = {
            "run_id": request.run_id,
            "rank": who.rank,
            "world_size": who.world_size,
            "local_rank": who.local_rank,
            "node": who.node,
            "parent_node": request.parent_node,
            "hostname": who.hostname,
            "pid": who.pid,
            "attempt": who.attempt,
            "clock_domain": who.clock_domain,
            "clock": clock_pair(),
            "argv": redact_arguments(sys.argv),
            "script": sys.argv[0] if sys.argv else "",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cpus_available": cpus_available(),
            "activated_by": evidence,
            **device_facts(),
            **group_facts(),
        }
        if who.local_rank is None:
            del self.known["local_rank"]

    def add(self, **facts: Any) -> None:
        """Add facts that are known now; None says unknown. Rewrites the file if any is new."""
        new = {k: v for k, v in facts.items() if v is not None and self.known.get(k) != v}
        if new:
            self.known.update(new)
            self.write()

    def write(self) -> None:
        """Write what is known."""
        write_whole(self.path, self.known)

    def refresh(self) -> None:
        """Facts that grow with the run: process groups, and what DDP has logged of itself."""
        ddp = self.ddp() if self.ddp is not None else None
        logging = ddp_logging(ddp) if ddp is not None and self._outside_backward() else None
        self.add(ddp_logging=logging, **group_facts())

    def _outside_backward(self) -> bool:
        """Whether this is the training thread, and not inside a backward pass.

        DDP's reducer holds its lock while it waits for a collective and in communication hooks:
        whoever asks it then, from a signal's handler or another thread, hangs with it.
        """
        trains = self.known.get("training_thread") == threading.get_native_id()
        return trains and torch._C._current_graph_task_id() == -1


def device_facts() -> dict[str, Any]:
    """The device that this process computes on, as far as it shows."""
    if not uses_cuda():
        return {"device_kind": "cpu", "device": -1}
    index = torch.cuda.current_device()
    facts = {
        "device_kind": "rocm" if torch.version.hip else "cuda",
        "device": index,
        "device_name": torch.cuda.get_device_name(index),
    }
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)  # older torch has none
    return facts if uuid is None else {**facts, "device_uuid": str(uuid)}


def uses_cuda() -> bool:
    """Whether this process has touched a CUDA or ROCm device; asking does not touch one."""
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized())


def group_facts() -> dict[str, Any]:
    """Backend and process groups; empty where no group is initialised."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return {}
    world = dist.distributed_c10d._world
    groups = []
    for group, (backend, _) in world.pg_map.items():
        name = world.pg_names.get(group, "")
        groups.append(
            {
                "name": name,
                "description": getattr(group, "group_desc", ""),
                "ranks": sorted(world.pg_group_ranks.get(group, {})),
                "backend": backend,
            }
        )
    return {"backend": dist.get_backend(), "process_groups": groups}


def ddp_facts(ddp: Any) -> dict[str, Any]:
    """The settings of a DistributedDataParallel and the size of what it wraps."""
    first = list(ddp.parameters())[:1]
    settings = {
        "bucket_cap_bytes": getattr(ddp, "bucket_bytes_cap", None),
        "find_unused_parameters": getattr(ddp, "find_unused_parameters", None),
        "static_graph": getattr(ddp, "static_graph", None),
        "gradient_as_bucket_view": getattr(ddp, "gradient_as_bucket_view", None),
        "broadcast_buffers": getattr(ddp, "broadcast_buffers", None),
        "device": str(first[0].device) if first else None,
    }
    known = {key: value for key, value in settings.items() if value is not None}
    return {"ddp": known, "model": model_facts(ddp.module)}


def model_facts(module: Any) -> dict[str, Any]:
    """Class and size of a module."""
    return {"class": type(module).__name__, **size_facts(list(module.parameters()))}


def size_facts(parameters: list[Any]) -> dict[str, Any]:
    """Number and bytes of some parameters; `gradient_bytes` counts those that are trained."""
    trained = [p for p in parameters if p.requires_grad]
    return {
        "parameters": sum(p.numel() for p in parameters),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in parameters),
        "trainable": sum(p.numel() for p in trained),
        "gradient_bytes": sum(p.numel() * p.element_size() for p in trained),
        "dtypes": sorted({str(p.dtype).split(".")[-1] for p in parameters}),
    }


def optimizer_facts(optimizer: Any) -> dict[str, Any]:
    """Class and settings of the anchor optimizer."""
    name = type(optimizer).__name__
    defaults = getattr(optimizer, "defaults", {})
    settings = {key: defaults[key] for key in ("fused", "foreach") if defaults.get(key) is not None}
    return {"anchor": name, "optimizer": {"class": name, **settings}}


def loader_facts(loader: Any) -> dict[str, Any]:
    """The settings of a DataLoader."""
    from torch.utils.data import IterableDataset

    return {
        "class": type(loader).__name__,
        "batch_size": getattr(loader, "batch_size", None),
        "num_workers": getattr(loader, "num_workers", 0),
        "pin_memory": bool(getattr(loader, "pin_memory", False)),
        "persistent_workers": bool(getattr(loader, "persistent_workers", False)),
        "prefetch_factor": getattr(loader, "prefetch_factor", None),
        "iterable": isinstance(getattr(loader, "dataset", None), IterableDataset),
    }


def ddp_logging(ddp: Any) -> Any:
    """What DDP's reducer has logged of itself; None where it does not say."""
    data = getattr(ddp, "_get_ddp_logging_data", None)
    return dict(data()) if data is not None else None
