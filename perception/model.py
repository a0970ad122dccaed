"""The figure of the system: sensors -> bird's-eye view -> fusion -> trunk -> bridge -> tasks."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from .bev.base import SensorEncoder
from .bev.ops.norms import PresentSensors, norms_by_sensors, still_statistics
from .bev.records import SensorFeature
from .core.contracts import Annotations, Batch, TaskOutput
from .fusion.base import Fuser
from .heads.base import TaskHead
from .heads.bridge import TaskBridge
from .registry import MODELS


@MODELS.register_module()
class MultiTaskPerception(BaseModel):
    """One forward from any subset of cameras, LiDAR and radars to any subset of the tasks.

    Args:
        encoders: {sensor: encoder}; its keys are the sensors the model has.
        fuser: several BEV maps -> one.
        trunk: BEV backbone and neck after fusion, `(B, C, Y, X)` -> `(B, trunk.out_channels, Y, X)`.
        heads: {task: head}.
        bridge: exchange between task branches, {task: map} -> {task: map}; None shares one map.
        data_preprocessor: moves a batch to the device and normalises images.
        norm_momentum: of every batch norm that has torch's default, for small batches (the first of them
            enter by a plain mean); None leaves them.
        norm_by_sensors: batch norms behind the encoders keep statistics for each set of present sensors
            (`SensorNorm`): for training with sensors missing.

    Raises:
        ValueError: a key is not the sensor or task its module says it serves, or there is no sensor or no
        task.
    """

    def __init__(
        self,
        encoders: dict[str, SensorEncoder],
        fuser: Fuser,
        trunk: nn.Module,
        heads: dict[str, TaskHead],
        bridge: TaskBridge | None = None,
        data_preprocessor: BaseDataPreprocessor | dict | None = None,
        norm_momentum: float | None = None,
        norm_by_sensors: bool = False,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        _check_names('encoders', 'sensor', encoders)
        _check_names('heads', 'task', heads)
        self.encoders, self.heads = nn.ModuleDict(encoders), nn.ModuleDict(heads)
        self.fuser, self.trunk, self.bridge = fuser, trunk, bridge
        self.norm_momentum = norm_momentum
        self._paced = (
            []
            if norm_momentum is None
            else [
                norm
                for norm in self.modules()
                if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.momentum == 0.1
            ]
        )
        for norm in self._paced:
            norm.momentum = norm_momentum
        self.present = PresentSensors(len(encoders)) if norm_by_sensors else None
        if self.present is not None:  # these pace themselves
            norms_by_sensors(filter(None, (fuser, trunk, bridge, self.heads)), self.present)
            self._paced = [norm for norm in self._paced if norm in set(self.modules())]

    # mmengine's word for the three uses of one network
    def forward(self, inputs: Batch | dict[str, Tensor], data_samples: Sequence[Annotations] | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | list[TaskOutput]:
        """`loss`: named losses. `predict`: B `TaskOutput`s. `tensor`: raw outputs '<task>.<name>', exactly
        the exported graph when `inputs` are the graph inputs that `prepare` makes.

        Raises:
            ValueError: unknown mode, or `loss` without annotations.
        """
        if mode == 'tensor':
            return flatten(self.network(self.prepare(inputs) if isinstance(inputs, Batch) else inputs))
        if mode == 'predict':
            return self.decode(self.network(self.prepare(inputs)), inputs)
        if mode == 'loss':
            if data_samples is None:
                raise ValueError("mode 'loss' needs annotations (data_samples), found None")
            if unlabelled := [f.token for f, a in zip(inputs.frames, data_samples, strict=True) if a is None]:
                raise ValueError(
                    f"mode 'loss': no annotations for {', '.join(unlabelled)} (a split without labels?)"
                )
            return self.loss(inputs, data_samples)
        raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', found {mode!r}")

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """Everything outside the graph: index tables, pillars, presence -> flat graph inputs
        '<sensor>.<name>'."""
        inputs = {f'{sensor}.{name}': tensor for sensor, encoder in self.encoders.items()
                  for name, tensor in encoder.prepare(batch).items()}
        present = batch.present()
        return inputs | {f'{sensor}.present': present[sensor] for sensor in self.encoders}

    def network(self, inputs: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Graph inputs -> raw outputs by task: the exported graph."""
        return self.answer(self.encode(inputs), inputs)

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, SensorFeature]:
        """Each sensor -> its BEV map. What stands for a sensor that no sample has does not move its encoder's
        statistics."""
        features = {}
        for sensor, encoder in self.encoders.items():
            own = {name.removeprefix(f'{sensor}.'): tensor for name, tensor in inputs.items()
                   if name.startswith(f'{sensor}.') and name != f'{sensor}.present'}
            nobody = self.training and not bool(inputs[f'{sensor}.present'].any())
            with still_statistics(encoder) if nobody else nullcontext():
                features[sensor] = encoder(**own)
        return features

    def answer(
        self, features: dict[str, SensorFeature], inputs: dict[str, Tensor]
    ) -> dict[str, dict[str, Tensor]]:
        """BEV maps -> one map -> raw outputs of every task."""
        present = {sensor: inputs[f'{sensor}.present'] for sensor in features}
        if self.present is not None:
            self.present.see(list(present.values()), self.training)
        fused = self.fuser.fuse(features, present)
        shared = self.trunk(fused)
        branches = dict.fromkeys(self.heads, shared)
        if self.bridge is not None:
            branches = self.bridge(branches)
        raw = {task: head(branches[task]) for task, head in self.heads.items()}
        for name, guess in branches.items():
            task, _, output = name.partition('.')
            if output:
                raw[task][output] = guess
        return raw

    def loss(self, batch: Batch, annotations: Sequence[Annotations]) -> dict[str, Tensor]:
        """Named loss terms 'loss/<task, sensor or network>/<term>'; mmengine sums them."""
        inputs = self.prepare(batch)
        # a plain mean of the first batches, so that a short training is not drawn to the start
        for norm in self._paced:
            norm.momentum = max(self.norm_momentum, 1 / (int(norm.num_batches_tracked) + 1))
        features = self.encode(inputs)
        raw = self.answer(features, inputs)
        losses: dict[str, Tensor] = {}
        for sensor, encoder in self.encoders.items():
            if not any(p.requires_grad for p in encoder.parameters()):
                continue  # frozen: its own losses could teach nobody
            losses |= {
                f'loss/{sensor}/{name}': term for name, term in encoder.loss(features[sensor], batch).items()
            }
        device = next(iter(flatten(raw).values())).device
        targets = {task: head.targets(annotations, device) for task, head in self.heads.items()}
        for task, head in self.heads.items():
            losses |= {
                f'loss/{task}/{name}': term for name, term in head.loss(raw[task], targets[task]).items()
            }
        if self.bridge is not None:
            losses |= {f'loss/{name}': term for name, term in self.bridge.loss(raw, targets).items()}
        losses |= {f'loss/network/{name}': term for name, term in self.extra_losses().items()}
        check_finite(losses, batch)
        return losses

    def extra_losses(self) -> dict[str, Tensor]:
        """Terms that inner modules ask for by their own `extra_losses() -> {name: term}` (load balance of
        experts, say), added up by name.
        """
        total: dict[str, Tensor] = {}
        for module in self.modules():
            if module is not self and hasattr(module, 'extra_losses'):
                for name, term in module.extra_losses().items():
                    total[name] = total[name] + term if name in total else term
        return total

    def decode(self, raw: dict[str, dict[str, Tensor]], batch: Batch) -> list[TaskOutput]:
        """Raw outputs -> one `TaskOutput` a sample, in ego metres."""
        predictions = {task: head.decode(raw[task]) for task, head in self.heads.items()}
        return [
            TaskOutput.of(frame, {task: predictions[task][b] for task in predictions})
            for b, frame in enumerate(batch.frames)
        ]


def check_finite(losses: dict[str, Tensor], batch: Batch) -> None:
    """Stop at a loss that is not a number, before it spoils the weights.

    Raises:
        FloatingPointError: names the loss terms (so the task) and the samples of the batch.
    """
    finite = torch.isfinite(torch.stack([term.detach().float() for term in losses.values()]))
    if not bool(finite.all()):
        bad = [name for name, good in zip(losses, finite.tolist(), strict=True) if not good]
        raise FloatingPointError(
            f'not finite: {", ".join(bad)}; samples: {", ".join(f.token for f in batch.frames)}'
        )


def flatten(raw: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{task: {name: tensor}} -> {'task.name': tensor}, the names of an engine's outputs."""
    return {f'{task}.{name}': tensor for task, outputs in raw.items() for name, tensor in outputs.items()}


def unflatten(raw: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Inverse of `flatten`."""
    nested: dict[str, dict[str, Tensor]] = {}
    for name, tensor in raw.items():
        task, _, output = name.partition('.')
        nested.setdefault(task, {})[output] = tensor
    return nested


def _check_names(argument: str, attribute: str, modules: dict[str, nn.Module]) -> None:
    if not modules:
        raise ValueError(f'{argument}: expected at least one entry, found none')
    for key, module in modules.items():
        if getattr(module, attribute, None) != key:
            raise ValueError(f'{argument}[{key!r}]: {type(module).__name__} serves the {attribute} '
                             f'{getattr(module, attribute, None)!r}, expected {key!r}')
