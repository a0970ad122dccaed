"""Which channels of a network can only go together: found by gradients through the network itself.

The forward is cut behind every layer: its output becomes noise with a gradient of its own. What reaches the
input of the next layer is then a function of single outputs, and two backwards say which channel came from
which: with weights w at the input, and with w times the channel's number. Where a gradient of the second is
that of the first times one number, everywhere, the channel was only copied, scaled, added or bent on its way.
Anything else (softmax over channels, a layer norm, an attention) keeps its channels as they are.
"""
from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...bev.ops.widths import has_widths, is_channelwise
from ...core.contracts import Batch

OUT, IN = 0, 1
"""Sides of a layer; one that works channel by channel has the first alone."""
Place = tuple[str, int]
"""(layer, side)."""
SAME = 2e-2
"""How far a channel's number, read from gradients, may be from a whole one."""
FAINT = 1e-3
"""Gradients below this share of the largest are rounding."""
PLACES = 128
"""How many places of a channel are looked at."""


@dataclass(frozen=True)
class ChannelGroup:
    """C channels of a network; each of them can go, with all that hangs on it.

    Attributes:
        places: {(layer, side): int64 `(C, m)`}: the m channels there that go with each.
    """

    places: Mapping[Place, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.places.values())))

    @property
    def name(self) -> str:
        """Its first layer that has outputs of its own."""
        return next(layer for layer, side in self.places if side == OUT)


@dataclass
class _Traced:
    """What one forward with cuts leaves behind."""

    inputs: list[tuple[str, Tensor]] = field(default_factory=list)
    leaves: list[tuple[str, Tensor]] = field(default_factory=list)


def channel_groups(model: nn.Module, batch: Batch) -> list[ChannelGroup]:
    """The groups of channels that can go, each channel in one of them at most.

    Args:
        model: stays as it is.
        batch: one sample with every sensor.

    Returns:
        Groups in the order of the forward. What reaches an output of the network, an input of it, or a
        parameter outside of the layers that can be cut is in none.
    """
    # in training, for the layers that only training has
    model = copy.deepcopy(model).train()
    layers = prunable_layers(model)
    parameters = _free_parameters(model, layers)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        traced, outputs = _forward(model, batch, layers)
        links = _Links()
        for name, tensor in traced.inputs:
            place = (name, OUT if is_channelwise(layers[name]) else IN)
            _link(links, place, tensor, _channel_dim(layers[name], tensor), traced.leaves, layers, parameters)
        _keep_reached(links, outputs, traced.leaves, layers)
    return _groups(links, layers)


def prunable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model that can be cut and share no parameter with others."""
    uses: dict[int, int] = defaultdict(int)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] += 1
    return {
        name: module for name, module in model.named_modules()
        if has_widths(module) and all(uses[id(p)] == 1 for p in module.parameters(recurse=False))}


def _free_parameters(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters of everything else, which alone get a gradient."""
    model.requires_grad_(False)
    known = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
    free = [parameter for parameter in model.parameters() if id(parameter) not in known]
    for parameter in free:
        parameter.requires_grad_(True)
        parameter.data.normal_()  # a zero would hide what it is joined with
    return free


def _forward(
    model: nn.Module, batch: Batch, layers: Mapping[str, nn.Module]
) -> tuple[_Traced, list[Tensor]]:
    """Run a network with a cut behind every layer."""
    inputs, traced = model.prepare(batch), _Traced()
    names = {module: name for name, module in layers.items()}

    def called(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        traced.inputs.append((names[module], given[0].clone()))  # some are changed in place later

    def returned(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        leaf = torch.randn_like(output.detach()).abs_().requires_grad_()  # nothing dies in a ReLU
        traced.leaves.append((names[module], leaf))
        return leaf.clone()

    for layer in layers.values():
        layer.register_forward_pre_hook(called)
        layer.register_forward_hook(returned)
    raw = model.network(inputs)
    return traced, [tensor for outputs in raw.values() for tensor in outputs.values()]


# -------------------------------------------------------------------- which channel comes from which

class _Links:
    """Channels that were seen to belong together, as sets that are joined, and those that stay."""

    def __init__(self) -> None:
        self.parent: dict[tuple[str, int, int], tuple[str, int, int]] = {}
        self.fixed: set[tuple[str, int, int]] = set()

    def root(self, node: tuple[str, int, int]) -> tuple[str, int, int]:
        """The one that stands for all that are joined with it."""
        self.parent.setdefault(node, node)
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def join(self, a: tuple[str, int, int], b: tuple[str, int, int]) -> None:
        """From now on a and b belong together."""
        self.parent[self.root(a)] = self.root(b)

    def keep(self, place: Place, channels: Iterator[int] | range | list[int]) -> None:
        """Channels of a layer that stay."""
        self.fixed.update((*place, channel) for channel in channels)

    def sets(self) -> list[list[tuple[str, int, int]]]:
        """All sets without a channel that stays."""
        fixed = {self.root(node) for node in list(self.fixed)}
        found = defaultdict(list)
        for node in list(self.parent):
            found[self.root(node)].append(node)
        return [nodes for root, nodes in found.items() if root not in fixed]


def _link(
    links: _Links, place: Place, tensor: Tensor, dim: int, leaves: list[tuple[str, Tensor]],
    layers: Mapping[str, nn.Module], parameters: list[nn.Parameter],
) -> None:
    """Join the channels of one input with those of the outputs that they come from."""
    count, every = tensor.shape[dim], range(tensor.shape[dim])
    if not tensor.requires_grad:
        links.keep(place, every)
        return

    shape = [1] * tensor.ndim
    shape[dim] = count
    number = torch.arange(1, count + 1, dtype=tensor.dtype).reshape(shape)
    weights = torch.randn_like(tensor)
    sources = [leaf for _, leaf in leaves]
    plain = _gradients((tensor * weights).sum(), sources + parameters)
    numbered = _gradients((tensor * weights * number).sum(), sources)
    if any(gradient is not None for gradient in plain[len(sources):]):
        links.keep(place, every)

    seen: set[int] = set()
    for (name, leaf), once, times in zip(leaves, plain, numbered, strict=False):
        if once is None or not bool(once.any()):
            continue
        read = _read_numbers(once, times, _channel_dim(layers[name], leaf))
        for channel, target in enumerate(read):
            if target is None:
                continue
            if not 1 <= target <= count:  # mixed
                links.keep((name, OUT), [channel])
                links.keep(place, every)
                continue
            links.join((name, OUT, channel), (*place, target - 1))
            seen.add(target - 1)
    links.keep(place, [channel for channel in every if channel not in seen])


def _gradients(loss: Tensor, sources: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, sources, retain_graph=True, allow_unused=True)


def _read_numbers(once: Tensor, times: Tensor, dim: int) -> list[int | None]:
    """For every channel: the number by which its gradient was multiplied; 0: not one; None: no gradient.

    It is read at the places where the gradient is strongest.
    """
    once, times = (gradient.movedim(dim, 0).flatten(1) for gradient in (once, times))
    strength, places = once.abs().topk(min(PLACES, once.shape[1]), 1)
    ratio = times.gather(1, places).double() / once.gather(1, places).double()
    strong = strength > FAINT * strength[:, :1]

    number = torch.where(strong, ratio, torch.nan).nanmedian(1).values.round().nan_to_num(0.0)
    limit = SAME * number.clamp_min(1.0).sqrt()
    same = (~strong | ((ratio - number[:, None]).abs() <= limit[:, None])).all(1)

    # a channel without a gradient has no number; one that only numbers reach is mixed
    reached, silent = times.any(1), strength[:, 0] == 0
    read = torch.where(same & ~silent, number, 0.0).to(torch.int64).tolist()
    return [
        None if quiet and not seen else value
        for value, quiet, seen in zip(read, silent.tolist(), reached.tolist(), strict=True)]


def _keep_reached(
    links: _Links, outputs: list[Tensor], leaves: list[tuple[str, Tensor]], layers: Mapping[str, nn.Module]
) -> None:
    """Channels that reach an output of the network stay."""
    reached = sum((out * torch.randn_like(out)).sum() for out in outputs if out.requires_grad)
    gradients = _gradients(reached, [leaf for _, leaf in leaves])
    for (name, leaf), gradient in zip(leaves, gradients, strict=True):
        if gradient is not None:
            sums = gradient.abs().movedim(_channel_dim(layers[name], leaf), 0).flatten(1).sum(1)
            links.keep((name, OUT), sums.nonzero().flatten().tolist())


def _channel_dim(layer: nn.Module, tensor: Tensor) -> int:
    """Where a layer's input or output has its channels."""
    return tensor.ndim - 1 if isinstance(layer, nn.Linear) else 1


# -------------------------------------------------------------------- groups

def _groups(links: _Links, layers: Mapping[str, nn.Module]) -> list[ChannelGroup]:
    """Sets with the same places, as many channels in each, make a group."""
    order = {name: number for number, name in enumerate(layers)}
    alike: dict[tuple, list[dict[Place, list[int]]]] = defaultdict(list)
    for nodes in links.sets():
        by_place: dict[Place, list[int]] = defaultdict(list)
        for layer, side, channel in sorted(nodes, key=lambda node: (order[node[0]], *node[1:])):
            by_place[layer, side].append(channel)
        made = any(side == OUT and not is_channelwise(layers[layer]) for layer, side in by_place)
        read = any(side == IN for _, side in by_place)
        if made and read:
            alike[tuple((place, len(channels)) for place, channels in by_place.items())].append(by_place)

    groups = [
        ChannelGroup({
            place: torch.tensor([channels[place] for channels in members]) for place in members[0]})
        for members in alike.values()]
    return sorted(
        (group for group in groups if len(group) > 1), key=lambda group: order[next(iter(group.places))[0]])
