"""Proactive sparse training: most weights of the shared part stay as they start."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ...registry import HOOKS

STATE = 'sparse_masks'


@HOOKS.register_module()
class SparseTrainingHook(Hook):
    """Of every neuron of the shared part only the `top_k` largest input weights are trained.

    PSN, proactive sparse training: the mask is fixed before training by the weights' sizes; heads, biases and
    norms learn in full; goes with any balancer. What is masked has no gradient (so that clipping and moments
    know nothing of it) and is put back after every update, since weight decay moves it, too. Publications of
    it take `top_k=300` with pretrained encoders (about 30 % of the weights) and a larger learning rate.

    Args:
        top_k: input weights a neuron that learn.
        parts: prefixes of the shared parameters.
    """

    priority = 'VERY_HIGH'

    def __init__(self, top_k: int = 300, parts: Sequence[str] = ('encoders.', 'fuser.', 'trunk.')) -> None:
        if not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f'SparseTrainingHook.top_k: expected a whole number from 1, found {top_k!r}')
        self.top_k, self.parts = top_k, tuple(parts)
        self.masks: dict[str, Tensor] = {}
        self._still: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._loaded: dict[str, Tensor] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the masks of the training that goes on."""
        self._loaded = checkpoint.get('meta', {}).get(STATE)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the masks."""
        checkpoint['meta'][STATE] = {name: mask.cpu() for name, mask in self.masks.items()}

    def before_train(self, runner: Runner) -> None:
        """Make the masks, or take those of the checkpoint.

        Raises:
            ValueError: a prefix fits no weight, or the checkpoint's masks are of another model.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights = shared_weights(model, self.parts)
        resumed = self._loaded if runner.cfg.get('resume') else None
        if resumed is None:
            self.masks = {name: largest_inputs(weight, self.top_k) for name, weight in weights.items()}
        else:
            check_masks(resumed, weights)
            self.masks = {name: resumed[name].to(weight.device) for name, weight in weights.items()}

        for name, weight in weights.items():
            mask = self.masks[name]
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)
            self._still.append((weight, mask, weight.detach().clone()))
        learning = sum(int(mask.sum()) for mask in self.masks.values())
        every = sum(weight.numel() for weight in weights.values())
        runner.logger.info(
            f'SparseTrainingHook: {learning} of {every} weights in {", ".join(self.parts)} learn '
            f'({learning / max(every, 1):.1%})')

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Put back what is masked."""
        for weight, mask, start in self._still:
            torch.where(mask, weight, start, out=weight.data)


def shared_weights(model: nn.Module, parts: Sequence[str]) -> dict[str, nn.Parameter]:
    """Trained matrices and kernels whose names start with one of `parts`.

    Raises:
        ValueError: there are none of a part.
    """
    found = {
        name: parameter for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.dim() > 1 and name.startswith(tuple(parts))}
    for part in parts:
        if not any(name.startswith(part) for name in found):
            raise ValueError(f'SparseTrainingHook.parts: no trained weight of the model starts with {part!r}')
    return found


def largest_inputs(weight: Tensor, top_k: int) -> Tensor:
    """True at the `top_k` largest input weights of every neuron (first dimension), or all of them."""
    rows = weight.detach().flatten(1).abs()
    kept = rows.topk(min(top_k, rows.shape[1]), dim=1).indices
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, kept, True).view_as(weight)


def check_masks(masks: dict[str, Tensor], weights: dict[str, nn.Parameter]) -> None:
    """Refuse masks of another model.

    Raises:
        ValueError: names the first difference.
    """
    for name, weight in weights.items():
        if name not in masks or masks[name].shape != weight.shape:
            found = tuple(masks[name].shape) if name in masks else 'none'
            raise ValueError(
                f'checkpoint: meta.{STATE}[{name!r}]: expected a mask {tuple(weight.shape)}, found {found}')
