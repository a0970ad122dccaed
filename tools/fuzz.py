"""Damage every format that is read, many times each, and count what its reader does (`docs/security.md`)."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fuzz import fuzz  # noqa: E402


def main() -> int:
    """Parse the command line and run; gives the exit status."""
    parser = argparse.ArgumentParser(
        description=fuzz.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fuzz.add_arguments(parser)
    return fuzz.run(parser.parse_args())


if __name__ == '__main__':
    sys.exit(main())
