"""Published weights into a model of ours: every tensor finds its place, or is named."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from ...core.checkpoint import read_checkpoint
from .names import SOURCES
from .rules import Source
from .turning import Axes

_COUNTER = 'num_batches_tracked'


@dataclass
class Imported:
    """What became of a file.

    Attributes:
        taken: by our names.
        unplaced: names of the file that have no place here.
        new: names of ours, below the parts that the source fills, that start as they are.
        other: parts of ours that start as they are, because the file has another form of them or none; each
            with a tensor that shows it.
    """

    taken: dict[str, Tensor] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    other: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What to tell the user: every tensor without a place by its name."""
        said = [f'{len(self.taken)} tensors found their place']
        if self.new:
            said.append(f'{len(self.new)} tensors of these parts start as they are: {", ".join(self.new)}')
        said += [f'{part}* starts as it is: {shown}' for part, shown in self.other.items()]
        if self.unplaced:
            said.append(f'{len(self.unplaced)} tensors of the file have no place:')
            said += [f'  {name}' for name in self.unplaced]
        return said


def import_weights(model: nn.Module, path: str | Path, source: str) -> Imported:
    """Copy a published checkpoint into a model, or say what does not fit and copy nothing.

    Args:
        model: of this package; its sensors' axes say how the weights' frame lies in ours.
        path: the checkpoint, read with `weights_only`.
        source: one of `SOURCES`.

    Raises:
        FileNotFoundError: no such file. ValueError: an unknown source, a damaged file, a part that the model
            lacks, groups of other classes, or tensors that are absent, too many or of another shape: all of
            them by name.
    """
    if source not in SOURCES:
        raise ValueError(f'source: expected one of {", ".join(SOURCES)}, found {source!r}')
    weights = read_checkpoint(path)['state_dict']
    imported = plan_import(model, weights, SOURCES[source], f'{path}, as {source}')
    model.load_state_dict(imported.taken, strict=False)
    return imported


def plan_import(model: nn.Module, weights: Mapping[str, Tensor], source: Source, where: str) -> Imported:
    """Match a file's tensors with a model's by the table of its source.

    Raises:
        ValueError: as `import_weights`.
    """
    state = model.state_dict()
    _check_parts(state, source, where)
    _check_groups(model, source, where)
    axes = weight_axes(model)
    weights = {name.removeprefix('module.'): tensor for name, tensor in weights.items()}
    prepared = weights if source.prepared is None else source.prepared(weights, state)
    placed = {
        name: _placed(name, tensor, source, axes, f'{where}: {name}')
        for name, tensor in prepared.items()}

    # a part that may have another form is taken whole or not at all
    imported, wrong = _match(placed, state, source, [*source.parts, *source.optional])
    other = {part: next((wrong[name] for name in wrong if name.startswith(part)), '')
             for part in source.optional}
    if any(other.values()):
        fitting = [part for part in source.optional if not other[part]]
        imported, wrong = _match(placed, state, source, [*source.parts, *fitting])
        imported.other = {part: shown for part, shown in other.items() if shown}

    if wrong:
        raise ValueError(
            f'{where}: another architecture than the configuration: {len(wrong)} tensors do not fit: '
            f'{"; ".join(wrong.values())}; without a place: {", ".join(imported.unplaced) or "none"}')
    return imported


def _match(
    placed: Mapping[str, tuple[str | None, Tensor]], state: Mapping[str, Tensor], source: Source,
    parts: Sequence[str],
) -> tuple[Imported, dict[str, str]]:
    """What of a file goes where, by {its name: (our name, numbers)}; and by our names what does not fit."""
    imported, wrong, seen = Imported(), {}, set()
    built = _built(state, (*source.lists, *parts))
    left_out = tuple(part for part in source.optional if part not in parts)

    for name, (ours, changed) in placed.items():
        if ours is None or ours not in state or ours.startswith(left_out):
            imported.unplaced.append(name)
            # a stage that is not built is left out whole; one with more layers is another network
            if ours is not None and ours.startswith(built) and not ours.endswith(_COUNTER):
                wrong[ours] = f'{name}: the model has no {ours}'
            continue

        seen.add(ours)
        if changed.shape == state[ours].shape:
            imported.taken[ours] = changed.to(state[ours].dtype)
        else:
            wrong[ours] = f'{name} {tuple(changed.shape)}: {ours} has {tuple(state[ours].shape)}'

    is_new = re.compile('|'.join(source.new) or r'(?!)')
    for name in (name for name in state if name.startswith(tuple(parts)) and name not in seen):
        if is_new.fullmatch(name):
            imported.new.append(name)
        elif not name.endswith(_COUNTER):
            wrong[name] = f'{name} is absent from the file'
    return imported, wrong


def weight_axes(model: nn.Module) -> Axes:
    """The frame in which a model's LiDAR encoder has its weights; ego's own where it has no choice."""
    encoders = model.encoders
    axes = getattr(encoders['lidar'], 'axes', None) if 'lidar' in encoders else None
    if axes is None:
        return Axes(0, ((1, 0), (0, 1)), 0.0)
    return Axes(axes.quarter_turns, tuple(map(tuple, axes.turn())), axes.origin_m[2])


def _placed(
    name: str, tensor: Tensor, source: Source, axes: Axes, where: str
) -> tuple[str | None, Tensor]:
    """Our name of a tensor and its numbers in our form; (None, as it is) where it has no place."""
    for rule in source.rules:
        ours = rule.renamed(name)
        if ours is None:
            continue
        try:
            return ours, tensor if rule.change is None else rule.change(tensor, axes)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f'{where}: {error}') from error
    return None, tensor


def _built(state: Mapping[str, Tensor], rows: Sequence[str]) -> tuple[str, ...]:
    """Prefixes of what the model has directly below some prefixes: stages, branches, single layers."""
    owners = [(next((row for row in rows if name.startswith(row)), None), name) for name in state]
    return tuple({
        f'{row}{name.removeprefix(row).split(".")[0]}.' for row, name in owners if row is not None})


def _check_groups(model: nn.Module, source: Source, where: str) -> None:
    """Groups of as many other classes would take the weights, and call a car by another name."""
    if not source.groups:
        return
    found = [list(group) for group in getattr(model.heads['detection'], 'groups', ())]
    if found != [list(group) for group in source.groups]:
        raise ValueError(
            f'{where}: model.heads.detection.groups: expected the published classes in their order '
            f'{[list(group) for group in source.groups]}, found {found}')


def _check_parts(state: Mapping[str, Tensor], source: Source, where: str) -> None:
    for part in source.parts:
        if not any(name.startswith(part) for name in state):
            raise ValueError(f'{where}: the model has nothing below {part!r}, where these weights belong')
