"""Take channels out of a trained model, guarded by every task's loss; it is really smaller then.

    perception prune-model CONFIG CHECKPOINT --out FOLDER [--flops 0.6] [--max-loss 4]
    perception train FOLDER/NAME_pruned.py

FOLDER gets a configuration, weights and a report; train, test, export and load_model take them as any other.
The losses are taken on training samples. Ctrl-C ends the search and writes what is chosen so far. A pruned
model can be pruned again.
"""
from __future__ import annotations

import argparse

from ..options import add_config_options, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file, e.g. configs/world/robust.py')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder to write')
    parser.add_argument(
        '--flops', type=float, default=0.6, metavar='SHARE',
        help='stop at this share of the operations (default: 0.6)')
    parser.add_argument(
        '--max-loss', type=float, default=4.0, metavar='SHARE',
        help="by how much each task's loss may rise in all, before fine-tuning (default: 4)")
    parser.add_argument(
        '--batches', type=at_least(1), default=8, metavar='N',
        help='training batches that guard the losses (default: 8)')
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse shares that are none."""
    from ...training.pruning.search import PruneOptions
    try:
        PruneOptions(args.flops, args.max_loss)
    except ValueError as error:
        parser.error(str(error))


def main(args: argparse.Namespace) -> None:
    """Read, prune, write."""
    from pathlib import Path

    import torch
    from mmengine.registry import init_default_scope

    from ...core.checkpoint import load_weights
    from ...core.config import SCOPE, config_name, read_config
    from ...registry import MODELS, without_pretrained
    from ...training.pruning.prune import prune_model, write_pruned
    from ...training.pruning.search import PruneOptions
    from ..training.profile_step import batches

    init_default_scope(SCOPE)
    config = read_config(args.config, args.cfg_options)
    torch.manual_seed(config.get('randomness', {}).get('seed', 0))
    model = MODELS.build(without_pretrained(config.model.to_dict()))
    checkpoint = load_weights(model, args.checkpoint)

    options = PruneOptions(args.flops, args.max_loss)
    load = batches(config.train_dataloader, model.memory is not None)
    pruning = prune_model(model, load, args.batches, options, lambda line: print(line, flush=True))
    name = Path(config_name(args.config)).name.removesuffix('_pruned')
    written = write_pruned(args.out, name, config, model, pruning, checkpoint)
    print('\n'.join(pruning.lines(options)))
    print(f'{written}: fine-tune it with `perception train {written}`')
