"""Gradients of single tasks: at the shared map, and in the shared parameters; products of all pairs.

The sums over processes are those that make W processes with a part of the batch each the same as one process
with all of it: losses divide by shared counts, so that the mean of the processes' losses is the batch's loss.
A sample's gradient of that mean is 1/W of what its own process sees.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...core.processes import process_count, summed
from .base import NO_GRADIENT, TaskLosses, warn


def map_gradients(losses: TaskLosses, differentiable: bool = False) -> Tensor:
    """Gradients of the T losses at the shared map `(T, B * C * Y * X)`, float32, of this process's samples.

    The graph stays for the backward to come.

    Args:
        losses: of the step.
        differentiable: whether the gradients have a graph of their own.

    Raises:
        ValueError: there is no shared map, or no gradient reaches it.
        RuntimeError: a part of the heads cannot be gone through twice.
    """
    shared = losses.shared_map
    if shared is None:
        raise ValueError('balancer: the model gave no shared map (output of `trunk`) in its forward')
    if not shared.requires_grad:
        raise ValueError(f'balancer: {NO_GRADIENT}')

    rows = []
    with torch.autocast(shared.device.type, enabled=False):
        for loss in losses.sums():
            gradient = None
            if loss.requires_grad:
                scaled = loss * losses.scale
                gradient, = torch.autograd.grad(
                    scaled, shared, retain_graph=True, create_graph=differentiable, allow_unused=True)
            row = torch.zeros_like(shared) if gradient is None else gradient
            rows.append(row.float().flatten() / losses.scale)
    return torch.stack(rows)


def parameter_gradients(losses: TaskLosses, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Gradients of the T losses in parameters `(T, P)`, float32, of the whole batch of all processes."""
    rows = [flat_gradient(loss, parameters, losses.scale) for loss in losses.sums()]
    return torch.stack(rows)


def flat_gradient(loss: Tensor, parameters: Sequence[nn.Parameter], scale: float = 1.0) -> Tensor:
    """Gradient of one loss in parameters `(P,)`, float32, of the whole batch; zero where it does not reach.

    The graph stays. Every process must call it.
    """
    gradients: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss * scale, parameters, retain_graph=True, allow_unused=True)
    parts = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    flat = torch.cat([part.float().flatten() for part in parts]) / scale
    return summed(flat) / process_count()


def map_gramian(gradients_TP: Tensor) -> Tensor:
    """Products of all pairs of gradients at the shared map `(T, T)`, all processes', float64 on the CPU."""
    products = gradients_TP @ gradients_TP.T
    return (summed(products) / process_count() ** 2).double().cpu()


def parameter_gramian(gradients_TP: Tensor) -> Tensor:
    """Products of all pairs of gradients that are the whole batch's already `(T, T)`, float64 on the CPU."""
    return (gradients_TP @ gradients_TP.T).double().cpu()


def cosines(gramian_TT: Tensor) -> Tensor:
    """Cosine of each pair `(T, T)`; 0 where a gradient is zero."""
    norms_T = gramian_TT.diagonal().clamp(min=0).sqrt()
    return (gramian_TT / (norms_T[:, None] * norms_T)).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)


def pairs(tasks: Sequence[str]) -> list[tuple[int, int, str]]:
    """(row, column, 'a-b') of every pair of tasks."""
    return [(i, j, f'{tasks[i]}-{tasks[j]}') for i in range(len(tasks)) for j in range(i + 1, len(tasks))]


def forward_apart(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Losses of a forward whose changes of buffers (statistics of norms) go into copies and are forgotten.

    A memory gives a batch that comes again the past it had the first time, and stays as it is.
    """
    copies = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with getattr(model, 'memory_apart', nullcontext)():
        return functional_call(model, copies, kwargs={**inputs, 'mode': 'loss'})


def shared_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters that several tasks use: all but the heads'.

    Raises:
        ValueError: there are none.
    """
    own = {id(parameter) for parameter in getattr(model, 'heads', nn.Module()).parameters()}
    shared = {
        name: parameter for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in own}
    if not shared:
        raise ValueError('balancer: the tasks share no trained parameter: all but the heads is frozen')
    return shared


def say_memory(owner: str, copies: int, parameters: Sequence[nn.Parameter]) -> int:
    """Say before training how much memory gradients of single tasks take, in bytes."""
    size = 4 * copies * sum(parameter.numel() for parameter in parameters)
    warn(f'balancer {owner}: {copies} gradients of the shared parameters: {size / 2**20:.0f} MiB')
    return size
