"""TensorRT 10, 11 and later (8.6 tolerated) on an NVIDIA GPU.

An engine is built once for a network and a device, then read from a cache.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.files import write_bytes
from ..errors import EngineUnavailable
from ..export.fields import check_specs
from ..export.graph import TensorSpec
from ..export.half import file_precision
from ..export.sidecar import file_hash
from .base import Engine
from .tensorrt_build import BuildOptions, build, cache_key, parse_version


class TensorRtEngine(Engine):
    """One execution context, its inputs and outputs in GPU memory that torch owns.

    Args:
        network: the ONNX file.
        inputs, outputs: specs of the graph.
        precision: see `BuildOptions`.
        cache: folder of built engines and timing caches (default: beside the network).
        cuda_graph: record the run once and replay it.
        dropped: see `Engine`.
        report: gets a line when a build begins.
        build_options: the other fields of `BuildOptions`.

    Raises:
        EngineUnavailable: no library, no GPU, or a version that cannot do it.
        ValueError: the network cannot be read, or the engine has other tensors than the sidecar says.
    """

    name = 'tensorrt'

    def __init__(
        self,
        network: str | Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: str = 'fp16',
        cache: str | Path | None = None,
        cuda_graph: bool = True,
        dropped: Sequence[str] = (),
        report: Callable[[str], None] | None = print,
        **build_options: Any,
    ) -> None:
        super().__init__(inputs, outputs, precision, dropped)
        self.trt = import_tensorrt()
        options = BuildOptions(precision, file_precision(network), **build_options)
        self.device = torch.device('cuda', torch.cuda.current_device())

        folder = Path(cache or Path(network).parent / 'tensorrt')
        serialised = cached_engine(
            self.trt, Path(network), options, folder, torch.cuda.get_device_name(self.device), report)
        self._runtime = self.trt.Runtime(self.trt.Logger(self.trt.Logger.WARNING))
        self.engine = self._runtime.deserialize_cuda_engine(serialised)
        if self.engine is None:
            raise ValueError(
                f'{network}: TensorRT cannot read the engine kept in {folder}; remove it to build it again'
            )
        check_tensors(self.engine, self.inputs, self.outputs)

        # inputs and outputs stay where they are for every run, so that a recorded run can be replayed
        self.context = self.engine.create_execution_context()
        self.stream = torch.cuda.Stream(self.device)
        self._tensors = {
            spec.name: torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=self.device)
            for spec in (*self.inputs, *self.outputs)
        }
        for name, tensor in self._tensors.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        self.cuda_graph = cuda_graph
        self._recorded: torch.cuda.CUDAGraph | None = None

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.cuda.stream(self.stream):
            for name, value in inputs.items():
                self._tensors[name].copy_(torch.from_numpy(value), non_blocking=True)
            self._execute()
            outputs = {
                spec.name: self._tensors[spec.name].to('cpu', non_blocking=True) for spec in self.outputs
            }
        self.stream.synchronize()
        return {
            name: (value.float() if value.is_floating_point() else value).numpy()
            for name, value in outputs.items()
        }

    def _execute(self) -> None:
        if self._recorded is None:
            if not self.context.execute_async_v3(self.stream.cuda_stream):
                raise RuntimeError('TensorRT could not run the engine; its log above says why')
            # the first run set everything up; from the second on one launch replays all kernels
            if self.cuda_graph:
                self.stream.synchronize()
                self._recorded = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._recorded, stream=self.stream):
                    self.context.execute_async_v3(self.stream.cuda_stream)
            return
        self._recorded.replay()


def import_tensorrt() -> Any:
    """The library, or why it cannot be used here.

    Raises:
        EngineUnavailable: not installed, too old, or there is no NVIDIA GPU.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise EngineUnavailable(
            'tensorrt is not installed: pip install tensorrt (Linux or Windows with an NVIDIA GPU); on other '
            'machines use openvino or onnxruntime'
        ) from error
    parse_version(trt.__version__)
    if not torch.cuda.is_available():
        raise EngineUnavailable(
            'tensorrt is installed, but torch sees no NVIDIA GPU here (torch.cuda.is_available() is False)'
        )
    return trt


def cached_engine(
    trt: Any,
    network: Path,
    options: BuildOptions,
    folder: Path,
    device: str,
    report: Callable[[str], None] | None = None,
) -> bytes:
    """The serialised engine of a network: from the cache, or built and kept there.

    The timing cache of the device is kept beside it.
    """
    key = cache_key(file_hash(network), options, trt.__version__, device)
    path = folder / f'{key}.engine'
    if path.is_file():
        return path.read_bytes()

    folder.mkdir(parents=True, exist_ok=True)
    timings = folder / f'timing-{cache_key("", BuildOptions(), trt.__version__, device)}.cache'
    known_timings = timings.read_bytes() if timings.is_file() else b''
    serialised, timing_cache = build(trt, network, options, known_timings, report)
    write_bytes(path, serialised)
    write_bytes(timings, timing_cache)
    return serialised


def check_tensors(engine: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise ValueError unless the engine has exactly the named tensors, in the shapes the sidecar says."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {name: (engine.get_tensor_shape(name), None) for name in names}
    check_specs('the TensorRT engine', found, {spec.name: spec for spec in (*inputs, *outputs)})
