"""Parity: the same inputs through two engines, output by output."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...core.contracts import Batch
from ...model import MultiTaskPerception
from ..engines import Engine, EngineUnavailable, open_engine
from ..errors import ExportError
from ..export.graph import graph_inputs
from ..memory import EngineMemory
from .stages import open_stage, read_stages, stage_values

WHOLE = (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'), ('tensorrt', 'fp16'))
BY_STAGE = WHOLE[:3]


@dataclass(frozen=True)
class Difference:
    """How one named tensor of an engine differs from the reference's.

    Attributes:
        name: of the tensor.
        max_abs, mean_abs: of |a - b|.
        relative: max |a - b| / max |b|.
        cosine: of the flattened tensors.
        finite: whether the engine's values all are.
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
    raw, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    a = np.nan_to_num(raw)

    norms = np.linalg.norm(a) * np.linalg.norm(b)
    error = np.abs(a - b)
    largest_error = error.max(initial=0)
    return Difference(
        name,
        max_abs=float(largest_error),
        mean_abs=float(error.mean()),
        relative=float(largest_error / max(np.abs(b).max(initial=0), 1e-12)),
        cosine=float(a @ b / norms) if norms > 0 else float(np.allclose(raw, b)),
        finite=bool(np.isfinite(raw).all()),
    )


def compare_engines(
    reference: Engine, other: Engine, inputs: Sequence[dict[str, np.ndarray]]
) -> list[Difference]:
    """The worst difference of every output over some samples, in the order of the graph."""
    worst: dict[str, Difference] = {}
    for sample in inputs:
        expected, found = reference.infer(sample), other.infer(sample)
        for name in expected:
            _keep_worse(worst, difference(name, found[name], expected[name]))
    return list(worst.values())


def compare_drive(
    model: MultiTaskPerception, reference: Engine, other: Engine, batches: Iterable[Batch]
) -> list[Difference]:
    """The worst difference of every output over frames that follow each other, each engine's memory its own.

    Args:
        model: prepares the frames.
        reference: what is right.
        other: what is compared with it.
        batches: frames of one drive, one sample each.
    """
    worst: dict[str, Difference] = {}
    memories = [
        EngineMemory(model, model.memory.new_streams() if model.memory is not None else None)
        for _ in (reference, other)]
    for batch in batches:
        inputs, answers = graph_inputs(model, batch), []
        for engine, memory in zip((reference, other), memories, strict=True):
            answers.append(engine.infer(memory.recalled(inputs, batch.frames)))
            memory.keep(answers[-1], batch.frames)

        for name, expected in answers[0].items():
            _keep_worse(worst, difference(name, answers[1][name], expected))
    return list(worst.values())


def compare_stages(
    model: MultiTaskPerception,
    folder: str | Path,
    samples: Sequence[dict[str, np.ndarray]],
    engine: str,
    precision: str = 'fp32',
    **options: object,
) -> list[Difference]:
    """The worst difference of every stage's outputs over some samples, in the order of the data.

    Args:
        model: whose torch outputs are the reference.
        folder: of `stages.export_stages`.
        samples: graph inputs.
        engine: 'onnxruntime' or 'openvino'.
        precision: of the engine.
        options: of the engine's constructor.

    Returns:
        Differences named 'stage: tensor'.
    """
    stages = read_stages(folder)
    engines = {stage.name: open_stage(folder, stage, engine, precision, **options) for stage in stages}

    worst: dict[str, Difference] = {}
    for sample in samples:
        for stage, (inputs, expected) in stage_values(model, sample).items():
            known = {spec.name: inputs[spec.name] for spec in engines[stage].inputs}
            outputs = engines[stage].infer(known)
            for name, value in expected.items():
                _keep_worse(worst, difference(f'{stage}: {name}', outputs[name], value))
    return list(worst.values())


def _keep_worse(worst: dict[str, Difference], new: Difference) -> None:
    """Put a difference into {name: worst difference} unless the one that is there is worse."""
    if new.name not in worst or not new.finite or new.relative > worst[new.name].relative:
        worst[new.name] = new


def require_parity(differences: Sequence[Difference], relative: float, engine: str) -> None:
    """Raise at the first tensor that is not finite or differs by more than `relative`.

    Raises:
        ExportError: names the tensor and the difference.
    """
    for d in differences:
        if not d.finite:
            raise ExportError(f'{engine}: output {d.name} is not finite')
        if d.relative > relative:
            raise ExportError(
                f'{engine}: output {d.name} differs by {d.relative:.2e} relative, allowed {relative:.0e}'
            )


def format_differences(engine: str, differences: Sequence[Difference]) -> str:
    """A table as text."""
    lines = [f'{engine:<34}{"max":>10}{"mean":>10}{"relative":>10}{"cosine":>10}']
    for d in differences:
        lines.append(
            f'  {d.name:<32}{d.max_abs:>10.2e}{d.mean_abs:>10.2e}{d.relative:>10.2e}{d.cosine:>10.6f}'
            + ('' if d.finite else '  NOT FINITE')
        )
    return '\n'.join(lines)


def compare_export(
    folder: str | Path,
    model: MultiTaskPerception,
    inputs: Sequence[dict[str, np.ndarray]],
    tolerance: float,
    stages: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Report how the outputs of every available runtime differ from torch's.

    Args:
        folder: of an export.
        model: with the weights that were exported.
        inputs: graph inputs of some samples.
        tolerance: largest relative difference of fp32 engines.
        stages: also compare stage by stage, each on torch's own inputs.
        report: gets a table for each engine.

    Raises:
        ExportError: an fp32 engine differs by more than `tolerance`, or any output is not finite; names the
            first tensor, so the first stage.
    """
    if stages:
        for engine, precision in BY_STAGE:
            differences = compare_stages(model, Path(folder) / 'stages', inputs, engine, precision)
            _check(engine, precision, differences, tolerance, report, 'by stage: ')
    _compare_whole(
        folder, model, lambda reference, other: compare_engines(reference, other, inputs), tolerance, report)


def compare_sequence(
    folder: str | Path,
    model: MultiTaskPerception,
    batches: Sequence[Batch],
    tolerance: float,
    report: Callable[[str], None] = print,
) -> None:
    """As `compare_export`, over frames of one drive, each runtime with a memory of its own.

    Raises:
        ExportError: as there.
    """
    _compare_whole(
        folder, model, lambda reference, other: compare_drive(model, reference, other, batches), tolerance,
        report, f'{len(batches)} frames: ')


def _compare_whole(
    folder: str | Path,
    model: MultiTaskPerception,
    compare: Callable[[Engine, Engine], list[Difference]],
    tolerance: float,
    report: Callable[[str], None],
    prefix: str = '',
) -> None:
    """Torch against every runtime that is available here."""
    reference = open_engine('torch', folder, 'fp32', model)
    for engine, precision in WHOLE:
        try:
            other = open_engine(engine, folder, precision)
        except EngineUnavailable as error:
            report(f'{engine} {precision}: {error}')
        else:
            _check(engine, precision, compare(reference, other), tolerance, report, prefix)


def _check(
    engine: str,
    precision: str,
    differences: Sequence[Difference],
    tolerance: float,
    report: Callable[[str], None],
    prefix: str = '',
) -> None:
    limit = tolerance if precision == 'fp32' else float('inf')
    report(format_differences(f'{prefix}{engine} {precision}', differences))
    require_parity(differences, limit, f'{engine} {precision}')
