"""Which precision a device computes, and does not only imitate."""
from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=8)
def computes_bfloat16(device_type: str) -> bool:
    """Whether this machine's device of that type has instructions for bfloat16.

    A CPU without them takes a product of matrices to float32 and back: five times float32's time on one with
    AVX-512 alone. A torch that cannot tell about its CPU is believed to have them.
    """
    if device_type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != 'cpu' or not hasattr(torch.cpu, 'get_capabilities'):
        return True
    return any(there for name, there in torch.cpu.get_capabilities().items() if 'bf16' in name)
