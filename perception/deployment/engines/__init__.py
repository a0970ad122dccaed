"""Every runtime behind one interface; `open_engine` finds the right one or says why there is none."""
from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineUnavailable
from ..export.fields import HALF_NAME
from ..export.measured import ENGINE_NAMES as ENGINES
from ..export.measured import int8_of
from ..export.parts import network_parts
from ..export.sidecar import NETWORK_NAME, SIDECAR_NAME, Sidecar, file_hash
from ..processor import weight_bits as usable_weight_bits
from .base import PRECISIONS, Engine
from .choices import device_options

if TYPE_CHECKING:
    from ...model import MultiTaskPerception

INT8_NAME = 'network.int8.onnx'


def int8_name(engine: str, kind: str = 'onnx') -> str:
    """Name of the quantised network of one engine; that of 'any' serves all that have none of their own."""
    return f'network.int8.{kind}' if engine == 'any' else f'network.{engine}.int8.{kind}'


def open_engine(
    name: str,
    folder: str | Path,
    precision: str = 'fp32',
    model: MultiTaskPerception | None = None,
    device: str | None = None,
    **options: object,
) -> Engine:
    """Open the network of an export folder in one runtime.

    Args:
        name: of `ENGINES`.
        folder: what `tools/export.py` wrote.
        precision: of `PRECISIONS`.
        model: needed by 'torch' alone.
        device: where it runs, of `choices.DEVICES` (default: a processor; TensorRT on its GPU).
        options: of that engine's constructor (threads, mode, cache ...).

    Raises:
        EngineUnavailable: the runtime or the precision is not available here, and how to get it.
        ValueError, FileNotFoundError: unknown name or device, or files that do not belong together.

    Warns:
        UserWarning: the quantised network was scored in another engine, or its weights have more bits than
            this processor can use.
    """
    if name not in ENGINES:
        raise ValueError(f'engine: expected one of {ENGINES}, found {name!r}')
    if device is not None:
        options |= device_options(name, device)
    sidecar = Sidecar.read(folder)
    network = network_files(folder, name, precision)[0]
    if precision == 'int8':
        place = str(options.get('provider', options.get('device', 'cpu'))).lower()
        on_processor = name in ('onnxruntime', 'openvino') and place in ('cpu', 'auto')
        for reason in _doubts(sidecar, name, on_processor):
            warnings.warn(f'{network}: {reason}', stacklevel=2)
    return open_network(name, network, sidecar, precision, model, **options)


def _doubts(sidecar: Sidecar, name: str, on_processor: bool) -> list[str]:
    """Why a quantised network may score less here than the sidecar says."""
    record = int8_of(sidecar.measured, name)[1]
    if record is None:
        return []

    remedy = f'tools/export.py --int8 --int8-engine {name}'
    doubts = []
    if record['judged_in'] != name:
        doubts.append(
            f'its scores were measured in {record["judged_in"]}, not in {name}; {remedy} makes a network for '
            f'{name} and scores it there'
        )

    # networks from before the sidecar said it have 8 bits
    bits = record.get('weight_bits', 8)
    if on_processor and bits > usable_weight_bits():
        doubts.append(
            f'its weights have {bits} bits, and int8 products of them saturate on this processor, which has '
            f'no VNNI; {remedy} on this machine makes a network with 7'
        )
    return doubts


def open_network(
    name: str,
    network: Path,
    sidecar: Sidecar,
    precision: str,
    model: MultiTaskPerception | None = None,
    **options: Any,
) -> Engine:
    """Open one network file, whose inputs and outputs are those of the sidecar.

    Arguments and errors are those of `open_engine`.
    """
    specs = (sidecar.inputs, sidecar.outputs)
    common = {'precision': precision, 'dropped': sidecar.dropped_inputs, **options}

    if name == 'torch':
        from .torch_engine import TorchEngine
        if model is None:
            raise EngineUnavailable(
                "engine 'torch' needs the model and its checkpoint; the exported network alone is not enough"
            )
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
    """List the files that an engine reads its network from; the first is the one to open.

    Quantised networks lie beside the exported one: `network.<engine>.int8.xml` or `.onnx` for one runtime
    alone, else `network.int8.onnx` for every one. The sidecar says which, and what they hold; one it does not
    know (written by hand) is found by its name.

    The network in half precision is a file of its own for runtimes that take the precision from it.

    Raises:
        EngineUnavailable: int8 or fp16 is asked for and the folder holds no such network.
        ValueError: such a network is not the one that the sidecar describes.
    """
    folder = Path(folder)
    if precision == 'fp16' and name in ('onnxruntime', 'tensorrt'):
        return [_half_network(folder, name)]
    if precision != 'int8':
        return [folder / NETWORK_NAME]
    measured = Sidecar.read(folder, verify=False).measured if (folder / SIDECAR_NAME).is_file() else {}
    owner, record = int8_of(measured, name)
    if record is not None:
        return _recorded_files(folder, owner, record)

    for file in (int8_name(name, 'xml'), int8_name(name), INT8_NAME):
        if (folder / file).is_file():
            return network_parts(folder / file)
    raise EngineUnavailable(
        f'{folder}: no quantised network here for {name}; tools/export.py --int8 --int8-engine {name} writes '
        f'it (or --int8-engine any, scored in ONNX Runtime, where {name} is not installed)'
    )


def _half_network(folder: Path, name: str) -> Path:
    """The network in half precision; TensorRT before 11 can make it of the exported one itself."""
    record = Sidecar.read(folder, verify=False).half
    if record is None and name == 'tensorrt':
        return folder / NETWORK_NAME
    if record is None:
        raise EngineUnavailable(
            f'{folder}: no network in half precision here, which {name} needs for fp16; tools/export.py '
            f'writes {HALF_NAME}'
        )

    path = folder / record['file']
    found = file_hash(path) if path.is_file() else 'no such file'
    if found != record['hash']:
        raise ValueError(
            f'{path}: expected the network with sha256 {record["hash"][:12]}... (half of '
            f'{folder / SIDECAR_NAME}), found {found[:12]}; export again'
        )
    return path


def _recorded_files(folder: Path, owner: str, record: Mapping[str, Any]) -> list[Path]:
    """The files of a quantised network, unless they are gone or changed."""
    files = network_parts(folder / record['file'])
    where = f'measured.int8.{owner} of {folder / SIDECAR_NAME}'
    for file in files:
        if not file.is_file():
            raise ValueError(
                f'{file}: expected the quantised network of {where}, found no such file; quantise again'
            )
        expected, found = record['hashes'].get(file.name), file_hash(file)
        if expected is not None and expected != found:
            raise ValueError(
                f'{file}: expected the quantised network with sha256 {expected[:12]}... ({where}), found '
                f'{found[:12]}... (truncated, changed, or of another export); quantise again'
            )
    return files


__all__ = [
    'ENGINES', 'INT8_NAME', 'PRECISIONS', 'Engine', 'EngineUnavailable', 'int8_name', 'network_files',
    'open_engine', 'open_network']
