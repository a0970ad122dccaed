"""Profile a training step and an inference by stage: python tools/profile_step.py CONFIG [--steps N] [--out
FILE.json]"""
from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(
        description='One training step and one inference of a configuration, stage by stage: wall and processor time, '
        'operations, and the least time that this machine would need for them at its measured best.'
    )
    parser.add_argument('config', help='configuration file, e.g. configs/demo.py')
    parser.add_argument(
        '--steps', type=int, default=5, metavar='N', help='measured steps after two to warm up'
    )
    parser.add_argument('--threads', type=int, default=2, metavar='N', help='threads of the network')
    parser.add_argument('--out', metavar='FILE', help='also write the figures as JSON')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the configuration'
    )
    return parser.parse_args()


def show(title: str, rows: list[dict]) -> None:
    """The table for a person."""
    wall, cpu = (sum(row[name] for row in rows) for name in ('wall_ms', 'cpu_ms'))
    print(f'\n{title}: {wall:.0f} ms, {cpu:.0f} ms of processor time')
    print(f'{"phase":<10}{"stage":<30}{"cpu ms":>9}{"share":>8}{"wall ms":>9}{"GFLOP":>8}{"floor ms":>10}')
    for row in rows:
        print(
            f'{row["phase"]:<10}{row["stage"]:<30}{row["cpu_ms"]:>9.1f}{row["cpu_ms"] / cpu:>8.1%}{row["wall_ms"]:>9.1f}'
            f'{row["gflop"]:>8.2f}{row["floor_ms"]:>10.2f}'
        )


def main() -> None:
    """Measure and print."""
    args = parse_args()
    import torch
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    from perception.core.config import SCOPE, read_config
    from perception.deployment.measure.timing import machine_peak, peak_memory_mb
    from perception.registry import DATASETS, FUNCTIONS, MODELS
    from perception.training.optim import _DTYPES
    from perception.training.profile import StageClock, forward_flops, inference, stage_rows, training_step
    from perception.training.runner import freeze_parameters
    init_default_scope(SCOPE)
    MMLogger.get_current_instance().setLevel('ERROR')  # it names every frozen parameter
    torch.set_num_threads(args.threads)
    config = read_config(args.config, args.cfg_options)
    dtype = _DTYPES[config.optim_wrapper.get('dtype', 'float32')]
    peak = machine_peak()
    gflops = peak['matrix_bf16_gflops' if dtype else 'matrix_fp32_gflops']
    model = MODELS.build(config.model.to_dict())
    freeze_parameters(model, config.get('freeze', ()))
    optimiser = build_optim_wrapper(model, config.optim_wrapper).optimizer

    def cast() -> object:
        return torch.autocast('cpu', dtype) if dtype else nullcontext()

    report = {'config': args.config, 'threads': args.threads, 'peak': peak}
    for title, data in (('training step', config.train_dataloader), ('inference', config.test_dataloader)):
        dataset, options = DATASETS.build(data.dataset), dict(data.collate_fn)
        collate, count, drawn = FUNCTIONS.get(options.pop('type')), data.batch_size, iter(range(10 ** 9))

        def load(
            dataset: object = dataset,
            collate: object = collate,
            count: int = count,
            drawn: object = drawn,
            options: dict = options,
        ) -> dict:
            return collate([dataset[next(drawn) * 7 % len(dataset)] for _ in range(count)], **options)
        model.train(title == 'training step')
        for steps in (2, args.steps):
            clock = StageClock()
            for _ in range(steps):
                if model.training:
                    training_step(model, load, optimiser, clock, cast)
                else:
                    inference(model, load, clock, cast)
        report[title] = stage_rows(clock, args.steps, forward_flops(model, load()), gflops)
        show(f'{title} of {count}', report[title])
    report['peak_memory_mb'] = peak_memory_mb()
    print(
        f'\npeak memory {report["peak_memory_mb"]:.0f} MB; machine: '
        + ', '.join(f'{k} {v:.0f}' for k, v in peak.items())
    )
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
