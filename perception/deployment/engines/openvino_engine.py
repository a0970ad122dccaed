"""OpenVINO: fp32, bf16 and (quantised networks) int8 on CPUs."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineUnavailable
from ..export.graph import TensorSpec
from .base import Engine

_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'bf16'}


def hint_of(precision: str, capabilities: Sequence[str]) -> str:
    """What float layers are computed in; beside int8 layers bf16 only on a processor that has it.

    Other processors imitate bf16.

    Args:
        precision: of the engine.
        capabilities: the processor's own (OpenVINO's `OPTIMIZATION_CAPABILITIES`).

    Warns:
        UserWarning: bf16 is asked of a processor that imitates it.
    """
    if 'BF16' in capabilities:
        return _HINTS[precision]
    if precision == 'bf16':
        warnings.warn(
            'openvino: this processor has no bf16 instructions and imitates them, several times slower than '
            'fp32; use fp32, or int8 after tools/export.py --int8',
            stacklevel=3,
        )
    return 'f32' if precision == 'int8' else _HINTS[precision]


class OpenVinoEngine(Engine):
    """One compiled network, tuned for the latency of one frame.

    Args:
        network: ONNX file (or OpenVINO .xml).
        inputs, outputs: specs of the graph.
        precision: what the CPU computes in; 'int8' expects a quantised network and runs the rest of it in
            bf16, or in fp32 where the processor lacks bf16.
        threads: 0 leaves the choice to the runtime.
        cache: folder for compiled networks.
        dropped: see `Engine`.

    Raises:
        EngineUnavailable: not installed.
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
    ) -> None:
        super().__init__(inputs, outputs, precision, dropped)
        try:
            import openvino as ov
        except ImportError as error:
            raise EngineUnavailable('openvino is not installed: pip install openvino') from error

        core = ov.Core()
        hint = hint_of(precision, core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))
        options = {'INFERENCE_PRECISION_HINT': hint, 'PERFORMANCE_HINT': 'LATENCY'}
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        if cache:
            options['CACHE_DIR'] = str(cache)

        try:
            self.network = core.compile_model(core.read_model(str(network)), 'CPU', options)
        except Exception as error:
            raise ValueError(
                f'{network}: not a network OpenVINO can read: {str(error).splitlines()[0]}'
            ) from error
        self.check_network(str(network), _tensors(self.network.inputs), _tensors(self.network.outputs))
        self.request = self.network.create_infer_request()

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = self.request.infer(inputs, share_inputs=True)
        by_name = {name: value for port, value in results.items() for name in port.get_names()}
        return {spec.name: np.array(by_name[spec.name]) for spec in self.outputs}


def _tensors(ports: Sequence[Any]) -> dict[str, tuple]:
    """{name: (shape, numpy's name of the type)} of a compiled network's inputs or outputs."""
    return {
        port.get_any_name(): (port.get_partial_shape().to_shape(), port.get_element_type().to_dtype().name)
        for port in ports
    }
