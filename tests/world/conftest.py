"""Worlds small enough for tests: real ones of a few key frames, and toy ones of one street."""

import dataclasses

import pytest

from perception.core.files import write_bytes
from perception.world.toy import toy_scene
from perception.world.writing import generate, worker
from perception.world.writing.options import WorldOptions
from tests.conftest import TINY_WORLD

TINY = WorldOptions(**TINY_WORLD)
TOY = WorldOptions(scenes=3, seed=1, key_frames=2, image_size_hw=(32, 48))


@pytest.fixture(scope='session')
def tiny_nusc(tiny_world):
    """The tiny world, opened by the official devkit."""
    pytest.importorskip('nuscenes')
    import matplotlib
    matplotlib.use('Agg')
    from nuscenes import NuScenes
    return NuScenes(TINY.version, str(tiny_world), verbose=False)


@pytest.fixture
def toy_worlds(monkeypatch):
    """Makes worlds whose scenes are all the toy street and whose maps are empty files: a second each."""
    def build_scene(plan, seed, flat):
        return dataclasses.replace(toy_scene(), name=plan.name, location=plan.location)

    def write_map_files(out, location, seed):
        write_bytes(out / 'maps' / 'expansion' / f'{location}.json', b'{}')

    monkeypatch.setattr(worker, 'build_scene', build_scene)
    monkeypatch.setattr(worker, 'write_map_files', write_map_files)

    def make(root, options=TOY, report=lambda line: None, workers=1):
        return generate.make_world(root, options, workers=workers, report=report)
    return make
