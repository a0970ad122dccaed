"""Make dense occupancy labels from the LiDAR of whole scenes, for a nuScenes root without Occ3D.

    python tools/create_data.py nuscenes --root data/nuscenes --version v1.0-trainval
    python tools/make_occupancy.py --root data/nuscenes --version v1.0-trainval
    python tools/create_data.py nuscenes --root data/nuscenes --version v1.0-trainval

The second run of create_data makes the infos know the new labels. Labels that are there already are kept.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.datasets.dense_occupancy import LabelOptions, make_scene  # noqa: E402
from perception.datasets.reading.infos import InfosError, read_index  # noqa: E402
from perception.datasets.reading.io import BadFile  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument('--root', type=Path, required=True, help='the dataroot')
    top.add_argument('--version', required=True, help='v1.0-mini, v1.0-trainval')
    top.add_argument('--infos', type=Path, help='folder of infos (default: ROOT/infos/VERSION)')
    top.add_argument('--out', type=Path, help='where to write SCENE/TOKEN/labels.npz (default: ROOT/gts)')
    top.add_argument('--scenes', nargs='+', help='only these scenes')
    top.add_argument(
        '--sweeps', type=int, default=0, help='earlier sweeps per key frame to add (default: %(default)s)'
    )
    top.add_argument('--overwrite', action='store_true', help='make labels again that are there already')
    return top


def main() -> int:
    """Scene by scene, one line each; 2 after an error in the arguments or the data."""
    a = parser().parse_args()
    infos, out = a.infos or a.root / 'infos' / a.version, a.out or a.root / 'gts'
    try:
        known = list(read_index(infos)['scenes'])
        if unknown := sorted(set(a.scenes or ()) - set(known)):
            raise ValueError(f'--scenes: {", ".join(unknown)} not among the {len(known)} scenes of {infos}')
        for scene in a.scenes or known:
            start = time.perf_counter()
            made = make_scene(a.root, infos, scene, out, LabelOptions(sweeps=a.sweeps), a.overwrite)
            print(f'{scene}: {made} key frames in {time.perf_counter() - start:.1f} s', flush=True)
    except (InfosError, BadFile, ValueError) as error:
        print(f'make_occupancy: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
