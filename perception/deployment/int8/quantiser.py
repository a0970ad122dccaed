"""int8 after training: ranges from sample frames, QuantizeLinear pairs around some layers of an ONNX network.

The pairs are symmetric with zero point 0 and biases stay as they are, so that every runtime, TensorRT
included, can read the network. The target 'cpu' (ONNX Runtime, OpenVINO) uses uint8 activations and int32
biases, which their kernels are made for and which spend no level on values that a ReLU never gives.
"""
from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, TypeVar

from ..errors import EngineUnavailable, ExportError
from ..onnx_session import Arrays, OpenFn
from ..processor import weight_bits as usable_weight_bits
from .layers import LAYER_KINDS, layers_by_head, quantisable_layers, read_named
from .output_error import ErrorsFn, output_drop, output_errors
from .records import DropFn, QuantisationReport, Ranking
from .search import search

TARGETS = ('any', 'cpu')
T = TypeVar('T')


class Quantiser:
    """A network whose value ranges are known, so that any choice of layers is quantised in a moment.

    Args:
        network: the ONNX file.
        samples: graph inputs of some frames; their ranges are the ranges of the network.
        target: of `TARGETS`.
        weight_bits: 7 or 8 (default: what this machine's processor can use, `processor.weight_bits`).

    Attributes:
        layers: names of the layers that can be quantised.
        heads: {task: those of its head}.

    Raises:
        EngineUnavailable: onnx or onnxruntime is not installed.
        ExportError: no samples, or the network has no layer to quantise.
    """

    def __init__(
        self,
        network: str | Path,
        samples: Iterable[Arrays],
        target: str = 'any',
        weight_bits: int | None = None,
    ) -> None:
        self.target, self.weight_bits = _checked_kind(target, weight_bits)
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(
                f'quantising needs onnx and onnxruntime: pip install onnx onnxruntime ({error})'
            ) from error

        self.network = Path(network)
        self.samples = [dict(sample) for sample in samples]
        if not self.samples:
            raise ExportError(
                f'{network}: quantising needs sample frames for the ranges of values, found none'
            )

        self._model = read_named(network)
        self.layers = quantisable_layers(self._model)
        self.heads = layers_by_head(self._model)
        if not self.layers:
            raise ExportError(
                f'{network}: found no {", ".join(LAYER_KINDS)} with constant weights to quantise'
            )
        self._ranges = self._calibrated()

    def for_target(self, target: str, weight_bits: int | None = None) -> Quantiser:
        """The same network and ranges for another target, or with other weights."""
        other = copy(self)
        other.target, other.weight_bits = _checked_kind(target, weight_bits)
        return other

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """Write the network with `layers` (of `self.layers`) in int8, under a temporary name, then rename it.

        Raises:
            ValueError: no layer, or one that does not exist.
        """
        unknown = sorted(set(layers) - set(self.layers))
        if unknown or not layers:
            raise ValueError(
                f'layers: expected some of the {len(self.layers)} layers of {self.network}, found '
                f'{unknown or "none"}'
            )
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        on_cpu = self.target == 'cpu'
        quantizer = QDQQuantizer(
            model=deepcopy(self._model),
            per_channel=True,
            reduce_range=self.weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if on_cpu else QuantType.QInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(layers),
            nodes_to_exclude=[],
            op_types_to_quantize=list(LAYER_KINDS),
            extra_options={
                'ActivationSymmetric': not on_cpu,
                'WeightSymmetric': True,
                'QuantizeBias': on_cpu,
                'MatMulConstBOnly': True,
            },
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            quantizer.quantize_model()

        partial = Path(f'{path}.partial')
        onnx.save(quantizer.model.model, str(partial))
        os.replace(partial, path)
        return Path(path)

    def output_drop(self, samples: int | None = None, open_fn: OpenFn | None = None) -> DropFn:
        """`output_drop` on the samples (or the first few of them)."""
        return output_drop(self.network, self.samples[:samples], open_fn)

    def output_errors(self, samples: int | None = None) -> ErrorsFn:
        """`output_errors` on the samples (or the first few of them)."""
        return output_errors(self.network, self.samples[:samples])

    def sensitivity(
        self, measure: Callable[[Path], T], report: Callable[[str], None] | None = None
    ) -> dict[str, T]:
        """{layer: what `measure` returns for the network with this layer alone in int8}."""
        measured = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, layer in enumerate(self.layers):
                measured[layer] = measure(self.write(Path(folder) / 'one.onnx', [layer]))
                if report is not None and number % 10 == 9:
                    report(f'sensitivity: {number + 1} of {len(self.layers)} layers')
        return measured

    def quantise(
        self,
        path: str | Path,
        max_drop: float,
        drop_fn: DropFn | None = None,
        rank_by: DropFn | None = None,
        report: Callable[[str], None] | None = None,
    ) -> QuantisationReport:
        """Quantise all layers, or all but some of the most sensitive ones where that drops too much.

        Args:
            path: of the result.
            max_drop: largest drop that is allowed.
            drop_fn: network file -> drop, for example of a score (default: `output_drop`).
            rank_by: a cheaper drop for ranking layers (default: `output_drop` of two samples).
            report: gets a line for each attempt.

        Raises:
            ExportError: the drop is too large even with a single layer in int8.
        """
        def rank() -> Ranking:
            return Ranking(self.sensitivity(rank_by or self.output_drop(samples=2), report))

        return search(self, path, max_drop, drop_fn or self.output_drop(), rank, report)

    def _calibrated(self) -> Any:
        """The range of every tensor over the samples."""
        import onnx
        from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
        names = {value.name for value in self._model.graph.input}

        class Reader(CalibrationDataReader):
            def __init__(self, samples: list[Arrays]) -> None:
                self.samples = iter(samples)

            def get_next(self) -> Arrays | None:
                sample = next(self.samples, None)
                return None if sample is None else {name: sample[name] for name in names}

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            network = Path(folder) / 'named.onnx'
            onnx.save(self._model, str(network))
            calibrator = create_calibrator(
                str(network), list(LAYER_KINDS), str(Path(folder) / 'augmented.onnx'))
            calibrator.collect_data(Reader(self.samples))
            return calibrator.compute_data()


def _checked_kind(target: str, weight_bits: int | None) -> tuple[str, int]:
    if target not in TARGETS:
        raise ValueError(f'target: expected one of {TARGETS}, found {target!r}')
    if weight_bits not in (None, 7, 8):
        raise ValueError(f'weight_bits: expected 7, 8 or None, found {weight_bits!r}')
    return target, weight_bits or usable_weight_bits()
