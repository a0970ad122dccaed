"""The selective scan on a CPU without gradients: one compiled pass over the steps.

All states of a step stay in cache. No array of the size (states, steps) is ever held, so that memory moves u,
delta and y alone. The channels are divided among as many threads as torch has.
"""
from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ...core.threads import run_shares

_LOG2_E = np.float32(1 / math.log(2))
_C1, _C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))
_LEAST = np.float32(-126)  # of the exponents of a normal float32


def selective_scan_loops(
    u_BDT: Tensor, delta_BDT: Tensor, A_DN: Tensor, B_BGNT: Tensor, C_BGNT: Tensor, D_D: Tensor
) -> Tensor:
    """Do what `selective_scan` does, for float32 tensors on the CPU and without gradients.

    Powers are exact to 2e-7 of their value.
    """
    # channels side by side: (B, T, D), (B, T, G, N), (N, D)
    u, delta = (x.detach().transpose(1, 2).contiguous() for x in (u_BDT, delta_BDT))
    B, C = (x.detach().permute(0, 3, 1, 2).contiguous() for x in (B_BGNT, C_BGNT))
    exponents = (A_DN.detach().T * float(_LOG2_E)).contiguous()
    y = torch.empty_like(u)

    arrays = [x.numpy() for x in (u, delta, exponents, B, C, D_D.detach().contiguous(), y)]
    run_shares(u.shape[2], _scan, *arrays)
    return y.transpose(1, 2)


@njit(cache=True, nogil=True, error_model='numpy', fastmath={'reassoc', 'contract', 'nsz'})
def _scan(u, delta, exponents, B, C, D, y, first, last):
    """Scan channels first to last of every sample, step by step; exponents are A / ln 2."""
    samples, steps, _ = u.shape
    groups, states = B.shape[2:]
    group_width = u.shape[2] // groups

    decay = np.empty(last - first, np.float32)
    power = np.empty(last - first, np.int32)
    power_as_float = power.view(np.float32)

    for i in range(samples):
        state_ND = np.zeros((states, last - first), np.float32)
        for t in range(steps):
            y[i, t, first:last] = D[first:last] * u[i, t, first:last]

            for g in range(first // group_width, (last - 1) // group_width + 1):
                low, high = max(first, g * group_width), min(last, (g + 1) * group_width)
                u_D, delta_D, y_D = u[i, t, low:high], delta[i, t, low:high], y[i, t, low:high]

                for n in range(states):
                    exponent_D = exponents[n, low:high]
                    state_D = state_ND[n, low - first:high - first]

                    # 2^x = 2^k 2^f, k an integer and f within a half: a series, and bits
                    for j in range(high - low):
                        x = max(delta_D[j] * exponent_D[j], _LEAST)
                        k = np.floor(x + np.float32(0.5))
                        f = x - k
                        decay[j] = np.float32(1) + f * (
                            _C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * (_C6 + f * _C7)))))
                        )
                        power[j] = (np.int32(k) + np.int32(127)) << np.int32(23)

                    b, c = B[i, t, g, n], C[i, t, g, n]
                    for j in range(high - low):
                        state_D[j] = decay[j] * power_as_float[j] * state_D[j] + delta_D[j] * u_D[j] * b
                        y_D[j] += c * state_D[j]
