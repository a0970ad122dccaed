"""What every task promises: raw outputs for an engine, targets, named losses, and an answer in metres."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core.contracts import Annotations


class TaskHead(nn.Module, ABC):
    """One task on a shared BEV map.

    Attributes:
        task: one of `core.protocols.TASKS` or a task of your own; `TaskOutput.get(task)` and
            `Annotations.get(task)` read its predictions and labels.
    """

    task: str

    @abstractmethod
    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """BEV map -> raw named tensors, batch first: the end of the exported graph."""

    @abstractmethod
    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> Any:
        """B annotations in ego metres -> what `loss` compares with, in cells. Samples without this kind of
        label are masked."""

    @abstractmethod
    def loss(self, raw: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        """Named scalar terms, each weighted already. With no labelled sample in the batch: zeros that keep
        the graph whole."""

    @abstractmethod
    def decode(self, raw: dict[str, Tensor]) -> list[Any]:
        """Raw outputs -> B predictions (`Boxes3D`, `MapSegmentation`, `Occupancy`, `Lanes`, or the record of a
        task of your own) in ego metres, as numpy arrays."""
