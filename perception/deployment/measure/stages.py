"""The network in pieces: one graph per sensor and one for fusion, trunk and heads, each its own ONNX file.

For cars that compute sensors on different chips, and for parity stage by stage: every stage gets the
reference's own inputs, so the first one whose answers differ is the one to look into.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...bev.records import SensorFeature
from ...core.contracts import Batch
from ...core.files import write_json
from ...model import MultiTaskPerception, flatten_outputs
from ..engines import Engine, EngineUnavailable
from ..errors import ExportError
from ..export.graph import TensorSpec, fixed_shapes, graph_inputs, index_limits
from ..export.operators import walk
from ..export.sidecar import file_hash
from .compare import Difference, difference

FUSION = 'fusion'
STAGES_NAME = 'stages.json'
Arrays = dict[str, np.ndarray]


class SensorStage(nn.Module):
    """One sensor's graph inputs -> its BEV map `(B, C, Y, X)`."""

    def __init__(self, encoder: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, tuple(name.partition('.')[2] for name in names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        return (self.encoder(**dict(zip(self.names, tensors, strict=True))).bev_BCYX,)


class FusionStage(nn.Module):
    """BEV maps '<sensor>.bev' and flags '<sensor>.present' -> raw outputs, in the order of `output_names`."""

    def __init__(self, model: MultiTaskPerception, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.output_names = model, tuple(names), ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found = dict(zip(self.names, tensors, strict=True))
        features = {sensor: SensorFeature(found[f'{sensor}.bev']) for sensor in self.model.encoders}
        raw = flatten_outputs(self.model.predict_raw(features, found))
        self.output_names = tuple(raw)
        return tuple(raw.values())


@dataclass(frozen=True)
class Stage:
    """One piece: `<name>.onnx` with its inputs and outputs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str


@torch.no_grad()
def stage_values(model: MultiTaskPerception, inputs: Arrays) -> dict[str, tuple[Arrays, Arrays]]:
    """{stage: (its inputs, its outputs)} of one sample, computed by torch."""
    found: dict[str, tuple[Arrays, Arrays]] = {}
    with fixed_shapes(model):
        for sensor, encoder in model.encoders.items():
            own = {
                name: v
                for name, v in inputs.items()
                if name.startswith(f'{sensor}.') and name != f'{sensor}.present'
            }
            bev = SensorStage(encoder, list(own))(*map(torch.from_numpy, own.values()))[0]
            found[sensor] = own, {f'{sensor}.bev': bev.numpy()}
        fused = {name: value for _, outputs in found.values() for name, value in outputs.items()}
        fused |= {f'{sensor}.present': inputs[f'{sensor}.present'] for sensor in model.encoders}
        graph = FusionStage(model, list(fused))
        answers = graph(*map(torch.from_numpy, fused.values()))
    return found | {FUSION: (fused, {n: v.numpy() for n, v in zip(graph.output_names, answers, strict=True)})}


def export_stages(
    model: MultiTaskPerception, batch: Batch, folder: str | Path, opset: int = 18
) -> tuple[Stage, ...]:
    """Write one ONNX file a stage and `stages.json` into `folder`.

    Raises:
        ExportError: a stage holds what an engine without plugins cannot.
    """
    from ..export.network import write_graph
    folder, inputs = Path(folder), graph_inputs(model, batch)
    folder.mkdir(parents=True, exist_ok=True)
    limits, stages = index_limits(model, inputs), []
    for name, (given, expected) in stage_values(model, inputs).items():
        graph = (
            FusionStage(model, list(given))
            if name == FUSION
            else SensorStage(model.encoders[name], list(given))
        )
        path = folder / f'{name}.onnx'
        with fixed_shapes(model):
            write_graph(graph.eval(), given, list(expected), path, opset)
        violations = walk(path)
        if violations:
            raise ExportError(f'stage {name}: ' + '; '.join(map(str, violations[:10])))
        kept = graph_input_names(path)
        stages.append(Stage(name, tuple(TensorSpec.of(n, given[n], limits.get(n)) for n in kept),
                            tuple(TensorSpec.of(n, v) for n, v in expected.items()), file_hash(path)))
    write_json(
        folder / STAGES_NAME,
        [
            {
                'name': s.name, 'sha256': s.sha256, 'inputs': [i.as_dict() for i in s.inputs],
                'outputs': [o.as_dict() for o in s.outputs]}
            for s in stages
        ],
        indent=1,
    )
    return tuple(stages)


def graph_input_names(path: str | Path) -> list[str]:
    """The inputs a graph really has."""
    import onnx
    return [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]


def read_stages(folder: str | Path) -> tuple[Stage, ...]:
    """What `export_stages` wrote, files checked.

    Raises:
        FileNotFoundError: no stages there. ValueError: a damaged list, or a file that is not the one that was
        written.
    """
    path = Path(folder) / STAGES_NAME
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no stages here; tools/export.py --stages writes them')
    try:
        stages = tuple(
            Stage(
                s['name'], tuple(map(TensorSpec.from_dict, s['inputs'])),
                tuple(map(TensorSpec.from_dict, s['outputs'])), s['sha256'])
            for s in json.loads(path.read_text())
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f'{path}: not a complete list of stages ({type(error).__name__}: {error})'
        ) from error
    for stage in stages:
        network = Path(folder) / f'{stage.name}.onnx'
        if not network.is_file() or file_hash(network) != stage.sha256:
            raise ValueError(f'{network}: absent, truncated or of another export')
    return stages


def open_stage(
    folder: str | Path, stage: Stage, engine: str, precision: str = 'fp32', **options: object
) -> Engine:
    """One stage in ONNX Runtime or OpenVINO.

    Raises:
        EngineUnavailable: another engine, or one that is not to be had here.
    """
    network = Path(folder) / f'{stage.name}.onnx'
    if engine == 'onnxruntime':
        from ..engines.onnxruntime_engine import OnnxRuntimeEngine
        return OnnxRuntimeEngine(network, stage.inputs, stage.outputs, precision, **options)
    if engine == 'openvino':
        from ..engines.openvino_engine import OpenVinoEngine
        return OpenVinoEngine(network, stage.inputs, stage.outputs, precision, **options)
    raise EngineUnavailable(f'stages run in onnxruntime and openvino, found {engine!r}')


def compare_stages(model: MultiTaskPerception, folder: str | Path, samples: Sequence[Arrays], engine: str,
                   precision: str = 'fp32', **options: object) -> list[Difference]:
    """The worst difference of every stage's outputs over some samples, in the order of the data; names say
    'stage: tensor'."""
    stages = read_stages(folder)
    opened = {stage.name: open_stage(folder, stage, engine, precision, **options) for stage in stages}
    worst: dict[str, Difference] = {}
    for sample in samples:
        for stage, (given, expected) in stage_values(model, sample).items():
            wanted = {spec.name for spec in opened[stage].inputs}
            found = opened[stage].infer({name: value for name, value in given.items() if name in wanted})
            for name, value in expected.items():
                d = difference(f'{stage}: {name}', found[name], value)
                if d.name not in worst or not d.finite or d.relative > worst[d.name].relative:
                    worst[d.name] = d
    return list(worst.values())
