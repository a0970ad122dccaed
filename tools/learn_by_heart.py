"""Let a full-size configuration learn the real frames by heart (`docs/benchmarks/full_size.md`)."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.by_heart import by_heart  # noqa: E402


def main() -> int:
    """Parse the command line and run; gives the exit status."""
    parser = argparse.ArgumentParser(
        description=by_heart.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    by_heart.add_arguments(parser)
    return by_heart.run(parser.parse_args())


if __name__ == '__main__':
    sys.exit(main())
