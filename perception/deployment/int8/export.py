"""int8 networks of an export: each engine gets a file of its own, searched and scored in that very engine.

    quantise_export(DIR, samples, 0.01, scorer, 'onnxruntime,openvino:nncf')

Engines compute the same quantised network with different kernels, and what they leave in float with other
precisions, so that a network that holds its scores in one of them may lose them in another.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.files import finite
from ..engines import int8_name, open_network
from ..errors import ExportError
from ..export.parts import network_parts, remove_network
from ..export.sidecar import NETWORK_NAME, Sidecar, file_hash
from ..measure.scores import ScoreDrop, Scorer
from ..onnx_session import Arrays, InferFn, OpenFn
from .choices import DEFAULT_ENGINES, Int8Choice, parse_int8_choices
from .nncf_writer import NncfWriter, need_nncf
from .output_error import output_drop
from .quantiser import Quantiser
from .ranking import rank_layers
from .records import DropFn, QuantisationReport, Ranking, Writer
from .search import search


def quantise_export(
    folder: str | Path,
    samples: Iterable[Arrays],
    max_drop: float,
    scorer: Scorer | None = None,
    engines: str | Sequence[Int8Choice] = DEFAULT_ENGINES,
    report: Callable[[str], None] = print,
    weight_bits: int | None = None,
) -> dict[str, QuantisationReport]:
    """Write one int8 network per engine into an export folder, and its report into the sidecar.

    Where all layers in int8 drop too much, the heads of the tasks that dropped go to float, then as few
    layers as need be, the most sensitive first, until the limit holds in the engine itself, against that
    engine's own fp32. Layers are ranked by the error that each alone in int8 brings into these tasks'
    outputs, in ONNX Runtime, where that is quick.

    Args:
        folder: of an export.
        samples: graph inputs of calibration frames.
        max_drop: with a `scorer` the largest fraction of any task's float score that may be lost, without one
            the largest relative L2 error of any output.
        scorer: labelled frames and the configuration's metrics.
        engines: choices, or words for `parse_int8_choices`.
        report: gets lines of progress.
        weight_bits: 7 or 8, of every network (default: what the scoring processor can use,
            `processor.weight_bits`; 8 for a GPU).

    Returns:
        {engine: report}; the sidecar has them under `measured.int8`.

    Raises:
        EngineUnavailable: an engine or NNCF is not installed; nothing was searched yet.
        ExportError: the limit cannot be held in some engine (the networks of the others are kept), or no task
            scores anything.
    """
    choices = parse_int8_choices(engines) if isinstance(engines, str) else tuple(engines)
    if any(choice.method == 'nncf' for choice in choices):
        need_nncf()

    # every engine opens the float network before the first search, so that an unusable one fails early
    folder = Path(folder)
    sidecar = Sidecar.read(folder)
    samples = list(samples)
    drop_fns = {
        choice.engine: _drop_fn(choice, sidecar, folder / NETWORK_NAME, samples, scorer, report)
        for choice in choices
    }
    calibrated = _Calibrated(folder / NETWORK_NAME, samples, weight_bits, report)

    return _search_all(choices, folder, max_drop, drop_fns, calibrated, report)


def _search_all(
    choices: Sequence[Int8Choice],
    folder: Path,
    max_drop: float,
    drop_fns: Mapping[str, DropFn],
    calibrated: _Calibrated,
    report: Callable[[str], None],
) -> dict[str, QuantisationReport]:
    """The search of every engine; what holds is recorded before the failures of others are raised."""
    reports: dict[str, QuantisationReport] = {}
    failures = []
    for choice in choices:
        drop_fn = drop_fns[choice.engine]
        try:
            reports[choice.engine] = _search_for(choice, folder, max_drop, drop_fn, calibrated, report)
        except ExportError as error:
            failures.append(f'int8 for {choice.engine}: {error}')
            continue
        _record(folder, choice, reports[choice.engine], drop_fn, max_drop)

    if failures:
        raise ExportError('; '.join([*failures, f'written: {", ".join(reports) or "none"}']))
    return reports


class _Calibrated:
    """A network and its value ranges, measured once for all engines; layer errors once a target."""

    def __init__(
        self,
        network: Path,
        samples: list[Arrays],
        weight_bits: int | None,
        report: Callable[[str], None],
    ) -> None:
        self.quantiser = Quantiser(network, samples)
        self.weight_bits = weight_bits
        self.report = report
        self._errors: dict[str, dict[str, dict[str, float]]] = {}

    def writer(self, choice: Int8Choice) -> Writer:
        """What writes the networks of a choice."""
        bits = self.weight_bits or choice.weight_bits
        if choice.method == 'nncf':
            return NncfWriter(self.quantiser.network, self.quantiser.samples, bits)
        return self.quantiser.for_target(choice.target, bits)

    def layer_errors(self, target: str) -> dict[str, dict[str, float]]:
        """{layer: {output: error}} of each layer alone in int8, in ONNX Runtime on two samples."""
        if target not in self._errors:
            quantiser = self.quantiser.for_target(target, self.weight_bits)
            self._errors[target] = quantiser.sensitivity(quantiser.output_errors(samples=2), self.report)
        return self._errors[target]


def _drop_fn(
    choice: Int8Choice,
    sidecar: Sidecar,
    network: Path,
    samples: list[Arrays],
    scorer: Scorer | None,
    report: Callable[[str], None],
) -> DropFn:
    """The drop of scores, or without a scorer of outputs, in the engine of a choice."""
    open_fn = _open_fn(choice.scored_in, sidecar)
    if scorer is None:
        return output_drop(network, samples, open_fn)
    return ScoreDrop(scorer, network, report, open_fn, choice.scored_in)


def _open_fn(engine: str, sidecar: Sidecar) -> OpenFn:
    def open_fn(path: Path) -> InferFn:
        precision = 'fp32' if path.name == NETWORK_NAME else 'int8'
        return open_network(engine, path, sidecar, precision).infer

    return open_fn


def _search_for(
    choice: Int8Choice,
    folder: Path,
    max_drop: float,
    drop_fn: DropFn,
    calibrated: _Calibrated,
    report: Callable[[str], None],
) -> QuantisationReport:
    """Search the network of one choice."""
    writer = calibrated.writer(choice)
    report(
        f'int8 for {choice.engine} ({choice.method}, weights of {writer.weight_bits} bits), scored in '
        f'{choice.scored_in}'
    )

    def rank() -> Ranking:
        errors = calibrated.layer_errors(choice.target)
        return rank_layers(errors, calibrated.quantiser.heads, drop_fn, max_drop)

    return search(writer, folder / choice.file, max_drop, drop_fn, rank, report)


def _record(
    folder: Path, choice: Int8Choice, result: QuantisationReport, drop_fn: DropFn, max_drop: float
) -> None:
    """Put a report into the sidecar; then remove the network that this one replaces."""
    record: dict[str, Any] = {
        'method': choice.method,
        'judged_in': choice.scored_in,
        'file': choice.file,
        'hashes': {part.name: file_hash(part) for part in network_parts(folder / choice.file)},
        **result.as_dict(),
        'allowed': max_drop,
    }
    if isinstance(drop_fn, ScoreDrop):
        record |= {'limit': 'share of a score', 'scores': drop_fn.as_dict()}
    else:
        record |= {'limit': 'output error'}
    Sidecar.read(folder).with_int8(choice.engine, finite(record)).write(folder)

    for kind in ('onnx', 'xml'):
        if int8_name(choice.engine, kind) != choice.file:
            remove_network(folder / int8_name(choice.engine, kind))
