"""The demo of `make demo`, started from a checkout."""
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from perception.cli.demo import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main(ROOT))
