"""Cut a part out of a checkpoint, for other trainings to start from.

    perception extract-weights CHECKPOINT --prefix encoders.camera. --out FILE

A configuration names the file: start_weights = dict(file=FILE, prefix=PREFIX).
"""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('checkpoint', help='what training wrote')
    parser.add_argument(
        '--prefix', default='encoders.camera.',
        help='names of parameters to keep (default: the camera encoder; "" keeps all)')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    parser.add_argument('--half', action='store_true', help='float16: half the size')


def main(args: argparse.Namespace) -> None:
    """Read, cut, write."""
    import torch

    from ...core.checkpoint import extract_weights
    from ...core.files import write_whole

    part = extract_weights(args.checkpoint, args.prefix, args.half)
    out = write_whole(args.out, lambda file: torch.save(part, file))
    size_mb = out.stat().st_size / 1e6
    print(f'{out}: {len(part["state_dict"])} tensors below {args.prefix!r}, {size_mb:.1f} MB')
