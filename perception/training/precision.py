"""Which precision a device computes, and does not only imitate."""
from __future__ import annotations

from functools import lru_cache

import torch

DTYPES = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
"""What a configuration can name -> what autocast casts to; None: nothing."""


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


def autocast_dtype(dtype: str, device_type: str) -> torch.dtype | None:
    """What autocast casts to on a device.

    Args:
        dtype: 'float32', 'bfloat16', 'float16' or 'auto': bfloat16 where it is computed, else float16 on a
            GPU and float32 on a CPU.
        device_type: 'cpu' or 'cuda'.

    Returns:
        None for float32: no autocast.

    Raises:
        ValueError: an unknown name, or float16 on a CPU.
    """
    if dtype not in (*DTYPES, 'auto'):
        raise ValueError(
            f'optim_wrapper.dtype: expected one of {sorted([*DTYPES, "auto"])}, found {dtype!r}'
        )
    if dtype == 'auto':
        if computes_bfloat16(device_type):
            return torch.bfloat16
        return None if device_type == 'cpu' else torch.float16
    if dtype == 'float16' and device_type == 'cpu':
        raise ValueError("optim_wrapper.dtype: 'float16' needs a GPU; use 'bfloat16' on a CPU")
    return DTYPES[dtype]
