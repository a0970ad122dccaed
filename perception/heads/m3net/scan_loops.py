"""The selective scan on a CPU where no gradient is asked for: one compiled pass over the steps, all states of
a step in cache.

Nothing of the size (states, steps) is ever held, so that memory gives and takes u, delta and y alone. Shares
of the channels go to as many threads as torch has.
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
    """As `selective_scan`, of float32 tensors on the CPU, without a gradient; powers to 2e-7 of their
    value."""
    # (B, T, D): channels side by side
    u, delta = (x.detach().transpose(1, 2).contiguous() for x in (u_BDT, delta_BDT))
    write, read = (x.detach().permute(0, 3, 1, 2).contiguous() for x in (B_BGNT, C_BGNT))  # (B, T, G, N)
    exponents = (A_DN.detach().T * float(_LOG2_E)).contiguous()
    y = torch.empty_like(u)
    arrays = [x.numpy() for x in (u, delta, exponents, write, read, D_D.detach().contiguous(), y)]
    run_shares(u.shape[2], _scan, *arrays)
    return y.transpose(1, 2)


@njit(cache=True, nogil=True, error_model='numpy', fastmath={'reassoc', 'contract', 'nsz'})
def _scan(u, delta, exponents, write, read, through, y, first, last):
    """Channels first .. last of every sample, step by step; exponents are A / ln 2."""
    samples, steps, _ = u.shape
    groups, states = write.shape[2:]
    share = u.shape[2] // groups
    decay, power = np.empty(last - first, np.float32), np.empty(last - first, np.int32)
    whole = power.view(np.float32)
    for i in range(samples):
        held = np.zeros((states, last - first), np.float32)
        for t in range(steps):
            y[i, t, first:last] = through[first:last] * u[i, t, first:last]
            for g in range(first // share, (last - 1) // share + 1):
                low, high = max(first, g * share), min(last, (g + 1) * share)
                own_u, own_delta, out = u[i, t, low:high], delta[i, t, low:high], y[i, t, low:high]
                for n in range(states):
                    rate, state = exponents[n, low:high], held[n, low - first:high - first]
                    # 2^x = 2^k 2^f, k an integer and f within a half: a series, and bits
                    for j in range(high - low):
                        x = max(own_delta[j] * rate[j], _LEAST)
                        k = np.floor(x + np.float32(0.5))
                        f = x - k
                        decay[j] = np.float32(1) + f * (
                            _C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * (_C6 + f * _C7)))))
                        )
                        power[j] = (np.int32(k) + np.int32(127)) << np.int32(23)
                    enters, leaves = write[i, t, g, n], read[i, t, g, n]
                    for j in range(high - low):
                        state[j] = decay[j] * whole[j] * state[j] + own_delta[j] * own_u[j] * enters
                        out[j] += leaves * state[j]
