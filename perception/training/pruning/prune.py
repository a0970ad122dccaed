"""A trained model -> one with fewer channels, and the files from which it is built again."""
from __future__ import annotations

import ast
import pprint
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoint import kept_meta
from ...core.contracts import Batch
from ...core.files import write_json, write_text, write_whole
from ...model import MultiTaskPerception
from ..profile import forward_flops
from ..targets import with_targets
from .channels import cut_channels, start_over, working_groups
from .coupling import channel_groups, prunable_layers
from .search import Operations, PruneOptions, PruneStep, search_channels


@dataclass(frozen=True)
class Pruning:
    """What pruning did.

    Attributes:
        widths: of the layers that are narrower than the model was, see `set_widths`.
        steps: what became of each group of channels.
        flops: operations of a frame (before, after), as torch counts them.
        parameters: numbers (before, after).
    """

    widths: dict[str, list[int]]
    steps: list[PruneStep]
    flops: tuple[int, int]
    parameters: tuple[int, int]

    def lines(self, options: PruneOptions) -> list[str]:
        """What to tell the user."""
        said = [
            f'{word}: {before / unit:.2f} -> {after / unit:.2f} {name} ({after / before - 1:+.1%})'
            for word, (before, after), unit, name in (
                ('operations of a frame', self.flops, 1e9, 'GFLOP'),
                ('parameters', self.parameters, 1e6, 'M'))]
        if self.steps:
            losses = ', '.join(f'{task} {value - 1:+.1%}' for task, value in self.steps[-1].losses.items())
            said.append(f'losses on the calibration batches, without fine-tuning: {losses}')
        if self.flops[1] > options.flops * self.flops[0] * 1.005:
            said.append(
                f'the aim of {options.flops:.0%} of the operations is not reached: a larger --max-loss than '
                f'{options.max_loss:g}, or a search to its end, takes more')
        return said


def prune_model(
    model: MultiTaskPerception,
    load: Callable[[], dict],
    batches: int,
    options: PruneOptions,
    report: Callable[[str], None] = lambda line: None,
) -> Pruning:
    """Prune a model in place.

    Args:
        model: with its trained weights; it is put into evaluation.
        load: the next batch of training samples, as a loader gives it.
        batches: how many guard the tasks' losses.
        options: how far.
        report: gets a line when a step is done.

    Raises:
        ValueError: no sample among the batches has every sensor, a task has no labels in them, or no channel
            can go.
    """
    raw = [load() for _ in range(batches)]
    model.eval()
    given = [with_targets(model.data_preprocessor(batch), model.heads) for batch in raw]
    sample, first = _whole_sample([batch['inputs'] for batch in given])
    apart = getattr(model, 'memory_apart', nullcontext)

    with apart():
        groups = channel_groups(model, sample)
        report(f'{len(groups)} groups of channels; trying which can be cut')
        kept = working_groups(model, sample, groups, given[0])
        report(f'{len(kept)} groups can be cut, {sum(map(len, kept))} channels')

        layers = prunable_layers(model)
        start_over(model)
        before = frame_flops(model, raw[first])
        operations = Operations(
            model, layers, lambda: model(given[first]['inputs'], mode='tensor'),
            before * len(raw[first]['inputs']))
        numbers = _parameters(model)
        cuts, steps = search_channels(
            model, kept, operations, given, options, lambda step: report(_step_line(step)))

        widths = cut_channels(model, cuts)
        start_over(model)
        after = frame_flops(model, raw[first])
    return Pruning(widths, steps, (before, after), (numbers, _parameters(model)))


def frame_flops(model: MultiTaskPerception, batch: Mapping[str, Any]) -> int:
    """Operations of a frame: the mean over a batch, as a loader gives it."""
    return sum(forward_flops(model, batch).values()) // len(batch['inputs'])


def write_pruned(
    folder: str | Path, name: str, config: Any, model: MultiTaskPerception, pruning: Pruning,
    checkpoint: Mapping[str, Any],
) -> Path:
    """Write `<name>_pruned.pth`, `pruning.json` and, last, `<name>_pruned.py`, from which the model is built.

    Args:
        folder: is made where it does not exist.
        name: of the configuration.
        config: of the model before; it may be a pruned one already.
        model: the pruned model.
        pruning: what was done.
        checkpoint: of the model before, whose classes the new one keeps.

    Returns:
        The configuration's path.

    Raises:
        ValueError: the configuration holds values that cannot be written as Python.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f'{name}_pruned.pth'
    values = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    for key in ('start_weights', 'resume', 'work_dir'):
        values.pop(key, None)
    values['model'] = {
        **values['model'], 'widths': {**(values['model'].get('widths') or {}), **pruning.widths}}
    values['load_from'] = str(weights.resolve())
    left = pruning.flops[1] / pruning.flops[0]
    text = config_text(values, f'{name}, pruned to {left:.0%} of its operations.')

    content = {'state_dict': model.state_dict(), 'meta': {**kept_meta(checkpoint), 'pruned': name}}
    write_whole(weights, lambda file: torch.save(content, file))
    write_json(folder / 'pruning.json', asdict(pruning), indent=1)
    return write_text(folder / f'{name}_pruned.py', text)


def config_text(values: Mapping[str, Any], title: str) -> str:
    """A configuration file of plain values.

    Raises:
        ValueError: a value that is no plain one, by its key.
    """
    lines = [f'"""{title}"""']
    for key, value in values.items():
        if key.startswith('_'):
            continue
        text = pprint.pformat(value, width=105, sort_dicts=False, compact=True)
        try:
            ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f'configuration: {key}: expected plain values, found: {error}') from error
        lines.append(f'{key} = {text}')
    return '\n'.join(lines) + '\n'


def _whole_sample(batches: Sequence[Batch]) -> tuple[Batch, int]:
    """The first sample that has every sensor, alone, and the number of its batch."""
    for number, batch in enumerate(batches):
        present = torch.stack(list(batch.present().values())).all(0)
        if bool(present.any()):
            return batch.select([int(present.nonzero()[0])]), number
    raise ValueError(f'prune: none of the samples in {len(batches)} batches has every sensor')


def _parameters(model: MultiTaskPerception) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _step_line(step: PruneStep) -> str:
    losses = ' '.join(f'{task} {value:.3f}' for task, value in step.losses.items())
    return f'{step.flops:6.1%}  {step.group}: {step.removed} of {step.channels} gone; losses {losses}'
