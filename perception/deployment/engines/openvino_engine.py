"""OpenVINO: fp32, bf16 and (quantised networks) int8 on CPUs; Intel's GPUs and NPUs in what they have."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineUnavailable
from ..export.graph import TensorSpec
from .base import Engine

_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}
_CAPABILITIES = {'fp32': 'FP32', 'bf16': 'BF16', 'fp16': 'FP16'}


def hint_of(precision: str, capabilities: Sequence[str], device: str = 'CPU') -> str:
    """What float layers are computed in.

    Beside int8 layers that is bf16 on a processor that has it, half precision on GPUs and NPUs, else fp32.

    Args:
        precision: of the engine.
        capabilities: the device's own (OpenVINO's `OPTIMIZATION_CAPABILITIES`).
        device: OpenVINO's name of it.

    Raises:
        EngineUnavailable: the device does not compute in that precision.

    Warns:
        UserWarning: bf16 is asked of a processor that imitates it.
    """
    on_processor = device == 'CPU'
    if precision == 'int8':
        shorter = 'bf16' if on_processor else 'fp16'
        return _HINTS[shorter if _CAPABILITIES[shorter] in capabilities else 'fp32']

    if _CAPABILITIES[precision] in capabilities:
        return _HINTS[precision]
    if not (on_processor and precision == 'bf16'):
        raise EngineUnavailable(
            f'openvino computes in {sorted(capabilities)} on {device} here, found precision {precision!r}'
        )
    warnings.warn(
        'openvino: this processor has no bf16 instructions and imitates them, several times slower than '
        'fp32; use fp32, or int8 after tools/export.py --int8',
        stacklevel=3,
    )
    return _HINTS[precision]


class OpenVinoEngine(Engine):
    """One compiled network, tuned for the latency of one frame.

    Args:
        network: ONNX file (or OpenVINO .xml).
        inputs, outputs: specs of the graph.
        precision: what the device computes in; 'int8' expects a quantised network, `hint_of` says what the
            rest of it is computed in.
        threads: of a processor; 0 leaves the choice to the runtime.
        cache: folder for compiled networks.
        dropped: see `Engine`.
        device: 'CPU', 'GPU', 'NPU', one of several ('GPU.1'), or 'AUTO', which chooses among what is here.

    Raises:
        EngineUnavailable: not installed, no such device here, or one that cannot compute this network so.
        ValueError: the file is not a readable network.
    """

    name = 'openvino'

    def __init__(
        self,
        network: str | Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: str = 'bf16',
        threads: int = 0,
        cache: str | Path | None = None,
        dropped: Sequence[str] = (),
        device: str = 'CPU',
    ) -> None:
        super().__init__(inputs, outputs, precision, dropped)
        try:
            import openvino as ov
        except ImportError as error:
            raise EngineUnavailable('openvino is not installed: pip install openvino') from error

        core = ov.Core()
        _check_device(device, core.available_devices)
        hint = hint_of(precision, core.get_property(device, 'OPTIMIZATION_CAPABILITIES'), device)
        options = {'INFERENCE_PRECISION_HINT': hint, 'PERFORMANCE_HINT': 'LATENCY'}
        if threads and device == 'CPU':
            options['INFERENCE_NUM_THREADS'] = threads
        if cache:
            options['CACHE_DIR'] = str(cache)

        self.network = _compile(core, str(network), device, options)
        self.check_network(str(network), _tensors(self.network.inputs), _tensors(self.network.outputs))
        self.request = self.network.create_infer_request()

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = self.request.infer(inputs, share_inputs=True)
        by_name = {name: value for port, value in results.items() for name in port.get_names()}
        return {spec.name: np.array(by_name[spec.name]) for spec in self.outputs}


def _check_device(device: str, here: Sequence[str]) -> None:
    """Raise EngineUnavailable unless OpenVINO sees the device ('GPU' also stands for 'GPU.0')."""
    names = {'AUTO', *here, *(name.partition('.')[0] for name in here)}
    if device not in names:
        raise EngineUnavailable(
            f'openvino has no {device} here (it has {list(here)} and AUTO); GPU and NPU need an Intel device '
            'and its driver'
        )


def _compile(core: Any, network: str, device: str, options: dict[str, Any]) -> Any:
    """The network of a file, compiled for a device."""
    try:
        read = core.read_model(network)
    except Exception as error:
        raise ValueError(
            f'{network}: not a network OpenVINO can read: {str(error).splitlines()[0]}'
        ) from error

    try:
        return core.compile_model(read, device, options)
    except Exception as error:
        said = ' '.join(str(error).split())[:300]
        if device == 'CPU':
            raise ValueError(f'{network}: not a network OpenVINO can compile: {said}') from error
        raise EngineUnavailable(f'{network}: openvino cannot compile it for {device}: {said}') from error


def _tensors(ports: Sequence[Any]) -> dict[str, tuple]:
    """{name: (shape, numpy's name of the type)} of a compiled network's inputs or outputs."""
    return {
        port.get_any_name(): (port.get_partial_shape().to_shape(), port.get_element_type().to_dtype().name)
        for port in ports
    }
