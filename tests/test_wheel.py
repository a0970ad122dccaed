"""The wheel: built without a network, installed into an empty folder, it works without the checkout."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from perception.core.config import read_config

ROOT = Path(__file__).resolve().parents[1]
BUILD_FILES = ('setup.py', 'pyproject.toml', 'README.md')
pytestmark = pytest.mark.xdist_group('wheel')


def pip(*words: object) -> None:
    """Run pip without a network."""
    command = [sys.executable, '-m', 'pip', *map(str, words), '-q', '--no-index']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the package, so that nothing is built inside the checkout."""
    pytest.importorskip('setuptools', minversion='70.1', reason='setuptools 70.1 or later builds the wheel')
    pytest.importorskip('pip', reason='pip builds and installs the wheel')
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    shutil.copytree(ROOT / 'perception', source / 'perception', ignore=shutil.ignore_patterns('__pycache__'))
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, source)
    pip('wheel', '--no-build-isolation', '--no-deps', '-w', folder, source)
    built, = folder.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def command(wheel: Path, tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Call the installed console command in an empty folder; gives what it printed."""
    site, empty = tmp_path_factory.mktemp('site'), tmp_path_factory.mktemp('empty')
    pip('install', '--no-deps', '--no-compile', '--target', site, wheel)
    take_compiled_code(ROOT / 'perception', site / 'perception')
    environment = {**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'}

    def call(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, str(site / 'bin' / 'perception'), *map(str, words)], cwd=empty, env=environment,
            capture_output=True, text=True)
        assert done.returncode == 0, f'{words}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}'
        return done.stdout

    call.folder = empty
    return call


def take_compiled_code(package: Path, installed: Path) -> None:
    """Copy numba's compiled loops, which would take minutes: they fit sources of equal content and time."""
    for compiled in package.rglob('*.nb[ic]'):
        target = installed / compiled.relative_to(package)
        if not target.parent.parent.is_dir():
            continue  # left behind by a folder that has been moved
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, target)
    for source in package.rglob('*.py'):
        target = installed / source.relative_to(package)
        assert target.read_bytes() == source.read_bytes()
        os.utime(target, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (ROOT / 'perception').rglob('*') if path.is_file()]
    needed = {
        str(path.relative_to(ROOT)) for path in files if path.suffix in ('.py', '.json', '.csv', '.txt')}
    assert len(needed) > 200 and needed - held == set()


def test_the_installed_command_makes_and_reads_a_world(command: Callable[..., str]) -> None:
    command(
        'make-world', '--out', 'world', '--scenes', 1, '--split', 'val', '--key-frames', 1, '--image-size',
        '112x200', '--no-radars', '--no-occupancy', '--workers', 1)
    report = command(
        'create-data', 'nuscenes', '--root', 'world', '--version', 'v1.0-trainval', '--lidar-sweeps', 0,
        '--radar-sweeps', 0)
    assert 'world_val: 1 frames' in report
    assert (command.folder / 'world' / 'infos' / 'v1.0-trainval' / 'index.json').is_file()


def test_the_installed_command_trains_tests_and_exports(
    command: Callable[..., str], tiny_world: Path
) -> None:
    options = {f'{name}_dataloader.dataset.root': str(tiny_world) for name in ('train', 'test')} | {
        'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1, 'custom_hooks': [],
        'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None,
        'visualizer.vis_backends': [{'type': 'LocalVisBackend'}],
        'test_evaluator.options': {'occupancy': {'rays': False}}}
    # a configuration that stands for itself: its bases stay in the checkout
    read_config(ROOT / 'configs' / 'debug.py', options).dump(command.folder / 'own.py')
    command('train', 'own.py', '--work-dir', 'work', '--seed', 1)
    assert 'NDS' in command('test', 'own.py', 'work/epoch_1.pth', '--work-dir', 'work', '--no-results')
    metrics = json.loads((command.folder / 'work' / 'metrics.json').read_text())
    assert 0 <= metrics['map/mIoU'] <= 1
    assert 'plugin-free' in command('export', 'own.py', 'work/epoch_1.pth', '--out', 'work/export')
    assert (command.folder / 'work' / 'export' / 'sidecar.json').is_file()


def test_the_installed_command_examines_the_machine(command: Callable[..., str], tiny_world: Path) -> None:
    assert json.loads(command('doctor', '--root', tiny_world, '--json'))
    assert 'make-world' in command('--help')
