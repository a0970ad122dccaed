"""How many channels of each group go: global channel pruning guarded by every task's loss (PAGCP).

Groups come in the order of their operations, most first. A group's ratio rises in steps of 5 % until the loss
of some task has risen by more than the group's share; the group keeps the last ratio before that, and the
next one starts from there. Shares form a geometric series, and together allow `max_loss`: prod(1 + r_l) = 1 +
max_loss, r_(l+1) = lambda r_l (Ye et al. 2023, arXiv 2303.11923, with a product of 5). What a group leaves of
its share, the later ones may spend: a loss that fell by chance binds nobody.
"""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...bev.ops.widths import is_channelwise
from ..balancing.base import TaskLosses
from .channels import importance, mask_channels, masked, start_over
from .coupling import IN, OUT, ChannelGroup

RATIOS = tuple(step / 20 for step in range(1, 20))
"""0.05 to 0.95."""


@dataclass(frozen=True)
class PruneOptions:
    """How far a network is pruned.

    Args:
        flops: share of the operations at which it stops.
        max_loss: by which share each task's loss may rise in all, before fine-tuning.
        first_loss: share of the first group; None: twice that of an even division.

    Raises:
        ValueError: a number out of its range.
    """

    flops: float = 0.6
    max_loss: float = 4.0
    first_loss: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.flops < 1:
            raise ValueError(f'prune: flops: expected a share between 0 and 1, found {self.flops}')
        if not 0 < self.max_loss <= 100:
            raise ValueError(f'prune: max_loss: expected more than 0, at most 100, found {self.max_loss}')
        if self.first_loss is not None and not 0 < self.first_loss < self.max_loss:
            raise ValueError(
                f'prune: first_loss: expected between 0 and {self.max_loss}, found {self.first_loss}')


@dataclass(frozen=True)
class PruneStep:
    """What became of one group.

    Attributes:
        group: its name.
        channels: it had.
        removed: of them.
        flops: share of the network's operations that are left after it.
        losses: {task: loss over that of the whole network}.
    """

    group: str
    channels: int
    removed: int
    flops: float
    losses: dict[str, float]


def loss_shares(groups: int, options: PruneOptions) -> list[float]:
    """By which share each group may raise a task's loss: r_l = r_0 lambda^l, prod(1 + r_l) = 1 + max_loss.

    Args:
        groups: how many.
        options: `first_loss` is r_0.
    """
    total = math.log1p(options.max_loss)
    first = options.first_loss
    if first is None:
        first = min(math.expm1(2 * total / groups), options.max_loss)

    def spent(factor: float) -> float:
        return sum(math.log1p(first * factor ** number) for number in range(groups))

    low, high = 0.0, 1.0
    while spent(high) < total and groups > 1 and high < 1e3:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) > total else (middle, high)
    return [first * low ** number for number in range(groups)]


class Operations:
    """Operations of a network's layers, and what is left of them when channels go.

    Args:
        model: in evaluation.
        run: one forward of it.
        total: operations of all, those that no layer does included.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], run: Callable[[], Any],
                 total: float) -> None:
        self.layers, self.total = layers, total
        self.of_layer: dict[str, float] = dict.fromkeys(layers, 0.0)
        names = {module: name for name, module in layers.items()}

        def returned(module: nn.Module, given: Any, output: Tensor) -> None:
            self.of_layer[names[module]] += _layer_operations(module, given[0], output)

        handles = [layer.register_forward_hook(returned) for layer in layers.values()]
        try:
            with torch.no_grad():
                run()
        finally:
            for handle in handles:
                handle.remove()
        self.left: dict[tuple[str, int], float] = {}

    def touched(self, group: ChannelGroup) -> float:
        """Operations of all layers that a group makes narrower."""
        return sum(self.of_layer[name] for name in {name for name, _ in group.places})

    def share(self, group: ChannelGroup | None = None, removed: int = 0) -> float:
        """Share of all operations that is left, with `removed` channels of one more group gone."""
        left = dict(self.left)
        if group is not None:
            self._remove(left, group, removed)
        saved = 0.0
        for name, operations in self.of_layer.items():
            saved += operations * (1 - left.get((name, OUT), 1.0) * left.get((name, IN), 1.0))
        return 1 - saved / self.total

    def remove(self, group: ChannelGroup, removed: int) -> None:
        """From now on these channels are gone."""
        self._remove(self.left, group, removed)

    def _remove(self, left: dict[tuple[str, int], float], group: ChannelGroup, removed: int) -> None:
        for (name, side), channels in group.places.items():
            layer = self.layers[name]
            full = _side_width(layer, side)
            left[name, side] = left.get((name, side), 1.0) - removed * channels.shape[1] / full


def search_channels(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    operations: Operations,
    batches: Sequence[Mapping[str, Any]],
    options: PruneOptions,
    report: Callable[[PruneStep], None] = lambda step: None,
) -> tuple[list[tuple[ChannelGroup, Tensor]], list[PruneStep]]:
    """Choose the channels that go; in the end the model is masked as if they were gone.

    Ctrl-C ends the search with what is chosen so far.

    Args:
        model: in evaluation, changed in place.
        groups: that can be cut.
        operations: of the model.
        batches: calibration batches as a training step takes them, with labels of every task among them.
        options: how far.
        report: told of every group when it is done.

    Raises:
        ValueError: no group to prune, or a task without labels in the batches.
    """
    if not groups:
        raise ValueError('prune: no layer of this model can lose channels: each reaches an output as it is')
    tasks = tuple(model.heads)
    whole = calibration_losses(model, batches)
    if not bool((whole > 0).all()):
        missing = [task for task, loss in zip(tasks, whole.tolist(), strict=True) if loss <= 0]
        raise ValueError(f'prune: the {len(batches)} calibration batches have no labels of {missing}')

    ordered = sorted(groups, key=operations.touched, reverse=True)
    cuts, steps, current, allowed = [], [], whole, whole
    weights = copy.deepcopy(model.state_dict())
    try:
        for group, share in zip(ordered, loss_shares(len(ordered), options), strict=True):
            if operations.share() <= options.flops:
                break
            allowed = allowed * (1 + share)
            removed, current = _raise_ratio(
                model, group, operations, batches, current, allowed, options.flops)

            if len(removed):
                cuts.append((group, removed))
            mask_channels(operations.layers, group, removed)
            operations.remove(group, len(removed))
            losses = dict(zip(tasks, (current / whole).tolist(), strict=True))
            steps.append(PruneStep(group.name, len(group), len(removed), operations.share(), losses))
            report(steps[-1])
    except KeyboardInterrupt:
        # what is chosen so far counts; a ratio that was being tried may be masked still, or in part
        model.load_state_dict(weights)
        for cut in cuts:
            mask_channels(operations.layers, *cut)
    return cuts, steps


def _raise_ratio(
    model: nn.Module, group: ChannelGroup, operations: Operations, batches: Sequence[Mapping[str, Any]],
    before: Tensor, allowed: Tensor, target: float,
) -> tuple[Tensor, Tensor]:
    """The channels that a group loses, and the losses then."""
    order = importance(operations.layers, group).argsort(stable=True)
    best, losses = order[:0], before
    for removed in ratio_counts(len(group)):
        with masked(operations.layers, group, order[:removed]):
            found = calibration_losses(model, batches)
        if not bool((found <= allowed).all()):
            break
        best, losses = order[:removed], found
        if operations.share(group, removed) <= target:
            break
    return best, losses


def ratio_counts(channels: int) -> list[int]:
    """Numbers of channels to try to remove, rising: those of `RATIOS` after which a round number is left.

    Processors work in blocks of 8: of 32 and more channels multiples of 8 stay, of 16 and more of 4.
    """
    block = 8 if channels >= 32 else 4 if channels >= 16 else 1
    kept = [math.ceil(channels * (1 - ratio) / block - 1e-9) * block for ratio in RATIOS]
    return sorted({channels - count for count in kept if 0 < count < channels})


@torch.no_grad()
def calibration_losses(model: nn.Module, batches: Sequence[Mapping[str, Any]]) -> Tensor:
    """Mean losses of the T tasks `(T,)`, with the same random draws and the same past every time."""
    tasks, sums = tuple(model.heads), []
    start_over(model)
    for number, batch in enumerate(batches):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            sums.append(TaskLosses(model(**batch, mode='loss'), tasks).values())
    return torch.stack(sums).mean(0)


def _side_width(layer: nn.Module, side: int) -> int:
    if is_channelwise(layer):
        return next(layer.parameters(recurse=False)).shape[0]
    if isinstance(layer, nn.Linear):
        return layer.out_features if side == OUT else layer.in_features
    return layer.out_channels if side == OUT else layer.in_channels


def _layer_operations(layer: nn.Module, given: Tensor, output: Tensor) -> float:
    """Multiply-adds of a call as two operations, as torch counts them; norms count nothing."""
    if isinstance(layer, nn.Linear):
        return 2.0 * output.numel() * layer.in_features
    if not hasattr(layer, 'kernel_size'):
        return 0.0
    moved = given if layer.transposed else output
    each = layer.out_channels if layer.transposed else layer.in_channels
    return 2.0 * moved.numel() * each // layer.groups * math.prod(layer.kernel_size)
