"""Say what is installed, what this machine can do and what of a dataset is there, with one next step for each
gap.

    python tools/doctor.py
    python tools/doctor.py --root data/nuscenes --version v1.0-trainval
    python tools/doctor.py --root data/world --json

Exit code 0, or 1 when something required is missing. Nothing is changed.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.doctor import as_json, as_text, examine, verdict  # noqa: E402


def main() -> int:
    """Look, print, tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', type=Path, help='a folder in nuScenes format to look at')
    parser.add_argument(
        '--version', help='its version, for example v1.0-mini (default: every version whose tables are there)'
    )
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')
    arguments = parser.parse_args()
    findings = examine(arguments.root, arguments.version)
    print(as_json(findings) if arguments.json else as_text(findings))
    return verdict(findings)


if __name__ == '__main__':
    sys.exit(main())
