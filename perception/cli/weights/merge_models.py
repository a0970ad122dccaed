"""Merge single-task models that started from the same weights, or average weights of one model.

    perception merge-models START --models detection=a.pth lanes=b.pth --out FILE.pth
    perception merge-models START --models detection=a.pth lanes=b.pth --method breadcrumbs --out FILE.pth
    perception merge-models START --models detection=a.pth lanes=b.pth --method adaptive --config CONFIG \
        --out FILE.pth
    perception merge-models START --models detection=a.pth lanes=b.pth --method twin --out FILE.pth
    perception merge-models FILE.pth --expert lanes --out lanes.pth
    perception merge-models a.pth b.pth c.pth --out FILE.pth

Nothing is trained on labels. Without --models: the mean of all weights, for the last epochs of a training or
trainings of one configuration from one start. With it: one model with the heads of all; prints how far each
model has gone from the start, and the angles between their ways. `adaptive` learns how much of each model by
the entropy of what the heads say on frames of CONFIG. `twin` adds a compressed rest for each task; --expert
takes the model of one task out again.
"""
from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import add_config_options, at_least

if TYPE_CHECKING:
    from torch import Tensor

    from ...training.merging.arithmetic import MergeReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument(
        'checkpoint', nargs='+', metavar='CHECKPOINT',
        help='those whose weights are averaged; with --models: one, what all trainings started from; with '
        '--expert: one, a twin merging')
    parser.add_argument('--models', nargs='+', metavar='TASK=FILE', help='a checkpoint for each task')
    parser.add_argument('--expert', metavar='TASK', help='take the model of this task out of a twin merging')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')

    # how
    parser.add_argument(
        '--method', default='arithmetic', choices=['arithmetic', 'breadcrumbs', 'adaptive', 'twin'])
    parser.add_argument(
        '--strength', type=float, default=0.3,
        help='of the sum of the changes; adaptive: where the coefficients begin (default: 0.3)')
    parser.add_argument(
        '--drop-largest', type=float, default=0.1,
        help="breadcrumbs: share of a tensor's changes to leave out, the largest (default: 0.1)")
    parser.add_argument(
        '--keep', type=float, default=0.2,
        help="breadcrumbs: share of a tensor's changes to keep, the next largest (default: 0.2)")
    parser.add_argument(
        '--rank', type=float, default=0.1,
        help="twin: share of a matrix' singular values to keep for each task (default: 0.1)")
    _add_adaptive(parser)


def _add_adaptive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--config', help='adaptive: model with all heads, and whose training frames are used')
    parser.add_argument(
        '--level', default='layer', choices=['layer', 'task'],
        help='adaptive: a coefficient for every task and tensor, or for every task (default: layer)')
    parser.add_argument(
        '--steps', type=at_least(1), default=500, metavar='N', help='adaptive: batches (default: 500)')
    parser.add_argument('--lr', type=float, default=1e-3, help='adaptive: rate of Adam (default: 0.001)')
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Split TASK=FILE, each task once."""
    if args.models and args.expert:
        parser.error('--models merges, --expert takes one out of a twin merging: leave one of the two out')
    if not args.models and not args.expert:
        if len(args.checkpoint) < 2:
            parser.error('expected --models, or at least two checkpoints to average; or --expert')
        return
    if len(args.checkpoint) > 1:
        word = 'models: expected one START' if args.models else 'expert: expected one file'
        parser.error(f'--{word}, found {len(args.checkpoint)} checkpoints')
    if args.models and args.method == 'adaptive' and args.config is None:
        parser.error('--method adaptive needs --config, whose frames the heads look at')

    models = {}
    for word in args.models or ():
        task, equals, path = word.partition('=')
        if not equals or not task or task in models:
            parser.error(f'argument --models: expected TASK=FILE, each task once, found {word!r}')
        models[task] = path
    args.models = models


def main(args: argparse.Namespace) -> None:
    """Read, merge or average, write."""
    import torch

    from ...core.checkpoint import kept_meta, read_checkpoint
    from ...core.files import write_whole

    for task, path in (args.models or {}).items():
        if not Path(path).is_file():
            raise FileNotFoundError(f'--models: {task}: {path}: no such file')
    files = {path: read_checkpoint(path) for path in (*args.checkpoint, *(args.models or {}).values())}
    check_classes_agree(files)
    if args.expert:
        content = take_expert(files[args.checkpoint[0]], args.expert, args.checkpoint[0])
    elif args.models:
        models = {task: files[path] for task, path in args.models.items()}
        content, report = merge(args, files[args.checkpoint[0]], models)
        content['meta'] = {'merged': {task: Path(path).name for task, path in args.models.items()}}
        print('\n'.join(merge_lines(report)))
    else:
        content = average(files)

    for checkpoint in files.values():
        content['meta'] |= kept_meta(checkpoint)
    write_whole(args.out, lambda file: torch.save(content, file))
    print(f'{args.out}: {len(content["state_dict"])} tensors')


def average(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the file of a mean holds."""
    from ...training.merging.arithmetic import average_weights

    averaged = average_weights({path: checkpoint['state_dict'] for path, checkpoint in files.items()})
    print(f'the mean of {len(files)} checkpoints')
    return {'state_dict': averaged, 'meta': {'averaged': [Path(path).name for path in files]}}


def merge(
    args: argparse.Namespace, start: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], MergeReport]:
    """What the file holds, by the method of the command line."""
    from ...training.merging.arithmetic import MergeOptions, merge_models
    from ...training.merging.twin import expert_size, make_experts

    states = {task: checkpoint['state_dict'] for task, checkpoint in models.items()}
    if args.method == 'adaptive':
        merged, report = merge_by_entropy(args, start['state_dict'], states)
        return {'state_dict': merged}, report

    method = 'arithmetic' if args.method == 'twin' else args.method
    options = MergeOptions(method, args.strength, args.drop_largest, args.keep)
    merged, report = merge_models(start['state_dict'], states, options)
    if args.method != 'twin':
        return {'state_dict': merged}, report

    experts = make_experts(merged, states, args.rank)
    whole = sum(tensor.numel() for tensor in merged.values())
    for task, expert in experts.items():
        print(f'{task}: an expert of {expert_size(expert) / whole:.1%} of the merged model')
    return {'state_dict': merged, 'experts': experts}, report


def merge_by_entropy(
    args: argparse.Namespace, start: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, Tensor], MergeReport]:
    """Learn the coefficients on frames of the configuration, and print how the entropies go."""
    import torch
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE, read_config
    from ...registry import MODELS, without_pretrained
    from ...training.merging.adaptive import AdaptiveOptions, merge_adaptively
    from ..training.profile_step import batches

    options = AdaptiveOptions(args.level, args.strength, args.lr, args.steps)
    init_default_scope(SCOPE)
    config = read_config(args.config, args.cfg_options)
    torch.manual_seed(config.get('randomness', {}).get('seed', 0))
    network = MODELS.build(without_pretrained(config.model.to_dict()))
    load = batches(config.train_dataloader, network.memory is not None)

    def told(step: int, entropies: dict[str, float]) -> None:
        if step % max(1, options.steps // 20) == 0 or step == options.steps - 1:
            values = ', '.join(f'{task} {value:.4f}' for task, value in entropies.items())
            print(f'step {step}: entropy {values}', flush=True)

    merged, report, lambdas_TL = merge_adaptively(start, states, network, load, options, told)
    for task, row in zip(states, lambdas_TL, strict=True):
        low, mean, high = (float(value) for value in (row.min(), row.mean(), row.max()))
        print(f'{task}: coefficients {mean:.3f} ({low:.3f} to {high:.3f})')
    return merged, report


def take_expert(merged: Mapping[str, Any], task: str, path: str) -> dict[str, Any]:
    """The model of one task out of a twin merging.

    Raises:
        ValueError: the file is none, or has other tasks.
    """
    from ...training.merging.twin import expert_state

    experts = merged.get('experts')
    if not isinstance(experts, Mapping) or not isinstance(experts.get(task), Mapping):
        known = ', '.join(map(str, experts)) if isinstance(experts, Mapping) else 'none'
        raise ValueError(f'{path}: experts: expected that of {task}, found {known}')
    return {'state_dict': expert_state(merged['state_dict'], task, experts[task]), 'meta': {'expert': task}}


def check_classes_agree(checkpoints: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError where two files were trained for boxes of different classes."""
    from ...core.checkpoint import trained_classes

    said = {path: names for path, checkpoint in checkpoints.items() if (names := trained_classes(checkpoint))}
    for path, names in said.items():
        first, expected = next(iter(said.items()))
        if names != expected:
            raise ValueError(
                f'{path}: was trained for boxes of the classes {", ".join(map(str, names))}; expected those '
                f'of {first}: {", ".join(map(str, expected))}')


def merge_lines(report: MergeReport) -> list[str]:
    """What to tell the user of the task vectors."""
    lines = []
    for task, length in report.lengths.items():
        far = '  (far: did it start there?)' if length > 1 else ''
        lines.append(f'{task}: {length:.1%} from the start{far}')
    return lines + [f'{pair}: cosine {cosine:+.2f}' for pair, cosine in report.cosines.items()]
