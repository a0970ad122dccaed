"""int8 networks of an export: each engine gets a file of its own, searched and judged in that very engine.

    quantise_export(DIR, samples, 0.01, scorer, 'onnxruntime,openvino:nncf')

Engines compute the same quantised network with different kernels, and what they leave in float with other
precisions, so that a network that holds its scores in one of them may lose them in another.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.files import finite
from ..engines import int8_name, open_network
from ..errors import ExportError
from ..export.measured import INT8_METHODS, INT8_NAMES
from ..export.parts import network_parts, remove_network
from ..export.sidecar import NETWORK_NAME, Sidecar, file_hash
from ..measure.scores import ScoreLoss, Scorer
from ..processor import weight_bits as usable_weight_bits
from .nncf_writer import NncfWriter, need_nncf
from .search import (
    Inputs,
    Loss,
    Opener,
    QuantisationReport,
    Quantiser,
    Ranking,
    Writer,
    blame,
    output_loss,
    search,
)

DEFAULT_ENGINES = 'onnxruntime,openvino'


@dataclass(frozen=True)
class Choice:
    """An engine to quantise for, and how.

    Attributes:
        engine: of `INT8_NAMES`; 'any' is one file for engines that are not at hand, judged in ONNX Runtime
            instead.
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
    def judge(self) -> str:
        """The engine that is asked."""
        return 'onnxruntime' if self.engine == 'any' else self.engine

    @property
    def target(self) -> str:
        """Of `quantise.TARGETS`."""
        return 'cpu' if self.engine in ('onnxruntime', 'openvino') else 'any'

    @property
    def weight_bits(self) -> int:
        """What the device that judges can use: on a processor without VNNI, products with 8 bits saturate."""
        return 8 if self.judge == 'tensorrt' else usable_weight_bits()


def parse_choices(words: str) -> tuple[Choice, ...]:
    """'onnxruntime,openvino:nncf' -> choices.

    Raises:
        ValueError: an engine or method that is not known, or an engine named twice.
    """
    choices = tuple(Choice(*word.strip().split(':', 1)) for word in words.split(','))
    names = [choice.engine for choice in choices]
    if len(set(names)) < len(names):
        raise ValueError(
            f'int8 engines: expected each once, since each has one quantised network, found {words!r}'
        )
    return choices


def quantise_export(
    folder: str | Path,
    samples: Iterable[Inputs],
    allowed: float,
    scorer: Scorer | None = None,
    engines: str | Sequence[Choice] = DEFAULT_ENGINES,
    report: Callable[[str], None] = print,
    weight_bits: int | None = None,
) -> dict[str, QuantisationReport]:
    """Write one int8 network per engine into an export folder, and its verdict into the sidecar
    (`measured.int8` by engine).

    Where all layers in int8 lose too much, the heads of the tasks that lost it go to float, then as few
    layers as need be, the worst first, until the limit holds in the engine itself, against that engine's own
    fp32. Layers are ranked by the error that each alone in int8 brings into these tasks' outputs, in ONNX
    Runtime, where that is quick.

    Args:
        folder: of an export.
        samples: graph inputs of calibration frames.
        allowed: with a `scorer` the largest share of any task's float score that may be lost, without one the
            largest relative L2 error of any output.
        engines: choices, or words for `parse_choices`.
        weight_bits: 7 or 8, of every network (default: what the judging processor can use,
            `processor.weight_bits`; 8 for a GPU).

    Returns:
        {engine: what became of its network}.

    Raises:
        EngineUnavailable: an engine or NNCF is not at hand; nothing was searched yet. ExportError: the limit
        cannot be held in some engine (the networks of the others are kept), or no task scores anything.
    """
    choices = parse_choices(engines) if isinstance(engines, str) else tuple(engines)
    if any(choice.method == 'nncf' for choice in choices):
        need_nncf()
    folder, sidecar, samples = Path(folder), Sidecar.read(folder), list(samples)
    network = folder / NETWORK_NAME
    losses = {choice.engine: _loss(choice, network, samples, scorer, _opener(choice.judge, sidecar), report)
              for choice in choices}
    base = Quantiser(network, samples)

    @cache
    def aimed(target: str, bits: int | None = weight_bits) -> Quantiser:
        return base.aimed_at(target, bits)

    @cache
    def errors(target: str) -> dict[str, dict[str, float]]:
        return aimed(target).sensitivity(aimed(target).output_errors(samples=2), report)

    found, failed = {}, []
    for choice in choices:
        bits = weight_bits or choice.weight_bits
        writer: Writer = (
            aimed(choice.target, bits) if choice.method == 'qdq' else NncfWriter(network, samples, bits)
        )
        report(f'int8 for {choice.engine} ({choice.method}, weights of {bits} bits), judged in {choice.judge}')
        try:
            loss = losses[choice.engine]
            result = search(
                writer, folder / choice.file, allowed, loss,
                lambda loss=loss, target=choice.target: rank(errors(target), base.heads, loss, allowed),
                report)
        except ExportError as error:
            failed.append(f'int8 for {choice.engine}: {error}')
            continue
        found[choice.engine] = result
        _record(folder, choice, result, loss, allowed)
    if failed:
        raise ExportError('; '.join([*failed, f'written: {", ".join(found) or "none"}']))
    return found


def rank(
    errors: Mapping[str, Mapping[str, float]], heads: Mapping[str, Sequence[str]], loss: Loss, allowed: float
) -> Ranking:
    """First the whole heads of the tasks that lost too much when last judged: they are small, and int8 hurts
    their own answers most. Then layers by how much they are to blame (`quantise.blame`) for these tasks'
    outputs.

    Without scores, every output's error counts as it is.
    """
    if not isinstance(loss, ScoreLoss):
        return Ranking({layer: max(error.values()) for layer, error in errors.items()})
    tasks = {task for task, lost in loss.lost.items() if not lost <= allowed}
    every = {output for error in errors.values() for output in error}
    blamed = blame(errors, {output for output in every if output.split('.')[0] in tasks} or every)
    return Ranking(blamed, {layer for task in tasks for layer in heads.get(task, ())})


def _opener(engine: str, sidecar: Sidecar) -> Opener:
    return lambda path: (
        open_network(engine, path, sidecar, 'fp32' if path.name == NETWORK_NAME else 'int8').infer
    )


def _loss(choice: Choice, network: Path, samples: list[Inputs], scorer: Scorer | None, opener: Opener,
          report: Callable[[str], None]) -> Loss:
    if scorer is None:
        return output_loss(network, samples, opener)
    return ScoreLoss(scorer, network, report, opener, choice.judge)


def _record(folder: Path, choice: Choice, result: QuantisationReport, loss: Loss, allowed: float) -> None:
    """Put the verdict into the sidecar; then remove the network that this one takes the place of."""
    said: dict[str, Any] = {
        'method': choice.method, 'judged_in': choice.judge, 'file': choice.file,
        'hashes': {part.name: file_hash(part) for part in network_parts(folder / choice.file)},
        **result.as_dict(), 'allowed': allowed}
    scores = loss.as_dict() if isinstance(loss, ScoreLoss) else None
    said |= {'limit': 'output error'} if scores is None else {'limit': 'share of a score', 'scores': scores}
    Sidecar.read(folder).with_int8(choice.engine, finite(said)).write(folder)
    for kind in ('onnx', 'xml'):
        if int8_name(choice.engine, kind) != choice.file:
            remove_network(folder / int8_name(choice.engine, kind))
