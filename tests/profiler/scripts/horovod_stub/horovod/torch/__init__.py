"""What `import horovod.torch as hvd` offers."""

from horovod.torch.compression import Compression  # type: ignore[import-not-found]
from horovod.torch.mpi_ops import (  # type: ignore[import-not-found]
    allreduce_async_,
    init,
    is_initialized,
    local_rank,
    rank,
    size,
    synchronize,
)
from horovod.torch.optimizer import DistributedOptimizer  # type: ignore[import-not-found]

__all__ = [
    "Compression",
    "DistributedOptimizer",
    "allreduce_async_",
    "init",
    "is_initialized",
    "local_rank",
    "rank",
    "size",
    "synchronize",
]
