"""int8 after training: ranges from sample frames, QuantizeLinear pairs in the ONNX network, the worst layers
left as they were.

The pairs are symmetric with zero point 0 and biases stay as they are, so that every runtime, TensorRT
included, can read the network. The target 'cpu' (ONNX Runtime, OpenVINO) uses uint8 activations and int32
biases, which their kernels are made for and which spend no level on values that a ReLU never gives.
"""
from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import EngineUnavailable, ExportError
from ..export.parts import move_network, remove_network
from ..processor import weight_bits as usable_weight_bits

LAYER_KINDS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
TARGETS = ('any', 'cpu')
Inputs = dict[str, np.ndarray]
Answer = Callable[[Inputs], dict[str, np.ndarray]]
Opener = Callable[[Path], Answer]
Loss = Callable[[Path], float]
Found = TypeVar('Found')


class Writer(Protocol):
    """Whatever writes a network with some of its layers in int8."""

    network: Path
    layers: list[str]
    weight_bits: int

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """The network with `layers` in int8."""


@dataclass(frozen=True)
class QuantisationReport:
    """What became of a network.

    Attributes:
        path: of the quantised network.
        layers: how many could be quantised;
        kept: those left as they were, worst first.
        loss: of the result;
        loss_all: with every layer quantised.
        sensitivity: loss of each layer quantised alone (empty when all layers together were good enough).
        steps: (layers kept, loss) of every attempt.
        weight_bits: of the layers in int8; 7 for processors on which products with 8 saturate.
    """

    path: Path
    layers: int
    kept: tuple[str, ...]
    loss: float
    loss_all: float
    sensitivity: dict[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float], ...] = ()
    weight_bits: int = 8

    def as_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        worst = sorted(self.sensitivity.items(), key=lambda item: -item[1])[:20]
        return {'layers': self.layers, 'kept': list(self.kept), 'loss': self.loss, 'loss_all': self.loss_all,
                'most_sensitive': dict(worst), 'steps': [list(step) for step in self.steps],
                'weight_bits': self.weight_bits}


class Quantiser:
    """A network whose value ranges are known, so that any choice of layers is quantised in a moment.

    Args:
        network: the ONNX file.
        samples: graph inputs of some frames; their ranges are the ranges of the network.
        target: of `TARGETS`.
        weight_bits: 7 or 8 (default: what this machine's processor can use, `processor.weight_bits`).

    Raises:
        EngineUnavailable: onnx or onnxruntime is not installed. ExportError: no samples, or the network has
        no layer to quantise.
    """

    def __init__(self, network: str | Path, samples: Iterable[Inputs], target: str = 'any',
                 weight_bits: int | None = None) -> None:
        self.network = Path(network)
        self._set_kind(target, weight_bits)
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(
                f'quantising needs onnx and onnxruntime: pip install onnx onnxruntime ({error})'
            ) from error
        self.samples = [dict(sample) for sample in samples]
        if not self.samples:
            raise ExportError(
                f'{network}: quantising needs sample frames for the ranges of values, found none'
            )
        self._model = named_model(network)
        self.layers = layers_of(self._model)
        self.heads = layers_by_task(self._model)
        if not self.layers:
            raise ExportError(
                f'{network}: found no {", ".join(LAYER_KINDS)} with constant weights to quantise'
            )
        self._ranges = self._calibrated()

    def aimed_at(self, target: str, weight_bits: int | None = None) -> Quantiser:
        """The same network and ranges for another target or with other weights."""
        other = copy(self)
        other._set_kind(target, weight_bits)
        return other

    def _set_kind(self, target: str, weight_bits: int | None) -> None:
        if target not in TARGETS:
            raise ValueError(f'target: expected one of {TARGETS}, found {target!r}')
        if weight_bits not in (None, 7, 8):
            raise ValueError(f'weight_bits: expected 7, 8 or None, found {weight_bits!r}')
        self.target = target
        self.weight_bits = weight_bits or usable_weight_bits()

    def _calibrated(self) -> Any:
        import onnx
        from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
        names = {value.name for value in self._model.graph.input}

        class Reader(CalibrationDataReader):
            def __init__(self, samples: list[Inputs]) -> None:
                self.left = iter(samples)

            def get_next(self) -> Inputs | None:
                sample = next(self.left, None)
                return None if sample is None else {name: sample[name] for name in names}

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            named = Path(folder) / 'named.onnx'
            onnx.save(self._model, str(named))
            calibrator = create_calibrator(
                str(named), list(LAYER_KINDS), str(Path(folder) / 'augmented.onnx')
            )
            calibrator.collect_data(Reader(self.samples))
            return calibrator.compute_data()

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """The network with `layers` (of `self.layers`) in int8, under a temporary name, then renamed.

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
        own = self.target == 'cpu'
        options = {
            'ActivationSymmetric': not own, 'WeightSymmetric': True, 'QuantizeBias': own,
            'MatMulConstBOnly': True}
        activations = QuantType.QUInt8 if own else QuantType.QInt8
        quantizer = QDQQuantizer(
            deepcopy(self._model), True, self.weight_bits == 7, QuantType.QInt8, activations, self._ranges, list(layers), [],
            list(LAYER_KINDS), options)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            quantizer.quantize_model()
        partial = Path(f'{path}.partial')
        onnx.save(quantizer.model.model, str(partial))
        os.replace(partial, path)
        return Path(path)

    def output_loss(self, samples: int | None = None, open_network: Opener | None = None) -> Loss:
        """`output_loss` on the samples (or the first few of them)."""
        return output_loss(self.network, self.samples[:samples], open_network)

    def output_errors(self, samples: int | None = None) -> Callable[[Path], dict[str, float]]:
        """`output_errors` on the samples (or the first few of them)."""
        return output_errors(self.network, self.samples[:samples])

    def sensitivity(
        self, loss: Callable[[Path], Found], report: Callable[[str], None] | None = None
    ) -> dict[str, Found]:
        """What `loss` (or errors) says of every layer quantised alone."""
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, layer in enumerate(self.layers):
                found[layer] = loss(self.write(Path(folder) / 'one.onnx', [layer]))
                if report is not None and number % 10 == 9:
                    report(f'sensitivity: {number + 1} of {len(self.layers)} layers')
        return found

    def quantise(
        self,
        path: str | Path,
        allowed: float,
        loss: Loss | None = None,
        rank_by: Loss | None = None,
        report: Callable[[str], None] | None = None,
    ) -> QuantisationReport:
        """Quantise as many layers as `allowed` permits: all of them, else all but some of the most sensitive
        ones (`search`).

        Args:
            allowed: largest loss.
            loss: network file -> loss, for example how much of a score is lost (default: `output_loss`).
            rank_by: a cheaper loss for ranking layers (default: `output_loss` of two samples).

        Raises:
            ExportError: the loss is too large even with a single layer in int8.
        """
        return search(
            self, path, allowed, loss or self.output_loss(),
            lambda: Ranking(self.sensitivity(rank_by or self.output_loss(samples=2), report)), report)


@dataclass(frozen=True)
class Ranking:
    """In which order layers go to float.

    Attributes:
        sensitivity: {layer: how much it hurts}, the largest first.
        whole: layers that go first and together, such as the whole heads of the tasks that lost too much.
    """

    sensitivity: dict[str, float]
    whole: Collection[str] = ()

    def order(self) -> list[str]:
        """The layers, the first to go first."""
        return sorted(self.sensitivity, key=lambda layer: (layer not in self.whole, -self.sensitivity[layer]))


def search(writer: Writer, path: str | Path, allowed: float, loss: Loss, rank: Callable[[], Ranking],
           report: Callable[[str], None] | None = None) -> QuantisationReport:
    """Write the network with all layers in int8, or with as few of the most sensitive ones in float as the
    limit asks.

    Layers are kept in float by 1, 2, 4, ... (or as many as the ranking wants whole, twice as many, ...) until
    the loss is allowed, then the gap to the last refusal is halved until it closes. The result is judged
    last, so that what `loss` remembers is of it.

    Args:
        writer: `Quantiser` or whatever else writes networks.
        allowed: largest loss.
        loss: network file -> loss.
        rank: asked once, when all layers together lose too much.

    Raises:
        ExportError: the loss is too large even with a single layer in int8.
    """
    path = Path(path)
    attempt, best = (path.with_name(f'{path.stem}.{word}{path.suffix}') for word in ('attempt', 'best'))
    order, found, most = list(writer.layers), {}, len(writer.layers) - 1
    ranked: Ranking | None = None

    def holds(kept: int) -> bool:
        found[kept] = loss(writer.write(attempt, order[kept:]))
        if kept and report is not None:
            report(
                f'int8 with {kept} of {len(order)} layers kept in float: loss {found[kept]:.4g} (allowed {allowed:.4g})'
            )
        return found[kept] <= allowed

    try:
        refused, kept = -1, 0
        while not holds(kept):
            if kept == most:
                raise ExportError(
                    f'{writer.network}: loss {found[kept]:.3g} with a single layer in int8, allowed {allowed:.3g}'
                )
            if ranked is None:
                ranked = rank()
                order = ranked.order()
                kept = min(max(1, len(ranked.whole)), most)
                refused = kept - 1  # what goes together is not parted again
            else:
                refused, kept = kept, min(2 * kept, most)
        move_network(attempt, best)
        while kept - refused > 1:
            between = (refused + kept) // 2
            if holds(between):
                kept = between
                move_network(attempt, best)
            else:
                refused = between
        if list(found)[-1] != kept:
            found[kept] = loss(best)
        move_network(best, path)
    finally:
        remove_network(attempt)
        remove_network(best)
    return QuantisationReport(path, len(order), tuple(order[:kept]), found[kept], found[0],
                              {} if ranked is None else ranked.sensitivity, tuple(found.items()),
                              writer.weight_bits)


def output_loss(network: str | Path, samples: Sequence[Inputs], open_network: Opener | None = None) -> Loss:
    """The worst output's error of `output_errors`."""
    errors = output_errors(network, samples, open_network)
    return lambda path: max(errors(path).values())


def output_errors(network: str | Path, samples: Sequence[Inputs], open_network: Opener | None = None,
                  ) -> Callable[[Path], dict[str, float]]:
    """How far each output is from the float network's on some samples: |a - b| / |b| (L2 norms), the worst
    sample's.

    Args:
        network: the float one.
        open_network: network file -> what answers graph inputs (default: ONNX Runtime).
    """
    opener = open_network or session_answer
    reference = opener(Path(network))
    expected = [reference(sample) for sample in samples]

    def errors(path: Path) -> dict[str, float]:
        answer, worst = opener(path), {}
        for sample, wanted in zip(samples, expected, strict=True):
            for name, value in answer(sample).items():
                gap = np.linalg.norm((value - wanted[name]).ravel()) / max(
                    np.linalg.norm(wanted[name].ravel()), 1e-12
                )
                worst[name] = max(worst.get(name, 0.0), float(gap) if np.isfinite(gap) else np.inf)
        return worst
    return errors


def blame(errors: Mapping[str, Mapping[str, float]], outputs: Collection[str]) -> dict[str, float]:
    """Each layer's largest share of the error that all layers, each alone in int8, bring into one of some
    outputs.

    Args:
        errors: {layer: {output: error}}.
        outputs: those that lost too much; shares make outputs of any scale comparable.
    """
    bounded = {
        layer: {output: min(error[output], 1e9) for output in outputs} for layer, error in errors.items()
    }
    whole = {output: sum(error[output] for error in bounded.values()) or 1.0 for output in outputs}
    return {
        layer: max(error[output] / whole[output] for output in outputs) for layer, error in bounded.items()
    }


def named_model(network: str | Path) -> Any:
    """An ONNX network whose nodes all have names."""
    import onnx
    model = onnx.load(str(network))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f'{node.op_type}_{number}'
    return model


def layers_of(model: Any) -> list[str]:
    """Names of the nodes with constant weights that int8 makes faster, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == 'Constant'}
    return [
        node.name for node in model.graph.node if node.op_type in LAYER_KINDS and node.input[1] in constants
    ]


def layers_by_task(model: Any) -> dict[str, list[str]]:
    """{task: its head's layers}: those of `layers_of` from which outputs of that task (`task.name`) alone are
    reached."""
    reached: dict[str, set[str]] = {value.name: {value.name.split('.')[0]} for value in model.graph.output}
    heads: dict[str, list[str]] = {}
    layers = set(layers_of(model))
    for node in reversed(model.graph.node):
        tasks = set().union(*(reached.get(name, ()) for name in node.output))
        for name in node.input:
            reached[name] = reached.get(name, set()) | tasks
        if node.name in layers and len(tasks) == 1:
            heads.setdefault(*tasks, []).append(node.name)
    return heads


def open_session(path: str | Path) -> Any:
    """An ONNX Runtime session that says nothing."""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def run(network: Any, sample: Inputs) -> dict[str, np.ndarray]:
    """Outputs of a network (file or session) on graph inputs."""
    session = open_session(network) if isinstance(network, (str, Path)) else network
    wanted = [value.name for value in session.get_inputs()]
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: sample[name] for name in wanted}), strict=True))


def session_answer(path: str | Path) -> Answer:
    """What answers graph inputs with this network in ONNX Runtime."""
    session = open_session(path)
    return lambda inputs: run(session, inputs)
