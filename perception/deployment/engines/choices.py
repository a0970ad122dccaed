"""Which engines a benchmark measures: 'torch:fp32:compile,openvino:bf16' -> runtime, precision, variant."""
from __future__ import annotations

from dataclasses import dataclass

from ..export.measured import PRECISION_NAMES as PRECISIONS

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    'torch': {
        '': {}, 'compile': {'mode': 'compile'}, 'cuda': {'device': 'cuda'},
        'cuda_compile': {'mode': 'compile', 'device': 'cuda'},
        'cuda_graph': {'mode': 'cuda_graph', 'device': 'cuda'}},
    'onnxruntime': {'': {}, 'cuda': {'provider': 'cuda'}, 'tensorrt': {'provider': 'tensorrt'}},
    'openvino': {'': {}},
    'tensorrt': {'': {}},
}
"""{engine: {variant: options of its constructor}}"""


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
        """Whether the network runs on a GPU."""
        return self.engine == 'tensorrt' or self.variant.startswith(('cuda', 'tensorrt'))

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
    'torch:fp32,torch:bf16,onnxruntime:fp32,openvino:fp32,openvino:bf16,onnxruntime:int8,openvino:int8,'
    'torch:fp16:cuda,torch:fp16:cuda_compile,torch:fp16:cuda_graph,onnxruntime:fp32:cuda,'
    'onnxruntime:fp16:cuda,tensorrt:fp32,tensorrt:fp16,tensorrt:bf16'
)
"""All but `torch:fp32:compile`, which takes minutes to compile and was slower than eager on a processor."""
