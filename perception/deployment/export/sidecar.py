"""The sidecar: one JSON file beside an exported network, with everything that a runtime needs to use it."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.contracts import DetectionClasses
from ...core.files import finite, write_json
from ...core.protocols import ATTRIBUTES
from ...core.registered import FOREIGN_SCOPES, check_registered
from ...registry import MODELS, task_classes
from .fields import check_fields
from .graph import TensorSpec
from .measured import KEPT, check_measured, int8_of

SCHEMA, VERSION = 'perception-engine', 1
SIDECAR_NAME, NETWORK_NAME = 'sidecar.json', 'network.onnx'
MOST_BYTES = 16 << 20
_FRAME = 'ego at LiDAR time: x forward, y left, z up, metres; origin on the ground below the rear axle'
_UNITS = {
    'camera.images': 'normalised RGB, (B, N, 3, H, W)',
    'camera.pixel_index': 'flat index into N*h*w, last = none, (B, V, S)',
    'camera.depth_index': 'flat index into N*h*w*D, (B, V, S)',
    'camera.far_weight': 'weight of the farther of two neighbouring depth bins, 0..1',
    'camera.pixel_weight': 'weight of a pixel among those read of its camera, 0..1, (B, V, S)',
    'camera.calibration': 'K in image sizes and ego_T_cam, their first rows, (B, N, 18)',
    'camera.lidar_depth': 'metres to the nearest LiDAR point in each pixel, 0 = none, (B, N, H, W)',
    'lidar.points': 'decorated points, metres and 0..1', 'lidar.pillar_points': 'rows of points per pillar',
    'lidar.voxels': 'means of points: x, y, z (m), intensity 0..255, time lag (s)',
    'lidar.voxel_cells': 'flat index into Z*Y*X, last = none',
    'lidar.slot_map': 'pillar of each cell, last = empty', 'camera.present': 'bool per sample',
    'lidar.present': 'bool per sample', 'radar.present': 'bool per sample',
    'memory.maps': "outputs memory.map of earlier frames, newest first, (B, K, C, Y, X); zeros if absent",
    'memory.grid': 'where each cell lay in each earlier map, -1..1 from border to border, (B, K, Y, X, 2)',
    'memory.present': 'bool (B, K): which earlier maps there are, the newest first',
    'memory.age': 'seconds since each earlier map, (B, K)'}


@dataclass(frozen=True)
class Sidecar:
    """What travels with a network.

    Attributes:
        model_config: the model part of the configuration, plain values only.
        data_config: how samples are read and prepared.
        inputs, outputs: specs of the graph.
        config_hash, weights_hash, network_hash: sha256 of what the network was made from and of its file. In
            the file stands one over all other fields, too.
        opset: of the network.
        dropped_inputs: what `prepare` makes but nothing in the graph reads.
        measured: scores and latencies, filled in when asked for (`with_rows`).
        half: the network in half precision: its file, hash, islands and error; None where there is none.
    """

    model_config: dict[str, Any]
    data_config: dict[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config_hash: str
    weights_hash: str
    network_hash: str
    opset: int
    dropped_inputs: tuple[str, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    half: dict[str, Any] | None = None

    def write(self, folder: str | Path) -> Path:
        """Write `sidecar.json` into `folder` under a temporary name, then rename it."""
        inputs = [spec.as_dict() | {'meaning': _UNITS.get(spec.name, '')} for spec in self.inputs]
        outputs = [spec.as_dict() for spec in self.outputs]

        content = {
            'schema': SCHEMA,
            'version': VERSION,
            'network': NETWORK_NAME,
            'opset': self.opset,
            'inputs': inputs,
            'outputs': outputs,
            'classes': classes_of(self.model_config),
            'frame': _FRAME,
            'model_config': self.model_config,
            'data_config': self.data_config,
            'config_hash': self.config_hash,
            'weights_hash': self.weights_hash,
            'network_hash': self.network_hash,
            'dropped_inputs': list(self.dropped_inputs),
            'measured': self.measured,
            'half': self.half,
        }
        content['sidecar_hash'] = config_hash(content)
        return write_json(Path(folder) / SIDECAR_NAME, content, indent=1)

    @classmethod
    def read(cls, folder: str | Path, verify: bool = True) -> Sidecar:
        """Read the sidecar of a folder and check that the network beside it is the one it was written for.

        Args:
            folder: of the export.
            verify: check the network.

        Raises:
            FileNotFoundError: no sidecar or no network.
            ValueError: another schema or version, a field that is missing or cannot be true, a model that
                names what is not registered, a sidecar that was changed since it was written, or a network
                whose hash differs (changed, truncated, or of another export).
        """
        path = Path(folder) / SIDECAR_NAME
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such sidecar; tools/export.py writes it')
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f'{path}: expected at most {MOST_BYTES} bytes, found {path.stat().st_size}')
        try:
            sidecar = cls._from_content(json.loads(path.read_text(encoding='utf-8')))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f'{path}: not a complete sidecar ({type(error).__name__}: {error})') from error
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error

        if verify:
            sidecar.check_network(Path(folder) / NETWORK_NAME)
        return sidecar

    @classmethod
    def _from_content(cls, content: Any) -> Sidecar:
        check_fields(content)
        schema, version = content.get('schema'), content.get('version')
        if (schema, version) != (SCHEMA, VERSION):
            raise ValueError(f'expected {SCHEMA} version {VERSION}, found {schema} version {version}')
        check_registered(content['model_config'], MODELS, 'model_config', FOREIGN_SCOPES, look_up=False)
        _check_hashes(content)

        names = ('model_config', 'data_config', 'config_hash', 'weights_hash', 'network_hash', 'opset')
        return cls(
            inputs=tuple(map(TensorSpec.from_dict, content['inputs'])),
            outputs=tuple(map(TensorSpec.from_dict, content['outputs'])),
            dropped_inputs=tuple(content['dropped_inputs']),
            measured=content['measured'],
            half=content.get('half'),
            **{name: content[name] for name in names},
        )

    def with_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> Sidecar:
        """The sidecar with measured engines besides those it knows.

        Args:
            rows: of `table.fill_table`; engines that are not available are left out.

        Raises:
            ValueError: a row has a value that is not valid.
        """
        new = {
            key: {name: row[name] for name in KEPT if name in row}
            for key, row in rows.items()
            if not row.get('reason')
        }
        measured = {**self.measured, 'engines': {**self.measured.get('engines', {}), **finite(new)}}
        check_measured(measured)
        return replace(self, measured=measured)

    def with_int8(self, engine: str, record: Mapping[str, Any]) -> Sidecar:
        """The sidecar with the quantised network of an engine.

        What was measured of the network that it replaces is left out.

        Args:
            engine: of `measured.INT8_NAMES`.
            record: what the sidecar says about the network.

        Raises:
            ValueError: the record has a value that is not valid.
        """
        measured = {**self.measured, 'int8': {**self.measured.get('int8', {}), engine: dict(record)}}
        check_measured(measured)
        measured['engines'] = {
            key: row
            for key, row in measured.get('engines', {}).items()
            if not (key.endswith(' int8') and int8_of(measured, key.split()[0])[0] == engine)
        }
        return replace(self, measured=measured)

    def with_half(self, record: Mapping[str, Any]) -> Sidecar:
        """The sidecar with a network in half precision; what was measured of an earlier one is left out."""
        engines = {
            key: row for key, row in self.measured.get('engines', {}).items()
            if not key.endswith(('onnxruntime fp16', 'tensorrt fp16'))}
        measured = {**self.measured, 'engines': engines} if engines else dict(self.measured)
        return replace(self, half=dict(record), measured=measured)

    def check_weights(self, model: nn.Module, source: str) -> None:
        """Raise ValueError unless `model` has the very weights that were exported, from `source`."""
        found = weights_hash(model)
        if found != self.weights_hash:
            raise ValueError(
                f'{source}: the export was made from weights with sha256 {self.weights_hash[:12]}..., these '
                f'are {found[:12]}...; export this checkpoint, or give the one that was exported'
            )

    def check_network(self, path: Path) -> None:
        """Raise unless `path` is the very network this sidecar was written for."""
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such network')
        found = file_hash(path)
        if found != self.network_hash:
            raise ValueError(
                f'{path}: expected the network with sha256 {self.network_hash[:12]}..., found '
                f'{found[:12]}... (truncated, changed, or of another export)'
            )


def _check_hashes(content: dict[str, Any]) -> None:
    """A sidecar is what was written, of the configuration that was exported, and for the classes of today."""
    found = config_hash({key: value for key, value in content.items() if key != 'sidecar_hash'})
    if found != content['sidecar_hash']:
        raise ValueError(
            f'sidecar_hash: expected {content["sidecar_hash"][:12]}..., found {found[:12]}... over the other '
            'fields: the sidecar was changed since it was written; export again'
        )

    ours = {task: list(names) for task, names in classes_of(content['model_config']).items()}
    for task, names in content['classes'].items():
        if names != ours.get(task, names):
            raise ValueError(f'classes.{task}: expected {ours[task]}, found {names}')


def classes_of(model_config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """{task: names of its classes, in the order of the labels}, and the attributes of boxes.

    Raises:
        ValueError: the classes of the detection head are not valid.
    """
    heads = model_config.get('heads')
    head = heads.get('detection') if isinstance(heads, Mapping) else None
    given = head.get('classes') if isinstance(head, Mapping) else None
    detection = DetectionClasses.of(given, 'model_config.heads.detection.classes').names
    return {**task_classes(), 'detection': detection, 'attributes': ATTRIBUTES}


def file_hash(path: str | Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def config_hash(config: dict[str, Any]) -> str:
    """sha256 of a configuration of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def weights_hash(model: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f'{name}{tuple(value.shape)}{value.dtype}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
