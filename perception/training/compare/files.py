"""Where the files of a row lie, and what must be equal for an earlier result to count."""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .plan import Budget, Row


def row_folder(work_dir: str | Path, row: Row, seed: int) -> Path:
    """Where a row's files are."""
    return Path(work_dir) / row.folder / f'seed{seed}'


def checkpoint_of(folder: Path, row: Row, budget: Budget) -> Path:
    """Where a row's trained weights are."""
    return folder / f'iter_{row.steps or budget.steps}.pth'


def identity(config: Config, budget: Budget) -> dict[str, Any]:
    """What must be equal for an earlier result to count."""
    tree = {
        key: value for key, value in config.to_dict().items() if key != 'work_dir' and not key.startswith('_')
    }
    text = json.dumps(tree, sort_keys=True, default=str)
    settings = {'configuration': hashlib.sha256(text.encode()).hexdigest()[:16], 'limit': budget.limit}
    if budget.load_from:
        settings |= {f'load_from_{key}': value for key, value in file_identity(budget.load_from).items()}
    return settings


def file_identity(path: str | Path) -> dict[str, int]:
    """What tells a file from a later one of the same name."""
    stat = os.stat(path)
    return {'bytes': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


def settings_of(settings: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The part of the settings that a phase depends on."""
    return {k: v for k, v in settings.items() if k != 'limit' or phase not in ('train', 'latency')}


def read_phase(path: Path, settings: Mapping[str, Any], phase: str) -> dict[str, Any] | None:
    """An earlier result of the same settings; None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: damaged JSON ({error}); delete it to run this phase again') from None
    return result if result.get('settings') == settings_of(settings, phase) else None
