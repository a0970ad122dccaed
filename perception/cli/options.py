"""Arguments that several verbs have."""
from __future__ import annotations

import argparse

ENGINES = ('torch', 'onnxruntime', 'openvino', 'tensorrt')
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--cfg-options`, which changes values of the configuration."""
    from mmengine.config import DictAction

    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change values of the configuration, e.g. test_dataloader.batch_size=4')


def add_engine(parser: argparse.ArgumentParser, default: str = 'torch') -> None:
    """`--engine` and `--precision`, which choose what runs the network."""
    parser.add_argument(
        '--engine', default=default, choices=ENGINES, help='what runs the network (default: %(default)s)'
    )
    parser.add_argument(
        '--precision', default='fp32', choices=PRECISIONS, help='of the engine (default: %(default)s)'
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """`--launcher`, for several processes."""
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='pytorch: started by torchrun, on GPUs (nccl) or CPUs (gloo)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
