"""Every runtime behind one question. `open_engine` finds the right one and says why when there is none."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineUnavailable
from ..measured import ENGINE_NAMES as ENGINES
from ..sidecar import NETWORK_NAME, Sidecar
from .base import PRECISIONS, Engine

if TYPE_CHECKING:
    from ...model import MultiTaskPerception

INT8_NAME = 'network.int8.onnx'


def open_engine(name: str, folder: str | Path, precision: str = 'fp32', model: MultiTaskPerception | None = None,
                **options: object) -> Engine:
    """Open the network of an export folder in one runtime.

    Args:
        name: of `ENGINES`. folder: what `tools/export.py` wrote. model: needed by 'torch' alone.
        options: of that engine's constructor (threads, provider, mode, device ...).

    Raises:
        EngineUnavailable: the runtime or the precision is not to be had here, and how to get it.
        ValueError, FileNotFoundError: unknown name, or files that do not belong together.
    """
    sidecar = Sidecar.read(folder)
    network, specs = network_files(folder, name, precision)[0], (sidecar.inputs, sidecar.outputs)
    common = {'precision': precision, 'dropped': sidecar.dropped_inputs, **options}
    if name == 'torch':
        from .torch_engine import TorchEngine
        if model is None:
            raise EngineUnavailable("engine 'torch' needs the model and its checkpoint; the exported network alone is not enough")
        return TorchEngine(model, *specs, **common)
    if name == 'onnxruntime':
        from .onnxruntime_engine import OnnxRuntimeEngine
        return OnnxRuntimeEngine(network, *specs, **common)
    if name == 'openvino':
        from .openvino_engine import OpenVinoEngine
        return OpenVinoEngine(network, *specs, **common)
    if name == 'tensorrt':
        from .tensorrt_engine import TensorRtEngine
        return TensorRtEngine(network, *specs, **common)
    raise ValueError(f'engine: expected one of {ENGINES}, found {name!r}')


def network_files(folder: str | Path, name: str, precision: str) -> list[Path]:
    """The files that an engine reads its network from, the one to open first.

    Quantised networks lie beside the exported one: `network.<engine>.int8.xml` or `.onnx` for one runtime alone, else
    `network.int8.onnx` for every one.

    Raises:
        EngineUnavailable: int8 is asked for and the folder holds no quantised network.
    """
    if precision != 'int8':
        return [Path(folder) / NETWORK_NAME]
    folder = Path(folder)
    candidates = [[folder / f'network.{name}.int8.xml', folder / f'network.{name}.int8.bin'],
                  [folder / f'network.{name}.int8.onnx'], [folder / INT8_NAME]]
    for files in candidates:
        if files[0].is_file():
            return files
    raise EngineUnavailable(f'{folder}: no quantised network here; tools/export.py --int8 writes it')


__all__ = ['ENGINES', 'INT8_NAME', 'PRECISIONS', 'Engine', 'EngineUnavailable', 'network_files', 'open_engine']
