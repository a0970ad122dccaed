"""Report what is installed, what this machine can do and what of a dataset is there.

    perception doctor
    perception doctor --root data/nuscenes --version v1.0-trainval
    perception doctor --root data/world --json
    perception doctor --rig rig.json --config configs/world/robust.py --picture rig.png

Every gap comes with one next step. Exit status 0, or 1 when something required is missing. Nothing is
changed. With --rig: what a trained model would make of a car's sensors, and the rig as a picture.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...doctor import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('--root', type=Path, help='a folder in nuScenes format to look at')
    parser.add_argument(
        '--version', help='its version, for example v1.0-mini (default: every version whose tables are there)'
    )
    parser.add_argument('--rig', type=Path, help='a rig file (docs/rig.md): look at it alone')
    parser.add_argument(
        '--config',
        help='with --rig: the configuration of the model (default: the nuScenes recipe)')
    parser.add_argument(
        '--trained', type=Path, help="with --rig: the rig of the model's training (default: nuScenes')")
    parser.add_argument('--picture', type=Path, help='with --rig: write a PNG of it')
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What belongs to a rig needs one."""
    for name in ('config', 'trained', 'picture'):
        if getattr(args, name) is not None and args.rig is None:
            parser.error(f'--{name}: expected --rig beside it')


def main(args: argparse.Namespace) -> int:
    """Examine and print; 1 when something required is missing."""
    from ...doctor import as_json, as_text, examine, exit_code

    findings = examine(args.root, args.version) if args.rig is None else _rig_findings(args)
    summary = None if args.rig is None else _rig_summary(findings, args.picture)
    print(as_json(findings) if args.json else as_text(findings, summary))
    return exit_code(findings)


def _rig_findings(args: argparse.Namespace) -> list[Finding]:
    from ...core.config import inner_datasets, read_config
    from ...core.rig.file import DEFAULT_RIG_PATH, load_rig
    from ...doctor.rig import check_rig, trained_with

    rig = load_rig(args.rig)
    dataset = None
    if args.config is not None:
        loader = read_config(args.config).get('test_dataloader')
        if not loader:
            raise ValueError(f'{args.config}: expected test_dataloader, which says how images are prepared')
        dataset = inner_datasets(loader['dataset'])[0]

    findings = check_rig(rig, trained_with(load_rig(args.trained or DEFAULT_RIG_PATH), dataset))
    if args.picture is not None:
        from ...doctor.rig_picture import draw_rig
        draw_rig(rig, args.picture, args.rig.name)
    return findings


def _rig_summary(findings: list[Finding], picture: Path | None) -> str:
    unlike = [finding for finding in findings if finding.state != 'ok']
    text = f'{len(findings) - len(unlike)} of {len(findings)} as in training.'
    return text if picture is None else f'{text} Picture: {picture}'
