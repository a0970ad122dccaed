"""torch itself as an engine: eager, compiled, or a CUDA graph on a GPU."""
from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch

from ...core.contracts import Batch
from ...model import MultiTaskPerception, flatten_outputs
from ..errors import EngineUnavailable
from ..export.graph import ExportGraph, TensorSpec, fixed_shapes, graph_inputs
from .base import Engine

_CAST = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class TorchEngine(Engine):
    """The model's own network.

    Args:
        model: with weights.
        inputs, outputs: specs of the graph.
        precision: fp32, bf16 or (GPU) fp16.
        mode: 'eager', 'compile' (torch.compile) or 'cuda_graph'.
        device: 'cpu' or 'cuda', where it runs a copy of the model, so that the caller's own stays where it is
            for preparing and decoding.
        dropped: see `Engine`.

    Raises:
        EngineUnavailable: a precision or mode that this machine cannot run.
    """

    name = 'torch'

    def __init__(
        self,
        model: MultiTaskPerception,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: str = 'fp32',
        mode: str = 'eager',
        device: str = 'cpu',
        dropped: Sequence[str] = (),
    ) -> None:
        super().__init__(inputs, outputs, precision, dropped)
        if precision not in _CAST or (precision == 'fp16' and device == 'cpu'):
            raise EngineUnavailable(
                f'torch on {device} runs fp32 and bf16 here, found {precision!r}; use onnxruntime, openvino '
                'or tensorrt for it'
            )
        if device != 'cpu' and not torch.cuda.is_available():
            raise EngineUnavailable(
                f'torch sees no GPU here (device {device!r} needs one, and a build of torch for CUDA)'
            )
        if mode not in ('eager', 'compile', 'cuda_graph') or (mode == 'cuda_graph' and device == 'cpu'):
            raise EngineUnavailable(
                f"mode: expected 'eager', 'compile' or (on a GPU) 'cuda_graph', found {mode!r} on {device}"
            )

        self.mode = mode
        self.device = torch.device(device)
        self.model = model if device == 'cpu' else deepcopy(model).to(self.device)
        self.graph = ExportGraph(self.model.eval(), [*(s.name for s in inputs), *dropped])
        self._dropped_values = tuple(torch.ones(1, dtype=torch.bool, device=self.device) for _ in dropped)
        self._call = torch.compile(self.graph) if mode == 'compile' else self.graph
        self._captured: tuple | None = None

    @classmethod
    def of_model(
        cls, model: MultiTaskPerception, batch: Batch, precision: str = 'fp32', device: str = 'cpu'
    ) -> TorchEngine:
        """The engine of a model that was not exported; a batch of one shows the shapes.

        Raises:
            EngineUnavailable: see the class.
        """
        arrays = graph_inputs(model, batch)
        with torch.no_grad(), fixed_shapes(model):
            raw = flatten_outputs(
                model.network({name: torch.from_numpy(value) for name, value in arrays.items()}))

        inputs, outputs = (
            [TensorSpec.of(name, value) for name, value in tensors.items()] for tensors in (arrays, raw))
        return cls(model, inputs, outputs, precision, device=device)

    @torch.no_grad()
    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = tuple(torch.from_numpy(value).to(self.device) for value in inputs.values())
        forward = self._replay if self.mode == 'cuda_graph' else self._forward
        with fixed_shapes(self.model):
            outputs = forward(tensors + self._dropped_values)
        return {
            spec.name: (value.float() if value.is_floating_point() else value).cpu().numpy()
            for spec, value in zip(self.outputs, outputs, strict=True)
        }

    def _forward(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        dtype = _CAST[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self._call(*tensors)

    def _replay(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Replay the recorded run with new inputs; the first call records it."""
        if self._captured is None:
            self._captured = self._capture(tensors)
        graph, inputs, outputs = self._captured
        for buffer, value in zip(inputs, tensors, strict=True):
            buffer.copy_(value)
        graph.replay()
        return outputs

    def _capture(self, tensors: tuple[torch.Tensor, ...]) -> tuple:
        """(graph, its input tensors, its output tensors) of a run."""
        inputs = tuple(tensor.clone() for tensor in tensors)

        # runs on a side stream first, as recording asks for
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._forward(inputs)
        torch.cuda.current_stream().wait_stream(stream)

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._forward(inputs)
        return graph, inputs, outputs
