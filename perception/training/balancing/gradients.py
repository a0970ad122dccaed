"""Gradients of single tasks: at the shared map, and in the shared parameters; products of all pairs.

The sums over processes are those that make W processes with a part of the batch each the same as one process
with all of it: losses divide by shared counts, so that the mean of the processes' losses is the batch's loss.
A sample's gradient of that mean is 1/W of what its own process sees.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
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
    shared = learned_map(losses)
    rows = [
        _gradients(loss, [shared], losses.scale, differentiable)[0].flatten()
        for loss in losses.sums()]
    return torch.stack(rows)


def learned_map(losses: TaskLosses) -> Tensor:
    """The shared map.

    Raises:
        ValueError: there is none, or no gradient reaches it.
    """
    if losses.shared_map is None:
        raise ValueError('balancer: the model gave no shared map (output of `trunk`) in its forward')
    if not losses.shared_map.requires_grad:
        raise ValueError(f'balancer: {NO_GRADIENT}')
    return losses.shared_map


def _gradients(
    loss: Tensor, at: Sequence[Tensor], scale: float, differentiable: bool = False
) -> list[Tensor]:
    """Gradients of one loss in float32; zeros where it does not reach. The graph stays."""
    found: Sequence[Tensor | None] = [None] * len(at)
    if loss.requires_grad:
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(
                loss * scale, at, retain_graph=True, create_graph=differentiable, allow_unused=True)
    # float16 loses what is small: first to float32, then to the loss's own size
    return [
        (torch.zeros_like(place) if gradient is None else gradient).float() / scale
        for place, gradient in zip(at, found, strict=True)]


@dataclass(frozen=True)
class BranchGradients:
    """Gradients of the T losses at the shared map, and in the parameters that one task alone uses.

    Attributes:
        rows_TP: at the shared map, float32, as `map_gradients` gives them.
        own: for each task its own parameters and their gradients; None where tasks use parameters above the
            map together (a bridge).
    """

    rows_TP: Tensor
    own: list[tuple[list[Tensor], list[Tensor]]] | None

    @staticmethod
    def of(losses: TaskLosses) -> BranchGradients:
        """One backward of each loss down to the shared map; the graph stays.

        Raises:
            ValueError, RuntimeError: as `map_gradients`.
        """
        shared, sums = learned_map(losses), losses.sums()
        leaves = [leaves_above(loss, shared) for loss in sums]
        if len({id(leaf) for found in leaves for leaf in found}) < sum(map(len, leaves)):
            return BranchGradients(map_gradients(losses), None)

        rows, own = [], []
        for loss, found in zip(sums, leaves, strict=True):
            at_map, *others = _gradients(loss, [shared, *found], losses.scale)
            rows.append(at_map.flatten())
            own.append((found, others))
        return BranchGradients(torch.stack(rows), own)

    def weighted(self, losses: TaskLosses, weights: Sequence[float]) -> Tensor:
        """A scalar whose backward is that of `losses.weighted(weights)`, above the map at no cost.

        Gradients are linear in the losses: above the map each is what is known already, times its weight.
        """
        if self.own is None:
            return losses.weighted(weights)

        shared = losses.shared_map
        places = [shared]
        slopes = [(torch.as_tensor(weights).to(self.rows_TP) @ self.rows_TP).view_as(shared)]
        for weight, (found, gradients) in zip(weights, self.own, strict=True):
            places += found
            slopes += [gradient * weight for gradient in gradients]

        return losses.of_no_task() + _Known.apply(slopes, *places)


class _Known(torch.autograd.Function):
    """Zero, with gradients that are known already."""

    @staticmethod
    def forward(ctx: Any, slopes: Sequence[Tensor], *places: Tensor) -> Tensor:
        ctx.slopes, ctx.types = slopes, [place.dtype for place in places]
        return torch.zeros((), device=places[0].device)

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return None, *((slope * factor).to(kind) for slope, kind in zip(ctx.slopes, ctx.types, strict=True))


def leaves_above(loss: Tensor, shared: Tensor) -> list[Tensor]:
    """The parameters from which a loss gets there without the shared map, in no particular order."""
    leaves, seen, waiting = [], {shared.grad_fn}, [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, 'variable', None)
        if leaf is not None and leaf is not shared:
            leaves.append(leaf)
        waiting += [following for following, _ in node.next_functions]
    return leaves


def parameter_gradients(losses: TaskLosses, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Gradients of the T losses in parameters `(T, P)`, float32, of the whole batch of all processes."""
    rows = [flat_gradient(loss, parameters, losses.scale) for loss in losses.sums()]
    return torch.stack(rows)


def flat_gradient(loss: Tensor, parameters: Sequence[nn.Parameter], scale: float = 1.0) -> Tensor:
    """Gradient of one loss in parameters `(P,)`, float32, of the whole batch; zero where it does not reach.

    The graph stays. Every process must call it.
    """
    parts = _gradients(loss, parameters, scale)
    flat = torch.cat([part.flatten() for part in parts])
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
