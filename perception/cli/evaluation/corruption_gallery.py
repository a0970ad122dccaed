"""Draw every corruption on one frame.

    perception corruption-gallery --root data/world --out work_dirs/corruption_gallery

One picture per kind of corruption (camera, lidar, radar, alignment): a row for each corruption, the clean
frame left, its severities to the right.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from ..options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('--root', default='data/world', help='dataset with infos (perception create-data)')
    parser.add_argument('--version', default='v1.0-trainval')
    parser.add_argument('--split', default='val')
    parser.add_argument(
        '--index', type=at_least(0), default=6, help='frame of the split; stale frames need some before it'
    )
    parser.add_argument('--camera', default='CAM_FRONT')
    parser.add_argument('--width', type=at_least(16), default=320, metavar='PX', help='of one picture')
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument('--out', default='work_dirs/corruption_gallery', metavar='DIR')


def main(args: argparse.Namespace) -> None:
    """Draw and write one gallery a kind."""
    import numpy as np

    from ...core.contracts import Sample
    from ...datasets.corruptions import Corruption, corruptions
    from ...datasets.corruptions.base import KINDS
    from ...datasets.reading.dataset import NuScenesDataset
    from ...visualization import write_image
    from ...visualization.corruptions import GalleryRow, draw_row, stack_rows

    dataset = NuScenesDataset(
        args.root, args.version, args.split, tasks=('detection',),
        reading=dict(lidar_sweeps=0, radar_sweeps=0),
    )
    if args.index >= len(dataset):
        raise ValueError(f'--index: found {args.index}, the split {args.split!r} has {len(dataset)} frames')
    sample, annotations = dataset.load(args.index)
    if sample.camera is None or args.camera not in sample.camera.names:
        names = ', '.join(sample.camera.names) if sample.camera else 'none'
        raise ValueError(f'--camera: found {args.camera!r}, the frame has {names}')

    def corrupted(corruption: Corruption, severity: float) -> Sample:
        """With the first seed that strikes this frame: some corruptions strike some frames only."""
        for seed in range(args.seed, args.seed + 50):
            rng = np.random.default_rng(seed)
            changed = corruption(sample, severity, rng, annotations, dataset.previous_sample)
            if changed is not sample:
                break
        return changed

    for kind in KINDS:
        rows = [
            GalleryRow(
                c.name, c.unit, c.source, kind, [(s, corrupted(c, s)) for s in c.severities],
                from_above='previous' in c.needs and 'camera' not in c.sensors)
            for c in corruptions(kind)
        ]
        pictures = [draw_row(row, sample, annotations.boxes, args.camera, args.width) for row in rows]
        print(write_image(Path(args.out) / f'{kind}.png', stack_rows(pictures)))
