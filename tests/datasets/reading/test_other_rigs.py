"""Roots whose sensors are not nuScenes': other channel names, entries absent in some frames, other sizes."""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perception.core.lens import Distortion
from perception.core.protocols import CAMERAS
from perception.datasets.create import CreateOptions, create_infos, describe
from perception.datasets.reading.collate import collate
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.infos import write_index
from perception.datasets.transforms.image import ResizeCropFlipRotate

VERSION = 'v1.0-trainval'
Rows = list[dict]


@pytest.fixture()
def changed_root(tiny_world, tmp_path, monkeypatch) -> Callable[..., Path]:
    """A copy of the world's tables, some changed by a function of the rows, beside links to its files."""
    monkeypatch.setenv('PERCEPTION_FOLLOW_LINKS', '1')

    monkeypatch.setenv('PERCEPTION_FOLLOW_LINKS', '1')

    def build(**changes: Callable[[Rows], Rows]) -> Path:
        root = tmp_path / 'root'
        shutil.copytree(tiny_world / VERSION, root / VERSION)
        for folder in tiny_world.iterdir():
            if folder.name not in (VERSION, 'infos', 'maps'):
                (root / folder.name).symlink_to(folder)

        # without the map expansion, whose reading would take most of the time
        (root / 'maps').mkdir()
        for picture in (tiny_world / 'maps').glob('*.png'):
            (root / 'maps' / picture.name).symlink_to(picture)
        for table, change in changes.items():
            path = root / VERSION / f'{table}.json'
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return root

    return build


def create(root: Path, **options):
    options = CreateOptions(root, VERSION, lidar_sweeps=1, radar_sweeps=0, **options)
    return create_infos(options, progress=False)


def renamed(rows: Rows) -> Rows:
    """The LiDAR as T4 data calls it."""
    return [
        {**row, 'channel': 'LIDAR_CONCAT'} if row['channel'] == 'LIDAR_TOP' else row for row in rows]


def test_a_lidar_of_another_name_is_reported_and_refused_and_read_by_its_name(changed_root, tiny_world):
    root = changed_root(sensor=renamed)
    report = create(root)
    assert report.index['left_out']['no entry: LIDAR_TOP'] == 6
    assert report.index['channels']['LIDAR_CONCAT'] == 6
    text = describe(report)
    assert 'No LIDAR_TOP in 6 of 6 frames; there are: LIDAR_CONCAT (--channels LIDAR_TOP=LIDAR_CONCAT' in text

    message = r"no frame of split 'train' in .* has a lidar file .*LIDAR_CONCAT.*--channels"
    with pytest.raises(ValueError, match=message):
        NuScenesDataset(root, sensors=['camera', 'lidar'], reading=dict(lidar_sweeps=1, radar_sweeps=0))
    assert len(NuScenesDataset(root, sensors=['camera'], reading=dict(lidar_sweeps=1, radar_sweeps=0))) == 3

    report = create(root, channels={'LIDAR_TOP': 'LIDAR_CONCAT'})
    assert len(report.made) == 2 and 'no entry: LIDAR_TOP' not in report.index['left_out']
    options = dict(split='train', sensors=['lidar'], tasks=[], reading=dict(lidar_sweeps=1, radar_sweeps=0))
    found, original = (NuScenesDataset(r, **options)[1][0].lidar for r in (root, tiny_world))
    np.testing.assert_array_equal(found.points_P6, original.points_P6)


def test_infos_of_before_they_counted_sensors_still_load(changed_root):
    root = changed_root()
    index = create(root).index
    for scene in index['scenes'].values():
        del scene['frames_with']
    del index['channels']
    write_index(root / 'infos' / VERSION, index)
    reading = dict(lidar_sweeps=1, radar_sweeps=0)
    assert len(NuScenesDataset(root, sensors=['camera', 'lidar'], reading=reading)) == 3


def test_unknown_channels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="channels: found 'LIDAR', expected some of LIDAR_TOP, CAM_FRONT"):
        CreateOptions(tmp_path, VERSION, channels={'LIDAR': 'LIDAR_CONCAT'})


def test_distortions_of_the_tables_come_into_the_sample(changed_root, tiny_world):
    record = {'model': 'brown_conrady', 'coefficients': [-0.3, 0.1, 1e-3, 0, 0.02]}

    def with_lens(rows: Rows) -> Rows:
        sensors = json.loads((tiny_world / VERSION / 'sensor.json').read_text())
        back = next(row['token'] for row in sensors if row['channel'] == 'CAM_BACK')
        return [{**row, 'distortion': record} if row['sensor_token'] == back else row for row in rows]

    root = changed_root(calibrated_sensor=with_lens)
    create(root)
    options = dict(sensors=['camera'], tasks=[], reading=dict(lidar_sweeps=1, radar_sweeps=0))
    rig, plain = (NuScenesDataset(r, **options)[0][0].camera for r in (root, tiny_world))
    assert plain.distortions is None
    assert rig.distortions == tuple(
        Distortion(**record) if name == 'CAM_BACK' else None for name in CAMERAS)


def test_a_distortion_that_is_none_is_named(changed_root):
    def broken(rows: Rows) -> Rows:
        return [{**row, 'distortion': [0.1, 0.2]} for row in rows]

    with pytest.raises(ValueError, match=r'calibrated_sensor.json: \w+: distortion: expected \{"model"'):
        create(changed_root(calibrated_sensor=broken))


def without_one_back_camera(rows: Rows) -> Rows:
    lost = next(row for row in rows if 'CAM_BACK/' in row['filename'] and row['is_key_frame'])
    return [row for row in rows if row is not lost]


def test_a_camera_without_an_entry_keeps_its_place(changed_root):
    root = changed_root(sample_data=without_one_back_camera)
    report = create(root)
    assert report.index['left_out'] == {'no entry: CAM_BACK': 1, 'no map expansion': 6}
    assert '1  no entry: CAM_BACK' in describe(report) and 'there are' not in describe(report)

    split = next(
        name for name in ('train', 'val')
        if NuScenesDataset(root, split=name, sensors=(), reading=dict(lidar_sweeps=0, radar_sweeps=0)).record(
            report.index['splits'][name][0]).cameras.keys() != set(CAMERAS))
    dataset = NuScenesDataset(
        root, split=split, sensors=['camera'], tasks=[], reading=dict(lidar_sweeps=0, radar_sweeps=0),
        pipeline=[ResizeCropFlipRotate((64, 176), train=False)])
    back = CAMERAS.index('CAM_BACK')

    samples = [dataset[i] for i in range(2)]
    batch = collate(samples, sensors=['camera'])['inputs']
    assert [sample.camera.names for sample, _ in samples] == [CAMERAS, CAMERAS]
    assert batch.camera_present_BN.sum().item() == 11 and not batch.camera_present_BN[0, back]
    assert batch.images_BN3HW[0, back].sum() == 0 and batch.images_BN3HW[1, back].sum() > 0
    assert samples[0][0].left_out == ('CAM_BACK: not in the tables',)


def test_images_of_several_sizes_are_reported_and_resized_one_by_one(changed_root, tiny_world):
    import cv2

    def upright(rows: Rows) -> Rows:
        """The front camera as an upright picture of 100 x 160."""
        return [
            {**row, 'width': 100, 'height': 160, 'filename': 'upright.jpg'}
            if 'CAM_FRONT/' in row['filename'] else row
            for row in rows]

    root = changed_root(sample_data=upright)
    cv2.imwrite(str(root / 'upright.jpg'), np.full((160, 100, 3), 200, np.uint8))
    report = create(root)
    assert report.index['image_sizes']['CAM_FRONT'] == {'100 x 160': 6}
    text = describe(report)
    assert 'CAM_FRONT: 100 x 160 (6)' in text and 'CAM_BACK: 200 x 112 (6)' in text

    options = dict(split='train', sensors=['camera'], tasks=[], reading=dict(radar_sweeps=0, lidar_sweeps=0))
    raw = NuScenesDataset(root, **options)[0]
    rig = raw[0].camera
    assert rig.image_size_hw == (160, 200) and rig.sizes_N2.tolist() == [[160, 100], *[[112, 200]] * 5]
    assert rig.present_N.all()
    assert (rig.images_NHW3[0, :, :100] > 150).all() and not rig.images_NHW3[0, :, 100:].any()
    with pytest.raises(ValueError, match='several sizes.*CAM_FRONT 160 x 100.*ResizeCropFlipRotate'):
        collate([raw])

    pipeline = [ResizeCropFlipRotate((64, 176), train=False)]
    found = NuScenesDataset(root, pipeline=pipeline, **options)[0][0].camera
    original = NuScenesDataset(tiny_world, pipeline=pipeline, **options)[0][0].camera
    assert found.sizes_N2 is None and found.images_NHW3.shape == (6, 64, 176, 3)
    np.testing.assert_array_equal(found.images_NHW3[1:], original.images_NHW3[1:])
    np.testing.assert_array_equal(found.K_N33[1:], original.K_N33[1:])
    assert (found.images_NHW3[0] > 150).all()


def test_the_level_of_visibility_is_looked_up(changed_root):
    """Tokens of another format are names, whatever digits they hold."""
    token_of = {'1': 'a7', '2': '9', '3': 'full', '4': '1'}

    def rename(rows: Rows) -> Rows:
        rows = [{**row, 'token': token_of[row['token']]} for row in rows]
        return [row | {'level': 'most'} if row['token'] == 'full' else row for row in rows]

    def refer(rows: Rows) -> Rows:
        return [{**row, 'visibility_token': token_of[row['visibility_token']]} for row in rows]

    root = changed_root(visibility=rename, sample_annotation=refer)
    create(root)
    rows = json.loads((root / VERSION / 'sample_annotation.json').read_text())
    level_of = {'a7': 1, '9': 2, 'full': 0, '1': 4}
    expected = {row['token']: level_of[row['visibility_token']] for row in rows}

    dataset = NuScenesDataset(root, split='train', sensors=(), reading=dict(lidar_sweeps=0, radar_sweeps=0))
    levels = []
    for token in dataset.tokens:
        boxes = dataset.record(token).boxes
        levels += boxes.visibility_M.tolist()
        assert boxes.visibility_M.tolist() == [expected[box] for box in boxes.tokens]
    assert len(set(levels)) > 1


def test_a_split_knows_whether_it_has_labels(changed_root):
    root = changed_root()
    (root / 'gts').unlink()
    create(root)

    def has(*tasks: str) -> bool | None:
        reading = dict(lidar_sweeps=0, radar_sweeps=0)
        return NuScenesDataset(root, sensors=(), tasks=tasks, reading=reading).has_labels()

    assert has('detection') is True and has('occupancy', 'detection') is True
    assert has() is None and has('occupancy') is False and has('lanes', 'map_segmentation') is False


def test_tables_and_splits_may_have_a_byte_order_mark_and_are_named_when_damaged(changed_root):
    root = changed_root()
    scenes = json.loads((root / VERSION / 'scene.json').read_text())
    splits = root / VERSION / 'splits.json'
    splits.write_text(json.dumps({'mine': [scenes[0]['name']]}), encoding='utf-8-sig')
    (root / VERSION / 'scene.json').write_text(json.dumps(scenes), encoding='utf-8-sig')
    assert len(create(root).index['splits']['mine']) == 3

    splits.write_bytes('{"Zürich": []}'.encode('latin-1'))
    with pytest.raises(ValueError, match='splits.json: '):
        create(root)
    (root / VERSION / 'scene.json').write_text('[{')
    with pytest.raises(ValueError, match='scene.json: '):
        create(root)


def test_a_root_that_cannot_be_written_says_out_before_any_work(changed_root, capsys):
    root = changed_root()
    (root / 'infos').touch()
    with pytest.raises(PermissionError, match=r'infos/v1.0-trainval: cannot be written; .* --out'):
        create(root)
