"""Which engines int8 networks are made for: 'onnxruntime,openvino:nncf' -> engine and method."""
from __future__ import annotations

from dataclasses import dataclass

from ..engines import int8_name
from ..export.measured import INT8_METHODS, INT8_NAMES
from ..processor import weight_bits as usable_weight_bits

DEFAULT_ENGINES = 'onnxruntime,openvino'


@dataclass(frozen=True)
class Int8Choice:
    """An engine to quantise for, and how.

    Attributes:
        engine: of `INT8_NAMES`; 'any' is one file for engines that are not installed here, scored in ONNX
            Runtime instead.
        method: of `INT8_METHODS`: 'qdq' writes QuantizeLinear pairs into the ONNX network; 'nncf' leaves the
            placing of quantisers in OpenVINO's network, and the correction of biases, to the library NNCF.
    """

    engine: str
    method: str = 'qdq'

    def __post_init__(self) -> None:
        if self.engine not in INT8_NAMES:
            raise ValueError(f'int8 engine: expected some of {INT8_NAMES}, found {self.engine!r}')
        if self.method not in INT8_METHODS:
            raise ValueError(
                f'int8 engine {self.engine}: expected a method of {INT8_METHODS}, found {self.method!r}'
            )
        if self.method == 'nncf' and self.engine != 'openvino':
            raise ValueError(
                f'int8 engine {self.engine}: NNCF quantises for openvino alone, found {self.engine}:nncf'
            )

    @property
    def file(self) -> str:
        """Name of the quantised network."""
        return int8_name(self.engine, 'xml' if self.method == 'nncf' else 'onnx')

    @property
    def scored_in(self) -> str:
        """The engine whose outputs are scored."""
        return 'onnxruntime' if self.engine == 'any' else self.engine

    @property
    def target(self) -> str:
        """Of `quantiser.TARGETS`."""
        return 'cpu' if self.engine in ('onnxruntime', 'openvino') else 'any'

    @property
    def weight_bits(self) -> int:
        """What the scoring device can use: on a processor without VNNI, products with 8 bits saturate."""
        return 8 if self.scored_in == 'tensorrt' else usable_weight_bits()


def parse_int8_choices(words: str) -> tuple[Int8Choice, ...]:
    """'onnxruntime,openvino:nncf' -> choices.

    Raises:
        ValueError: an engine or method that is not known, or an engine named twice.
    """
    choices = tuple(Int8Choice(*word.strip().split(':', 1)) for word in words.split(','))
    names = [choice.engine for choice in choices]
    if len(set(names)) < len(names):
        raise ValueError(
            f'int8 engines: expected each once, since each has one quantised network, found {words!r}'
        )
    return choices
