"""Start parts of a new training from weights of another one: which parts, under which names, what is new."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from torch import Tensor, nn

from ..core.checkpoint import check_trained_classes, kept_meta, of_all_sensors, read_checkpoint
from ..core.config import SCOPE, build_record
from ..core.files import write_whole
from ..registry import MODELS

_BOXES = 'heads.detection.'


@dataclass(frozen=True)
class StartWeights:
    """What a new training takes from a file of weights; everything below `prefix` that is not `new`.

    Args:
        file: a checkpoint, or what `tools/extract_weights.py` writes.
        prefix: of the model's parameter names, one or several; '' is the whole model.
        rename: {prefix in the file: prefix in the model}; of several that fit a name the longest counts.
        new: prefixes (* stands for anything) of what starts from nothing, whatever the file has there.
        more_inputs: kernels that have inputs behind those of the file: these start at zero, so that the layer
            gives what it gave (a fuser that gets another sensor).

    Raises:
        ValueError: no file.
    """

    file: str = ''
    prefix: str | Sequence[str] = ''
    rename: Mapping[str, str] = field(default_factory=dict)
    new: Sequence[str] = ()
    more_inputs: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError('start_weights.file: expected a file of weights, found none')
        for name in ('prefix', 'new', 'more_inputs'):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))


@dataclass(frozen=True)
class StartPlan:
    """Which tensors of a file go where.

    Attributes:
        fitting: by the model's names, of the model's shapes.
        new: names below the prefixes that start from nothing.
        left: names of the file, as renamed, that the model does not take.
    """

    fitting: dict[str, Tensor]
    new: list[str]
    left: list[str]

    def lines(self, file: str) -> list[str]:
        """What to tell the user."""
        said = [f'{file}: {len(self.fitting)} tensors start from it']
        if self.new:
            said.append(f'{file}: new, by the configuration: {_by_part(self.new)}')
        if self.left:
            said.append(f'{file}: left in the file: {_by_part(self.left)}')
        return said


def start_from(model: nn.Module, options: StartWeights | Mapping[str, Any]) -> list[str]:
    """Start the parts of a model that `start_weights` of a configuration names; nothing is copied by halves.

    Args:
        model: changed in place.
        options: a `StartWeights` or its fields.

    Returns:
        Lines for the log: how many tensors were copied, what is new, what stays in the file.

    Raises:
        FileNotFoundError: no such file. ValueError: an option is unknown or fits nothing, or a tensor that is
            not `new` is absent from the file or of another shape there, or the detection head would start
            from boxes of other classes.
    """
    start = build_record(StartWeights, options, 'start_weights')
    checkpoint = read_checkpoint(start.file)
    plan = plan_start(model.state_dict(), checkpoint['state_dict'], start)
    if any(name.startswith(_BOXES) for name in plan.fitting):
        check_trained_classes(model, checkpoint, f'start_weights {start.file}')
    model.load_state_dict(plan.fitting, strict=False)
    return plan.lines(start.file)


def start_parts(model: nn.Module, options: Any) -> list[str]:
    """`start_from` for what a configuration has in `start_weights`: one file, a list of them, or nothing."""
    return [line for one in _files(options) for line in start_from(model, dict(one))]


def write_start(config: Mapping[str, Any], path: str | Path) -> Path:
    """Write the weights that a training of a configuration begins with, so that they can be tested.

    Args:
        config: a whole configuration; its seed (`randomness.seed`) draws what starts from nothing.
        path: of the checkpoint to write.

    Raises:
        FileNotFoundError, ValueError: from `start_from`.
    """
    init_default_scope(SCOPE)
    set_random_seed((config.get('randomness') or {}).get('seed'))
    model = MODELS.build(config['model'])
    start_parts(model, config.get('start_weights'))

    meta: dict[str, Any] = {}
    for one in _files(config.get('start_weights')):
        meta |= kept_meta(read_checkpoint(one['file']))
    content = {'state_dict': model.state_dict(), 'meta': meta}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, lambda file: torch.save(content, file))


def _files(options: Any) -> Sequence[Any]:
    return options if isinstance(options, (list, tuple)) else [options] if options else []


def plan_start(state: Mapping[str, Tensor], weights: Mapping[str, Tensor], start: StartWeights) -> StartPlan:
    """Match a model's tensors with a file's, by names and shapes alone.

    Running statistics by sets of sensors (`SensorNorm`) may be of other sets there: `of_all_sensors`.

    Raises:
        ValueError: as `start_from` says.
    """
    weights = renamed(weights, start)
    chosen = [name for name in state if name.startswith(start.prefix)]
    _check_prefixes(start, state, chosen)

    is_new = re.compile('|'.join(map(_pattern, start.new)) or r'(?!)')
    new = [name for name in chosen if is_new.match(name)]
    fitting, wrong = {}, []
    for name in (name for name in chosen if not is_new.match(name)):
        tensor = of_all_sensors(name, weights[name], state[name]) if name in weights else None
        if name in start.more_inputs and tensor is not None:
            tensor = with_more_inputs(tensor, state[name])
        if tensor is not None and tensor.shape == state[name].shape:
            fitting[name] = tensor
        else:
            found = 'absent' if tensor is None else f'file {tuple(tensor.shape)}'
            wrong.append(f'{name} ({found}, model {tuple(state[name].shape)})')

    if wrong:
        raise ValueError(
            f'start_weights {start.file}: expected every tensor below {_or_all(start.prefix)} of this '
            f'configuration, {len(wrong)} are absent or of another shape: {"; ".join(wrong[:5])}'
            f'{" ..." if len(wrong) > 5 else ""}. `rename` gives other names, `new` lists what may start '
            'from nothing'
        )
    if not fitting:
        raise ValueError(f'start_weights {start.file}: `new` leaves nothing that starts from the file')
    return StartPlan(fitting, new, [name for name in weights if name not in fitting])


def with_more_inputs(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel `(outputs, inputs, ...)` whose further inputs have no weight, up to the shape of `like`.

    It is returned as it is where anything but the inputs differs, or it has more of them.
    """
    shape = (*kernel.shape[:1], *like.shape[1:2], *kernel.shape[2:])
    if shape != tuple(like.shape) or kernel.shape[1] > like.shape[1]:
        return kernel
    return torch.cat([kernel, kernel.new_zeros(shape[0], shape[1] - kernel.shape[1], *shape[2:])], dim=1)


def renamed(weights: Mapping[str, Tensor], start: StartWeights) -> dict[str, Tensor]:
    """A file's tensors by the names that `rename` gives them.

    Raises:
        ValueError: a prefix to rename fits nothing, or two tensors would have one name.
    """
    result, used = {}, set()
    for name, tensor in weights.items():
        name = name.removeprefix('module.')
        old = max((prefix for prefix in start.rename if name.startswith(prefix)), key=len, default=None)
        if old is not None:
            used.add(old)
            name = start.rename[old] + name.removeprefix(old)
        if name in result:
            raise ValueError(f'start_weights {start.file}: rename: two tensors of the file become {name}')
        result[name] = tensor

    for old in start.rename:
        if old not in used:
            raise ValueError(f'start_weights {start.file}: rename: the file has no tensor below {old!r}')
    return result


def _check_prefixes(start: StartWeights, state: Iterable[str], chosen: Sequence[str]) -> None:
    for prefix in start.prefix:
        if not any(name.startswith(prefix) for name in state):
            raise ValueError(
                f'start_weights {start.file}: expected tensors below {prefix!r} of this configuration, the '
                'model has no parameter there'
            )

    for name in start.more_inputs:
        if name not in chosen:
            raise ValueError(
                f'start_weights {start.file}: more_inputs: expected tensors below {_or_all(start.prefix)} of '
                f'this configuration, found {name!r}'
            )

    for part in start.new:
        if not any(re.match(_pattern(part), name) for name in chosen):
            raise ValueError(
                f'start_weights {start.file}: new: the model has nothing below {part!r} that would start '
                'from the file'
            )


def _pattern(part: str) -> str:
    return re.escape(part).replace(r'\*', '.*')


def _or_all(prefixes: Sequence[str]) -> str:
    return ', '.join(repr(prefix) for prefix in prefixes if prefix) or 'the model'


def _by_part(names: Sequence[str]) -> str:
    """'heads.lanes (34), bridge.layers (60)'."""
    counts = Counter('.'.join(name.split('.')[:2]) for name in names)
    return ', '.join(f'{part} ({count})' for part, count in counts.items())
