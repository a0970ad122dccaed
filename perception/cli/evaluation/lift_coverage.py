"""Measure which part of the road a configuration's camera lift reads where it lies.

    perception lift-coverage CONFIG [--rig FILE] [--camera NAME] [--slope RISE] [--out FILE.json]

A flat road, depth that is exact or blurred by 1 m, no learned weights: of the ground cells in view, the share
that reads a place in the image that shows road at most one cell away, by distance. docs/view_transform.md
says how.
"""
from __future__ import annotations

import argparse
import sys

from ..options import add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file with a camera encoder')
    parser.add_argument(
        '--rig', metavar='FILE',
        help="rig file of make-world, or nuScenes' calibrated_sensor.json with sensor.json beside it: the "
        "mean over its cars (default: the world's own rig)")
    parser.add_argument('--camera', default='CAM_FRONT', metavar='NAME', help='default: CAM_FRONT')
    parser.add_argument(
        '--slope', type=float, default=0.0, metavar='RISE',
        help='metres that the road rises with every metre forward, e.g. 0.02')
    parser.add_argument(
        '--out', metavar='FILE', help='write the shares as JSON, and a picture beside it (.png)')
    add_config_options(parser)


def main(args: argparse.Namespace) -> None:
    """Measure and print; write JSON and picture when asked."""
    from pathlib import Path

    import torch

    from ...bev.coverage import lift_coverage, mean_shares
    from ...core.config import read_config
    from ...core.files import finite, write_json
    from ...registry import MODELS, TRANSFORMS, without_pretrained
    from ...visualization.coverage import coverage_picture
    from ...visualization.output import write_image
    from .calibrations import read_cameras

    config = read_config(args.config, args.cfg_options)
    part = config.model['encoders'].get('camera')
    if part is None:
        sys.exit(f'{args.config}: expected model.encoders.camera, found none')
    encoder = MODELS.build(without_pretrained(part.to_dict())).eval()
    image = TRANSFORMS.build(config.test_dataloader.dataset.pipeline.image.to_dict())
    try:
        cameras = read_cameras(args.rig, args.camera)
    except (OSError, ValueError) as error:
        sys.exit(str(error))

    found = [
        lift_coverage(
            encoder, torch.from_numpy(image.fixed_map(camera.size_hw) @ camera.K_33),
            torch.from_numpy(camera.ego_T_cam), image.size_hw, args.slope, camera.distortion)
        for camera in cameras]
    shares = mean_shares([coverage.shares for coverage in found])
    print(f'{args.camera}, {len(found)} calibration{"s" * (len(found) > 1)}, slope {args.slope:g}')
    for kind, by_range in shares.items():
        print(f'{kind:<8}', *(f'{name} m: {share:.2f} ' for name, share in by_range.items()))

    if args.out:
        path = write_json(args.out, finite(shares), indent=1)
        picture = Path(args.out).with_suffix('.png')
        read = {kind: cells.numpy() for kind, cells in found[0].read_YX.items()}
        write_image(picture, coverage_picture(found[0].in_view_YX.numpy(), read))
        print(f'shares: {path}\npicture: {picture}')
