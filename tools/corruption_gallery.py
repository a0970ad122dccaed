"""Draw every corruption on one frame: python tools/corruption_gallery.py --root data/world --out
work_dirs/corruption_gallery"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='One picture per kind of corruption (camera, lidar, radar, alignment): a row '
        'for each corruption, the clean frame left, its severities to the right.'
    )
    parser.add_argument('--root', default='data/world', help='dataset with infos (tools/create_data.py)')
    parser.add_argument('--version', default='v1.0-trainval')
    parser.add_argument('--split', default='val')
    parser.add_argument(
        '--index', type=int, default=6, help='frame of the split; stale frames need some before it'
    )
    parser.add_argument('--camera', default='CAM_FRONT')
    parser.add_argument('--width', type=int, default=320, metavar='PX', help='of one picture')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default='work_dirs/corruption_gallery', metavar='DIR')
    return parser.parse_args()


def main() -> None:
    """Draw and write the galleries."""
    args = parse_args()
    import numpy as np

    from perception.core.contracts import Sample
    from perception.datasets.corruptions import Corruption, corruptions
    from perception.datasets.corruptions.base import KINDS
    from perception.datasets.reading.dataset import NuScenesDataset
    from perception.visualization import write_image
    from perception.visualization.corruptions import GalleryRow, draw_row, stack_rows

    dataset = NuScenesDataset(
        args.root, args.version, args.split, tasks=('detection',),
        reading=dict(lidar_sweeps=0, radar_sweeps=0),
    )
    sample, annotations = dataset.load(args.index)

    def corrupted(chosen: Corruption, severity: float) -> Sample:
        """Those that strike some frames only are drawn with the first seed that strikes this one."""
        for seed in range(args.seed, args.seed + 50):
            found = chosen(
                sample, severity, np.random.default_rng(seed), annotations, dataset.previous_sample
            )
            if found is not sample:
                break
        return found

    for kind in KINDS:
        rows = [
            GalleryRow(
                c.name, c.unit, c.source, kind, [(s, corrupted(c, s)) for s in c.severities],
                from_above='previous' in c.needs and 'camera' not in c.sensors)
            for c in corruptions(kind)
        ]
        pictures = [draw_row(row, sample, annotations.boxes, args.camera, args.width) for row in rows]
        print(write_image(Path(args.out) / f'{kind}.png', stack_rows(pictures)))


if __name__ == '__main__':
    main()
