"""The interface of a task: raw outputs for an engine, targets, named losses and predictions in metres."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core.contracts import Annotations
from .averaging import Mirror, OutputSpace


class TaskHead(nn.Module, ABC):
    """One task on a shared BEV map.

    Attributes:
        task: name of the task, any string: the head's key in the model's `heads`, and the first part of the
            names of its outputs and losses. `TaskOutput.get(task)` and `Annotations.get(task)` read its
            predictions and labels.
        reads_queries: whether `forward` takes a `heads.queried.QueriedMap` that a bridge hands over, and no
            plain map.
    """

    task: str
    reads_queries: bool = False

    @abstractmethod
    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute raw named tensors, batch first, from the BEV map: the end of the exported graph."""

    @abstractmethod
    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> Any:
        """Turn B annotations in ego metres into what `loss` compares with, in the head's own cells.

        Samples without this kind of label are masked. A training calls it in the loader's workers, on a head
        without values: it reads no weights.
        """

    @abstractmethod
    def loss(self, raw: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        """Compute named scalar terms, each of them weighted already.

        With no labelled sample in the batch they are zeros that depend on `raw`, so that every parameter has
        a gradient.
        """

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Mean entropy in nats of what the head predicts: how unsure it is, without labels.

        For merging by entropy (`training.merging`).

        Raises:
            NotImplementedError: the head has no measure of it.
        """
        raise NotImplementedError(f'{type(self).__name__} does not say the entropy of its predictions')

    @abstractmethod
    def decode(self, raw: dict[str, Tensor]) -> list[Any]:
        """Turn raw outputs into B predictions in ego metres, as numpy arrays.

        A prediction is what the task's metric reads: `Boxes3D`, `MapSegmentation`, `Occupancy`, `Lanes`, or a
        type of the task's own.
        """

    # what follows is asked where outputs of several forwards are averaged: `averaging.AveragedModel`

    def output_space(self) -> OutputSpace:
        """What the raw outputs lie on and what their channels mean; equal ones may be averaged.

        Raises:
            NotImplementedError: the head does not say it, and its outputs are not averaged.
        """
        raise NotImplementedError(f'{type(self).__name__} ({self.task}) does not say output_space()')

    def mirror(self, raw: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
        """Bring the raw outputs of a mirrored world back into the world as it is.

        Gives what `decode` reads; NaN where the mirrored outputs do not cover a cell.

        Raises:
            NotImplementedError: the head does not say how.
        """
        raise NotImplementedError(f'{type(self).__name__} ({self.task}) does not say mirror()')

    def average(self, raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Join the raw outputs of several forwards of one batch to those that `decode` reads.

        Each cell is not NaN in one of them at least.

        Raises:
            NotImplementedError: the head does not say how.
        """
        raise NotImplementedError(f'{type(self).__name__} ({self.task}) does not say average()')
