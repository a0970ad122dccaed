"""The order in which a map's numbers lie in memory, by what computes its convolutions fastest."""
from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def map_format(device_type: str) -> torch.memory_format:
    """Channels innermost on a GPU and on a CPU with AVX-512, outermost on any other CPU.

    oneDNN has no weight gradient with channels innermost for AVX2: what it falls back on takes three to four
    times as long, and a training step of a small model half as long again.
    """
    if device_type == 'cpu' and torch.backends.cpu.get_cpu_capability() != 'AVX512':
        return torch.contiguous_format
    return torch.channels_last


def laid_out(map_BCYX: Tensor) -> Tensor:
    """A map in the order of its device; its values are the same."""
    return map_BCYX.contiguous(memory_format=map_format(map_BCYX.device.type))
