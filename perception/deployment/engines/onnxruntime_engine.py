"""ONNX Runtime: CPU everywhere, CUDA, TensorRT and TensorRT-RTX providers where they are installed."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineUnavailable
from ..export.graph import TensorSpec
from ..export.half import file_precision
from .base import Engine
from .providers import open_session_on

_DTYPES = {
    'tensor(float)': 'float32', 'tensor(int64)': 'int64', 'tensor(int32)': 'int32', 'tensor(bool)': 'bool',
    'tensor(uint8)': 'uint8'}


class OnnxRuntimeEngine(Engine):
    """One session on one execution provider.

    Args:
        network: the ONNX file.
        inputs, outputs: specs of the graph.
        precision: 'fp32', or 'fp16' or 'int8' for a network that holds it already.
        provider: of `PROVIDERS`: 'cpu', 'cuda', 'tensorrt' or 'tensorrt_rtx'.
        threads: 0 leaves the choice to the runtime.
        dropped: see `Engine`.

    Raises:
        EngineUnavailable: not installed, or without that provider.
        ValueError: an unknown provider, or the file is not a readable network.
    """

    name = 'onnxruntime'

    def __init__(
        self,
        network: str | Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: str = 'fp32',
        provider: str = 'cpu',
        threads: int = 0,
        dropped: Sequence[str] = (),
    ) -> None:
        super().__init__(inputs, outputs, precision, dropped)
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise EngineUnavailable('onnxruntime is not installed: pip install onnxruntime') from error

        if precision == 'bf16':
            raise EngineUnavailable(
                f'onnxruntime runs the network as it is (fp32, fp16 or int8), found {precision!r}'
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if precision == 'fp16' and (held := file_precision(network)) != 'fp16':
            raise EngineUnavailable(
                f'{network}: onnxruntime takes the precision from the network, which holds {held}, found '
                f'{precision!r}'
            )
        self.session = open_session_on(ort, provider, str(network), options)
        self.check_network(
            str(network), _tensors(self.session.get_inputs()), _tensors(self.session.get_outputs())
        )

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self.session.run(names, inputs), strict=True))


def _tensors(values: Sequence[Any]) -> dict[str, tuple]:
    """{name: (shape, type)} of a session's inputs or outputs; types are said as 'tensor(float)'."""
    return {value.name: (value.shape, _DTYPES.get(value.type, value.type)) for value in values}
