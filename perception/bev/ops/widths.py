"""Layers with fewer channels than their configuration says: cut by hand, or built narrow from a record.

A pruned model is the configuration's with a record `{layer: [outputs, inputs]}`, `{layer: [channels]}` for
norms and convolutions channel by channel.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm
from torch.nn.modules.conv import _ConvNd as AnyConv
from torch.nn.modules.conv import _ConvTransposeNd as AnyTransposed


def is_channelwise(layer: nn.Module) -> bool:
    """Whether each output channel of a layer depends on the input channel of its number alone."""
    if isinstance(layer, AnyConv):
        return layer.groups == layer.in_channels == layer.out_channels > 1
    return isinstance(layer, AnyBatchNorm)


def has_widths(layer: nn.Module) -> bool:
    """Whether a layer can be cut: a convolution (plain or by channel), a linear layer, a batch norm."""
    if isinstance(layer, AnyConv):
        return layer.groups == 1 or is_channelwise(layer)
    # of the subclasses of a linear layer, the one of points' features (`bev.point_linear`)
    return type(layer) is nn.Linear or hasattr(layer, 'units_F') or isinstance(layer, AnyBatchNorm)


def layer_widths(layer: nn.Module) -> tuple[int, ...]:
    """(outputs, inputs) of a layer, (channels,) of one that works channel by channel."""
    if isinstance(layer, AnyBatchNorm):
        return (layer.num_features,)
    if is_channelwise(layer):
        return (layer.in_channels,)
    if isinstance(layer, AnyConv):
        return layer.out_channels, layer.in_channels
    return layer.out_features, layer.in_features


def cut_layer(layer: nn.Module, *kept: Tensor) -> None:
    """Leave the channels `kept` of a layer, in place; the numbers go with them.

    Args:
        layer: one that `has_widths`.
        kept: int64 indices, as many tensors as `layer_widths` has numbers: outputs, inputs.
    """
    if isinstance(layer, AnyBatchNorm):
        _cut_tensors(layer, ('weight', 'bias', 'running_mean', 'running_var'), kept[0], -1)
        layer.num_features = len(kept[0])
        return

    channelwise = is_channelwise(layer)
    out_dim = 1 if isinstance(layer, AnyTransposed) and not channelwise else 0
    _cut_tensors(layer, ('weight',), kept[0], out_dim)
    _cut_tensors(layer, ('bias',), kept[0], 0)
    if not channelwise:
        _cut_tensors(layer, ('weight',), kept[1], 1 - out_dim)

    if isinstance(layer, AnyConv):
        layer.out_channels, layer.in_channels = len(kept[0]), len(kept[-1])
        layer.groups = len(kept[0]) if channelwise else 1
    else:
        _cut_tensors(layer, ('units_F',), kept[1], 0)
        layer.out_features, layer.in_features = len(kept[0]), len(kept[-1])


def set_widths(model: nn.Module, widths: Mapping[str, Sequence[int]]) -> None:
    """Make the layers that a record names as narrow as it says; their first channels stay.

    Args:
        model: as its configuration builds it, changed in place.
        widths: {name of a layer: (outputs, inputs) or (channels,)}.

    Raises:
        ValueError: no such layer, one that cannot be cut, or widths that it does not have: named.
    """
    layers = dict(model.named_modules())
    for name, wanted in widths.items():
        layer = layers.get(name)
        if layer is None or not has_widths(layer):
            found = 'no layer of that name' if layer is None else type(layer).__name__
            raise ValueError(
                f'widths[{name!r}]: expected a convolution, linear layer or batch norm, found {found}')
        check_widths(name, wanted, layer_widths(layer))

    for name, wanted in widths.items():
        weight = next(layers[name].parameters(recurse=False))
        cut_layer(layers[name], *(torch.arange(count, device=weight.device) for count in wanted))


def check_widths(name: str, wanted: Any, built: tuple[int, ...]) -> None:
    """Raise ValueError unless `wanted` has as many whole numbers as `built`, each from 1 to the one there."""
    fits = isinstance(wanted, Sequence) and len(wanted) == len(built) and all(
        type(count) is int and 1 <= count <= full for count, full in zip(wanted, built, strict=True))
    if not fits:
        raise ValueError(
            f'widths[{name!r}]: expected {len(built)} whole numbers from 1 to {list(built)}, found '
            f'{wanted!r}')


def _cut_tensors(layer: nn.Module, names: Sequence[str], kept: Tensor, dim: int) -> None:
    for name in names:
        tensor = getattr(layer, name, None)
        if tensor is None:
            continue
        cut = tensor.detach().index_select(dim, kept.to(tensor.device))
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, nn.Parameter(cut, tensor.requires_grad))
        else:
            setattr(layer, name, cut)
