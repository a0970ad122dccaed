"""Twin-Merging: one shared model and, for each task, what it lacks of its own, compressed (arXiv 2406.15479).

v_t = theta_t - theta_*, where theta_* is the merged model; of every matrix the largest singular directions
stay (Lu et al. 2024). The publication mixes the v_t by a router over inputs; here every frame is asked for
every task, so a task's own v_t is added for it: the router that knows the task.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .arithmetic import HEADS, State

Expert = dict[str, Any]
"""By the names of the shared tensors: a tensor as it is, or factors `[(O, r), (r, I)]` of its matrix."""


def make_experts(shared: State, models: Mapping[str, State], rank: float) -> dict[str, Expert]:
    """What each task's own model has over the merged one, compressed.

    Args:
        shared: merged weights.
        models: {task: weights of the model that was trained on it}, of the same shapes.
        rank: share of each matrix' singular values that stay, above 0; 1 is exact.

    Raises:
        ValueError: `rank` is none.
    """
    if not 0 < rank <= 1:
        raise ValueError(f'merge: rank: expected a share above 0, at most 1, found {rank}')
    names = [
        name for name, tensor in shared.items()
        if not name.startswith(HEADS) and tensor.is_floating_point()]
    return {task: {name: _compressed(state[name], shared[name], rank) for name in names}
            for task, state in models.items()}


def expert_state(shared: State, task: str, expert: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of the model of one task: the shared part with its expert, and its head.

    Args:
        shared: merged weights with all heads.
        task: which.
        expert: of that task.

    Raises:
        ValueError: an entry of the expert that is not of the shared part's shape.
    """
    weights = {name: tensor for name, tensor in shared.items() if name.startswith(f'{HEADS}{task}.')}
    for name, tensor in shared.items():
        if name.startswith(HEADS):
            continue
        if not tensor.is_floating_point():
            weights[name] = tensor
            continue

        change = expert.get(name)
        if isinstance(change, (list, tuple)):
            change = _multiplied(change, tensor)

        if not isinstance(change, Tensor) or change.shape != tensor.shape:
            raise ValueError(
                f'merge: expert {task}: {name}: expected a change of the shape {tuple(tensor.shape)}')
        weights[name] = (tensor + change).to(tensor.dtype)
    return weights


def expert_size(expert: Mapping[str, Any]) -> int:
    """How many numbers an expert holds."""
    return sum(
        sum(part.numel() for part in change) if isinstance(change, (list, tuple)) else change.numel()
        for change in expert.values())


def _multiplied(factors: Sequence[Any], like: Tensor) -> Tensor | None:
    """The product of two factors in a tensor's shape; None where they are none, or not of it."""
    if len(factors) != 2 or not all(isinstance(one, Tensor) and one.ndim == 2 for one in factors):
        return None
    left, right = factors
    fits = left.shape[1] == right.shape[0] and left.shape[0] * right.shape[1] == like.numel()
    return (left.float() @ right.float()).reshape(like.shape) if fits else None


def _compressed(own: Tensor, shared: Tensor, rank: float) -> Any:
    change = own.float() - shared.float()
    if change.ndim < 2:
        return change

    matrix = change.flatten(1)
    kept = max(1, math.ceil(rank * min(matrix.shape) - 1e-9))
    if kept * sum(matrix.shape) >= matrix.numel():
        return change  # factors would be larger than what they stand for
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return [(left[:, :kept] * values[:kept]).contiguous(), right[:kept].contiguous()]
