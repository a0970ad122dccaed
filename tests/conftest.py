"""Fixtures every room may use."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session', autouse=True)
def one_thread_per_worker() -> None:
    """Several pytest workers share two cores: one torch thread each."""
    import torch
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def real_frames() -> Path:
    """Root of the real nuScenes frames (version v1.0-mini), or a visible skip where they are not at hand."""
    root = Path(os.environ.get('PERCEPTION_REAL_FRAMES', ROOT.parent / 'shared' / 'real_frames' / 'nuscenes'))
    if not (root / 'v1.0-mini').is_dir():
        pytest.skip(f'real nuScenes frames are not at {root} (set PERCEPTION_REAL_FRAMES)')
    return root
