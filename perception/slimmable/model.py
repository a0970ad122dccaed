"""A model whose encoder and decoders have widths that can be chosen when it runs: ECMT.

Encoder here is all that tasks share (sensors' encoders, fuser, trunk), decoder a task's head. One training
serves all widths; the wanted one is chosen for a test, and written as a plain, really smaller model by
`tools/slim_model.py`.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.config import build_record
from ..core.contracts import Annotations, Batch
from ..model import MultiTaskPerception
from ..registry import MODELS
from .layers import make_slim, set_ratio


@dataclass(frozen=True)
class SlimOptions:
    """Widths of a `SlimmablePerception`.

    Attributes:
        ratios: below 1, at which encoder and heads may run besides the full width.
        encoder: ratio of what is shared, outside training.
        heads: ratio of all heads, or {task: ratio} (1 for the others), outside training.
        narrow: weight of the tasks' losses at the drawn widths; those at full width count 1.
        invariance: weight of the distance between the trunk's maps.
    """

    ratios: Sequence[float] = (0.75, 0.5)
    encoder: float = 1.0
    heads: float | Mapping[str, float] = field(default_factory=dict)
    narrow: float = 1.0
    invariance: float = 1.0

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            raise ValueError(f'slim.ratios: expected numbers between 0 and 1, found {self.ratios!r}')


@MODELS.register_module()
class SlimmablePerception(MultiTaskPerception):
    """`MultiTaskPerception` at several widths, which learn together.

    ECMT (Efficient Controllable Multi-Task architectures, ICCV 2023; no public code: our reading of its
    abstract). Every step goes forward twice: at full width, and with an encoder and heads of ratios drawn
    one by one. Its losses are those of both, and a configuration-invariant distillation: the mean square of
    (trunk's map at the drawn width - the one at full width, held fixed), over the mean square of the latter.

    Args:
        encoders, fuser, trunk, heads: as `MultiTaskPerception`.
        slim: fields of `SlimOptions`.
        options: of `MultiTaskPerception`.

    Raises:
        ValueError: a ratio that the model is not made for, an unknown task; norms by sensors, or `widths` of
            a pruned model, which are not joined with slim layers.
    """

    def __init__(
        self, encoders: dict[str, nn.Module], fuser: nn.Module, trunk: nn.Module, heads: dict[str, nn.Module],
        slim: Mapping[str, Any] | None = None, **options: Any,
    ) -> None:
        for name in ('norm_by_sensors', 'widths'):
            if options.get(name):
                raise ValueError(f'SlimmablePerception: {name}: cannot be joined with slim layers')
        slim_options = build_record(SlimOptions, slim, 'slim')
        channels = sum(
            make_slim(part, slim_options.ratios)
            for part in (*encoders.values(), fuser, trunk, *heads.values()))
        if not channels:
            raise ValueError('SlimmablePerception: no part has channels between plain convolutions')

        super().__init__(encoders, fuser, trunk, heads, **options)
        self.slim = slim_options
        self._map: Tensor | None = None
        self.trunk.register_forward_hook(self._keep)
        self.choose(slim_options.encoder, slim_options.heads)

    def choose(self, encoder: float, heads: float | Mapping[str, float]) -> None:
        """Run at these ratios from now on.

        Raises:
            ValueError: a ratio that the model is not made for, or an unknown task.
        """
        by_task = dict.fromkeys(self.heads, 1.0)
        by_task |= dict(heads) if isinstance(heads, Mapping) else dict.fromkeys(self.heads, heads)
        for name, ratio in {'encoder': encoder, **by_task}.items():
            if name != 'encoder' and name not in self.heads:
                raise ValueError(
                    f'slim.heads: expected tasks of the model ({", ".join(self.heads)}), found {name!r}')
            if ratio not in (1.0, *self.slim.ratios):
                raise ValueError(
                    f'slim: {name}: expected one of {(1.0, *self.slim.ratios)}, found {ratio!r}')

        for part in (*self.encoders.values(), self.fuser, self.trunk):
            set_ratio(part, encoder)
        for task, head in self.heads.items():
            set_ratio(head, by_task[task])
        self._chosen = (encoder, by_task)

    @contextmanager
    def at(self, encoder: float, heads: float | Mapping[str, float]) -> Iterator[None]:
        """Run at these ratios for a while."""
        before = self._chosen
        self.choose(encoder, heads)
        try:
            yield
        finally:
            self.choose(*before)

    def draw(self) -> tuple[float, dict[str, float]]:
        """Ratios of a step: a narrow encoder, and any for each head."""
        known = (*self.slim.ratios, 1.0)
        encoder = known[int(torch.randint(len(known) - 1, ()))]
        return encoder, {task: known[int(torch.randint(len(known), ()))] for task in self.heads}

    def loss(
        self, batch: Batch, annotations: Sequence[Annotations], targets: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Losses at full width, those at drawn widths ('..._narrow'), and 'loss/network/invariance'."""
        if targets is None:
            device = next(self.parameters()).device
            targets = {task: head.targets(annotations, device) for task, head in self.heads.items()}
        apart = self.memory_apart() if self.memory is not None else nullcontext()

        with apart, self.at(*self.draw()):
            narrow, narrow_map = super().loss(batch, annotations, targets), self._map
        with self.at(1.0, 1.0):
            losses, full_map = super().loss(batch, annotations, targets), self._map.detach()
        self._map = None

        losses |= {f'{name}_narrow': self.slim.narrow * term for name, term in narrow.items()}
        distance = (narrow_map.float() - full_map.float()).square().mean()
        size = full_map.float().square().mean().clamp(min=torch.finfo(torch.float32).tiny)
        losses['loss/network/invariance'] = self.slim.invariance * distance / size
        return losses

    def _keep(self, trunk: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._map = output if self.training else None
