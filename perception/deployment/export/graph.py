"""The exported graph: a model's `tensor` mode with positional, named inputs and outputs of fixed shapes."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ...core.contracts import Batch
from ...model import MultiTaskPerception, flatten_outputs
from ..errors import EngineInputError
from ..preprocess import normalised

LARGEST = 1e6
"""Of a floating-point input: no sensor measures more, and no network was trained with it."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: such as 'camera.images'.
        shape: fixed.
        dtype: numpy's name of the type.
        high: the largest value of an index (the least is 0); None for what is no index.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int | None = None

    @classmethod
    def of(cls, name: str, value: Tensor | np.ndarray, high: int | None = None) -> TensorSpec:
        """The spec of a tensor."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        return cls(name, tuple(array.shape), str(array.dtype), high)

    @classmethod
    def from_dict(cls, values: dict) -> TensorSpec:
        """Inverse of `as_dict`."""
        return cls(values['name'], tuple(values['shape']), values['dtype'], values.get('high'))

    def as_dict(self) -> dict:
        """For the sidecar."""
        return asdict(self) | {'shape': list(self.shape)}


class ExportGraph(nn.Module):
    """The network with positional inputs, as exporters need it.

    Attributes:
        input_names: in the order of the inputs.
        output_names: in the order of the outputs, known after the first call.
    """

    def __init__(self, model: MultiTaskPerception, input_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.input_names = tuple(input_names)
        self.output_names: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The raw outputs of all tasks."""
        raw = flatten_outputs(self.model.network(dict(zip(self.input_names, tensors, strict=True))))
        self.output_names = tuple(raw)
        return tuple(raw.values())


@contextmanager
def fixed_shapes(model: MultiTaskPerception) -> Iterator[None]:
    """Evaluation mode, and encoders that pad their inputs to fixed sizes, as engines need them."""
    encoders = [encoder for encoder in model.encoders.values() if hasattr(encoder, 'static')]
    before = [encoder.static for encoder in encoders]
    training = model.training

    try:
        # only where it is needed: going through all modules takes as long as making the pillars
        if training:
            model.eval()
        for encoder in encoders:
            encoder.static = True
        yield
    finally:
        if training:
            model.train()
        for encoder, value in zip(encoders, before, strict=True):
            encoder.static = value


@torch.no_grad()
def graph_inputs(model: MultiTaskPerception, batch: Batch) -> dict[str, np.ndarray]:
    """A batch of one sample -> the graph's named inputs, as arrays of fixed shapes.

    Raises:
        ValueError: the batch holds more than one sample.
    """
    if len(batch) != 1:
        raise ValueError(f'an engine takes one sample at a time, found a batch of {len(batch)}')
    with fixed_shapes(model):
        prepared = model.prepare(normalised(batch, model.data_preprocessor))
    return {name: tensor.contiguous().cpu().numpy() for name, tensor in prepared.items()}


def cut_clouds(model: MultiTaskPerception) -> dict[str, int]:
    """{sensor: how many of its clouds had more pillars or points than the fixed sizes so far}."""
    cut = {sensor: getattr(encoder, 'cut_batches', 0) for sensor, encoder in model.encoders.items()}
    return {sensor: count for sensor, count in cut.items() if count}


def describe_cuts(model: MultiTaskPerception) -> list[str]:
    """A line for each sensor whose clouds were cut, with what to change; none where all of them fitted."""
    return [f'{sensor}: {model.encoders[sensor].describe_cuts()}' for sensor in cut_clouds(model)]


def index_limits(model: MultiTaskPerception, inputs: dict[str, np.ndarray]) -> dict[str, int]:
    """{input: largest index it may hold}; an index beyond it would read foreign memory."""
    limits = {}
    for sensor, encoder in model.encoders.items():
        shape = {name.removeprefix(f'{sensor}.'): value.shape for name, value in inputs.items()}

        # camera: pixels of all feature maps, and their depth bins
        if 'pixel_index' in shape:
            _, cameras, _, *image_hw = shape['images']
            height, width = encoder.feature_hw(tuple(image_hw))
            limits[f'{sensor}.pixel_index'] = cameras * height * width
            limits[f'{sensor}.depth_index'] = cameras * height * width * encoder.depth_bins.count

        # voxels: cells of the whole map, and one more for padding
        if 'voxel_cells' in shape:
            limits[f'{sensor}.voxel_cells'] = prod(encoder.shape_ZYX)

        # lidar and radar: rows of points, and pillars with one more for empty cells
        if 'slot_map' in shape:
            limits[f'{sensor}.pillar_points'] = shape['points'][0] - 1
            limits[f'{sensor}.slot_map'] = shape['pillar_points'][0]
    return limits


def check_inputs(specs: Sequence[TensorSpec], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs in the order of the specs, or an error that says which one is wrong.

    Raises:
        EngineInputError: a name is missing or unknown, a shape or type differs, a float is NaN, infinite or
        beyond `LARGEST`, an index is outside what the graph reads (tables of another calibration or grid).
    """
    names = {spec.name for spec in specs}
    missing, unknown = sorted(names - set(inputs)), sorted(set(inputs) - names)
    if missing or unknown:
        raise EngineInputError(
            f'engine inputs: missing {missing}, unknown {unknown}; expected {sorted(names)}'
        )
    for spec in specs:
        _check_input(spec, inputs[spec.name])
    return {spec.name: inputs[spec.name] for spec in specs}


def _check_input(spec: TensorSpec, value: np.ndarray) -> None:
    if not isinstance(value, np.ndarray):
        raise EngineInputError(
            f'engine input {spec.name}: expected a numpy array, found {type(value).__name__}'
        )
    if tuple(value.shape) != spec.shape:
        raise EngineInputError(
            f'engine input {spec.name}: expected shape {spec.shape}, found {tuple(value.shape)}'
        )
    if str(value.dtype) != spec.dtype:
        raise EngineInputError(f'engine input {spec.name}: expected {spec.dtype}, found {value.dtype}')

    if value.dtype.kind == 'f' and not _all_small(value):
        _refuse_values(spec.name, value)
    if spec.high is not None and value.size and (value.min() < 0 or value.max() > spec.high):
        raise EngineInputError(
            f'engine input {spec.name}: expected indices 0 to {spec.high}, found {value.min()} to '
            f'{value.max()}; were its tables made for another calibration, image size or grid?'
        )


def _all_small(value: np.ndarray) -> bool:
    """Whether every value is finite and at most `LARGEST`.

    A sum of squares proves it in one pass; only where it cannot, the values are looked at.
    """
    flat = value.reshape(-1)
    with np.errstate(over='ignore', invalid='ignore'):
        return bool(np.dot(flat, flat) <= LARGEST**2) or bool((np.abs(flat) <= LARGEST).all())


def _refuse_values(name: str, value: np.ndarray) -> None:
    if not np.isfinite(value).all():
        raise EngineInputError(f'engine input {name}: holds NaN or infinite values')
    raise EngineInputError(
        f'engine input {name}: expected values from -{LARGEST:g} to {LARGEST:g} (metres, seconds, '
        f'normalised pixels), found {value.min():g} to {value.max():g}'
    )
