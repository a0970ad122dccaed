"""Which devices an engine runs on, and which engines a benchmark measures.

'torch:fp32:compile,openvino:bf16' -> runtime, precision, variant.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..export.measured import PRECISION_NAMES as PRECISIONS
from .providers import PROVIDERS

DEVICES: dict[str, dict[str, dict[str, str]]] = {
    'torch': {'cpu': {}, 'cuda': {'device': 'cuda'}},
    'onnxruntime': {name: {'provider': name} for name in PROVIDERS},
    'openvino': {name: {'device': name.upper()} for name in ('cpu', 'gpu', 'npu', 'auto')},
    'tensorrt': {'cuda': {}},
}
"""{engine: {where it runs: options of its constructor}}; of ONNX Runtime that is its execution provider."""

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    engine: {'': {}, **{name: options for name, options in devices.items() if options and name != 'cpu'}}
    for engine, devices in DEVICES.items()
}
"""{engine: {variant: options of its constructor}}"""

VARIANTS['torch'] |= {
    'compile': {'mode': 'compile'}, 'cuda_compile': {'mode': 'compile', 'device': 'cuda'},
    'cuda_graph': {'mode': 'cuda_graph', 'device': 'cuda'}}


def device_options(engine: str, device: str) -> dict[str, str]:
    """Options of an engine's constructor that let it run on a device.

    Args:
        engine: the runtime.
        device: of `DEVICES`, in capitals or not; one of several devices of OpenVINO as 'GPU.1'.

    Raises:
        ValueError: the engine does not know such a device.
    """
    name, dot, number = device.lower().partition('.')
    numbered = not dot or (engine == 'openvino' and name in ('gpu', 'npu') and number.isdigit())
    if name not in DEVICES[engine] or not numbered:
        raise ValueError(f'device: expected one of {tuple(DEVICES[engine])} for {engine}, found {device!r}')
    return {'device': device.upper()} if dot else dict(DEVICES[engine][name])


@dataclass(frozen=True)
class EngineChoice:
    """An engine to measure.

    Attributes:
        engine: the runtime.
        precision: of `PRECISIONS`.
        variant: how it runs, of `VARIANTS`.
    """

    engine: str
    precision: str
    variant: str = ''

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on an NVIDIA GPU."""
        return self.engine == 'tensorrt' or self.variant.startswith(('cuda', 'tensorrt'))

    @property
    def on_processor(self) -> bool:
        """Whether it runs on the processor itself."""
        return not self.on_gpu and self.variant in ('', 'compile')

    def __str__(self) -> str:
        return ' '.join(word for word in (self.engine, self.precision, self.variant) if word)


def parse_engines(words: str) -> tuple[EngineChoice, ...]:
    """'torch:fp32:compile,openvino:bf16' -> choices.

    Raises:
        ValueError: an engine, a precision or a variant that is not known.
    """
    choices = []
    for word in words.split(','):
        engine, _, rest = word.strip().partition(':')
        precision, _, variant = rest.partition(':')
        if engine not in VARIANTS or precision not in PRECISIONS:
            raise ValueError(
                f'engine: expected ENGINE:PRECISION[:VARIANT], ENGINE of {tuple(VARIANTS)}, PRECISION of '
                f'{PRECISIONS}, found {word!r}'
            )
        if variant not in VARIANTS[engine]:
            variants = tuple(VARIANTS[engine])[1:]
            raise ValueError(f'engine: expected no variant of {engine} or one of {variants}, found {word!r}')
        choices.append(EngineChoice(engine, precision, variant))
    return tuple(choices)


DEFAULT = parse_engines(
    'torch:fp32,torch:bf16,onnxruntime:fp32,onnxruntime:fp16,openvino:fp32,openvino:bf16,'
    'onnxruntime:int8,openvino:int8,'
    'torch:fp16:cuda,torch:fp16:cuda_compile,torch:fp16:cuda_graph,onnxruntime:fp32:cuda,'
    'onnxruntime:fp16:cuda,onnxruntime:fp16:tensorrt_rtx,tensorrt:fp32,tensorrt:fp16,tensorrt:bf16'
)
"""All but `torch:fp32:compile`, which takes minutes to compile and was slower than eager on a processor."""
