"""The phases of a row: training, tests with all sensors and without each, and the network's latency."""
from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from ...core.checkpoint import load_shared, read_checkpoint
from ...core.config import pipeline_transforms
from ...core.files import write_json
from ...core.processes import peak_memory_mb
from ...core.selection import Part, spread, spread_drives
from ...registry import DATASETS, FUNCTIONS, MODELS, task_metrics, without_pretrained
from ..runner import PerceptionRunner
from .configure import row_config
from .files import checkpoint_of, file_identity, identity, read_phase, row_folder, settings_of
from .plan import Budget, Plan, Row

Report = Callable[[str], None]
Teach = Callable[[Config, Path, Path], object]


def run_row(
    plan: Plan,
    row: Row,
    budget: Budget,
    seed: int,
    work_dir: str | Path,
    phases: Sequence[str] | None = None,
    report: Report = print,
    teach: Teach | None = None,
) -> None:
    """Do the phases of a row that have no result yet.

    Args:
        plan: what the row is one of.
        row: the row.
        budget: what every row gets.
        seed: of its training.
        work_dir: folder of the whole comparison.
        phases: some of them; None means all but `latency`, which needs the machine for itself.
        report: takes a line for each phase.
        teach: (configuration, weights, folder) writes a teacher's labels, for rows that are taught.

    Raises:
        ValueError: the row is taught, and nobody teaches.
    """
    folder = row_folder(work_dir, row, seed)
    config = row_config(plan, row, budget, seed, folder)
    settings, start = identity(config, budget), None
    if row.starts_from_file:
        start = plan.configs.parent / row.start
        settings['start'] = file_identity(start) if start.is_file() else None  # training says what is missing
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
        if row.taught and phase == 'train':
            _teach(config, start, folder, teach)
        result = _run_phase(phase, config, budget, checkpoint_of(folder, row, budget), start, report)
        result |= {'settings': settings_of(settings, phase), 'wall_s': round(time.perf_counter() - began, 1)}
        write_json(path, result, indent=1)
        report(f'{row.name}, seed {seed}: {phase} took {result["wall_s"]} s')


def _teach(config: Config, start: Path | None, folder: Path, teach: Teach | None) -> None:
    """Let the weights that a row starts from label what its data lack, and put the labels into `config`."""
    if teach is None or start is None:
        raise ValueError('taught: expected a teacher and somebody who asks it, found none')
    if not start.is_file():
        raise FileNotFoundError(f'{start}: no such checkpoint; train the row that teaches this one first')

    labels = folder / 'labels'
    reading = config.train_dataloader.dataset.setdefault('reading', {})
    reading['pseudo_labels'] = None
    teach(config, start, labels)
    reading['pseudo_labels'] = str(labels)


def phases_of(config: Config, budget: Budget) -> list[str]:
    """Training, test, and a test without each sensor that the row has beside another one.

    Training alone for a row of whose tasks none has a metric (pre-training).
    """
    if not any(head is not None and task in task_metrics() for task, head in config.model.heads.items()):
        return ['train']
    sensors = [sensor for sensor, encoder in config.model.encoders.items() if encoder is not None]
    return ['train', 'test', *(f'without_{s}' for s in budget.without if s in sensors and len(sensors) > 1)]


def _run_phase(
    phase: str, config: Config, budget: Budget, trained: Path, start: Path | None, report: Report
) -> dict[str, Any]:
    if phase == 'train':
        return train_row(config, budget, start, report)
    if phase == 'latency':
        return time_network(config)
    lost = phase.removeprefix('without_') if phase.startswith('without_') else None
    return {'metrics': test_row(config, trained, lost, budget.limit)}


def train_row(config: Config, budget: Budget, start: Path | None, report: Report) -> dict[str, Any]:
    """Train; the checkpoint is `iter_<steps>.pth` in the row's folder.

    Args:
        config: of `row_config`.
        budget: what every row gets.
        start: checkpoint of all weights to start from.
        report: takes a line for each checkpoint that was read.

    Returns:
        Parameters, weights that were taken, time of a step (the wall's median, and processor time over all
        steps), the most memory that the process has held, first and last losses.

    Raises:
        FileNotFoundError: the checkpoint to start from is not there.
    """
    runner = PerceptionRunner.from_cfg(copy.deepcopy(config))
    loaded, kept = 0, []
    if budget.load_from:
        loaded, kept = load_shared(runner.model, read_checkpoint(budget.load_from)['state_dict'])
        first_kept = f' (the first: {kept[0]})' if kept else ''
        report(
            f'{budget.load_from}: {loaded} tensors of the encoders taken, {len(kept)} not in it{first_kept}'
        )
    if start is not None:
        if not start.is_file():
            raise FileNotFoundError(
                f"{start}: no such checkpoint; where it is a row's, train the row that this one starts from "
                'first'
            )
        taken, _ = load_shared(runner.model, read_checkpoint(start)['state_dict'], prefix='')
        report(f'{start}: {taken} tensors taken')

    began_s = time.process_time()
    runner.train()
    step_cpu_ms = 1000 * (time.process_time() - began_s) / config.train_cfg.max_iters

    scalars = {
        name: runner.message_hub.get_scalar(f'train/{name}').data[0] for name in ('time', 'data_time', 'loss')
    }
    # the first fifth of the steps warms up
    steps_s = [float(t - d) for t, d in zip(scalars['time'], scalars['data_time'], strict=True)]
    step_ms = 1000 * statistics.median(steps_s[len(steps_s) // 5:])
    return {
        **count_parameters(runner.model), 'loaded_tensors': loaded, 'not_loaded': kept,
        'frozen': config['freeze'], 'step_ms': step_ms, 'step_cpu_ms': step_cpu_ms,
        'memory_mb': peak_memory_mb(), 'loss_first': float(scalars['loss'][:20].mean()),
        'loss_last': float(scalars['loss'][-20:].mean())}


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of the whole model and of what is not an encoder."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    outside = sum(size for name, size in sizes.items() if not name.startswith('encoders.'))
    return {'parameters': sum(sizes.values()), 'parameters_outside_encoders': outside}


def test_row(
    config: Config, checkpoint: Path, lost: str | None = None, limit: int | None = None
) -> dict[str, float]:
    """Scores on the test loader's split.

    Args:
        config: of `row_config`.
        checkpoint: the trained weights.
        lost: a sensor to take away from every sample.
        limit: samples, spread evenly over the split, whole drives for a model with a memory; None takes all.
    """
    config = copy.deepcopy(config)
    config.load_from = str(checkpoint)
    runner = PerceptionRunner.from_cfg(config)

    # the same loader with the chosen samples alone
    loader = copy.deepcopy(dict(config.test_dataloader))
    pipeline = pipeline_transforms(loader['dataset'].get('pipeline', ()))
    if lost is not None:
        sensors = [s for s, encoder in config.model.encoders.items() if encoder is not None and s != lost]
        pipeline.append({'type': 'SensorDropout', 'keep': {'+'.join(sensors): 1.0}})
    whole = DATASETS.build({**loader['dataset'], 'pipeline': pipeline})

    loop = runner.test_loop
    in_drives = getattr(loop.dataloader.sampler, 'follows_drives', False)
    chosen = spread_drives(whole.drives(), limit) if in_drives else spread(len(whole), limit)
    loader['dataset'] = Part(whole, chosen)
    for metric in loop.evaluator.metrics if limit is not None else ():
        metric.suite.forget_tables()  # they hold the whole split
    runner.call_hook('before_run')
    runner.load_or_resume()
    loop.dataloader = runner.build_dataloader(loader, seed=runner.seed)
    return {name: float(value) for name, value in loop.run().items()}


def time_network(config: Config, runs: int = 10, warmup: int = 3) -> dict[str, Any]:
    """Milliseconds of the network alone (graph inputs -> raw outputs): one sample, float32, the median."""
    model = MODELS.build(without_pretrained(config.model.to_dict())).eval()
    loader = config.test_dataloader
    collate = dict(loader.collate_fn)
    batch = FUNCTIONS.get(collate.pop('type'))([DATASETS.build(loader.dataset)[0]], **collate)

    times_s = []
    with torch.no_grad():
        inputs = model.prepare(model.data_preprocessor(batch)['inputs'])
        for _ in range(warmup + runs):
            began = time.perf_counter()
            model.network(inputs)
            times_s.append(time.perf_counter() - began)
    return {'network_ms': 1000 * statistics.median(times_s[warmup:]), 'threads': torch.get_num_threads()}
