"""Batch norms: with statistics of their own for each set of sensors, or held still.

A map fused from cameras and LiDAR has other means than one fused from cameras alone. A network that trains
with sensors missing and keeps one running mean keeps a mixture that fits no sample: normalised with the
batch's own statistics it scores far better than with its running ones. So each set keeps its own, as for each
domain in Chang et al. 2019 (arXiv 1906.03950) and for each width in slimmable networks (Yu et al. 2019, arXiv
1812.08928); scale and bias are shared.

Shape letters: S sets (2 ** sensors).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gather import exporting


class PresentSensors:
    """Which sensors the samples of the batch in hand have: a model says it once, its norms read it.

    Attributes:
        sets: 2 ** sensors. index_B: int64 `(B,)`, bit i says that sensor i is there; 0, nothing there, reads
        as all. groups: (set, rows of the batch that have it) of a training batch.
    """

    def __init__(self, sensors: int) -> None:
        self.sets = 2 ** sensors
        self.index_B: Tensor | None = None
        self.groups: list[tuple[int, Tensor]] = []

    def see(self, present: Sequence[Tensor], training: bool) -> None:
        """Note the batch: bool `(B,)` for each sensor, always in the same order."""
        self.index_B = sum(there.to(torch.int64) * 2 ** bit for bit, there in enumerate(present))
        self.groups = (
            [(int(s), torch.nonzero(self.index_B == s).flatten()) for s in self.index_B.unique()]
            if training
            else []
        )


class SensorNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose running statistics are `(S, C)`. A set that training never saw reads those of
    all sensors.

    Args:
        norm: takes its place: parameters, running statistics (for every set), eps, momentum.
        sensors: shared by a model's norms.
    """

    def __init__(self, norm: nn.BatchNorm2d, sensors: PresentSensors) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias, self.sensors = norm.weight, norm.bias, sensors
        self.register_buffer('running_mean', norm.running_mean.repeat(sensors.sets, 1))
        self.register_buffer('running_var', norm.running_var.repeat(sensors.sets, 1))
        self.register_buffer('updates', torch.zeros(sensors.sets, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """`(B * n, C, Y, X)` to the same."""
        return self._learn(x) if self.training else self._apply_known(x)

    def _learn(self, x: Tensor) -> Tensor:
        each = x.shape[0] // len(self.sensors.index_B)
        if len(self.sensors.groups) == 1:
            return self._learn_set(x, self.sensors.groups[0][0])
        rows = [
            (r[:, None] * each + torch.arange(each, device=r.device)).flatten()
            for _, r in self.sensors.groups
        ]
        parts = [self._learn_set(x[r], s) for (s, _), r in zip(self.sensors.groups, rows, strict=True)]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _learn_set(self, x: Tensor, chosen: int) -> Tensor:
        """A plain mean of the first statistics of a set, later an exponential one: it is not drawn to its
        start."""
        share = self.momentum and max(self.momentum, 1 / (int(self.updates[chosen]) + 1))
        self.updates[chosen] += 1 if share else 0
        return F.batch_norm(
            x, self.running_mean[chosen], self.running_var[chosen], self.weight, self.bias, True, share,
            self.eps)

    def _apply_known(self, x: Tensor) -> Tensor:
        everything = self.sensors.sets - 1
        known = torch.where(
            self.updates > 0, torch.arange(self.sensors.sets, device=self.updates.device), everything
        )
        row = known.index_select(0, self.sensors.index_B)
        if len(row) == 1 and not exporting():
            return F.batch_norm(
                x, self.running_mean.index_select(0, row)[0], self.running_var.index_select(0, row)[0],
                self.weight, self.bias, False, 0.0, self.eps)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        scale, shift = (
            value.index_select(0, row)
            .repeat_interleave(x.shape[0] // row.shape[0], 0)[:, :, None, None]
            .to(x.dtype)
            for value in (scale, shift)
        )
        return x * scale + shift


def norms_by_sensors(modules: Iterable[nn.Module], sensors: PresentSensors) -> None:
    """Put a `SensorNorm` in the place of every `BatchNorm2d` below the modules."""
    for module in modules:
        for owner in list(module.modules()):
            for name, child in owner.named_children():
                if type(child) is nn.BatchNorm2d:
                    setattr(owner, name, SensorNorm(child, sensors))


@contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Within it batch norms normalise as in training but do not move their running statistics (a second,
    recomputing pass)."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)  # a batch that did not enter is not counted
