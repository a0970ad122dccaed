"""Fixtures every room may use."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
TINY_WORLD = dict(scenes=2, seed=7, key_frames=3, image_size_hw=(112, 200), lidar_sweeps=2)
SLOW_FILES = ('test_overfit.py', 'test_engines.py', 'test_generate.py')
"""Files that take long; they come first, so that none is left for the end, where the other workers would wait
for it. The first two need nothing of each other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Every file goes whole to one worker, whatever `--dist` says: what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first."""
    places = {name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope='session', autouse=True)
def one_thread_per_worker() -> None:
    """Several pytest workers share two cores: one torch thread each."""
    import torch
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """Whatever a test has set; behind it, since fixtures of a whole file come before those of a test."""
    import torch
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def real_frames() -> Path:
    """Root of the real nuScenes frames (v1.0-mini), or a visible skip where they are not available."""
    root = Path(os.environ.get('PERCEPTION_REAL_FRAMES', ROOT.parent / 'shared' / 'real_frames' / 'nuscenes'))
    if not (root / 'v1.0-mini').is_dir():
        pytest.skip(f'real nuScenes frames are not at {root} (set PERCEPTION_REAL_FRAMES)')
    return root


@pytest.fixture(scope='session')
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`made_once(name, make)`: a folder that `make(folder)` fills once a test run.

    Whichever worker needs it first makes it; nobody may change what is inside.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'shared'
    shared.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f'{name}.done'
        with FileLock(shared / f'{name}.lock'):
            if not done.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder
    return get


@pytest.fixture(scope='session')
def real_infos(real_frames: Path, made_once: Callable[..., Path]) -> Path:
    """Folder of infos of the real frames, all splits, all sweeps."""
    from perception.datasets.create import CreateOptions, create_infos
    return made_once('real_infos', lambda folder: create_infos(
        CreateOptions(real_frames, 'v1.0-mini', folder), progress=False))


@pytest.fixture(scope='session')
def tiny_world(made_once: Callable[..., Path]) -> Path:
    """Root of a complete synthetic world with its infos: one training and one validation scene, three key
    frames each.
    """
    def make(root: Path) -> None:
        from perception.datasets.create import CreateOptions, create_infos
        from perception.world.writing import generate
        from perception.world.writing.options import WorldOptions
        options = WorldOptions(**TINY_WORLD)
        generate.make_world(root, options, workers=1, report=lambda line: None)
        create_infos(
            CreateOptions(root=root, version=options.version, lidar_sweeps=2, radar_sweeps=0),
            progress=False)
    return made_once('tiny_world', make)
