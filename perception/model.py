"""The figure of the system: sensors -> bird's-eye view -> fusion -> (memory) -> trunk -> bridge -> tasks."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from .bev.base import SensorEncoder
from .bev.ops.norms import ModelNorms, still_unless_present
from .bev.ops.widths import set_widths
from .bev.records import SensorFeature
from .core.contracts import Annotations, Batch, TaskOutput
from .core.contracts.annotations import whole_annotations
from .core.contracts.finite import NotFiniteError, check_losses, not_finite
from .fusion.base import Fuser
from .fusion.memory.base import BEVMemory, add_to_first
from .fusion.memory.streams import Streams
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
        memory: what was seen before, behind the fuser; None sees one moment.
        data_preprocessor: moves a batch to the device and normalises images.
        norm_momentum: of every batch norm that has torch's default, for small batches (the first of them
            count as a plain mean); None leaves them.
        norm_by_sensors: batch norms behind the encoders keep statistics for each set of present sensors: for
            training with sensors missing.
        widths: {layer: channels} of the layers that are narrower than the parts above say (a pruned model).

    Raises:
        ValueError: a key is not what its module serves, a part is missing, an encoder reads a sensor that the
            model lacks, the fuser routes other tasks, or `widths` names what is not there.
    """

    def __init__(
        self,
        encoders: dict[str, SensorEncoder],
        fuser: Fuser,
        trunk: nn.Module,
        heads: dict[str, TaskHead],
        bridge: TaskBridge | None = None,
        memory: BEVMemory | None = None,
        data_preprocessor: BaseDataPreprocessor | dict | None = None,
        norm_momentum: float | None = None,
        norm_by_sensors: bool = False,
        widths: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        _check_keys('encoders', 'sensor', encoders)
        _check_keys('heads', 'task', heads)
        _check_sensors(encoders)
        if fuser.tasks and (set(fuser.tasks) != set(heads) or memory is not None):
            raise ValueError(
                f'fuser: expected maps for the tasks {tuple(heads)} and no memory, found {fuser.tasks}')
        # what a trunk passes on as it is, no motion is added to
        joined = trunk.out_channels - getattr(trunk, 'passed_channels', 0)
        if memory is not None and memory.motion_channels not in (0, joined):
            raise ValueError(
                f"memory.motion_channels: expected the trunk's {joined} or 0, found {memory.motion_channels}")
        _check_queries(heads, bridge)
        self.encoders = nn.ModuleDict(encoders)
        self.heads = nn.ModuleDict(heads)
        self.fuser = fuser
        self.trunk = trunk
        self.bridge = bridge
        self.memory = memory

        shared = [part for part in (fuser, memory, trunk, bridge, self.heads) if part is not None]
        self.norm_by_sensors = norm_by_sensors
        self.norms = ModelNorms(self, shared, len(encoders), norm_momentum, norm_by_sensors)
        set_widths(self, widths or {})

    # mmengine's word for the three uses of one network
    def forward(
        self,
        inputs: Batch | dict[str, Tensor],
        data_samples: Sequence[Annotations] | None = None,
        mode: str = 'tensor',
        targets: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor] | list[TaskOutput]:
        """Use the network in one of mmengine's three ways.

        Args:
            inputs: a batch; in the mode `tensor` also the graph inputs that `prepare` makes.
            data_samples: annotations of the batch, for `loss`; None for a sample without any label, which
                then costs nothing.
            mode: `loss`: named losses. `predict`: B `TaskOutput`s. `tensor`: raw outputs '<task>.<name>',
                exactly the exported graph.
            targets: of `loss`, by task, on the model's device, where a loader made them from these
                annotations; None makes them here.

        Raises:
            ValueError: unknown mode, or `loss` without annotations.
        """
        if mode == 'loss':
            return self.loss(inputs, whole_annotations(inputs.frames, data_samples), targets)
        if mode == 'predict':
            streams = self.recalled(inputs)
            raw = self.network(self.prepare(inputs, streams))
            self.remember(inputs, raw.get('memory', {}).get('map'), streams)
            return self.decode(raw, inputs)
        if mode == 'tensor':
            prepared = self.prepare(inputs) if isinstance(inputs, Batch) else inputs
            return flatten_outputs(self.network(prepared))
        raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', found {mode!r}")

    def prepare(self, batch: Batch, streams: Streams | None = None) -> dict[str, Tensor]:
        """Everything outside the graph: tables, pillars, presence -> graph inputs '<sensor>.<name>'.

        Args:
            batch: the samples.
            streams: what is remembered of their drives, for a model with a memory ('memory.<name>'); None:
                nothing.
        """
        inputs = {}
        for sensor, encoder in self.encoders.items():
            inputs |= {f'{sensor}.{name}': tensor for name, tensor in encoder.prepare(batch).items()}

        present = batch.present()
        inputs |= {f'{sensor}.present': present[sensor] for sensor in self.encoders}
        if self.memory is not None:
            recalled = [()] * len(batch) if streams is None else streams.recall(batch.frames)
            earlier = self.memory.prepare(recalled, batch.frames, next(iter(present.values())).device)
            inputs |= {f'memory.{name}': tensor for name, tensor in earlier.items()}
        return inputs

    def network(self, inputs: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Graph inputs -> raw outputs by task: the exported graph."""
        return self.predict_raw(self.encode(inputs), inputs)

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, SensorFeature]:
        """Each sensor -> its BEV map."""
        features = {}
        for sensor, encoder in self.encoders.items():
            tensors = _inputs_of(sensor, inputs)
            with still_unless_present(encoder, tensors.pop('present')):
                features[sensor] = encoder(**tensors)
        return features

    def fuse(
        self, features: dict[str, SensorFeature], inputs: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """BEV maps of the sensors, and what was seen before -> a map for each task.

        Returns:
            The maps; what to remember; and what comes to the trunk's map behind it.
        """
        present = {sensor: inputs[f'{sensor}.present'] for sensor in features}
        self.norms.note_sensors(list(present.values()), self.training)
        maps = self.fuser.fuse_by_task(features, present, tuple(self.heads))
        if self.memory is None:
            return maps, None, None

        fused, remembered, moved = self.memory(next(iter(maps.values())), **_inputs_of('memory', inputs))
        return dict.fromkeys(maps, fused), remembered, moved

    def predict_raw(
        self, features: dict[str, SensorFeature], inputs: dict[str, Tensor]
    ) -> dict[str, dict[str, Tensor]]:
        """BEV maps of the sensors -> fused maps -> raw outputs of every task, and the new 'memory.map'."""
        maps, remembered, moved = self.fuse(features, inputs)
        # a map that several tasks share goes through the trunk once
        whole = {key: self.trunk(bev) for key, bev in {id(bev): bev for bev in maps.values()}.items()}
        if moved is not None:
            whole = {key: add_to_first(bev, moved) for key, bev in whole.items()}
        branches = {task: whole[id(bev)] for task, bev in maps.items()}
        if self.bridge is not None:
            branches = self.bridge(branches)
        raw = {task: head(branches[task]) for task, head in self.heads.items()}

        # a bridge may predict, too, on its way: '<task>.<name>' beside the tasks' maps
        for key, prediction in branches.items():
            task, _, name = key.partition('.')
            if name:
                raw[task][name] = prediction
        return raw if remembered is None else {**raw, 'memory': {'map': remembered}}

    def recalled(self, batch: Batch) -> Streams | None:
        """What the model itself remembers: of the drives it follows, or of a batch of clips (`before`)."""
        if self.memory is None or not batch.before:
            return None if self.memory is None else self.memory.streams[self.training]

        clips = self.memory.new_clips()
        for earlier in batch.before:
            inputs = self.prepare(earlier, clips)
            clips.keep(earlier.frames, self.fuse(self.encode(inputs), inputs)[1])
        return clips

    def remember(self, batch: Batch, map_BCYX: Tensor | None, streams: Streams | None) -> None:
        """Keep the new memory of the drives that the model follows, without gradient."""
        if streams is not None and not batch.before:
            streams.keep(batch.frames, map_BCYX.detach())
            streams.only(batch.frames)

    def forget(self) -> None:
        """Start all drives over: the next frames have no memory."""
        for streams in self.memory.streams.values() if self.memory is not None else ():
            streams.forget()

    @contextmanager
    def memory_apart(self) -> Iterator[None]:
        """While it lasts, frames that come again have the past they had and leave the memory as it is.

        For further forwards of one batch (balancers that take a second step, say).
        """
        with ExitStack() as stack:
            for streams in self.memory.streams.values() if self.memory is not None else ():
                stack.enter_context(streams.apart())
            yield

    def loss(
        self, batch: Batch, annotations: Sequence[Annotations], targets: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Named loss terms 'loss/<task, sensor or network>/<term>'; mmengine sums them."""
        self.norms.pace()
        streams = self.recalled(batch)
        inputs = self.prepare(batch, streams)
        features = self.encode(inputs)
        raw = self.predict_raw(features, inputs)
        self.remember(batch, raw.pop('memory', {}).get('map'), streams)

        losses: dict[str, Tensor] = {}
        for sensor, encoder in self.encoders.items():
            if _is_trained(encoder):
                losses |= _named(sensor, encoder.loss(features[sensor], batch))

        if targets is None:
            device = next(iter(flatten_outputs(raw).values())).device
            targets = {task: head.targets(annotations, device) for task, head in self.heads.items()}
        for task, head in self.heads.items():
            losses |= _named(task, head.loss(raw[task], targets[task]))

        if self.bridge is not None:  # its terms say themselves which task they serve
            losses |= {f'loss/{name}': term for name, term in self.bridge.loss(raw, targets).items()}
        losses |= _named('network', self.extra_losses())

        check_losses(losses, [frame.token for frame in batch.frames])
        return losses

    def extra_losses(self) -> dict[str, Tensor]:
        """Losses of inner modules that have an `extra_losses() -> {name: term}`, added up by name.

        The load balance of experts, say.
        """
        total: dict[str, Tensor] = {}
        for module in self.modules():
            if module is not self and hasattr(module, 'extra_losses'):
                for name, term in module.extra_losses().items():
                    total[name] = total[name] + term if name in total else term
        return total

    def decode(
        self, raw: dict[str, dict[str, Tensor]], batch: Batch, mask: bool = False
    ) -> list[TaskOutput]:
        """Raw outputs -> one `TaskOutput` a sample, in ego metres.

        Args:
            raw: by task and name.
            batch: what they were computed from.
            mask: leave a task whose outputs are not finite out, and name it in `masked`, instead of raising.

        Raises:
            NotFiniteError: outputs hold NaN or infinite values; names them and the samples.
        """
        broken = not_finite(flatten_outputs(raw))
        if broken and not mask:
            tokens = ', '.join(frame.token for frame in batch.frames)
            raise NotFiniteError(f'network outputs are not finite: {", ".join(broken)}; samples: {tokens}')

        masked = tuple(task for task in self.heads if any(name.split('.')[0] == task for name in broken))
        predictions = {
            task: head.decode(raw[task]) for task, head in self.heads.items() if task not in masked}
        return [
            TaskOutput.of(frame, {task: predictions[task][b] for task in predictions}, masked)
            for b, frame in enumerate(batch.frames)
        ]


def flatten_outputs(raw: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{task: {name: tensor}} -> {'task.name': tensor}, the names of an engine's outputs."""
    return {f'{task}.{name}': tensor for task, outputs in raw.items() for name, tensor in outputs.items()}


def unflatten_outputs(raw: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Inverse of `flatten_outputs`."""
    nested: dict[str, dict[str, Tensor]] = {}
    for key, tensor in raw.items():
        task, _, name = key.partition('.')
        nested.setdefault(task, {})[name] = tensor
    return nested


def _inputs_of(sensor: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The graph inputs of one sensor, by the names its encoder knows."""
    prefix = f'{sensor}.'
    return {name.removeprefix(prefix): tensor for name, tensor in inputs.items() if name.startswith(prefix)}


def _is_trained(encoder: nn.Module) -> bool:
    """Whether an encoder has a weight that its own losses could reach."""
    return any(parameter.requires_grad for parameter in encoder.parameters())


def _named(owner: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f'loss/{owner}/{name}': term for name, term in terms.items()}


def _check_keys(argument: str, attribute: str, modules: dict[str, nn.Module]) -> None:
    if not modules:
        raise ValueError(f'{argument}: expected at least one entry, found none')
    for key, module in modules.items():
        served = getattr(module, attribute, None)
        if served != key:
            raise ValueError(
                f'{argument}[{key!r}]: {type(module).__name__} serves the {attribute} {served!r}, '
                f'expected {key!r}'
            )


def _check_sensors(encoders: Mapping[str, SensorEncoder]) -> None:
    """Without an encoder nobody loads a sensor: what reads it beside its own would see nothing, ever."""
    for sensor, encoder in encoders.items():
        lacking = [other for other in encoder.also_reads if other not in encoders]
        if lacking:
            raise ValueError(
                f'encoders[{sensor!r}]: {type(encoder).__name__} reads the {lacking[0]} too (of cameras: '
                f'depth.lidar_strides), expected an encoder of it in the model, found {tuple(encoders)}')


def _check_queries(heads: Mapping[str, TaskHead], bridge: TaskBridge | None) -> None:
    """Heads that read queries need a bridge that hands them over, the others one that does not."""
    given = () if bridge is None else bridge.query_tasks
    for task, head in heads.items():
        if getattr(head, 'reads_queries', False) != (task in given):
            read, found = ('queries', 'a map') if task not in given else ('a map', 'queries')
            raise ValueError(
                f'heads[{task!r}]: {type(head).__name__} reads {read}, but gets {found}; a bridge '
                f'(M3NetBridge) hands queries to the tasks of its query_heads, here {tuple(given)}')
