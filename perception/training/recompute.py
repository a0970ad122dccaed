"""Activation checkpointing by the configuration: less memory in a training step, for a second forward.

`recompute = ['fuser.layers', 'bridge.layers', 'heads.lanes.decoder.layers']` lists modules of the model; of a
list of modules each element is a part of its own. A part keeps its inputs alone and computes the rest again
in the backward.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..bev.ops.norms import still_statistics
from ..core.config import nearest_name


def recompute_parts(model: nn.Module, names: Sequence[str]) -> int:
    """Let parts of a model compute their activations again in the backward.

    Args:
        model: changed in place.
        names: of its modules.

    Returns:
        How many parts do so.

    Raises:
        ValueError: the model has no module of a name.
    """
    modules = dict(model.named_modules())
    parts: list[nn.Module] = []
    for name in names:
        if not name or name not in modules:
            raise ValueError(
                f'recompute: the model has no module {name!r}{nearest_name(name, modules)}')
        module = modules[name]
        parts += module if isinstance(module, (nn.ModuleList, nn.Sequential)) else [module]

    for part in parts:
        part.forward = MethodType(_recomputed(type(part).forward), part)
    return len(parts)


def _recomputed(forward: Any) -> Any:
    def twice(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return forward(module, *args, **kwargs)
        return checkpoint(
            forward, module, *args, use_reentrant=False,
            context_fn=lambda: (nullcontext(), _without_traces(module)), **kwargs)
    return twice


@contextmanager
def _without_traces(module: nn.Module) -> Iterator[None]:
    """The second forward counts for nothing: neither in running statistics nor in losses of inner modules."""
    counting = [part for part in module.modules() if hasattr(part, 'extra_losses') or hasattr(part, 'usage')]
    before = [(buffer, buffer.clone()) for part in counting for buffer in part.buffers(recurse=False)]
    try:
        with still_statistics(module):
            yield
    finally:  # torch ends the second forward by an exception once it has what it needs
        for part in counting:
            if hasattr(part, 'extra_losses'):
                part.extra_losses()  # they were taken before the backward began; these are repetitions
        for buffer, old in before:
            buffer.copy_(old)
