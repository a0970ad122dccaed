"""How far the outputs of a quantised network are from the float network's: a drop that needs no labels."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..onnx_session import Arrays, OpenFn, open_with_onnxruntime
from .records import DropFn

ErrorsFn = Callable[[Path], dict[str, float]]


def output_drop(network: str | Path, samples: Sequence[Arrays], open_fn: OpenFn | None = None) -> DropFn:
    """Network file -> the worst output's error of `output_errors`."""
    errors = output_errors(network, samples, open_fn)
    return lambda path: max(errors(path).values())


def output_errors(network: str | Path, samples: Sequence[Arrays], open_fn: OpenFn | None = None) -> ErrorsFn:
    """Network file -> {output: |a - b| / |b|} against the float network (L2 norms), the worst sample's.

    Args:
        network: the float one.
        samples: graph inputs.
        open_fn: network file -> function of graph inputs (default: ONNX Runtime).
    """
    open_fn = open_fn or open_with_onnxruntime
    reference = open_fn(Path(network))
    expected = [reference(sample) for sample in samples]

    def errors(path: Path) -> dict[str, float]:
        """The worst relative error of every output."""
        infer = open_fn(path)
        worst: dict[str, float] = {}
        for sample, outputs in zip(samples, expected, strict=True):
            for name, value in infer(sample).items():
                worst[name] = max(worst.get(name, 0.0), _relative_error(value, outputs[name]))
        return worst

    return errors


def _relative_error(value: np.ndarray, expected: np.ndarray) -> float:
    norm = max(np.linalg.norm(expected.ravel()), 1e-12)
    error = np.linalg.norm((value - expected).ravel()) / norm
    return float(error) if np.isfinite(error) else np.inf


def rank_by_error(
    errors: Mapping[str, Mapping[str, float]], outputs: Collection[str]
) -> dict[str, float]:
    """{layer: sensitivity}: its largest fraction of the error that all layers bring into one of some outputs.

    Fractions make outputs of any scale comparable.

    Args:
        errors: {layer: {output: error}}, each layer alone in int8.
        outputs: those that count.
    """
    bounded = {
        layer: {output: min(error[output], 1e9) for output in outputs} for layer, error in errors.items()
    }
    totals = {output: sum(error[output] for error in bounded.values()) or 1.0 for output in outputs}
    return {
        layer: max(error[output] / totals[output] for output in outputs) for layer, error in bounded.items()
    }
