"""A scene of the world as a bag and back: what a model is given, and answers, is what it was."""
from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
pytest.importorskip('mcap', reason='mcap of the extra [bags] is not installed')

from perception.core.reading import BadFile  # noqa: E402
from perception.datasets.create import CreateOptions, create_infos  # noqa: E402
from perception.datasets.reading.collate import collate  # noqa: E402
from perception.datasets.reading.dataset import NuScenesDataset  # noqa: E402
from perception.recordings.drive.importer import VERSION, import_drive  # noqa: E402
from perception.recordings.drive.mapping import read_mapping  # noqa: E402
from perception.recordings.export.scene import ExportOptions, SceneTables, export_scene  # noqa: E402
from perception.recordings.recording import Recording  # noqa: E402
from tests.helpers import make_model  # noqa: E402

WORLD = 'v1.0-trainval'


def imported(world: Path, folder: Path, options: ExportOptions) -> Path:
    mapping = export_scene(SceneTables(world, WORLD), folder / 'bag', options)
    if options.raw_images:
        mapping.write_text(mapping.read_text().replace('{', '{"pictures": "png", ', 1))
    import_drive([Recording(folder / 'bag')], read_mapping(mapping), folder / 'root', lambda line: None)
    create_infos(CreateOptions(folder / 'root', VERSION, lidar_sweeps=0, radar_sweeps=0), progress=False)
    return folder / 'root'


@pytest.fixture(scope='session')
def roots(tiny_world: Path, made_once: Callable[..., Path]) -> dict[str, Path]:
    """Read back from MCAP with raw pictures, and from SQLite with the files as they were."""
    chosen = {'raw': ExportOptions(raw_images=True), 'packed': ExportOptions(storage='sqlite3')}
    return {
        name: made_once(f'export_{name}', lambda folder, o=options: imported(tiny_world, folder, o)) / 'root'
        for name, options in chosen.items()}


@pytest.mark.parametrize('name', ['raw', 'packed'])
def test_a_model_answers_as_on_the_direct_path(tiny_world, roots, name):
    reading = dict(lidar_sweeps=0, radar_sweeps=0)
    direct = NuScenesDataset(tiny_world, WORLD, 'all', reading=reading, tasks=())
    back = NuScenesDataset(roots[name], VERSION, 'all', reading=reading, tasks=())
    assert len(back) == 3
    pairs = [(direct[i][0], back[i][0]) for i in range(3)]

    for before, after in pairs:
        assert after.frame.timestamp_ns == before.frame.timestamp_ns
        np.testing.assert_allclose(after.frame.global_T_ego, before.frame.global_T_ego, atol=1e-9)
        assert after.camera.names == before.camera.names and after.camera.present_N.all()
        assert (after.camera.images_NHW3 == before.camera.images_NHW3).all()
        assert (after.camera.K_N33 == before.camera.K_N33).all()
        np.testing.assert_allclose(after.camera.ego_T_cam_N44, before.camera.ego_T_cam_N44, atol=1e-9)
        np.testing.assert_allclose(after.lidar.points_P6, before.lidar.points_P6, atol=1e-5)
        assert (after.radar.present_R == before.radar.present_R).all()
        np.testing.assert_allclose(after.radar.points_P8, before.radar.points_P8, atol=1e-4)

    model = make_model().eval()
    with torch.no_grad():
        answers = [
            model(**model.data_preprocessor(collate([(pair[side], None) for pair in pairs])), mode='predict')
            for side in range(2)]
    for before, after in zip(*answers, strict=True):
        logits = [np.log(o.map_segmentation.probabilities_6YX / (1 - o.map_segmentation.probabilities_6YX))
                  for o in (before, after)]
        assert np.ptp(logits[0]) > 0.01
        np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)


def test_a_scene_that_is_not_there_and_a_folder_that_is(tiny_world, tmp_path):
    with pytest.raises(BadFile, match="found no scene 'scene-9999', there are: scene-0001"):
        SceneTables(tiny_world, WORLD, 'scene-9999')
    with pytest.raises(FileExistsError, match='expected a new folder'):
        export_scene(SceneTables(tiny_world, WORLD), tmp_path, ExportOptions())


def test_tables_that_do_not_fit_together_are_refused(tiny_world, tmp_path):
    folder = tmp_path / 'root' / 'v1.0-trainval'
    shutil.copytree(tiny_world / 'v1.0-trainval', folder)
    rows = json.loads((folder / 'sensor.json').read_text())
    (folder / 'sensor.json').write_text(json.dumps(rows[1:]))
    with pytest.raises(BadFile, match='v1.0-trainval: cannot be read as the tables of nuScenes'):
        SceneTables(tmp_path / 'root', 'v1.0-trainval')


def test_a_failure_leaves_no_half_written_bag(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr('perception.recordings.export.scene.write_json', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_scene(SceneTables(tiny_world, WORLD), tmp_path / 'bag', ExportOptions())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    'PERCEPTION_LONG_RECORDING' not in os.environ,
    reason='ten minutes of recording take minutes; PERCEPTION_LONG_RECORDING=1 runs it')
def test_ten_minutes_need_no_more_memory_than_one(tiny_world, tmp_path):
    mapping = export_scene(SceneTables(tiny_world, WORLD), tmp_path / 'bag', ExportOptions(repeat=400))
    peaks_mib = []

    def note(line: str) -> None:
        peaks_mib.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    report = import_drive([Recording(tmp_path / 'bag')], read_mapping(mapping), tmp_path / 'root', note)
    assert report.key_frames == 1200 and len(peaks_mib) == 30
    print(f'peak {peaks_mib[-1]:.0f} MiB, {peaks_mib[-1] - peaks_mib[2]:.0f} more than after a minute')
    assert peaks_mib[-1] - peaks_mib[2] < 50
