"""Compare configurations under one budget: each row is trained, judged and timed in the same way.

A row is a configuration and a seed. Its phases (train, test, without_<sensor>, latency) leave a JSON each in
the row's folder; a phase whose file is there, made with the same settings, is left out. `comparison_table`
makes the table of these files.

All rows follow one recipe, another configuration: its data, precision, optimiser and heads. A row adds what
it changes in data and heads against the base of both; transforms of its own stay behind the recipe's.
"""
from __future__ import annotations

import copy
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import Subset

from ..core.checkpoint import load_shared, read_checkpoint
from ..core.config import config_name, pipeline_transforms, read_config
from ..core.files import write_json
from ..core.selection import spread
from ..registry import DATASETS, FUNCTIONS, MODELS, without_pretrained
from .runner import PerceptionRunner

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WARMUP_STEPS = 60
KEPT_HOOKS = ('ExpertUsageHook',)


@dataclass(frozen=True)
class Row:
    """One configuration (a path below `configs/`) under a name for people.

    Attributes:
        start: whose trained weights it starts from, all of equal name and shape: the name of a row above it
            (same seed), for recipes that are published as a second training, or a checkpoint `*.pth` of the
            repository; None: from nothing.
        steps: of the optimiser, in the place of the budget's.
    """

    name: str
    config: str
    start: str | None = None
    steps: int | None = None

    @property
    def folder(self) -> str:
        """Name of the row's folder."""
        path = Path(self.config)
        return config_name(path) if path.is_absolute() else path.with_suffix('').as_posix()


@dataclass(frozen=True)
class Budget:
    """What every row gets.

    Attributes:
        steps: of the optimiser, with a cosine over them.
        batch: samples a step; None keeps the recipe's.
        root: of the data; None keeps the recipe's.
        load_from: checkpoint that encoders start from.
        freeze: prefixes that are not trained, such as 'encoders.lidar.'; 'encoders' means those that the
            checkpoint brings.
        limit: samples of the validation split to judge, spread evenly; None takes all.
        without: sensors to take away in turn.
        options: changes of every configuration, as `--cfg-options` makes them.
    """

    steps: int
    batch: int | None = None
    root: str | None = None
    load_from: str | None = None
    freeze: tuple[str, ...] = ()
    limit: int | None = None
    without: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The rows, the recipe that all of them follow, and the configuration that rows and recipe change."""

    configs: Path
    rows: tuple[Row, ...]
    recipe: dict[str, Any]
    base: dict[str, Any]

    @staticmethod
    def read(path: str | Path, recipe: str | Path | None = None) -> Plan:
        """Read a list of rows such as `configs/comparisons/systems.py`; the files it names lie in the folder
        above.

        Args:
            recipe: another configuration than the list's.

        Raises:
            FileNotFoundError: there is no such list, or it names a configuration that is not there.
            ValueError: a row starts from what is neither a row above it nor a checkpoint.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'list of rows {path}: no such file')
        found, configs = Config.fromfile(str(path)), path.resolve().parents[1]
        rows = tuple(Row(**row) for row in found.rows)
        for i, row in enumerate(rows):
            if (
                row.start is not None
                and not row.start.endswith('.pth')
                and row.start not in [other.name for other in rows[:i]]
            ):
                raise ValueError(
                    f'{path}: row {row.name!r} starts from {row.start!r}, expected the name of a row above it or a '
                    'checkpoint *.pth'
                )
        return Plan(
            configs, rows, read_config(recipe or configs / found.recipe).to_dict(),
            read_config(configs / found.base).to_dict())

    def row(self, name: str) -> Row:
        """The row of this name (or of this configuration's name).

        Raises:
            ValueError: there is none.
        """
        for row in self.rows:
            if name in (row.name, row.folder):
                return row
        raise ValueError(f'row {name!r}: expected one of {", ".join(repr(r.folder) for r in self.rows)}')


# --------------------------------------------------------------------------------------------------------
# configurations

def changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What `new` says that `old` does not say alike, nested dictionaries entry by entry; of a `pipeline` the
    stages that `old` lacks.
    """
    found = {}
    for key, value in new.items():
        before = old.get(key)
        if key == 'pipeline' and before:
            value = {name: stage for name, stage in value.items() if name not in before}
            before = {}
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            value = changes(value, before)
            if value:
                found[key] = value
        elif key not in old or value != before:
            found[key] = value
    return found


def merge(recipe: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with a row's own changes on top; a row's own stages of a pipeline come behind the recipe's."""
    found = {key: copy.deepcopy(value) for key, value in recipe.items()}
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = merge(found[key], value)
        else:
            found[key] = copy.deepcopy(value)
    return found


def row_config(plan: Plan, row: Row, budget: Budget, seed: int, folder: Path) -> Config:
    """The configuration that a row is trained with."""
    tree = read_config(plan.configs / row.config).to_dict()
    for loader in LOADERS:
        tree[loader] = merge(plan.recipe[loader], changes(tree[loader], plan.base[loader]))
        if budget.root is not None:
            tree[loader]['dataset']['root'] = budget.root
    tree['model']['heads'] = merge(
        plan.recipe['model']['heads'], changes(tree['model']['heads'], plan.base['model']['heads'])
    )
    tree['optim_wrapper'] = copy.deepcopy(plan.recipe['optim_wrapper'])
    if budget.batch is not None:
        tree['train_dataloader']['batch_size'] = budget.batch
    tree |= _schedule(row.steps or budget.steps)
    tree |= {
        'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None, 'work_dir': str(folder),
        'launcher': 'none', 'load_from': None, 'resume': False,
        'randomness': {'seed': seed, 'deterministic': False},
        'custom_hooks': [hook for hook in tree.get('custom_hooks', []) if hook['type'] in KEPT_HOOKS],
        'visualizer': {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]}}
    tree['test_evaluator']['results_dir'] = None
    tree['freeze'] = frozen_prefixes(tree['model']['encoders'], budget)
    config = Config(tree)
    config.merge_from_dict(budget.options)
    return config


def _schedule(steps: int) -> dict[str, Any]:
    """Counted in steps: a short warm-up, a cosine to a hundredth, one checkpoint at the end."""
    warmup = min(WARMUP_STEPS, steps // 10)
    cosine = {'type': 'CosineAnnealingLR', 'by_epoch': False, 'T_max': steps, 'eta_min_ratio': 1e-2}
    line = {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': warmup}
    return {
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': steps, 'val_interval': steps + 1},
        'param_scheduler': [line, cosine] if warmup > 1 else [cosine],
        'log_processor': {'type': 'LogProcessor', 'window_size': 20, 'by_epoch': False},
        'default_hooks': {
            'timer': {'type': 'IterTimerHook'},
            'logger': {'type': 'LoggerHook', 'interval': 20},
            'param_scheduler': {'type': 'ParamSchedulerHook'},
            'sampler_seed': {'type': 'DistSamplerSeedHook'},
            'checkpoint': {
                'type': 'CheckpointHook', 'by_epoch': False, 'interval': steps, 'save_optimizer': False},
        },
    }


# --------------------------------------------------------------------------------------------------------
# shared weights

def sensors_in(weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Sensors whose encoders have weights here."""
    return {name.split('.')[1] for name in weights if name.startswith('encoders.')}


def frozen_prefixes(encoders: Mapping[str, Any], budget: Budget) -> list[str]:
    """`budget.freeze` with 'encoders' written out for those encoders of the row that the checkpoint brings.

    Raises:
        ValueError: encoders are to be frozen and no checkpoint brings any: they would stay random.
    """
    rest = [prefix for prefix in budget.freeze if prefix.rstrip('.') != 'encoders']
    if len(rest) == len(budget.freeze):
        return rest
    known = sensors_in(read_checkpoint(budget.load_from)['state_dict']) if budget.load_from else set()
    own = [
        f'encoders.{sensor}.'
        for sensor, encoder in encoders.items()
        if encoder is not None and sensor in known
    ]
    if not own:
        raise ValueError(
            f'freeze {budget.freeze}: expected a checkpoint with one of the encoders {", ".join(encoders)}, '
            f'found {", ".join(sorted(known)) or "none"} in {budget.load_from}'
        )
    return own + rest


# -----------------------------------------------------------------------------------------------------------------
# phases

def run_row(
    plan: Plan,
    row: Row,
    budget: Budget,
    seed: int,
    work_dir: str | Path,
    phases: Sequence[str] | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Do the phases of a row that have no result yet; `phases` None means all but `latency`, which wants
    the machine for itself.
    """
    folder = row_folder(work_dir, row, seed)
    config = row_config(plan, row, budget, seed, folder)
    settings, start = identity(config, budget), None
    if row.start is not None and row.start.endswith('.pth'):
        start = plan.configs.parent / row.start
        settings['start'] = file_identity(start) if start.is_file() else None  # `train` says what is missing
    elif row.start is not None:
        first = plan.row(row.start)
        settings['start'] = identity(row_config(plan, first, budget, seed, folder), budget)['configuration']
        start = checkpoint_of(row_folder(work_dir, first, seed), first, budget)
    for phase in phases_of(config, budget) if phases is None else phases:
        path = folder / f'{phase}.json'
        if read_phase(path, settings, phase) is not None:
            report(f'{row.name}, seed {seed}: {phase} is done already')
            continue
        began = time.perf_counter()
        found = _run_phase(phase, config, budget, checkpoint_of(folder, row, budget), start, report)
        found |= {'settings': settings_of(settings, phase), 'wall_s': round(time.perf_counter() - began, 1)}
        write_json(path, found, indent=1)
        report(f'{row.name}, seed {seed}: {phase} took {found["wall_s"]} s')


def phases_of(config: Config, budget: Budget) -> list[str]:
    """Training, test, and a test without each sensor that the row has beside another one."""
    sensors = [sensor for sensor, encoder in config.model.encoders.items() if encoder is not None]
    return ['train', 'test', *(f'without_{s}' for s in budget.without if s in sensors and len(sensors) > 1)]


def row_folder(work_dir: str | Path, row: Row, seed: int) -> Path:
    """Where a row's files are."""
    return Path(work_dir) / row.folder / f'seed{seed}'


def checkpoint_of(folder: Path, row: Row, budget: Budget) -> Path:
    """Where a row's trained weights are."""
    return folder / f'iter_{row.steps or budget.steps}.pth'


def _run_phase(phase: str, config: Config, budget: Budget, trained: Path, start: Path | None,
               report: Callable[[str], None]) -> dict[str, Any]:
    if phase == 'train':
        return train(config, budget, start, report)
    if phase == 'latency':
        return latency(config)
    lost = phase.removeprefix('without_') if phase.startswith('without_') else None
    return {'metrics': judge(config, trained, lost, budget.limit)}


def train(
    config: Config, budget: Budget, start: Path | None, report: Callable[[str], None]
) -> dict[str, Any]:
    """Train, from the weights of `start` where given; the checkpoint is `iter_<steps>.pth` in the row's
    folder.

    Raises:
        FileNotFoundError: the checkpoint to start from is not there.
    """
    runner = PerceptionRunner.from_cfg(copy.deepcopy(config))
    loaded, kept = 0, []
    if budget.load_from:
        loaded, kept = load_shared(runner.model, read_checkpoint(budget.load_from)['state_dict'])
        report(f'{budget.load_from}: {loaded} tensors of the encoders taken, {len(kept)} not in it'
               + (f' (the first: {kept[0]})' if kept else ''))
    if start is not None:
        if not start.is_file():
            raise FileNotFoundError(
                f"{start}: no such checkpoint; where it is a row's, train the row that this one starts from "
                'first'
            )
        taken, _ = load_shared(runner.model, read_checkpoint(start)['state_dict'], prefix='')
        report(f'{start}: {taken} tensors taken')
    runner.train()
    scalars = {
        name: runner.message_hub.get_scalar(f'train/{name}').data[0] for name in ('time', 'data_time', 'loss')
    }
    steps_s = [float(t - d) for t, d in zip(scalars['time'], scalars['data_time'], strict=True)]
    return {
        **count_parameters(runner.model), 'loaded_tensors': loaded, 'not_loaded': kept,
        'frozen': config['freeze'], 'step_ms': 1000 * statistics.median(steps_s[len(steps_s) // 5 :]),
        'loss_first': float(scalars['loss'][:20].mean()), 'loss_last': float(scalars['loss'][-20:].mean())}


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of the whole model and of what is not an encoder."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return {
        'parameters': sum(sizes.values()),
        'parameters_outside_encoders': sum(
            n for name, n in sizes.items() if not name.startswith('encoders.')
        ),
    }


def judge(
    config: Config, checkpoint: Path, lost: str | None = None, limit: int | None = None
) -> dict[str, float]:
    """Figures on the test loader's split, with one sensor taken away from every sample."""
    config = copy.deepcopy(config)
    config.load_from = str(checkpoint)
    sensors = [
        sensor for sensor, encoder in config.model.encoders.items() if encoder is not None and sensor != lost
    ]
    runner = PerceptionRunner.from_cfg(config)
    loader = copy.deepcopy(dict(config.test_dataloader))
    pipeline = pipeline_transforms(loader['dataset'].get('pipeline', ()))
    if lost is not None:
        pipeline.append({'type': 'SensorDropout', 'keep': {'+'.join(sensors): 1.0}})
    whole = DATASETS.build({**loader['dataset'], 'pipeline': pipeline})
    loader['dataset'] = Subset(whole, spread(len(whole), limit))
    loop = runner.test_loop
    for metric in loop.evaluator.metrics if limit is not None else ():
        metric.judge.detection_truth = None  # tables hold the whole split
    runner.call_hook('before_run')
    runner.load_or_resume()
    loop.dataloader = runner.build_dataloader(loader, seed=runner.seed)
    return {name: float(value) for name, value in loop.run().items()}


def latency(config: Config, runs: int = 10, warmup: int = 3) -> dict[str, Any]:
    """Milliseconds of the network alone (graph inputs -> raw outputs), one sample, float32, median of
    `runs`."""
    model = MODELS.build(without_pretrained(config.model.to_dict())).eval()
    loader = config.test_dataloader
    collate = dict(loader.collate_fn)
    batch = FUNCTIONS.get(collate.pop('type'))([DATASETS.build(loader.dataset)[0]], **collate)
    times = []
    with torch.no_grad():
        inputs = model.prepare(model.data_preprocessor(batch)['inputs'])
        for _ in range(warmup + runs):
            began = time.perf_counter()
            model.network(inputs)
            times.append(time.perf_counter() - began)
    return {'network_ms': 1000 * statistics.median(times[warmup:]), 'threads': torch.get_num_threads()}


# ------------------------------------------------------------------------------------------------------------------
# files

def identity(config: Config, budget: Budget) -> dict[str, Any]:
    """What must be equal for an earlier result to count."""
    tree = {
        key: value for key, value in config.to_dict().items() if key != 'work_dir' and not key.startswith('_')
    }
    text = json.dumps(tree, sort_keys=True, default=str)
    found = {'configuration': hashlib.sha256(text.encode()).hexdigest()[:16], 'limit': budget.limit}
    if budget.load_from:
        found |= {f'load_from_{key}': value for key, value in file_identity(budget.load_from).items()}
    return found


def file_identity(path: str | Path) -> dict[str, int]:
    """What tells a file from a later one of the same name."""
    stat = os.stat(path)
    return {'bytes': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


def settings_of(settings: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The part of the settings that a phase depends on."""
    return {k: v for k, v in settings.items() if k != 'limit' or phase not in ('train', 'latency')}


def read_phase(path: Path, settings: Mapping[str, Any], phase: str) -> dict[str, Any] | None:
    """An earlier result of the same settings; None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: damaged JSON ({error}); delete it to run this phase again') from None
    return found if found.get('settings') == settings_of(settings, phase) else None


def budget_as_json(budget: Budget) -> dict[str, Any]:
    """Plain values of a budget."""
    return asdict(budget)
