"""Configuration files, and records of options in them: unknown keys refused with the nearest known one."""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config

SCOPE = 'perception'
"""Our mmengine scope: where names in a configuration are looked up first."""

Record = TypeVar('Record')
_EXTRA_KEYS = {
    'balancer', 'find_unused_parameters', 'model_wrapper_cfg', 'custom_imports', 'freeze', 'start_weights',
    'sync_bn', 'recompute', 'tasks', 'detection_classes'}


@cache
def _runner_keys() -> frozenset[str]:
    """What mmengine's Runner takes; asked for on first use, since importing it is slow."""
    from mmengine.runner import Runner

    return frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}


def read_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Read a configuration and apply `--cfg-options`, refusing keys that mean nothing.

    Names that begin with an underscore are variables of the configuration itself; every other name at the top
    must be known. `tasks = ('detection', ...)` keeps these tasks of the base alone: in the heads, in the
    labels that the loaders read and in the evaluation.
    `detection_classes = dict(name=dict(categories=(...), ...), ...)` names other classes of boxes than
    nuScenes' ten, in the same places. `param_scheduler = dict(type='OneCycle', epochs=20, rising=8)` (fields
    of `OneCycle`) stands for mmengine's schedules that make it; the training is as long as the cycle.

    Raises:
        FileNotFoundError: no such file. ValueError: unknown key, task or field of a class, with the nearest
            known one; a cycle of another length than the training.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'configuration {path}: no such file')

    try:
        config = Config.fromfile(str(path))
    except (UnicodeDecodeError, SyntaxError) as error:
        raise ValueError(f'configuration {path}: expected Python in UTF-8, found: {error}') from error
    for key in options or {}:
        _require_key(config, key, str(path))
    config.merge_from_dict(options or {})

    known = _runner_keys() | _EXTRA_KEYS
    for key in config:
        if key not in known and not key.startswith('_'):
            raise ValueError(f'configuration {path}: unknown key {key!r}{nearest_name(key, known)}')
    if config.get('default_scope', SCOPE) != SCOPE:
        raise ValueError(
            f"configuration {path}: default_scope: expected '{SCOPE}', found {config.default_scope!r}"
        )
    config.default_scope = SCOPE

    schedule = config.get('param_scheduler')
    if isinstance(schedule, Mapping) and schedule.get('type') == 'OneCycle':
        length = (config.get('train_cfg') or {}).get('max_epochs')
        config.param_scheduler = _one_cycle(schedule, length, f'configuration {path}: param_scheduler')
    if config.get('detection_classes') is not None:
        _set_classes(config, str(path))
    if config.get('tasks') is not None:
        tasks = (config.tasks,) if isinstance(config.tasks, str) else tuple(config.tasks)
        _keep_tasks(config, tasks, str(path))
    return config


@dataclass(frozen=True)
class OneCycle:
    """The one-cycle schedule of SECOND and BEVFusion, in half waves (Smith & Topin 2018, arXiv 1708.07120).

    Attributes:
        epochs: of the whole cycle.
        rising: epochs after which the rate is highest.
        peak: the highest rate over the optimiser's.
        end: the last rate over the optimiser's.
        momentum: lowest momentum over the optimiser's, where the rate is highest; None leaves it alone.

    Raises:
        ValueError: the rate would not rise or not fall.
    """

    epochs: int = 20
    rising: int = 8
    peak: float = 10
    end: float = 1e-5
    momentum: float | None = 0.85 / 0.95

    def __post_init__(self) -> None:
        if not 0 < self.rising < self.epochs:
            raise ValueError(
                f'expected 0 < rising < epochs, found rising {self.rising} of {self.epochs} epochs')

    def schedules(self) -> list[dict[str, Any]]:
        """Schedules of mmengine: of the rate up and down, then of the momentum down and up."""
        rate, momentum = 'CosineAnnealingLR', 'CosineAnnealingMomentum'
        up, down = (0, self.rising), (self.rising, self.epochs)
        waves = [(rate, up, self.peak), (rate, down, self.end)]
        if self.momentum is not None:
            waves += [(momentum, up, self.momentum), (momentum, down, 1)]
        return [
            dict(
                type=kind, by_epoch=True, begin=begin, end=end, T_max=end - begin, eta_min_ratio=ratio,
                convert_to_iter_based=True)
            for kind, (begin, end), ratio in waves]


def _one_cycle(options: Mapping[str, Any], max_epochs: int | None, where: str) -> list[dict[str, Any]]:
    given = {name: value for name, value in options.items() if name != 'type'}
    try:
        cycle = build_record(OneCycle, given, 'OneCycle')
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from None

    # a shorter training would end at a high rate, a longer one would stand still
    if max_epochs is not None and cycle.epochs != max_epochs:
        raise ValueError(
            f'{where}: epochs: expected the length of the training, train_cfg.max_epochs {max_epochs}, found '
            f'a cycle of {cycle.epochs} epochs; change both')
    return cycle.schedules()


def _set_classes(config: Config, path: str) -> None:
    """Give the classes of boxes to the detection head, the loaders' labels and the evaluators."""
    from .contracts import DetectionClasses

    given = config.detection_classes
    where = f'configuration {path}: detection_classes'
    classes = DetectionClasses.of(given.to_dict() if hasattr(given, 'to_dict') else given, where)
    if classes.is_nuscenes:
        return

    # those who look at labels of boxes: the head, and a bridge with queries for objects
    head, bridge = (config.model.get('heads') or {}).get('detection'), config.model.get('bridge')
    for part in (head, bridge if bridge is not None and bridge.type == 'M3NetBridge' else None):
        if part is not None:
            part.classes = classes.as_data()

    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        datasets = inner_datasets(config[name].dataset) if config.get(name) is not None else []
        for dataset in (one for one in datasets if one.type == 'NuScenesDataset'):
            dataset.reading = {**(dataset.get('reading') or {}), 'classes': classes.as_data()}
    for name in ('val_evaluator', 'test_evaluator'):
        if config.get(name) is not None:
            options = config[name].get('options') or {}
            boxes = {**(options.get('detection') or {}), 'classes': classes.as_data()}
            config[name].options = {**options, 'detection': boxes}


def _keep_tasks(config: Config, tasks: tuple[str, ...], path: str) -> None:
    """Leave every other task out of the heads, the loaders' labels and the evaluators."""
    heads = config.model.heads
    for task in tasks:
        if heads.get(task) is None:
            raise ValueError(f'configuration {path}: tasks: no head {task!r}{nearest_name(task, heads)}')
    dropped = [task for task in heads if task not in tasks]
    for task in dropped:
        heads[task] = None
    for key, kept in kept_widths(config.model, [f'heads.{task}' for task in dropped]).items():
        config.model[key] = kept

    # experts by task: of the kept tasks alone
    ffn = (config.model.get('fuser') or {}).get('ffn') or {}
    if ffn.get('tasks'):
        ffn.tasks = tuple(task for task in ffn.tasks if task in tasks)

    # a map with vehicles learns from boxes too
    vehicles = (heads.get('map_segmentation') or {}).get('vehicles')
    labels = tuple(dict.fromkeys((*tasks, 'detection'))) if vehicles else tasks
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(name) is not None:
            for dataset in inner_datasets(config[name].dataset):
                dataset.tasks = labels
    for name in ('val_evaluator', 'test_evaluator'):
        if config.get(name) is not None:
            config[name].tasks = tasks


def kept_widths(model: Mapping[str, Any], left_out: Iterable[str]) -> dict[str, Any]:
    """`{'widths': ...}` of a pruned model without the layers of some parts ('heads.lanes'); else nothing."""
    prefixes = tuple(f'{part}.' for part in left_out)
    widths = model.get('widths')
    return {'widths': {
        name: value for name, value in widths.items() if not name.startswith(prefixes)}} if widths else {}


def inner_datasets(dataset: Any) -> list[Any]:
    """The configurations that a dataset's wraps (RepeatDataset, ConcatDataset), or itself."""
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    return [dataset] if inner is None else [found for part in inner for found in inner_datasets(part)]


def pipeline_transforms(pipeline: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """List the transforms of a pipeline in the order in which they run.

    Args:
        pipeline: named stages (`dict(image=..., bev=..., range=...)`, None leaves a stage of a base out), or
            the transforms themselves.
    """
    if isinstance(pipeline, Mapping):
        return [transform for transform in pipeline.values() if transform is not None]
    return list(pipeline)


def config_name(path: str | Path) -> str:
    """Name of a configuration: its path below the folder `configs` ('world/robust'), else its file's name."""
    path = Path(path).resolve().with_suffix('')
    parts = path.parts
    if 'configs' not in parts[:-1]:
        return path.name

    below = len(parts) - parts[::-1].index('configs')
    return '/'.join(parts[below:])


def _require_key(config: Config, dotted: str, path: str) -> None:
    """Refuse an option whose place the configuration does not have, with the nearest name there."""
    node: Any = config.to_dict()
    above: Any = {}

    for part in dotted.split('.'):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            above, node = node, node[int(part)]
        elif isinstance(node, dict) and part in node:
            above, node = node, node[part]
        elif isinstance(node, dict) and (
            part in _runner_keys() | _EXTRA_KEYS or 'type' in node or _is_record(node, above)
        ):
            return  # a key the constructor may know: it says so itself when it does not
        else:
            names = list(node) if isinstance(node, dict) else []
            hint = nearest_name(part, names)
            raise ValueError(f'--cfg-options {dotted}: {path} has no {part!r} there{hint}')


def _is_record(node: dict, above: Any) -> bool:
    """Whether `node` holds options of the constructor of `above`, not parts that have a type of their own."""
    parts = any(isinstance(value, dict) for value in node.values())
    return isinstance(above, dict) and 'type' in above and not parts


def nearest_name(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: '; did you mean ...?', or '' where no name is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f'; did you mean {close[0]!r}?' if close else ''


def build_record(record_type: type[Record], options: Record | Mapping[str, Any] | None, owner: str) -> Record:
    """Build a record of options from the dictionary that a configuration gives.

    Args:
        record_type: a frozen dataclass whose fields all have defaults.
        options: the options that differ from the defaults; None changes nothing, a record stays as it is.
        owner: argument whose value `options` is, for the message ('LaneHead.decoder').

    Returns:
        The record; it checks its own values.

    Raises:
        ValueError: an option is unknown, with the nearest known one, or its value is out of range.
    """
    if isinstance(options, record_type):
        return options

    known = [field.name for field in fields(record_type)]
    for name in options or {}:
        if name not in known:
            raise ValueError(
                f'{owner}: unknown option {name!r}{nearest_name(name, known)} (known: {", ".join(known)})'
            )
    return record_type(**(options or {}))
