"""What is installed, what the machine can do, what of a dataset is there; and for each gap the one next step.

Nothing here changes anything. Imports are tried for real, since a package can be installed and still not
load.
"""
from __future__ import annotations

from pathlib import Path

from .dataset import check_root
from .finding import STATES, Finding
from .machine import check_hardware
from .packages import check_package, check_python, check_software
from .report import as_json, as_text, exit_code

__all__ = [
    'STATES', 'Finding', 'as_json', 'as_text', 'check_hardware', 'check_package', 'check_python',
    'check_root', 'check_software', 'examine', 'exit_code']


def examine(root: Path | None = None, version: str | None = None) -> list[Finding]:
    """All findings: the software, the hardware, and a nuScenes-format root where one is named."""
    data = [] if root is None else check_root(Path(root), version)
    return [*check_software(), *check_hardware(root or Path.cwd()), *data]
