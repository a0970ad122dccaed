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
    """Root of the real nuScenes frames (v1.0-mini), or a visible skip where they are not available."""
    root = Path(os.environ.get('PERCEPTION_REAL_FRAMES', ROOT.parent / 'shared' / 'real_frames' / 'nuscenes'))
    if not (root / 'v1.0-mini').is_dir():
        pytest.skip(f'real nuScenes frames are not at {root} (set PERCEPTION_REAL_FRAMES)')
    return root


@pytest.fixture(scope='session')
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for the whole test run, the same for all pytest workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == 'master' else base.parent) / 'shared'
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope='session')
def tiny_world(shared_folder: Path) -> Path:
    """Root of a complete synthetic world with its infos: one training and one validation scene, three key
    frames each.

    Made once a test run, by whichever worker needs it first.
    """
    from filelock import FileLock

    from perception.datasets.create import CreateOptions, create_infos
    from perception.world.writing import generate
    from perception.world.writing.options import WorldOptions
    root = shared_folder / 'tiny_world'
    with FileLock(f'{root}.lock'):
        if not (root / 'infos').is_dir():
            options = WorldOptions(scenes=2, seed=7, key_frames=3, image_size_hw=(112, 200), lidar_sweeps=2)
            generate.make_world(root, options, workers=1, report=lambda line: None)
            create_infos(
                CreateOptions(root=root, version=options.version, lidar_sweeps=2, radar_sweeps=0),
                progress=False)
    return root
