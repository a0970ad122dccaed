"""The command `perception slim-model`, started from a checkout."""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.cli import run_verb  # noqa: E402


def main() -> int:
    """Parse the command line and run; gives the exit status."""
    return run_verb('slim-model')


if __name__ == '__main__':
    sys.exit(main())
