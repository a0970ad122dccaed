"""The network in pieces: one graph per sensor and one for fusion, trunk and heads, each its own ONNX file.

For cars that compute sensors on different chips, and for parity stage by stage: every stage gets the inputs
that torch computed, so that the first one whose outputs differ is the one to look into.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...bev.records import SensorFeature
from ...core.contracts import Batch
from ...core.files import write_json
from ...core.reading import read_json
from ...model import MultiTaskPerception, flatten_outputs
from ..engines import Engine, EngineUnavailable
from ..errors import ExportError
from ..export.graph import TensorSpec, fixed_shapes, graph_inputs, index_limits
from ..export.network import write_graph
from ..export.operators import walk
from ..export.sidecar import file_hash

FUSION = 'fusion'
STAGES_NAME = 'stages.json'
Arrays = dict[str, np.ndarray]


class SensorStage(nn.Module):
    """One sensor's graph inputs -> its BEV map `(B, C, Y, X)`."""

    def __init__(self, encoder: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder = encoder
        self.names = tuple(name.partition('.')[2] for name in names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        """The map, alone in a tuple."""
        return (self.encoder(**dict(zip(self.names, tensors, strict=True))).bev_BCYX,)


class FusionStage(nn.Module):
    """BEV maps '<sensor>.bev', flags '<sensor>.present' and 'memory.*' -> raw outputs by `output_names`."""

    def __init__(self, model: MultiTaskPerception, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.output_names: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs; `output_names` has their names afterwards."""
        inputs = dict(zip(self.names, tensors, strict=True))
        features = {sensor: SensorFeature(inputs[f'{sensor}.bev']) for sensor in self.model.encoders}
        raw = flatten_outputs(self.model.predict_raw(features, inputs))
        self.output_names = tuple(raw)
        return tuple(raw.values())


@dataclass(frozen=True)
class Stage:
    """One piece: `<name>.onnx` with its inputs and outputs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str

    @classmethod
    def from_dict(cls, values: dict) -> Stage:
        """Inverse of `as_dict`."""
        inputs, outputs = (tuple(map(TensorSpec.from_dict, values[kind])) for kind in ('inputs', 'outputs'))
        return cls(values['name'], inputs, outputs, values['sha256'])

    def as_dict(self) -> dict:
        """For `stages.json`."""
        return {
            'name': self.name,
            'sha256': self.sha256,
            'inputs': [spec.as_dict() for spec in self.inputs],
            'outputs': [spec.as_dict() for spec in self.outputs],
        }


@torch.no_grad()
def stage_values(model: MultiTaskPerception, inputs: Arrays) -> dict[str, tuple[Arrays, Arrays]]:
    """{stage: (its inputs, its outputs)} of one sample, computed by torch."""
    values: dict[str, tuple[Arrays, Arrays]] = {}
    with fixed_shapes(model):
        for sensor, encoder in model.encoders.items():
            sensor_inputs = {
                name: value
                for name, value in inputs.items()
                if name.startswith(f'{sensor}.') and name != f'{sensor}.present'
            }
            stage = SensorStage(encoder, list(sensor_inputs))
            (bev,) = stage(*map(torch.from_numpy, sensor_inputs.values()))
            values[sensor] = sensor_inputs, {f'{sensor}.bev': bev.numpy()}

        maps = {name: value for _, outputs in values.values() for name, value in outputs.items()}
        flags = {f'{sensor}.present': inputs[f'{sensor}.present'] for sensor in model.encoders}
        memory = {name: value for name, value in inputs.items() if name.startswith('memory.')}
        fusion_inputs = maps | flags | memory
        fusion = FusionStage(model, list(fusion_inputs))
        raw = fusion(*map(torch.from_numpy, fusion_inputs.values()))

    outputs = {name: value.numpy() for name, value in zip(fusion.output_names, raw, strict=True)}
    return values | {FUSION: (fusion_inputs, outputs)}


def export_stages(
    model: MultiTaskPerception, batch: Batch, folder: str | Path, opset: int = 18
) -> tuple[Stage, ...]:
    """Write one ONNX file a stage and `stages.json` into `folder`.

    Args:
        model: with its trained weights.
        batch: one sample, which fixes the shapes.
        folder: is made where it does not exist.
        opset: of the ONNX files.

    Raises:
        ExportError: a stage holds what an engine without plugins cannot.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = graph_inputs(model, batch)
    limits = index_limits(model, inputs)

    stages = []
    for name, (stage_inputs, stage_outputs) in stage_values(model, inputs).items():
        if name == FUSION:
            graph = FusionStage(model, list(stage_inputs))
        else:
            graph = SensorStage(model.encoders[name], list(stage_inputs))

        path = folder / f'{name}.onnx'
        with fixed_shapes(model):
            write_graph(graph.eval(), stage_inputs, list(stage_outputs), path, opset)
        violations = walk(path)
        if violations:
            raise ExportError(f'stage {name}: ' + '; '.join(map(str, violations[:10])))

        # an exporter drops inputs that nothing reads
        specs = tuple(TensorSpec.of(n, stage_inputs[n], limits.get(n)) for n in graph_input_names(path))
        outputs = tuple(TensorSpec.of(n, value) for n, value in stage_outputs.items())
        stages.append(Stage(name, specs, outputs, file_hash(path)))

    write_json(folder / STAGES_NAME, [stage.as_dict() for stage in stages], indent=1)
    return tuple(stages)


def graph_input_names(path: str | Path) -> list[str]:
    """The inputs a graph really has."""
    import onnx
    return [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]


def read_stages(folder: str | Path) -> tuple[Stage, ...]:
    """Read what `export_stages` wrote and check its files.

    Raises:
        FileNotFoundError: no stages there.
        ValueError: a damaged list, or a file that is not the one that was written.
    """
    path = Path(folder) / STAGES_NAME
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no stages here; tools/export.py --stages writes them')
    try:
        stages = tuple(map(Stage.from_dict, read_json(path)))
    except (KeyError, TypeError, ValueError) as error:
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
    """Open one stage in ONNX Runtime or OpenVINO.

    Raises:
        EngineUnavailable: another engine, or one that is not installed here.
    """
    network = Path(folder) / f'{stage.name}.onnx'
    if engine == 'onnxruntime':
        from ..engines.onnxruntime_engine import OnnxRuntimeEngine
        return OnnxRuntimeEngine(network, stage.inputs, stage.outputs, precision, **options)
    if engine == 'openvino':
        from ..engines.openvino_engine import OpenVinoEngine
        return OpenVinoEngine(network, stage.inputs, stage.outputs, precision, **options)
    raise EngineUnavailable(f'stages run in onnxruntime and openvino, found {engine!r}')
