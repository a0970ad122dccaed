"""int8 after training: ranges from sample frames, QuantizeLinear pairs in the ONNX network, the worst layers left as they were.

The pairs are symmetric with zero point 0 and biases stay as they are, so that every runtime, TensorRT included, can read the
network. A target of its own for ONNX Runtime on a CPU uses uint8 activations and int32 biases, which its kernels are made for.
"""
from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import finite
from .errors import EngineUnavailable, ExportError

LAYER_KINDS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
TARGETS = ('any', 'onnxruntime')
Inputs = dict[str, np.ndarray]
Loss = Callable[[Path], float]


@dataclass(frozen=True)
class QuantisationReport:
    """What became of a network.

    Attributes:
        path: of the quantised network. layers: how many could be quantised; kept: those left as they were, worst first.
        loss: of the result; loss_all: with every layer quantised. sensitivity: loss of each layer quantised alone (empty when all
        layers together were good enough). steps: (layers kept, loss) of every attempt.
    """

    path: Path
    layers: int
    kept: tuple[str, ...]
    loss: float
    loss_all: float
    sensitivity: dict[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        worst = sorted(self.sensitivity.items(), key=lambda item: -item[1])[:20]
        return {'layers': self.layers, 'kept': list(self.kept), 'loss': self.loss, 'loss_all': self.loss_all,
                'most_sensitive': dict(worst), 'steps': [list(step) for step in self.steps]}


class Quantiser:
    """A network whose value ranges are known, so that any choice of layers is quantised in a moment.

    Args:
        network: the ONNX file. samples: graph inputs of some frames; their ranges are the ranges of the network. target: of
        `TARGETS`.

    Raises:
        EngineUnavailable: onnx or onnxruntime is not installed. ExportError: no samples, or the network has no layer to quantise.
    """

    def __init__(self, network: str | Path, samples: Iterable[Inputs], target: str = 'any') -> None:
        if target not in TARGETS:
            raise ValueError(f'target: expected one of {TARGETS}, found {target!r}')
        try:
            import onnx
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EngineUnavailable(f'quantising needs onnx and onnxruntime: pip install onnx onnxruntime ({error})') from error
        self.network, self.target = Path(network), target
        self.samples = [dict(sample) for sample in samples]
        if not self.samples:
            raise ExportError(f'{network}: quantising needs sample frames for the ranges of values, found none')
        model = onnx.load(str(network))
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f'{node.op_type}_{number}'
        self._model, self.layers = model, layers_of(model)
        if not self.layers:
            raise ExportError(f'{network}: found no {", ".join(LAYER_KINDS)} with constant weights to quantise')
        self._ranges = self._calibrated()

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
            calibrator = create_calibrator(str(named), list(LAYER_KINDS), str(Path(folder) / 'augmented.onnx'))
            calibrator.collect_data(Reader(self.samples))
            return calibrator.compute_data()

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """The network with `layers` (of `self.layers`) in int8, under a temporary name, then renamed.

        Raises:
            ValueError: no layer, or one that does not exist.
        """
        unknown = sorted(set(layers) - set(self.layers))
        if unknown or not layers:
            raise ValueError(f'layers: expected some of the {len(self.layers)} layers of {self.network}, found '
                             f'{unknown or "none"}')
        from copy import deepcopy

        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        own = self.target == 'onnxruntime'
        options = {'ActivationSymmetric': not own, 'WeightSymmetric': True, 'QuantizeBias': own, 'MatMulConstBOnly': True}
        activations = QuantType.QUInt8 if own else QuantType.QInt8
        quantizer = QDQQuantizer(deepcopy(self._model), True, False, QuantType.QInt8, activations, self._ranges,
                                 list(layers), [], list(LAYER_KINDS), options)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            quantizer.quantize_model()
        partial = Path(f'{path}.partial')
        onnx.save(quantizer.model.model, str(partial))
        os.replace(partial, path)
        return Path(path)

    def output_loss(self, samples: int | None = None) -> Loss:
        """How far a network's outputs are from the float one's on the samples (or the first few of them): the worst output's
        |a - b| / |b| (L2 norms).
        """
        chosen = self.samples[:samples]
        expected = [run(self.network, sample) for sample in chosen]

        def loss(path: Path) -> float:
            session = open_session(path)
            worst = 0.0
            for sample, reference in zip(chosen, expected, strict=True):
                for name, value in run(session, sample).items():
                    gap = np.linalg.norm((value - reference[name]).ravel()) / max(np.linalg.norm(reference[name].ravel()), 1e-12)
                    worst = max(worst, float(gap) if np.isfinite(gap) else np.inf)
            return worst
        return loss

    def sensitivity(self, loss: Loss, report: Callable[[str], None] | None = None) -> dict[str, float]:
        """Loss of every layer quantised alone."""
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, layer in enumerate(self.layers):
                found[layer] = loss(self.write(Path(folder) / 'one.onnx', [layer]))
                if report is not None and number % 10 == 9:
                    report(f'sensitivity: {number + 1} of {len(self.layers)} layers')
        return found

    def quantise(self, path: str | Path, allowed: float, loss: Loss | None = None, rank_by: Loss | None = None,
                 report: Callable[[str], None] | None = None) -> QuantisationReport:
        """Quantise as many layers as `allowed` permits: all of them, else all but the 1, 2, 4, ... most sensitive ones.

        Args:
            allowed: largest loss. loss: network file -> loss, for example how much of a score is lost (default: `output_loss`).
            rank_by: a cheaper loss for ranking layers (default: `output_loss` of two samples).

        Raises:
            ExportError: the loss is too large even with a single layer in int8.
        """
        loss, path = loss or self.output_loss(), Path(path)
        attempt = path.with_name(f'{path.stem}.attempt{path.suffix}')
        try:
            loss_all = found = loss(self.write(attempt, self.layers))
            steps, kept, ranked = [(0, found)], 0, {}
            while not found <= allowed:
                ranked = ranked or self.sensitivity(rank_by or self.output_loss(samples=2), report)
                order = sorted(self.layers, key=lambda layer: -ranked[layer])
                if kept == len(order) - 1:
                    raise ExportError(f'{self.network}: loss {found:.3g} with a single layer in int8, allowed {allowed:.3g}')
                kept = min(max(1, 2 * kept), len(order) - 1)
                found = loss(self.write(attempt, order[kept:]))
                steps.append((kept, found))
                if report is not None:
                    report(f'int8 with {kept} of {len(order)} layers kept in float: loss {found:.4g} (allowed {allowed:.4g})')
            os.replace(attempt, path)
        finally:
            attempt.unlink(missing_ok=True)
        names = tuple(sorted(self.layers, key=lambda layer: -ranked[layer])[:kept]) if kept else ()
        return QuantisationReport(path, len(self.layers), names, found, loss_all, ranked, tuple(steps))


def quantise_export(folder: str | Path, samples: Iterable[Inputs], allowed: float, scorer: Any = None,
                    report: Callable[[str], None] = print) -> QuantisationReport:
    """Write the int8 network of an export folder, and into its sidecar which layers stayed as they were and what was lost.

    Layers are ranked by the output error of each alone; then the worst 1, 2, 4, ... are kept in float until the limit holds.

    Args:
        folder: of an export. samples: graph inputs of calibration frames. allowed: with a `scorer` (`scores.Scorer`) the largest
        share of any task's float score that may be lost, without one the largest relative L2 error of any output.

    Raises:
        ExportError: the limit cannot be held, or no task scores anything.
    """
    from dataclasses import replace

    from .engines import INT8_NAME
    from .scores import ScoreLoss
    from .sidecar import NETWORK_NAME, Sidecar
    network = Path(folder) / NETWORK_NAME
    loss = None if scorer is None else ScoreLoss(scorer, network, report)
    found = Quantiser(network, samples).quantise(network.with_name(INT8_NAME), allowed, loss, report=report)
    sidecar = Sidecar.read(folder)
    said = found.as_dict() | {'allowed': allowed, 'limit': 'output error' if loss is None else 'share of a score'}
    said |= {} if loss is None else {'scores': loss.as_dict()}
    replace(sidecar, measured={**sidecar.measured, 'int8': finite(said)}).write(folder)
    return found


def layers_of(model: Any) -> list[str]:
    """Names of the nodes with constant weights that int8 makes faster, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == 'Constant'}
    return [node.name for node in model.graph.node if node.op_type in LAYER_KINDS and node.input[1] in constants]


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
