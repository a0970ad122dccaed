"""Channels taken out of a network: really cut, or weighed as if they were."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...bev.ops.widths import cut_layer, is_channelwise, layer_widths
from ...core.contracts import Batch
from .coupling import IN, OUT, ChannelGroup

Cuts = Sequence[tuple[ChannelGroup, Tensor]]
"""Groups, and which of their channels go: int64 indices into a group."""
CLOSE = 1e-3
"""Largest difference of a cut network's outputs from the masked one's, over their largest value."""


def cut_channels(model: nn.Module, cuts: Cuts) -> dict[str, list[int]]:
    """Cut channels out of a model, in place.

    Returns:
        The record of widths (`set_widths`) of the layers that are narrower now.
    """
    layers = dict(model.named_modules())
    gone: dict[str, list[set[int]]] = {}
    for group, removed in cuts:
        for (name, side), channels in group.places.items():
            sides = gone.setdefault(name, [set() for _ in layer_widths(layers[name])])
            sides[side].update(channels[removed].flatten().tolist())

    widths = {}
    for name, sides in gone.items():
        kept = [
            torch.tensor([channel for channel in range(count) if channel not in removed])
            for count, removed in zip(layer_widths(layers[name]), sides, strict=True)]
        cut_layer(layers[name], *kept)
        widths[name] = [len(channels) for channels in kept]
    return {name: widths[name] for name in layers if name in widths}


def mask_channels(layers: Mapping[str, nn.Module], group: ChannelGroup, removed: Tensor) -> None:
    """Let nothing read some channels: their input weights become 0, which is the same as cutting them."""
    for (name, side), channels in group.places.items():
        if side == IN:
            weight = layers[name].weight.data
            dim = 0 if isinstance(layers[name], nn.modules.conv._ConvTransposeNd) else 1
            weight.index_fill_(dim, channels[removed].flatten().to(weight.device), 0.0)


@contextmanager
def masked(layers: Mapping[str, nn.Module], group: ChannelGroup, removed: Tensor) -> Iterator[None]:
    """While it lasts, nothing reads some channels of a group."""
    weights = {name: layers[name].weight.data.clone() for name, side in group.places if side == IN}
    try:
        mask_channels(layers, group, removed)
        yield
    finally:
        for name, weight in weights.items():
            layers[name].weight.data.copy_(weight)


def importance(layers: Mapping[str, nn.Module], group: ChannelGroup) -> Tensor:
    """How much each channel of a group matters `(C,)`: L1 of what makes it, over each layer's mean.

    Of convolutions and linear layers the mean over the group's layers, times the mean of the norms' scales
    (Liu et al. 2017, arXiv 1708.06519): a filter behind a scale of 0 makes nothing.
    """
    made, scales = [], []
    for (name, side), channels in group.places.items():
        layer = layers[name]
        if side != OUT or layer.weight is None:
            continue
        plain = is_channelwise(layer)
        weight = layer.weight.detach().double().cpu().abs()
        if not plain and isinstance(layer, nn.modules.conv._ConvTransposeNd):
            weight = weight.transpose(0, 1)
        each = weight.flatten(1).sum(1) if weight.ndim > 1 else weight
        (scales if plain else made).append(_over_mean(each[channels].sum(1)))

    values = torch.stack(made).mean(0)
    return values * torch.stack(scales).mean(0) if scales else values


def start_over(model: nn.Module) -> None:
    """Let a model with a memory forget its drives, so that batches may come again in the order of time."""
    forget = getattr(model, 'forget', None)
    if forget is not None:
        forget()


def working_groups(
    model: nn.Module, batch: Batch, groups: Sequence[ChannelGroup], train_batch: Mapping[str, Any]
) -> list[ChannelGroup]:
    """The groups that can really be cut: the smaller network runs, trains and gives the masked one's outputs.

    Code may rest on a number of channels in ways that no gradient shows.

    Args:
        model: stays as it is.
        batch: one sample with every sensor.
        groups: to be tried, with one channel less each: all together, and halves of them where that fails.
        train_batch: what a training step takes.

    Raises:
        RuntimeError: groups that work alone do not work together.
    """
    if not groups or _works(model, batch, groups, train_batch):
        return list(groups)
    if len(groups) == 1:
        return []

    middle = len(groups) // 2
    halves = [working_groups(model, batch, half, train_batch) for half in (groups[:middle], groups[middle:])]
    kept = [group for half in halves for group in half]
    if all(halves) and not _works(model, batch, kept, train_batch):
        raise RuntimeError('pruning: groups of channels that can be cut one by one cannot be cut together')
    return kept


def _works(
    model: nn.Module, batch: Batch, groups: Sequence[ChannelGroup], train_batch: Mapping[str, Any]
) -> bool:
    cut, mask = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    cuts = [(group, torch.tensor([0])) for group in groups]
    cut_channels(cut, cuts)
    layers = dict(mask.named_modules())
    for group, removed in cuts:
        mask_channels(layers, group, removed)

    start_over(cut)
    start_over(mask)
    try:
        with torch.no_grad():
            found, expected = cut(batch, mode='tensor'), mask(batch, mode='tensor')
            start_over(cut)
            losses = cut.train()(**train_batch, mode='loss')
    except (RuntimeError, ValueError, IndexError, TypeError):  # whatever code with other numbers says
        return False
    finite = all(bool(torch.isfinite(loss).all()) for loss in losses.values())
    return finite and all(
        found[name].shape == value.shape
        and float((found[name] - value).abs().max()) <= CLOSE * max(1.0, float(value.abs().max()))
        for name, value in expected.items())


def _over_mean(values: Tensor) -> Tensor:
    return values / values.mean().clamp_min(1e-12)
