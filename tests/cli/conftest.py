"""A small checkout: the folders that the pages name, filled with a tiny world and a tiny model."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from perception.cli.commands import run_verb
from perception.core.config import read_config
from tests.cli.pages import PAGES, ROOT

TINY = {
    'train_dataloader.dataset.root': 'data/world', 'test_dataloader.dataset.root': 'data/world',
    'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1, 'custom_hooks': [],
    'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None, 'model.heads.lanes.decoder.layers': 1,
    'visualizer.vis_backends': [{'type': 'LocalVisBackend'}]}


@dataclass
class Checkout:
    """Runs commands in the small checkout; a command that was run is not run again.

    Attributes:
        folder: where the commands are run.
        done: the commands that were run.
    """

    folder: Path
    done: set[str]

    def run(self, verb: str, *words: str) -> None:
        """Run a verb in this process to its end; it must say that it is done."""
        key = shlex.join([verb, *words])
        if key in self.done:
            return
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            assert run_verb(verb, words, prog=f'perception {verb}') == 0
        finally:
            os.chdir(before)
        self.done.add(key)


def link_world(world: Path, root: Path, lidar_sweeps: int = 0) -> None:
    """A data root with a world's files, and infos of its own; also named as v1.0-mini is."""
    from perception.datasets.create import CreateOptions, create_infos

    # hard links: links of the other kind may not lead out of a data root
    shutil.copytree(world, root, copy_function=os.link, ignore=shutil.ignore_patterns('infos'))
    create_infos(
        CreateOptions(root, 'v1.0-trainval', lidar_sweeps=lidar_sweeps, radar_sweeps=0), progress=False)

    # the splits of v1.0-mini have other names
    (root / 'v1.0-mini').symlink_to('v1.0-trainval')
    shutil.copytree(root / 'infos' / 'v1.0-trainval', root / 'infos' / 'v1.0-mini')
    file = root / 'infos' / 'v1.0-mini' / 'index.json'
    index = json.loads(file.read_text())
    index['splits'] |= {f'mini_{name}': index['splits'][name] for name in ('train', 'val')}
    file.write_text(json.dumps(index))


@pytest.fixture(scope='session')
def checkout(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The small checkout, with a model that the command itself has trained."""
    folder = tmp_path_factory.mktemp('checkout')
    for name, sweeps in (('world', 0), ('demo_look', 0), ('demo_world', 0), ('nuscenes', 9)):
        link_world(tiny_world, folder / 'data' / name, sweeps)

    text = '\n'.join(page.read_text(encoding='utf-8') for page in PAGES)
    named = re.findall(r'\bconfigs/[\w/]+\.py', text)
    tiny = folder / 'configs' / 'tiny.py'
    tiny.parent.mkdir()
    read_config(ROOT / 'configs' / 'debug.py', TINY).dump(tiny)
    for name in set(named):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny, folder / name)

    made = Checkout(folder, set())
    made.run('train', 'configs/nuscenes/camera_lidar.py', '--launcher', 'none', '--amp')
    weights = folder / 'work_dirs' / 'nuscenes' / 'camera_lidar' / 'epoch_1.pth'
    for place in ('work_dirs/demo/epoch_2.pth', 'data/weights/world_long.pth'):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(weights, folder / place)
    weights.rename(weights.with_name('epoch_20.pth'))
    return made
