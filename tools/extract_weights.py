"""Cut a part out of a checkpoint, for other trainings to start from: python tools/extract_weights.py
CHECKPOINT --out FILE"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Write the weights below a prefix into a file that a configuration can name: '
        'start_weights = dict(file=FILE, prefix=PREFIX).'
    )
    parser.add_argument('checkpoint', help='what tools/train.py wrote')
    parser.add_argument('--prefix', default='encoders.camera.',
                        help='names of parameters to keep (default: the camera encoder; "" keeps all)')
    parser.add_argument('--out', required=True, metavar='FILE', help='written whole or not at all')
    parser.add_argument('--half', action='store_true', help='float16: half the size')
    return parser.parse_args()


def main() -> None:
    """Read, cut, write."""
    args = parse_args()
    import torch

    from perception.core.checkpoint import extract_weights
    part, out = extract_weights(args.checkpoint, args.prefix, args.half), Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + '.partial')
    torch.save(part, partial)
    os.replace(partial, out)
    print(
        f'{out}: {len(part["state_dict"])} tensors below {args.prefix!r}, {out.stat().st_size / 1e6:.1f} MB'
    )


if __name__ == '__main__':
    main()
