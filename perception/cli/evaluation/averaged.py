"""What `perception test` with several checkpoints or --tta means: one model that averages forwards."""
from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.protocols import SENSORS
from ...evaluation.storage.resume import fingerprint, fingerprint_files


def is_averaged(args: argparse.Namespace) -> bool:
    """Whether the command line asks for more than one forward a batch."""
    return bool(args.tta or args.checkpoints or args.also)


def check_also(args: argparse.Namespace) -> None:
    """Raise FileNotFoundError for a file of --also that is not there."""
    for path in (path for pair in args.also for path in pair):
        if not Path(path).is_file():
            raise FileNotFoundError(f'--also {path}: no such file')


def average_words(args: argparse.Namespace) -> dict[str, str]:
    """What else than the first checkpoint makes a run: results of one average are not another's."""
    if not is_averaged(args):
        return {}
    from ...core.config import read_config

    others = [*args.checkpoints, *(path for _, path in args.also)]
    models = [read_config(path, args.cfg_options).model for path, _ in args.also]
    return {
        'mirrored': ','.join(args.tta), 'averaged with': fingerprint_files(others) if others else '',
        'configurations averaged with': fingerprint(models) if models else ''}


def data_options(args: argparse.Namespace, config_path: str) -> dict[str, Any]:
    """What the command line changes in the data of one of its configurations, with `--cfg-options`."""
    from ...core.config import pipeline_transforms, read_config

    options = dict(args.cfg_options or {})
    if args.split:
        options['test_dataloader.dataset.split'] = args.split
    if args.sensors:
        pipeline = read_config(config_path).test_dataloader.dataset.get('pipeline', [])
        drop = {'type': 'SensorDropout', 'keep': {args.sensors.replace(',', '+'): 1.0}}
        options['test_dataloader.dataset.pipeline'] = [*pipeline_transforms(pipeline), drop]
    return options


def use_average(runner: Any, args: argparse.Namespace) -> None:
    """Put the average of all models and views into the runner, whose own model comes first.

    Raises:
        ValueError: models cannot be averaged, or another configuration tests on other data.
    """
    from mmengine.model import is_model_wrapper

    from ...averaging import AveragedModel
    from ...core.config import read_config

    runner.load_or_resume()
    models = [runner.model.module if is_model_wrapper(runner.model) else runner.model]
    models += [_read_model(runner.cfg.model, path) for path in args.checkpoints]
    for config_path, path in args.also:
        config = read_config(config_path, data_options(args, config_path))
        check_same_data(runner.cfg.test_dataloader, config.test_dataloader, config_path)
        models.append(_read_model(config.model, path))

    averaged = AveragedModel(models, args.tta).to(next(models[0].parameters()).device)
    runner.logger.info(
        f'averaged: {averaged.forwards} forwards a batch: {len(models)} models x {len(averaged.views)} views')
    runner.replace_model(averaged)


def check_same_data(expected: Mapping[str, Any], found: Mapping[str, Any], config_path: str) -> None:
    """Refuse a model that would be tested on other samples, images or points than the first one.

    Raises:
        ValueError: names the field, what was found and what was expected.
    """
    def fields(loader: Mapping[str, Any]) -> dict[str, Any]:
        named = {f'dataset.{name}': value for name, value in loader['dataset'].items()}
        named |= {f'collate_fn.{name}': value for name, value in loader.get('collate_fn', {}).items()}
        return named

    first, other = fields(expected), fields(found)
    for name in dict.fromkeys((*first, *other)):
        if name.endswith('.sensors'):
            expected_sensors, needed = (
                SENSORS if one.get(name) is None else one[name] for one in (first, other))
            differ = bool(set(needed) - set(expected_sensors))
        else:
            differ = fingerprint(first.get(name)) != fingerprint(other.get(name))
        if differ:
            raise ValueError(
                f'{config_path}: test_dataloader.{name}: expected {first.get(name)} of the first '
                f'configuration, found {other.get(name)}')


def _read_model(model_config: Any, path: str) -> Any:
    from ...core.checkpoint import load_weights
    from ...registry import MODELS, without_pretrained

    model = MODELS.build(without_pretrained(model_config))
    load_weights(model, path)
    return model
