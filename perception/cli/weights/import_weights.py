"""Bring published weights into a model: torchvision, timm, Swin, mmdet, CenterPoint, BEVFusion.

    perception import-weights CONFIG CHECKPOINT --source centerpoint --out FILE

FILE holds the configuration's whole model: what the checkpoint has no weights for is as it starts, and is
named.
"""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='whose model the weights go into')
    parser.add_argument('checkpoint', help='the published file; nothing in it is executed')
    parser.add_argument(
        '--source', required=True, metavar='NAME',
        help='where it comes from: torchvision, timm, swin (its authors, nuImages), mmdet, centerpoint or '
        'centerpoint_voxels (mmdet3d), bevfusion')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')


def main(args: argparse.Namespace) -> None:
    """Read, match, write."""
    import torch

    from ...core.checkpoint import model_classes
    from ...core.config import read_config
    from ...core.files import write_whole
    from ...registry import MODELS, without_pretrained
    from ...training.published.importing import import_weights

    config = read_config(args.config)
    torch.manual_seed(config.get('randomness', {}).get('seed') or 0)
    model = MODELS.build(without_pretrained(config.model.to_dict()))
    imported = import_weights(model, args.checkpoint, args.source)

    classes = model_classes(model)
    meta = {'source': args.source, **({'dataset_meta': {'classes': classes}} if classes else {})}
    content = {'state_dict': model.state_dict(), 'meta': meta}
    out = write_whole(args.out, lambda file: torch.save(content, file))
    print('\n'.join(imported.lines()))
    untouched = [name for name in content['state_dict'] if name not in imported.taken]
    print(f'{out}: {len(content["state_dict"])} tensors, {len(untouched)} of them as they start')
