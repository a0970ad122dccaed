"""Our mmengine registry scope and the explicit list of the files that register something in it."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

import mmengine.registry
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry, build_model_from_cfg

from .core.config import SCOPE
from .core.grid import BEVGrid
from .core.protocols import TASKS
from .core.registered import check_registered

_MODEL_FILES = [
    'perception.model', 'perception.slimmable', 'perception.preprocessor', 'perception.bev',
    'perception.fusion', 'perception.heads', 'perception.interop']


PARTS_BY_NAME = ('encoders', 'heads', 'in_channels')
"""Dictionaries of a model's configuration that hold one entry a sensor or task."""


def build_with_parts(cfg: Mapping[str, Any], registry: Registry, **defaults: Any) -> Any:
    """Build `cfg`, its nested parts first: constructors of this package receive built parts and numbers.

    Only dictionaries with a `type` inside a module of *this* package, or registered in `registry` itself by a
    user's file, are built ahead; modules of other packages (mmdet3d, mmdet) get their own sub-configurations
    untouched, as they expect. An entry that is None in one of the `PARTS_BY_NAME` is left out: a
    configuration drops a task of its base with `heads=dict(lanes=None)`. Elsewhere None is a value.
    """
    return _build({**cfg, **defaults}, registry)


def _build(value: Any, registry: Registry, name: str = '') -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_build(item, registry) for item in value)
    if not isinstance(value, Mapping):
        return value

    if 'type' not in value:
        left_out = [key for key, item in value.items() if item is None] if name in PARTS_BY_NAME else []
        return {key: _build(item, registry, key) for key, item in value.items() if key not in left_out}
    if not _is_ours(value['type'], registry):
        return build_foreign(dict(value), registry)
    parts = {key: item if key == 'type' else _build(item, registry, key) for key, item in value.items()}
    return build_model_from_cfg(parts, registry)


def _is_ours(kind: Any, registry: Registry) -> bool:
    """Whether a name or class is of this package, or registered in `registry` itself by a user's file."""
    if foreign_scope(kind):
        return False
    registered = registry.get(kind) if isinstance(kind, str) else kind
    in_package = getattr(registered, '__module__', '').split('.')[0] == SCOPE
    return in_package or registered in registry.module_dict.values()


def foreign_scope(kind: Any) -> str:
    """'mmdet3d' for 'mmdet3d.SECOND'; '' for a name without a scope, for our own and for classes."""
    scope = kind.partition('.')[0] if isinstance(kind, str) and '.' in kind else ''
    return '' if scope == SCOPE or not scope.isidentifier() else scope


def build_foreign(cfg: dict[str, Any], registry: Registry) -> Any:
    """Build a module of another package as that package would.

    Its parts come from its own registry, and its weights start as its `init_cfg` says (mmengine passes that
    on only through modules of its own kind, which ours are not).

    Raises:
        ModuleNotFoundError: the package named before the dot is not installed.
    """
    scope = foreign_scope(cfg['type'])
    if not scope:
        return build_model_from_cfg(cfg, registry)
    if find_spec(scope) is None:
        raise ModuleNotFoundError(
            f'configuration: type {cfg["type"]!r} needs the package {scope!r}, which is not installed '
            "(OpenMMLab's come with the extra [mm]; `make test-mm` shows how it is built)",
            name=scope,
        )

    built = build_model_from_cfg({'_scope_': scope, **cfg}, registry)
    if hasattr(built, 'init_weights'):
        built.init_weights()
    return built


def build_from_data(
    config: Mapping[str, Any], registry: Registry, where: str, foreign: Collection[str] = ()
) -> Any:
    """Build what a file of data describes: the one door for configurations that are not Python.

    The whole tree is checked before anything is built, and no published weights are loaded.

    Args:
        config: plain values, as JSON has them.
        registry: ours.
        where: file and field, for messages.
        foreign: see `check_registered`.

    Raises:
        ValueError: a `type` that is not a registered name, or values that the constructors refuse.
    """
    config = without_pretrained(config)
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ValueError(f'{where}.type: missing, expected a name registered in {SCOPE}')
    check_registered(config, registry, where, foreign)

    # constructors meet values of any kind here, and fail in as many ways
    try:
        return registry.build(config)
    except Exception as error:
        raise ValueError(f'{where}: cannot be built: {type(error).__name__}: {error}') from error


def without_pretrained(config: object) -> object:
    """A model configuration whose backbones load no published weights.

    For a model whose weights come from a checkpoint or an engine.
    """
    if isinstance(config, dict):
        return {
            key: None if key == 'pretrained' or _loads_weights(item) else without_pretrained(item)
            for key, item in config.items()
        }
    if isinstance(config, list):
        return [without_pretrained(item) for item in config]
    return config


def _loads_weights(item: object) -> bool:
    """Whether it is OpenMMLab's way of naming a file of weights: `init_cfg=dict(type='Pretrained', ...)`."""
    kind = str(item.get('type')) if isinstance(item, dict) else ''
    return kind.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')


MODELS = Registry(
    'model', build_func=build_with_parts, parent=MMENGINE_MODELS, scope=SCOPE, locations=_MODEL_FILES
)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['perception.datasets'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, scope=SCOPE, locations=['perception.datasets']
)
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=['perception.datasets'])
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, scope=SCOPE, locations=['perception.datasets'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['perception.evaluation'])
TASK_METRICS = Registry('task metric', scope=SCOPE, locations=['perception.evaluation'])
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope=SCOPE,
    locations=['perception.training', 'perception.visualization.training'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope=SCOPE, locations=['perception.training'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope=SCOPE, locations=['perception.training']
)
BALANCERS = Registry('balancer', scope=SCOPE, locations=['perception.training.balancing'])
OPTIMIZERS = Registry('optimizer', parent=MMENGINE_OPTIMIZERS, scope=SCOPE, locations=['perception.training'])

# One drawing layer per task, under the task's name: `visualization.base.TaskLayer`.
TASK_LAYERS = Registry('drawing layer', scope=SCOPE, locations=['perception.visualization'])

# Kinds that we only use: mmengine looks every kind up in the default scope first and warns where the scope
# lacks it.
_BORROWED = (
    'EVALUATOR', 'LOG_PROCESSORS', 'MODEL_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS', 'RUNNERS', 'RUNNER_CONSTRUCTORS', 'VISBACKENDS', 'VISUALIZERS', 'WEIGHT_INITIALIZERS')
BORROWED = {
    name: Registry(parent.name, parent=parent, scope=SCOPE, locations=['perception.registry'])
    for name in _BORROWED
    if (parent := getattr(mmengine.registry, name, None)) is not None
}

MODELS.register_module(module=BEVGrid)


def known_tasks() -> tuple[str, ...]:
    """The built-in tasks and those whose metric another file has registered."""
    return (*TASKS, *(task for task in TASK_METRICS.module_dict if task not in TASKS))


def task_metrics() -> dict[str, Any]:
    """{task: its class of `evaluation.base.TaskMetric`}: the built-in tasks first, then others."""
    TASK_METRICS.import_from_location()
    return {task: TASK_METRICS.module_dict[task] for task in known_tasks()}


def headline() -> dict[str, str]:
    """{column title: score} of the few scores by which models are compared, of all tasks."""
    return {title: score for metric in task_metrics().values() for title, score in metric.headline.items()}


def task_classes() -> dict[str, tuple[str, ...]]:
    """{task: names of its classes, in the order of the labels}, of tasks that have classes."""
    return {task: metric.classes for task, metric in task_metrics().items() if metric.classes}


def main_scores() -> dict[str, str]:
    """{task: the one score by which it is compared}."""
    return {task: next(iter(metric.headline.values())) for task, metric in task_metrics().items()}
