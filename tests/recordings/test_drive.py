"""A recording becomes a root that the dataset reads; stopped, it goes on; what does not fit is refused."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
pytest.importorskip('mcap', reason='mcap of the extra [bags] is not installed')

from perception.core.nuscenes.radar_file import read_radar_pcd  # noqa: E402
from perception.core.reading import BadFile  # noqa: E402
from perception.datasets.create import CreateOptions, create_infos  # noqa: E402
from perception.datasets.reading.dataset import NuScenesDataset  # noqa: E402
from perception.recordings.drive import importer, scene_writer  # noqa: E402
from perception.recordings.drive.importer import VERSION, import_drive  # noqa: E402
from perception.recordings.drive.mapping import DriveMapping, read_mapping  # noqa: E402
from perception.recordings.drive.suggest import suggest_mapping  # noqa: E402
from perception.recordings.recording import Recording  # noqa: E402
from tests.recordings.drives import (  # noqa: E402
    HEIGHT,
    LENS,
    MAPPING,
    NS,
    POLE,
    POSES,
    SPEED,
    START,
    Drive,
    write_drive,
)


def mapping(folder: Path, **changes: object) -> DriveMapping:
    path = folder / 'mapping.json'
    path.write_text(json.dumps(MAPPING | changes))
    return read_mapping(path)


def quiet(line: str) -> None:
    """No progress."""


@pytest.fixture(scope='session')
def bag(made_once: Callable[..., Path]) -> Path:
    return made_once('drive_bag', lambda folder: write_drive(folder / 'bag', Drive().messages())) / 'bag'


@pytest.fixture(scope='session')
def root(made_once: Callable[..., Path], bag: Path) -> Path:
    """The imported drive, with its infos."""
    def make(folder: Path) -> None:
        import_drive([Recording(bag)], mapping(folder), folder / 'root', quiet)
        create_infos(CreateOptions(folder / 'root', VERSION), progress=False)
    return made_once('drive_root', make) / 'root'


def rows(root: Path, table: str) -> list[dict]:
    return json.loads((root / VERSION / f'{table}.json').read_text())


# -------------------------------------------------------------------- what is written

def test_key_frames_come_twice_a_second_with_the_nearest_of_every_sensor(root):
    samples = rows(root, 'sample')
    assert [s['timestamp'] * 1000 - START for s in samples] == [0, NS // 2, NS, 3 * NS // 2, 2 * NS]
    assert [s['name'] for s in rows(root, 'scene')] == ['trip-0001', 'trip-0002', 'trip-0003']

    keys = [row for row in rows(root, 'sample_data') if row['is_key_frame']]
    channel_of = {r['token']: s['channel'] for r in rows(root, 'calibrated_sensor')
                  for s in rows(root, 'sensor') if s['token'] == r['sensor_token']}
    for sample in samples:
        found = {
            channel_of[row['calibrated_sensor_token']]: row['timestamp'] - sample['timestamp']
            for row in keys if row['sample_token'] == sample['token']}
        last = sample['timestamp'] * 1000 == START + 2 * NS
        expected = {'LIDAR_TOP': 0, 'CAM_LEFT': 7000, 'CAM_RIGHT': 7000, 'RADAR_FRONT': 31000}
        assert found == (expected if not last else {'LIDAR_TOP': 0, 'CAM_LEFT': -43000, 'CAM_RIGHT': -43000})

    # LiDAR and radar go on between them, pictures do not
    sweeps = [row['filename'].split('/')[1] for row in rows(root, 'sample_data') if not row['is_key_frame']]
    assert {name: sweeps.count(name) for name in set(sweeps)} == {'LIDAR_TOP': 16, 'RADAR_FRONT': 16}


def test_points_of_a_sweep_stand_still(root):
    """The pole is one point in the world, although the car passed it while it was measured."""
    data = next(row for row in rows(root, 'sample_data') if 'samples/LIDAR_TOP' in row['filename'])
    points = np.fromfile(root / data['filename'], '<f4').reshape(-1, 5)
    assert len(points) == 50 and np.ptp(points[:, :3], 0).max() < 2e-3
    assert set(points[:, 3]) == {100.0}
    pose = next(row for row in rows(root, 'ego_pose') if row['token'] == data['ego_pose_token'])
    place = points[0, :3] + POSES['lidar']['translation'] + [0, 0, HEIGHT] + np.array(pose['translation'])
    np.testing.assert_allclose(place, POLE, atol=2e-3)


def test_a_standing_pole_does_not_move_for_the_radar(root):
    data = next(row for row in rows(root, 'sample_data') if 'samples/RADAR_FRONT' in row['filename'])
    target, = read_radar_pcd((root / data['filename']).read_bytes())
    assert target['vx'] == pytest.approx(-SPEED, abs=1e-4) and target['vx_comp'] == pytest.approx(0, abs=1e-3)


def test_pictures_and_calibrations_come_through(root):
    for channel, lens in (('CAM_LEFT', {'model': 'kannala_brandt', 'coefficients': [0.01, 0, 0, 0]}),
                          ('CAM_RIGHT', None)):
        data = next(row for row in rows(root, 'sample_data') if f'samples/{channel}' in row['filename'])
        assert (data['height'], data['width']) == (24, 40) and data['filename'].endswith('.png')
        assert (cv2.imread(str(root / data['filename']))[..., ::-1] == [0, 40, 80]).all()
        calibration = next(
            r for r in rows(root, 'calibrated_sensor') if r['token'] == data['calibrated_sensor_token'])
        assert calibration.get('distortion') == lens and calibration['camera_intrinsic'][0] == [30, 0, 19.5]
        frame = f'{channel[4:].lower()}_optical'
        np.testing.assert_allclose(
            calibration['translation'], np.array(POSES[frame]['translation']) + [0, 0, HEIGHT])


def test_the_dataset_reads_it_unlabelled_with_cameras_of_any_name(root):
    dataset = NuScenesDataset(root, VERSION, 'all', reading=dict(radar_sweeps=0, lidar_sweeps=2))
    assert len(dataset) == 5
    sample, annotations = dataset[1]
    assert sample.camera.names == ('CAM_LEFT', 'CAM_RIGHT') and sample.camera.present_N.all()
    assert (sample.camera.images_NHW3[0] == [10, 40, 80]).all()
    assert sample.camera.distortions == (LENS, None)
    assert sample.lidar is not None and sample.radar.present_R.tolist() == [True, *[False] * 4]
    assert annotations is None

    # all sweeps fall on the pole, in the ego of the key frame
    pole = POLE - [SPEED * 0.5, 0, -HEIGHT]
    np.testing.assert_allclose(sample.lidar.points_P6[:, :3].mean(0), pole, atol=5e-3)
    assert np.ptp(sample.lidar.points_P6[:, :3], 0).max() < 0.01

    chosen = NuScenesDataset(root, VERSION, 'all', reading=dict(cameras=['CAM_RIGHT'], radar_sweeps=0))
    assert chosen[0][0].camera.names == ('CAM_RIGHT',)


def test_the_report_says_what_there_was(root):
    report = json.loads((root / 'import_report.json').read_text())
    assert report['key_frames'] == 5 and report['scenes'] == 3
    lidar, radar = report['sensors']['LIDAR_TOP'], report['sensors']['RADAR_FRONT']
    assert lidar['measurements'] == 21 and lidar['in_key_frames'] == 5 and lidar['period_s'] == 0.1
    assert radar['absent_in_key_frames'] == 1 and radar['absent_at'] == ['trip-0003 0']
    assert report['dropped'] == {} and report['clock_jumps'] == []
    assert 'LIDAR_TOP' in (root / 'import_report.txt').read_text()


# -------------------------------------------------------------------- stopped and gone on

def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob('*'))
        if path.is_file() and not path.name.startswith('import_report') and 'infos' not in path.parts}


@pytest.mark.parametrize('killed', [False, True])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, bag, root, monkeypatch, killed):
    out = tmp_path / 'root'
    options = mapping(tmp_path)
    whole, calls = scene_writer.SceneWriter.add, []

    def stopping(self, placed, form, pose):
        calls.append(self.name)
        if calls.count('trip-0002') == 12:
            raise KeyboardInterrupt
        whole(self, placed, form, pose)

    with monkeypatch.context() as patch:
        patch.setattr(scene_writer.SceneWriter, 'add', stopping)
        if killed:  # nobody tidies up
            patch.setattr(scene_writer.SceneWriter, 'discard', lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            import_drive([Recording(bag)], options, out, quiet)
    assert not (out / VERSION).exists()
    assert (out / '.unfinished' / 'trip-0002.tmp').exists() == killed
    published = [path for path in out.rglob('*.png') if '.unfinished' not in path.parts]
    assert {path.name[:9] for path in published} == {'trip-0001'}

    report = import_drive([Recording(bag)], options, out, quiet)
    assert (report.finished_before, report.scenes, report.key_frames) == (1, 2, 5)
    assert files_of(out) == files_of(root)
    assert import_drive([Recording(bag)], options, out, quiet).finished_before == 3


def test_another_mapping_or_recording_does_not_go_on_there(tmp_path, bag, root):
    import shutil
    out = tmp_path / 'root'
    shutil.copytree(root, out)
    with pytest.raises(ValueError, match='begun with another mapping; give the same'):
        import_drive([Recording(bag)], mapping(tmp_path, pictures='jpeg'), out, quiet)
    other = write_drive(tmp_path / 'other', Drive(0.5).messages())
    with pytest.raises(ValueError, match='begun with another recordings'):
        import_drive([Recording(other)], mapping(tmp_path), out, quiet)
    with pytest.raises(ValueError, match='found a folder without drive.json'):
        import_drive([Recording(bag)], mapping(tmp_path), tmp_path, quiet)


# -------------------------------------------------------------------- holes and clocks

def imported(tmp_path: Path, messages: list, **changes: object):
    path = write_drive(tmp_path / 'holes', messages)
    return import_drive([Recording(path)], mapping(tmp_path, **changes), tmp_path / 'out', quiet)


def test_gaps_are_told_and_not_filled(tmp_path):
    def kept(topic: str, time_ns: int) -> bool:
        t = (time_ns - START) / NS
        return not (topic.startswith('/left') and 0.4 < t < 0.8) and not (topic == '/points' and 2 < t < 4)
    messages = [row for row in Drive(5.0).messages() if kept(*row[:2])]
    report = imported(tmp_path, messages, key_frames={})
    assert report.absent['CAM_LEFT'] == 1 and report.absent_at['CAM_LEFT'] == ['trip-0001 1']
    assert report.times['CAM_LEFT'].gap_count == 1
    since, length = report.times['CAM_LEFT'].gaps[0]
    assert since == pytest.approx(0.35) and length == pytest.approx(0.45)
    # a reference that is silent for two seconds ends the scene
    assert report.scenes == 2 and any('LIDAR_TOP was silent for 2.00 s' in words for words in report.cuts)
    assert report.key_frames == 5 + 3


def test_a_damaged_measurement_is_left_out_and_said(tmp_path):
    messages = Drive(1.0).messages()
    picture = [m for topic, _, m in messages if topic == '/left/image_raw'][0]
    picture.step = 7
    report = imported(tmp_path, messages, key_frames={})
    reason, = report.dropped
    assert 'CAM_LEFT: Image: found rows of 7 bytes' in reason and report.dropped[reason] == 1
    assert report.absent == {'CAM_LEFT': 1, 'RADAR_FRONT': 1}


def test_a_jump_of_the_clock_begins_a_scene(tmp_path):
    first = Drive(1.0).messages()
    later = [
        (topic, t + 2 * NS, moved(m, 3600)) for topic, t, m in Drive(1.0).messages() if topic != '/tf_static']
    report = imported(tmp_path, first + later, key_frames={})
    assert report.scenes == 2 and report.key_frames == 6
    assert report.order['clock_jumps'] and 'clock jumped by +' in report.order['clock_jumps'][0]


def moved(message, seconds: int):
    message.header.stamp.sec += seconds
    return message


def test_sensors_and_recordings_of_other_clocks_are_refused(tmp_path):
    messages = [(topic, t, moved(m, -1_600_000_000) if topic == '/points' else m)
                for topic, t, m in Drive(0.5).messages()]
    with pytest.raises(BadFile, match='/points: its clock differs by -1600000000.0'):
        imported(tmp_path, messages)

    rows = Drive(0.5).messages()
    parts = [
        [row for row in rows if row[0] != '/points'],
        [(t, at, moved(m, 500)) for t, at, m in Drive(0.5).messages() if t == '/points']]
    paths = [write_drive(tmp_path / f'part{i}', part) for i, part in enumerate(parts)]
    with pytest.raises(BadFile, match='they run on different clocks'):
        import_drive([Recording(path) for path in paths], mapping(tmp_path), tmp_path / 'out2', quiet)


def test_two_recordings_of_one_clock_are_one_drive(tmp_path, root):
    rows = Drive().messages()
    paths = [
        write_drive(tmp_path / f'part{i}', [row for row in rows if (row[0] == '/points') == bool(i)])
        for i in range(2)]
    report = import_drive([Recording(path) for path in paths], mapping(tmp_path), tmp_path / 'out', quiet)
    assert report.key_frames == 5
    ours, theirs = files_of(tmp_path / 'out'), files_of(root)
    assert {name: data for name, data in ours.items() if name != 'drive.json'} == {
        name: data for name, data in theirs.items() if name != 'drive.json'}


# -------------------------------------------------------------------- what does not fit

@pytest.mark.parametrize('changes, words', [
    ({'lidar': {'topic': '/pionts'}}, "no topic '/pionts'"),
    ({'lidar': {'topic': '/radar2'}}, "no topic '/radar2'"),
    ({'lidar': {'topic': '/odom'}, 'poses': {'topic': '/points'}}, 'found the type nav_msgs/msg/Odometry'),
    ({'poses': {'fixed': 'map'}}, 'found no topic /tf'),
    ({'poses': {'topic': '/odom', 'base': 'car'}}, "no key frame|expected 'car'|of some sensor"),
    ({'lidar': {'topic': '/points', 'frame': 'velodyne'}}, "nothing says where the frame 'velodyne' lies")])
def test_a_mapping_that_does_not_fit_the_recording_is_refused(tmp_path, bag, changes, words):
    with pytest.raises(ValueError, match=words):
        import_drive([Recording(bag)], mapping(tmp_path, **changes), tmp_path / 'out', quiet)
    assert not list((tmp_path / 'out').rglob('*.bin')) if (tmp_path / 'out').exists() else True


@pytest.mark.parametrize('changes, words', [
    ({'lidars': {}}, "mapping: unknown field 'lidars'; did you mean 'lidar'"),
    ({'cameras': {}, 'lidar': None}, 'a camera or a LiDAR at least'),
    ({'cameras': {'CAM': {'topic': '/x'}}}, 'cameras.CAM: found no calibration'),
    ({'cameras': {'../CAM': {'topic': '/x', 'info': '/y'}}}, 'cameras: found .../CAM'),
    ({'cameras': {'CAM': {'topic': '/points', 'info': '/y'}}}, 'LIDAR_TOP.topic: found /points'),
    ({'cameras': {'CAM': {'topic': '/x', 'K': [1, 2, 3]}}}, 'cameras.CAM.K: found .* a list of 4'),
    ({'cameras': {'CAM': {'topic': '/x', 'K': [9, 9, 3, 3], 'distortion': {'model': 'x'}}}}, 'CAM.distort'),
    ({'radars': {'FRONT': {'topic': '/r'}}}, 'radars: found FRONT, expected names of RADAR_FRONT'),
    ({'lidar': {'topic': '/points', 'pose': {'xyz_m': [1, 2, 3], 'quaternion_xyzw': [0, 0, 0, 2]}}},
     'lidar.pose.quaternion_xyzw: .* length 1'),
    ({'poses': {'base_height_m': 'high'}}, 'poses.base_height_m'),
    ({'key_frames': {'tolerance_s': 0.3}}, 'key_frames.tolerance_s: found 0.3, expected less than half'),
    ({'key_frames': {'reference': 'CAM'}}, 'key_frames.reference: found CAM, expected one of CAM_LEFT'),
    ({'pictures': 'gif'}, 'pictures: found gif'), ({'jpeg_quality': 0}, 'jpeg_quality: found 0')])
def test_a_mapping_with_a_fault_names_file_and_field(tmp_path, changes, words):
    with pytest.raises(BadFile, match=words) as error:
        mapping(tmp_path, **changes)
    assert 'mapping.json' in str(error.value)


def test_a_mapping_may_be_yaml_and_take_a_rig_file(tmp_path):
    from perception.core.rig.file import DEFAULT_RIG_PATH
    (tmp_path / 'rig.json').write_text(DEFAULT_RIG_PATH.read_text())
    path = tmp_path / 'mapping.yaml'
    path.write_text(
        'name: trip\nrig: rig.json\nposes: {fixed: map, base_height_m: 0.5}\n'
        'cameras:\n  CAM_FRONT: {topic: /front}\nlidar: {topic: /points}\n')
    found = read_mapping(path)
    assert found.cameras['CAM_FRONT'].K_33[0].tolist() == [1260, 0, 816]
    # a rig file counts from the ground, base lies half a metre above it
    np.testing.assert_allclose(found.lidars['LIDAR_TOP'].base_T_sensor[:3, 3], [0.96, 0, 1.34])
    assert found.reference == 'LIDAR_TOP'
    path.write_text('a: [')
    with pytest.raises(BadFile, match=r'mapping.yaml: cannot be read as a mapping file'):
        read_mapping(path)


def test_a_first_mapping_is_suggested_by_types(bag, tmp_path):
    suggested = suggest_mapping(Recording(bag))
    assert suggested == {
        'name': 'bag', 'poses': {'topic': '/odom', 'base': 'base_link', 'base_height_m': 0.0},
        'cameras': {'CAM_LEFT': MAPPING['cameras']['CAM_LEFT'], 'CAM_RIGHT': MAPPING['cameras']['CAM_RIGHT']},
        'lidar': {'topic': '/points'}, 'radars': {'RADAR_FRONT': {'topic': '/radar'}}}
    path = tmp_path / 'suggested.json'
    path.write_text(json.dumps(suggested))
    assert set(read_mapping(path).sensors) == {'CAM_LEFT', 'CAM_RIGHT', 'LIDAR_TOP', 'RADAR_FRONT'}


def test_a_camera_is_the_reference_where_there_is_no_lidar(tmp_path, bag):
    options = mapping(tmp_path, lidar=None, key_frames={'scene_s': 10.0})
    report = import_drive([Recording(bag)], options, tmp_path / 'out', quiet)
    assert report.key_frames == 4 and report.absent == {}
    samples = rows(tmp_path / 'out', 'sample')
    assert [s['timestamp'] * 1000 - START for s in samples] == [7_000_000 + i * NS // 2 for i in range(4)]


def test_the_disk_fills_up(tmp_path, bag, monkeypatch):
    def full(path, content):
        raise OSError(28, 'No space left on device', str(path))
    monkeypatch.setattr('perception.core.nuscenes.storage.write_bytes', full)
    with pytest.raises(OSError, match='No space left'):
        import_drive([Recording(bag)], mapping(tmp_path), tmp_path / 'out', quiet)
    assert not list((tmp_path / 'out').rglob('*.png')) and not (tmp_path / 'out' / importer.VERSION).exists()
