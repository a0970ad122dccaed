"""Batch norms: with statistics of their own for each set of sensors, paced at the start, or held still.

A map fused from cameras and LiDAR has other means than one fused from cameras alone. A network that trains
with sensors missing and keeps one running mean keeps a mixture that fits no sample: normalised with the
batch's own statistics it scores far better than with its running ones. So each set keeps its own, as for each
domain in Chang et al. 2019 (arXiv 1906.03950) and for each width in slimmable networks (Yu et al. 2019, arXiv
1812.08928); scale and bias are shared.

Shape letters: S sets (2 ** sensors).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm

from ...core.processes import summed
from .gather import exporting

TORCH_MOMENTUM = 0.1  # what a batch norm has where its author did not choose


class ModelNorms:
    """How the batch norms of a whole model keep their running statistics.

    Args:
        model: whose norms; those that are replaced are replaced in it.
        shared: its modules behind the encoders, whose maps come from several sensors.
        sensors: how many sensors the model has.
        momentum: of every batch norm that has torch's default, for small batches; None leaves them.
        by_sensors: the norms of `shared` keep statistics for each set of present sensors (`SensorNorm`).
    """

    def __init__(
        self,
        model: nn.Module,
        shared: Iterable[nn.Module],
        sensors: int,
        momentum: float | None = None,
        by_sensors: bool = False,
    ) -> None:
        self.momentum = momentum
        self._paced: list[AnyBatchNorm] = []
        if momentum is not None:
            self._paced = [norm for norm in batch_norms(model) if norm.momentum == TORCH_MOMENTUM]
        for norm in self._paced:
            norm.momentum = momentum

        self.present = PresentSensors(sensors) if by_sensors else None
        if self.present is not None:
            norms_by_sensors(shared, self.present)
            remaining = set(model.modules())  # a `SensorNorm` paces itself
            self._paced = [norm for norm in self._paced if norm in remaining]

    def note_sensors(self, present: Sequence[Tensor], training: bool) -> None:
        """Tell the norms which sensors the batch has, see `PresentSensors.see`."""
        if self.present is not None:
            self.present.see(present, training)

    def pace(self) -> None:
        """Set the momentum of the next training step.

        It makes a plain mean of the first batches, so that a short training is not drawn to the start.
        """
        for norm in self._paced:
            norm.momentum = max(self.momentum, 1 / (int(norm.num_batches_tracked) + 1))


class PresentSensors:
    """Which sensors the samples of the current batch have: a model notes it once, its norms read it.

    Attributes:
        sets: 2 ** sensors.
        index_B: int64 `(B,)`, bit i says that sensor i is present; 0, no sensor at all, is read as all.
        groups: (set, rows of the batch that have it) of a training batch.
    """

    def __init__(self, sensors: int) -> None:
        self.sets = 2 ** sensors
        self.index_B: Tensor | None = None
        self.groups: list[tuple[int, Tensor]] = []

    def see(self, present: Sequence[Tensor], training: bool) -> None:
        """Note the batch: bool `(B,)` for each sensor, always in the same order."""
        self.index_B = sum(flag.to(torch.int64) * 2 ** bit for bit, flag in enumerate(present))
        self.groups = []
        if training:
            self.groups = [
                (int(s), torch.nonzero(self.index_B == s).flatten()) for s in self.index_B.unique()
            ]


class SensorNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose running statistics are `(S, C)`, one row for each set of sensors.

    A set that training never saw reads the row of all sensors.

    Args:
        norm: takes its place: parameters, running statistics (for every set), eps, momentum.
        sensors: shared by a model's norms.
    """

    def __init__(self, norm: nn.BatchNorm2d, sensors: PresentSensors) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight = norm.weight
        self.bias = norm.bias
        self.sensors = sensors
        self.register_buffer('running_mean', norm.running_mean.repeat(sensors.sets, 1))
        self.register_buffer('running_var', norm.running_var.repeat(sensors.sets, 1))
        self.register_buffer('updates', torch.zeros(sensors.sets, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """`(B * n, C, Y, X)` to the same."""
        return self._learn(x) if self.training else self._apply_known(x)

    def _learn(self, x: Tensor) -> Tensor:
        """Each set of the batch normalised by itself, then put back into the batch's order."""
        groups = self.sensors.groups
        if len(groups) == 1:
            return self._learn_set(x, groups[0][0])

        # n rows of x belong to one sample
        each = x.shape[0] // len(self.sensors.index_B)
        rows = [
            (samples[:, None] * each + torch.arange(each, device=samples.device)).flatten()
            for _, samples in groups
        ]
        parts = [self._learn_set(x[r], s) for (s, _), r in zip(groups, rows, strict=True)]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _learn_set(self, x: Tensor, chosen: int) -> Tensor:
        """Learn one set: a plain mean of its first statistics, later an exponential one."""
        momentum = self.momentum and max(self.momentum, 1 / (int(self.updates[chosen]) + 1))
        self.updates[chosen] += 1 if momentum else 0
        return F.batch_norm(
            x, self.running_mean[chosen], self.running_var[chosen], self.weight, self.bias, True, momentum,
            self.eps)

    def _apply_known(self, x: Tensor) -> Tensor:
        """Each sample normalised with the statistics of its own set, or those of all sensors."""
        all_sensors = self.sensors.sets - 1
        rows = torch.arange(self.sensors.sets, device=self.updates.device)
        row = torch.where(self.updates > 0, rows, all_sensors).index_select(0, self.sensors.index_B)  # (B,)

        if len(row) == 1 and not exporting():
            return F.batch_norm(
                x, self.running_mean.index_select(0, row)[0], self.running_var.index_select(0, row)[0],
                self.weight, self.bias, False, 0.0, self.eps)

        # (S, C) scales and shifts -> those of every row of x
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        each = x.shape[0] // row.shape[0]
        scale, shift = (
            value.index_select(0, row).repeat_interleave(each, 0)[:, :, None, None].to(x.dtype)
            for value in (scale, shift)
        )
        return x * scale + shift


def batch_norms(module: nn.Module) -> list[AnyBatchNorm]:
    """All batch norms of a module, of any dimension."""
    return [part for part in module.modules() if isinstance(part, AnyBatchNorm)]


def norms_by_sensors(modules: Iterable[nn.Module], sensors: PresentSensors) -> None:
    """Put a `SensorNorm` in the place of every `BatchNorm2d` below the modules."""
    for module in modules:
        for owner in list(module.modules()):
            for name, child in owner.named_children():
                if type(child) is nn.BatchNorm2d:
                    setattr(owner, name, SensorNorm(child, sensors))


def still_unless_present(encoder: nn.Module, present_B: Tensor) -> AbstractContextManager[None]:
    """Context in which an encoder's statistics move only if a sample of the batch has its sensor."""
    absent = encoder.training and not bool(present_B.any())
    return still_statistics(encoder) if absent else nullcontext()


def known_unless_present(module: nn.Module, present: Tensor) -> AbstractContextManager[None]:
    """As `still_unless_present`, for a module whose output is read where its sensor is absent, too.

    Without any sample of its own a batch has no statistics: zeros are normalised by the running ones, in
    training as in evaluation. Norms whose statistics are those of all processes wait for each other: there
    the batch is that of all processes, and every process must call this.
    """
    if not module.training:
        return nullcontext()
    some = present.any()
    if any(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(module)):
        some = summed(some.float()) > 0
    return nullcontext() if bool(some) else known_statistics(module)


@contextmanager
def known_statistics(module: nn.Module) -> Iterator[None]:
    """Context in which batch norms normalise as in evaluation."""
    norms = [norm for norm in batch_norms(module) if norm.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


@contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Context in which batch norms normalise as in training but keep their running statistics.

    For a second, recomputing pass, and for data that nothing should be learned from.
    """
    norms = batch_norms(module)
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)  # a batch that was not learned from is not counted
