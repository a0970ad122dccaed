"""Profile a training step and an inference of a configuration, stage by stage.

    perception profile-step CONFIG [--steps N] [--out FILE.json]
    perception profile-step CONFIG --balancers GradNorm PCGrad SAMGS
    perception profile-step CONFIG --meta

Wall and processor time, operations, and the least time that this machine would need for them at its measured
best. With --balancers instead: the backward with each of these balancers, over that of the plain sum. With
--meta nothing is computed: one step at full size, loss and backward of one made sample, on torch's device
without values, where whatever was made on the CPU by mistake raises; its operations and its memory, and from
them hours and memory of the whole training on eight GPUs.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, count, repeat
from math import gcd
from typing import Any

from ..options import add_config_options, at_least

WARMUP_STEPS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file, e.g. configs/demo.py')
    parser.add_argument(
        '--steps', type=at_least(1), default=5, metavar='N', help='measured steps after two to warm up'
    )
    parser.add_argument('--threads', type=at_least(1), default=2, metavar='N', help='threads of the network')
    parser.add_argument(
        '--balancers', nargs='+', metavar='TYPE',
        help='time the backward alone, with each of these (TYPE, or TYPE:parameters for where=parameters)')
    parser.add_argument(
        '--meta', action='store_true', help='operations and memory of a step, on a device without values')
    parser.add_argument('--out', metavar='FILE', help='also write the numbers as JSON')
    add_config_options(parser)


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    if args.meta:
        print_costs(args)
    elif args.balancers:
        time_balancers(args)
    else:
        time_stages(args)


def time_stages(args: argparse.Namespace) -> None:
    """Measure a training step and an inference stage by stage and print a table of each."""
    import torch
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE, read_config
    from ...core.files import write_json
    from ...core.processes import peak_memory_mb
    from ...deployment.measure.timing import machine_peak
    from ...registry import MODELS
    from ...training.precision import autocast_dtype
    from ...training.runner import freeze_parameters

    init_default_scope(SCOPE)
    MMLogger.get_current_instance().setLevel('ERROR')  # it names every frozen parameter
    torch.set_num_threads(args.threads)
    config = read_config(args.config, args.cfg_options)
    dtype = autocast_dtype(config.optim_wrapper.get('dtype', 'float32'), 'cpu')
    # the data before the machine's peak, which takes seconds
    followed = config.model.get('memory') is not None
    loads = {
        'training step': batches(config.train_dataloader, followed),
        'inference': batches(config.test_dataloader, followed)}
    peak = machine_peak()
    gflops = peak['matrix_bf16_gflops' if dtype else 'matrix_fp32_gflops']
    model = MODELS.build(config.model.to_dict())
    freeze_parameters(model, config.get('freeze', ()))
    optimiser = build_optim_wrapper(model, config.optim_wrapper).optimizer

    def cast() -> AbstractContextManager:
        return torch.autocast('cpu', dtype) if dtype else nullcontext()

    report = {'config': args.config, 'threads': args.threads, 'peak': peak}
    sizes = (config.train_dataloader.batch_size, config.test_dataloader.batch_size)
    for (title, load), size in zip(loads.items(), sizes, strict=True):
        model.train(title == 'training step')
        rows = stage_times(model, load, optimiser, cast, args.steps, gflops)
        report[title] = rows
        print(format_stages(f'{title} of {size}', rows))
    report['peak_memory_mb'] = peak_memory_mb()
    machine = ', '.join(f'{name} {value:.0f}' for name, value in peak.items())
    print(f'\npeak memory {report["peak_memory_mb"]:.0f} MB; machine: {machine}')
    if args.out:
        write_json(args.out, report, indent=1)


def time_balancers(args: argparse.Namespace) -> None:
    """Measure the backward with each balancer and print a table."""
    import torch
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE, read_config
    from ...core.files import write_json
    from ...registry import MODELS
    from ...training.balancing.cost import backward_times
    from ...training.runner import freeze_parameters

    init_default_scope(SCOPE)
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.set_num_threads(args.threads)
    config = read_config(args.config, args.cfg_options)
    model = MODELS.build(config.model.to_dict()).train()
    freeze_parameters(model, config.get('freeze', ()))
    wrapper = build_optim_wrapper(model, config.optim_wrapper)

    kinds = {name: name.partition(':') for name in args.balancers}
    balancers = {
        name: dict(type=kind, **({'where': where} if where else {}))
        for name, (kind, _, where) in kinds.items()}
    load = batches(config.train_dataloader, model.memory is not None)
    with model.memory_apart():  # a batch has the same past with each of them
        rows = backward_times(model, load, wrapper, balancers, args.steps)
    print(f'{"balancer":<28}{"backward ms":>12}{"of plain":>10}')
    for row in rows:
        print(f'{row["balancer"]:<28}{row["ms"]:>12.1f}{row["times"]:>10.2f}')
    if args.out:
        write_json(args.out, {'config': args.config, 'threads': args.threads, 'rows': rows}, indent=1)


def print_costs(args: argparse.Namespace) -> None:
    """Operations and memory of a step, without values."""
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE, config_name, read_config
    from ...core.files import write_json
    from .step_costs import COST_TITLES, format_cost, step_costs
    from .training_costs import TRAINING_TITLES, UTILISATION, format_training, training_costs

    init_default_scope(SCOPE)
    config = read_config(args.config, args.cfg_options)
    row = step_costs(config, config_name(args.config))
    print(COST_TITLES + format_cost(row))

    training = training_costs(config, row)
    print(f'\nthe training on nuScenes at {UTILISATION:.0%} of bfloat16\'s peak:\n'
          + TRAINING_TITLES + format_training(row['config'], training))
    if args.out:
        write_json(args.out, {**row, 'training': training}, indent=1)


def batches(loader: Any, followed: bool = False) -> Callable[[], dict]:
    """A function that reads the next batch of a loader's configuration; the same ones each time it is made.

    Args:
        loader: the configuration.
        followed: every place of the batch follows a drive frame by frame, for a model with a memory, unless
            the dataset gives clips. False takes samples some way apart (`stride`).
    """
    from ...datasets.drives.sampler import StreamSampler
    from ...registry import DATASETS, FUNCTIONS

    dataset, options = DATASETS.build(loader.dataset), dict(loader.collate_fn)
    collate = FUNCTIONS.get(options.pop('type'))
    clip_frames = getattr(getattr(dataset, 'reading', None), 'clip_frames', 1)
    if followed and clip_frames == 1:
        sampler = StreamSampler(dataset, seed=0, batch_size=loader.batch_size, reset=0.0)
        # pass after pass: a new one begins new runs
        numbers = chain.from_iterable(repeat(sampler))
    else:
        numbers = (number * stride(len(dataset)) % len(dataset) for number in count())

    def load() -> dict:
        return collate([dataset[next(numbers)] for _ in range(loader.batch_size)], **options)
    return load


def stride(size: int) -> int:
    """From sample to sample of `size`: seven, or the next number that meets each before any comes again."""
    return next(step for step in count(7) if gcd(step, size) == 1)


def stage_times(
    model: Any,
    load: Callable[[], dict],
    optimiser: Any,
    cast: Callable[[], AbstractContextManager],
    steps: int,
    gflops: float,
) -> list[dict]:
    """Time `steps` training steps where the model is in training, else inferences: a row a stage."""
    from ...training.profile import ProfileClock, forward_flops, inference, stage_rows, training_step

    for number in range(WARMUP_STEPS + steps):
        if number in (0, WARMUP_STEPS):
            clock = ProfileClock()  # a clock of its own for the steps that count
        if model.training:
            training_step(model, load, optimiser, clock, cast)
        else:
            inference(model, load, clock, cast)
    return stage_rows(clock, steps, forward_flops(model, load()), gflops)


def format_stages(title: str, rows: list[dict]) -> str:
    """The stages as a table, with their sum in its title."""
    wall_ms = sum(row['wall_ms'] for row in rows)
    cpu_ms = sum(row['cpu_ms'] for row in rows)
    lines = [
        f'\n{title}: {wall_ms:.0f} ms, {cpu_ms:.0f} ms of processor time',
        f'{"phase":<10}{"stage":<30}{"cpu ms":>9}{"share":>8}{"wall ms":>9}{"GFLOP":>8}{"floor ms":>10}']
    for row in rows:
        lines.append(
            f'{row["phase"]:<10}{row["stage"]:<30}{row["cpu_ms"]:>9.1f}{row["cpu_ms"] / cpu_ms:>8.1%}'
            f'{row["wall_ms"]:>9.1f}{row["gflop"]:>8.2f}{row["floor_ms"]:>10.2f}'
        )
    return '\n'.join(lines)
