"""Targets are made beside the batch, in the loader's workers: they need the annotations alone.

A head's `targets` stays the one place that knows them; what travels to a worker is a copy of the heads
without values.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from ..core.contracts.annotations import whole_annotations
from ..model import MultiTaskPerception


def heads_without_values(heads: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of the heads whose weights have shapes alone: small to send, and on no accelerator."""
    return {task: deepcopy(head).to('meta') for task, head in heads.items()}


def with_targets(data: Mapping[str, Any], heads: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Collated data and `'targets': {task: what the head's loss compares with}`, on the CPU.

    Args:
        data: of `collate`.
        heads: {task: head}.
    """
    annotations = whole_annotations(data['inputs'].frames, data['data_samples'])
    return {**data, 'targets': {task: head.targets(annotations) for task, head in heads.items()}}


class TargetCollate:
    """A collate function that also makes the targets of its batch.

    Args:
        collate: samples -> data, see `datasets.reading.collate`.
        heads: from `heads_without_values`.
    """

    def __init__(
        self, collate: Callable[[Sequence[Any]], Mapping[str, Any]], heads: Mapping[str, nn.Module]
    ) -> None:
        self.collate = collate
        self.heads = heads

    def __call__(self, pairs: Sequence[Any]) -> dict[str, Any]:
        """Put samples together and make their targets."""
        return with_targets(self.collate(pairs), self.heads)


def make_targets_in(loader: DataLoader, model: nn.Module) -> None:
    """Let a training loader make the targets of a model's tasks; other models are left alone.

    Args:
        loader: without iterator yet.
        model: without wrapper.
    """
    if isinstance(model, MultiTaskPerception):
        loader.collate_fn = TargetCollate(loader.collate_fn, heads_without_values(model.heads))
