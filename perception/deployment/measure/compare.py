"""Parity: the same inputs through two engines, output by output."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...model import MultiTaskPerception
from ..engines import Engine, EngineUnavailable, open_engine
from ..errors import ExportError

WHOLE = (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'), ('tensorrt', 'fp16'))
BY_STAGE = WHOLE[:3]


@dataclass(frozen=True)
class Difference:
    """How one named tensor of an engine differs from the reference's.

    relative is max |a - b| / max |b|; cosine that of the flattened tensors.
    """

    name: str
    max_abs: float
    mean_abs: float
    relative: float
    cosine: float
    finite: bool

    def as_dict(self) -> dict:
        """Plain values."""
        return asdict(self)


def difference(name: str, found: np.ndarray, expected: np.ndarray) -> Difference:
    """Compare two arrays of one shape.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f'{name}: expected shape {expected.shape}, found {found.shape}')
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    finite = bool(np.isfinite(a).all())
    gap = np.abs(np.nan_to_num(a) - b)
    norms = np.linalg.norm(np.nan_to_num(a)) * np.linalg.norm(b)
    cosine = float(np.nan_to_num(a) @ b / norms) if norms > 0 else float(np.allclose(a, b))
    return Difference(
        name, float(gap.max(initial=0)), float(gap.mean()),
        float(gap.max(initial=0) / max(np.abs(b).max(initial=0), 1e-12)), cosine, finite)


def compare_engines(
    reference: Engine, other: Engine, inputs: Sequence[dict[str, np.ndarray]]
) -> list[Difference]:
    """The worst difference of every output over some samples, in the order of the graph."""
    worst: dict[str, Difference] = {}
    for sample in inputs:
        expected, found = reference.infer(sample), other.infer(sample)
        for name in expected:
            d = difference(name, found[name], expected[name])
            if name not in worst or d.relative > worst[name].relative or not d.finite:
                worst[name] = d
    return list(worst.values())


def require_parity(differences: Sequence[Difference], relative: float, engine: str) -> None:
    """Raise at the first tensor that is not finite or differs by more than `relative`.

    Raises:
        ExportError: names the tensor and the difference.
    """
    for d in differences:
        if not d.finite or d.relative > relative:
            why = (
                'is not finite'
                if not d.finite
                else f'differs by {d.relative:.2e} relative, allowed {relative:.0e}'
            )
            raise ExportError(f'{engine}: output {d.name} {why}')


def format_differences(engine: str, differences: Sequence[Difference]) -> str:
    """A table for a person."""
    head = f'{engine:<34}{"max":>10}{"mean":>10}{"relative":>10}{"cosine":>10}'
    return '\n'.join(
        [
            head,
            *(
                f'  {d.name:<32}{d.max_abs:>10.2e}{d.mean_abs:>10.2e}{d.relative:>10.2e}{d.cosine:>10.6f}'
                + ('' if d.finite else '  NOT FINITE')
                for d in differences
            ),
        ]
    )


def compare_export(
    folder: str | Path,
    model: MultiTaskPerception,
    inputs: Sequence[dict[str, np.ndarray]],
    tolerance: float,
    stages: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Say what every runtime at hand answers against torch; with `stages` also stage by stage, each on
    torch's own inputs.

    Raises:
        ExportError: an fp32 engine differs by more than `tolerance` (relative), or any answer is not finite;
        names the first tensor, so the first stage.
    """
    def judge(engine: str, precision: str, found: Sequence[Difference], head: str = '') -> None:
        report(format_differences(f'{head}{engine} {precision}', found))
        require_parity(found, tolerance if precision == 'fp32' else float('inf'), f'{engine} {precision}')

    if stages:
        from .stages import compare_stages
        for engine, precision in BY_STAGE:
            judge(
                engine, precision, compare_stages(model, Path(folder) / 'stages', inputs, engine, precision),
                'by stage: ')
    reference = open_engine('torch', folder, 'fp32', model)
    for engine, precision in WHOLE:
        try:
            judge(
                engine, precision, compare_engines(reference, open_engine(engine, folder, precision), inputs)
            )
        except EngineUnavailable as error:
            report(f'{engine} {precision}: {error}')
