"""Write a slimmable model at chosen widths as a plain, smaller one.

    perception slim-model CONFIG CHECKPOINT --encoder 0.5 [--heads lanes=0.75] --out FOLDER

FOLDER gets a configuration and weights; train, test, export and load_model take them as any other.
"""
from __future__ import annotations

import argparse

from ..options import add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file, e.g. configs/world/slimmable.py')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder to write')
    parser.add_argument(
        '--encoder', type=float, default=1.0, metavar='RATIO',
        help='width of encoders, fuser and trunk (default: 1)')
    parser.add_argument(
        '--heads', nargs='+', default=[], metavar='RATIO|TASK=RATIO', type=parse_ratio,
        help='width of all heads, or of single ones (default: 1)')
    add_config_options(parser)


def parse_ratio(text: str) -> tuple[str | None, float]:
    """Read 'task=0.5' or '0.5'."""
    task, _, ratio = text.rpartition('=')
    return task or None, float(ratio)


def main(args: argparse.Namespace) -> None:
    """Read, choose, write."""
    from pathlib import Path

    from mmengine.registry import init_default_scope

    from ...core.checkpoint import load_weights
    from ...core.config import SCOPE, config_name, read_config
    from ...registry import MODELS, without_pretrained
    from ...slimmable import SlimmablePerception
    from ...training.pruning.slim import write_narrow

    init_default_scope(SCOPE)
    config = read_config(args.config, args.cfg_options)
    model = MODELS.build(without_pretrained(config.model.to_dict()))
    if not isinstance(model, SlimmablePerception):
        raise ValueError(
            f'{args.config}: model.type: expected SlimmablePerception, found {type(model).__name__}')

    checkpoint = load_weights(model, args.checkpoint)
    heads = {}
    for task, ratio in args.heads:
        heads |= {task: ratio} if task else dict.fromkeys(model.heads, ratio)
    model.choose(args.encoder, heads)
    print(write_narrow(args.out, Path(config_name(args.config)).name, config, model, checkpoint))
