"""The wheel: built without a network, installed into an empty folder, it works without the checkout.

Importing takes longer than the work on so small a world, so one process runs all verbs, by the entry point
that the console command has.
"""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from perception.core.config import read_config

ROOT = Path(__file__).resolve().parents[1]
DATA_FILES = ('.py', '.json', '.csv', '.txt', '.html', '.css', '.js')
BUILD_FILES = ('setup.py', 'pyproject.toml', 'README.md')
TINY = {
    'train_dataloader.dataset.root': 'world', 'test_dataloader.dataset.root': 'world',
    'train_dataloader.dataset.split': 'val', 'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1,
    'custom_hooks': [], 'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None,
    'model.heads.lanes.decoder.layers': 1, 'visualizer.vis_backends': [{'type': 'LocalVisBackend'}],
    'test_evaluator.options': {'occupancy': {'rays': False}}}
WORDS = [
    'make-world --out world --scenes 1 --split val --key-frames 1 --image-size 112x200 --no-radars '
    '--workers 1',
    'create-data nuscenes --root world --version v1.0-trainval --lidar-sweeps 0 --radar-sweeps 0',
    'doctor --root world --json',
    'train own.py --work-dir work --seed 1',
    'test own.py work/epoch_1.pth --work-dir work --no-results',
    'export own.py work/epoch_1.pth --out work/export']
DRIVER = """
import contextlib, io, json, sys
from importlib.metadata import entry_points

command, = entry_points(group='console_scripts', name='perception')
main = command.load()
said = {'file': sys.modules[main.__module__].__file__}
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = main(words.split())
    assert status == 0, (words, status, text.getvalue())
    said[words.split()[0]] = text.getvalue()
with open('said.json', 'w') as file:
    json.dump(said, file)
"""


def pip(*words: object) -> None:
    """Run pip without a network."""
    options = ['-q', '--no-index', '--disable-pip-version-check']
    command = [sys.executable, '-m', 'pip', *map(str, words), *options]
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


@dataclass
class Installed:
    """The wheel in a folder of its own, and an empty folder to work in.

    Attributes:
        site: where the package and its console command are.
        folder: where commands are run.
    """

    site: Path
    folder: Path

    def python(self, *words: str, stdin: str = '') -> str:
        """Run Python, which knows the installed package and not the checkout; gives what it printed."""
        environment = {**os.environ, 'PYTHONPATH': str(self.site), 'OMP_NUM_THREADS': '1'}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, input=stdin, text=True,
            capture_output=True)
        assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
        return done.stdout


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The installed wheel."""
    site = tmp_path_factory.mktemp('site')
    pip('install', '--no-deps', '--no-compile', '--target', site, wheel)
    take_compiled_code(ROOT / 'perception', site / 'perception')
    return Installed(site, tmp_path_factory.mktemp('empty'))


@pytest.fixture(scope='module')
def said(installed: Installed) -> dict[str, str]:
    """What each verb printed, and the file of the command that ran them."""
    # a configuration that stands for itself: its bases stay in the checkout
    read_config(ROOT / 'configs' / 'debug.py', TINY).dump(installed.folder / 'own.py')
    installed.python('-c', DRIVER, stdin=json.dumps(WORDS))
    return json.loads((installed.folder / 'said.json').read_text())


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
        str(path.relative_to(ROOT)) for path in files if path.suffix in DATA_FILES}
    assert len(needed) > 200 and needed - held == set()


def test_the_console_command_is_there(installed: Installed) -> None:
    assert 'make-world' in installed.python(str(installed.site / 'bin' / 'perception'), '--help')


def test_the_installed_package_runs_not_the_checkout(said: dict[str, str], installed: Installed) -> None:
    assert Path(said['file']) == installed.site / 'perception' / 'cli' / 'commands.py'


def test_it_makes_a_world_and_examines_it(said: dict[str, str], installed: Installed) -> None:
    assert 'world_val: 1 frames' in said['create-data']
    assert (installed.folder / 'world' / 'infos' / 'v1.0-trainval' / 'index.json').is_file()
    assert json.loads(said['doctor'])['exit_code'] == 0


def test_it_trains_and_tests(said: dict[str, str], installed: Installed) -> None:
    assert 'NDS' in said['test']
    metrics = json.loads((installed.folder / 'work' / 'metrics.json').read_text())
    assert 0 <= metrics['map/mIoU'] <= 1


def test_it_exports(said: dict[str, str], installed: Installed) -> None:
    assert 'plugin-free' in said['export']
    assert (installed.folder / 'work' / 'export' / 'sidecar.json').is_file()
