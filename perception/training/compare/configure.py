"""The configuration that a row is trained with.

All rows follow one recipe, another configuration: its data, precision, optimiser and heads. A row adds what
it changes in data and heads against the base of both; stages of a pipeline that are its own stay behind the
recipe's.
"""
from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ...core.checkpoint import read_checkpoint
from ...core.config import read_config
from .plan import Budget, Plan, Row

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WARMUP_STEPS = 60
KEPT_HOOKS = ('ExpertUsageHook', 'PasteOffHook', 'SparseTrainingHook')


def changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `new` that `old` lacks or has differently, nested dictionaries entry by entry.

    Of a `pipeline` only the stages that `old` lacks or leaves out: those that both have are the recipe's. A
    part of another type is taken whole.
    """
    changed = {}
    for key, value in new.items():
        before = old.get(key)
        if key == 'pipeline' and before:
            value = {
                name: stage for name, stage in value.items()
                if name not in before or (before[name] is None and stage is not None)}
            before = {}

        if isinstance(value, Mapping) and isinstance(before, Mapping) and not _differs(value, before):
            value = changes(value, before)
            if value:
                changed[key] = value
        elif key not in old or value != before:
            changed[key] = value
    return changed


def _differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a part is of another type than the one in its place."""
    return 'type' in new and 'type' in old and new['type'] != old['type']


def with_changes(recipe: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with a row's own changes on top.

    New stages of a pipeline come behind the recipe's, those that it leaves out to the place they have there.
    """
    merged = {key: copy.deepcopy(value) for key, value in recipe.items()}
    for key, value in changed.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not _differs(value, before):
            merged[key] = with_changes(before, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def row_config(plan: Plan, row: Row, budget: Budget, seed: int, folder: Path) -> Config:
    """The configuration that a row is trained with; its files go to `folder`."""
    tree = read_config(plan.configs / row.config, row.options).to_dict()
    recipe, base, model = plan.recipe, plan.base, tree['model']

    # what all rows share, with what this one changes against the base
    for loader in LOADERS:
        own = tree[loader] or base[loader]  # a row without validation changes nothing of it
        tree[loader] = with_changes(recipe[loader], changes(own, base[loader]))
        if budget.root is not None:
            tree[loader]['dataset']['root'] = budget.root
    model['heads'] = with_changes(
        recipe['model']['heads'], changes(model['heads'], base['model']['heads'])
    )
    _take_encoders(model, recipe['model']['encoders'], base['model']['encoders'])
    tree['optim_wrapper'] = copy.deepcopy(recipe['optim_wrapper'])
    if budget.batch is not None:
        tree['train_dataloader']['batch_size'] = budget.batch

    # a run without validation that stands for itself
    tree |= _schedule(row.steps or budget.steps)
    tree |= {
        'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None, 'work_dir': str(folder),
        'launcher': 'none', 'load_from': None, 'resume': False,
        'randomness': {'seed': seed, 'deterministic': False},
        'custom_hooks': [hook for hook in tree.get('custom_hooks', []) if hook['type'] in KEPT_HOOKS],
        'visualizer': {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]}}
    tree['test_evaluator']['results_dir'] = None
    tree['freeze'] = [*frozen_prefixes(model['encoders'], budget), *row.freeze]
    if row.start is not None:
        tree['start_weights'] = None  # what it starts from brings all of them
    config = Config(tree)
    config.merge_from_dict(budget.options)
    return config


def _take_encoders(
    model: dict[str, Any], recipe: Mapping[str, Any], base: Mapping[str, Any]
) -> None:
    """What the recipe changes of the base's encoders (the lift that its weights know, say), in place.

    A fuser that reads the encoder's voxels follows to their grid.
    """
    changed = changes(recipe, base)
    encoders = model['encoders']
    encoders.update(with_changes(
        {name: part for name, part in encoders.items() if part is not None},
        {name: part for name, part in changed.items() if encoders.get(name) is not None}))

    camera, fuser = base.get('camera'), model['fuser']
    if camera is not None and fuser.get('grid') == camera['grid'] and encoders.get('camera') is not None:
        fuser['grid'] = copy.deepcopy(encoders['camera']['grid'])


def _schedule(steps: int) -> dict[str, Any]:
    """Counted in steps: a short warm-up, a cosine to a hundredth, one checkpoint at the end."""
    warmup = min(WARMUP_STEPS, steps // 10)
    cosine = {'type': 'CosineAnnealingLR', 'by_epoch': False, 'T_max': steps, 'eta_min_ratio': 1e-2}
    line = {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': warmup}
    checkpoint = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': steps, 'save_optimizer': False}

    return {
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': steps, 'val_interval': steps + 1},
        'param_scheduler': [line, cosine] if warmup > 1 else [cosine],
        'log_processor': {'type': 'LogProcessor', 'window_size': 20, 'by_epoch': False},
        'default_hooks': {
            'timer': {'type': 'IterTimerHook'},
            'logger': {'type': 'LoggerHook', 'interval': 20},
            'param_scheduler': {'type': 'ParamSchedulerHook'},
            'sampler_seed': {'type': 'DistSamplerSeedHook'},
            'checkpoint': checkpoint,
        },
    }


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

    known: set[str] = set()
    if budget.load_from:
        known = sensors_in(read_checkpoint(budget.load_from)['state_dict'])
    present = [sensor for sensor, encoder in encoders.items() if encoder is not None and sensor in known]
    if not present:
        raise ValueError(
            f'freeze {budget.freeze}: expected a checkpoint with one of the encoders {", ".join(encoders)}, '
            f'found {", ".join(sorted(known)) or "none"} in {budget.load_from}'
        )
    return [f'encoders.{sensor}.' for sensor in present] + rest
