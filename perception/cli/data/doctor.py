"""Report what is installed, what this machine can do and what of a dataset is there.

    perception doctor
    perception doctor --root data/nuscenes --version v1.0-trainval
    perception doctor --root data/world --json

Every gap comes with one next step. Exit status 0, or 1 when something required is missing. Nothing is
changed.
"""
from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('--root', type=Path, help='a folder in nuScenes format to look at')
    parser.add_argument(
        '--version', help='its version, for example v1.0-mini (default: every version whose tables are there)'
    )
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')


def main(args: argparse.Namespace) -> int:
    """Examine and print; 1 when something required is missing."""
    from ...doctor import as_json, as_text, examine, exit_code

    findings = examine(args.root, args.version)
    print(as_json(findings) if args.json else as_text(findings))
    return exit_code(findings)
