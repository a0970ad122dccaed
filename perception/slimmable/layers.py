"""Layers that can run with their first channels alone: one set of weights, several widths.

Slimmable networks (Yu et al. 2019, arXiv 1812.08928): a layer at a ratio r < 1 multiplies the first k
channels of its weights, and norms keep statistics of their own for every ratio. Slim here are the channels
**inside** a block: between the convolutions of a residual block and of a plain stack of convolution, norm and
activation. What blocks hand to each other keeps its width, so sums and concatenations meet the same channels
at any ratio, and parts may run at different ones.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bev.ops.blocks import BasicBlock, Bottleneck
from ..bev.ops.widths import layer_widths

STEP = 4
"""Channels that run are a multiple of it."""


def running_channels(channels: int, ratio: float) -> int:
    """How many of a layer's channels run at a ratio.

    >>> running_channels(48, 0.5), running_channels(10, 0.5), running_channels(3, 0.5)
    (24, 8, 3)
    """
    return min(channels, STEP * ceil(channels * ratio / STEP))


class SlimConv(nn.Conv2d):
    """A convolution that runs with the first of its channels, on the sides that are slim.

    Args:
        conv: takes its place, with its parameters.

    Attributes:
        ratio: at which it runs.
        slim_outputs, slim_inputs: which sides are slim.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            conv.groups, conv.bias is not None, conv.padding_mode, device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self.ratio, self.slim_outputs, self.slim_inputs = 1.0, False, False

    def running_widths(self) -> tuple[int, int]:
        """(outputs, inputs) that run."""
        sides = ((self.out_channels, self.slim_outputs), (self.in_channels, self.slim_inputs))
        return tuple(running_channels(count, self.ratio) if slim else count for count, slim in sides)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs that run, Y, X)` to the outputs that run."""
        outputs, inputs = self.running_widths()
        if (outputs, inputs) == (self.out_channels, self.in_channels):
            return super().forward(x)
        bias = None if self.bias is None else self.bias[:outputs]
        return self._conv_forward(x, self.weight[:outputs, :inputs], bias)


class SlimNorm(nn.BatchNorm2d):
    """A batch norm with statistics for every ratio; scale and shift are shared.

    Also where all channels run: what comes in has other statistics when a layer before it is narrow.

    Args:
        norm: takes its place, with its parameters and (at ratio 1) its statistics.
        ratios: below 1, at which it may run.
    """

    def __init__(self, norm: nn.BatchNorm2d, ratios: Sequence[float]) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name in ('running_mean', 'running_var', 'num_batches_tracked'):
            self.register_buffer(name, getattr(norm, name))
        self.ratio, self.slim = 1.0, False

        for ratio in ratios:
            self.register_buffer(statistics_name('mean', ratio), norm.running_mean.clone())
            self.register_buffer(statistics_name('var', ratio), norm.running_var.clone())
            self.register_buffer(statistics_name('updates', ratio), torch.zeros((), dtype=torch.int64))

    def running_widths(self) -> tuple[int]:
        """(channels that run,)."""
        return (running_channels(self.num_features, self.ratio) if self.slim else self.num_features,)

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means, variances and the number of batches that they have seen, at the ratio that runs."""
        if self.ratio == 1:
            return self.running_mean, self.running_var, self.num_batches_tracked
        return tuple(getattr(self, statistics_name(what, self.ratio)) for what in ('mean', 'var', 'updates'))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels that run, Y, X)` to the same."""
        if self.ratio == 1:
            return super().forward(x)

        mean, var, updates = self.statistics()
        count, = self.running_widths()
        momentum = self.momentum

        if self.training:
            # each ratio paces itself: a plain mean of its first batches
            momentum = momentum and max(momentum, 1 / (int(updates) + 1))
            updates += 1 if momentum else 0
        return F.batch_norm(
            x, mean[:count], var[:count], self.weight[:count], self.bias[:count], self.training, momentum,
            self.eps)


def statistics_name(what: str, ratio: float) -> str:
    """Name of a buffer with a norm's statistics at a ratio.

    >>> statistics_name('mean', 0.5)
    'mean_at_50'
    """
    return f'{what}_at_{round(100 * ratio)}'


def make_slim(part: nn.Module, ratios: Sequence[float]) -> int:
    """Let a part run at ratios: its inner convolutions, and all its two-dimensional batch norms, in place.

    Returns:
        How many channels are slim.
    """
    chains = list(inner_chains(part))
    replaced: dict[nn.Module, nn.Module] = {}
    for first, _, last in chains:
        for conv in (first, last):
            replaced.setdefault(conv, SlimConv(conv))
        replaced[first].slim_outputs = replaced[last].slim_inputs = True

    for module in part.modules():
        if type(module) is nn.BatchNorm2d:
            replaced[module] = SlimNorm(module, ratios)
    for _, norms, _ in chains:
        for norm in norms:
            replaced[norm].slim = True

    for owner in list(part.modules()):
        for name, child in list(owner.named_children()):
            if child in replaced:
                setattr(owner, name, replaced[child])
    return sum(first.out_channels for first, _, _ in chains)


def inner_chains(part: nn.Module) -> Iterator[tuple[nn.Conv2d, list[nn.BatchNorm2d], nn.Conv2d]]:
    """(convolution, norms between, next convolution) whose channels between nothing else reads."""
    inside: set[nn.Module] = set()
    for module in part.modules():
        if isinstance(module, BasicBlock):
            yield module.conv1, [module.bn1], module.conv2
        elif isinstance(module, Bottleneck):
            yield module.conv1, [module.bn1], module.conv2
            yield module.conv2, [module.bn2], module.conv3
        elif type(module) is nn.Sequential and module not in inside:
            inside |= {child for child in module.modules() if type(child) is nn.Sequential}
            yield from _of_stack(list(_flat(module)))


def _flat(stack: nn.Sequential) -> Iterator[nn.Module]:
    for layer in stack:
        if type(layer) is nn.Sequential:
            yield from _flat(layer)
        else:
            yield layer


def _of_stack(layers: Sequence[nn.Module]) -> Iterator[tuple[nn.Conv2d, list[nn.BatchNorm2d], nn.Conv2d]]:
    first, norms = None, []
    for layer in layers:
        if type(layer) is nn.Conv2d and layer.groups == 1:
            if first is not None:
                yield first, norms, layer
            first, norms = layer, []
        elif type(layer) is nn.BatchNorm2d:
            norms.append(layer)
        elif not isinstance(layer, (nn.ReLU, nn.GELU, nn.SiLU)):
            first = None


def set_ratio(part: nn.Module, ratio: float) -> None:
    """Let all slim layers of a part run at a ratio that they were made for, or 1."""
    for module in part.modules():
        if isinstance(module, (SlimConv, SlimNorm)):
            module.ratio = ratio


def slim_widths(model: nn.Module) -> dict[str, list[int]]:
    """{layer: widths that run} of the layers that are narrower than they were built, for `set_widths`."""
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, (SlimConv, SlimNorm))}
    return {
        name: list(layer.running_widths()) for name, layer in layers.items()
        if layer.running_widths() != layer_widths(layer)}


def slim_state(model: nn.Module, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the plain model that a slim one is at the ratios that run now.

    Args:
        model: with slim layers.
        like: state of the plain model, whose shapes count.
    """
    state = dict(model.state_dict())
    for name, layer in model.named_modules():
        if isinstance(layer, SlimNorm):
            words = ('running_mean', 'running_var', 'num_batches_tracked')
            state |= {
                f'{name}.{word}': tensor for word, tensor in zip(words, layer.statistics(), strict=True)}
    return {
        name: state[name][tuple(slice(0, size) for size in tensor.shape)].detach().clone()
        for name, tensor in like.items()}
