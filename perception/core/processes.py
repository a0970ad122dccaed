"""What several training processes must agree on.

Together they then compute what one process with the whole batch would.

A loss is a sum over objects, cells or voxels divided by how many there are. DistributedDataParallel averages
the gradients of W processes, each of which sees a part of the batch: with every process dividing by its own
count, a part with few objects would weigh as much as one with many. Dividing by `shared_count` (all
processes' count over W) makes the average exact.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def process_count() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Sum over all processes, without gradient; the same tensor where there is one process.

    Every process must call it.
    """
    if process_count() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def shared_count(
    count: Tensor | float, minimum: float = 1.0, device: torch.device | str | None = None
) -> Tensor:
    """What a loss of this process divides its sum by.

    The count of all processes, at least `minimum`, over the number of processes.

    Args:
        count: of this process, any shape.
        minimum: keeps a batch without objects from dividing by zero.
        device: of a count that is a plain number (nccl reduces on GPUs only).
    """
    count = torch.as_tensor(count, dtype=torch.float32, device=device)
    return summed(count).clamp(min=minimum) / process_count()
