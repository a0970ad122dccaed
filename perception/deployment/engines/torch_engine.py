"""torch itself as an engine: eager, compiled, or a CUDA graph on a GPU."""
from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch

from ...model import MultiTaskPerception
from ..errors import EngineUnavailable
from ..export.graph import ExportGraph, TensorSpec, fixed_shapes
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
            and goes on preparing and decoding.

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
        self.mode, self.device = mode, torch.device(device)
        self.model = model if device == 'cpu' else deepcopy(model).to(self.device)
        self.graph = ExportGraph(self.model.eval(), [*(s.name for s in inputs), *dropped])
        self._dropped_values = tuple(torch.ones(1, dtype=torch.bool, device=self.device) for _ in dropped)
        self._call = torch.compile(self.graph) if mode == 'compile' else self.graph
        self._captured: tuple | None = None

    @torch.no_grad()
    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = tuple(torch.from_numpy(v).to(self.device) for v in inputs.values()) + self._dropped_values
        with fixed_shapes(self.model):
            found = self._replay(tensors) if self.mode == 'cuda_graph' else self._forward(tensors)
        return {spec.name: (v.float() if v.is_floating_point() else v).cpu().numpy()
                for spec, v in zip(self.outputs, found, strict=True)}

    def _forward(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        with torch.autocast(
            self.device.type, _CAST[self.precision], enabled=_CAST[self.precision] is not None
        ):
            return self._call(*tensors)

    def _replay(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if self._captured is None:
            fixed = tuple(t.clone() for t in tensors)
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._forward(fixed)
            torch.cuda.current_stream().wait_stream(stream)
            recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recorded):
                answers = self._forward(fixed)
            self._captured = (recorded, fixed, answers)
        recorded, fixed, answers = self._captured
        for place, value in zip(fixed, tensors, strict=True):
            place.copy_(value)
        recorded.replay()
        return answers
