"""What recordings of strangers do: words that almost fit, repeated times, other clocks, cut pictures."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
pytest.importorskip('mcap', reason='mcap of the extra [bags] is not installed')

from perception.core.reading import BadFile  # noqa: E402
from perception.core.rig.file import DEFAULT_RIG_PATH  # noqa: E402
from perception.core.rig.plain import load_plain  # noqa: E402
from perception.recordings.drive.importer import VERSION, import_drive  # noqa: E402
from perception.recordings.drive.mapping import read_mapping  # noqa: E402
from perception.recordings.drive.report import MOST_REASONS, Reasons, SensorTimes  # noqa: E402
from perception.recordings.drive.streams import DriveStream  # noqa: E402
from perception.recordings.drive.suggest import suggest_mapping  # noqa: E402
from perception.recordings.live.poses import LivePoses  # noqa: E402
from perception.recordings.live.readings import LiveReadings  # noqa: E402
from perception.recordings.messages.camera_info import camera_model  # noqa: E402
from perception.recordings.messages.images import packed_image  # noqa: E402
from perception.recordings.messages.poses import TransformTree  # noqa: E402
from perception.recordings.messages.values import BadMessage  # noqa: E402
from perception.recordings.order import InOrder, OrderOptions  # noqa: E402
from perception.recordings.recording import Recording  # noqa: E402
from perception.recordings.storage.records import BagTopic, RawMessage  # noqa: E402
from tests.recordings.drives import HEIGHT, MAPPING, NS, POSES, START, Drive, write_drive  # noqa: E402


def written(folder: Path, content: object = MAPPING, name: str = 'mapping.json') -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def imported(folder: Path, rows: list, **changes: object):
    bag = write_drive(folder / 'bag', rows)
    options = read_mapping(written(folder, MAPPING | changes))
    return import_drive([Recording(bag)], options, folder / 'out', lambda line: None)


def table(root: Path, name: str) -> list[dict]:
    return json.loads((root / VERSION / f'{name}.json').read_text())


# -------------------------------------------------------------------- mapping files

@pytest.mark.parametrize('changes, words', [
    ({'lidar': {'topic': '/p', 'fields': {'intensty': 'i'}}}, "field 'intensty'; did you mean 'intensity'"),
    ({'radars': {'RADAR_FRONT': {'topic': '/r', 'fields': {'vz': 'v'}}}}, "fields: unknown field 'vz'"),
    ({'lidar': {'topic': '/p', 'fields': {'ring': 3}}}, 'lidar.fields.ring: found 3, expected a name'),
    ({'cameras': {'C': {'topic': '/x', 'info': '/y', 'distortion': {}}}}, 'C.distortion: found no K'),
    ({'cameras': {'C': {'topic': '/x', 'info': '/y', 'K': [9, 9, 3, 3]}}}, 'C: found K and info'),
    ({'cameras': {'C': {'topic': '/x', 'K': [9, 9, 3, 3], 'rectified': True}}}, 'C.rectified: found True'),
    ({'cameras': {'LIDAR_TOP': {'topic': '/x', 'info': '/y'}}}, 'lidars: found LIDAR_TOP, expected a name'),
    ({'poses': {}}, 'poses: found {}, expected topic .of odometry., or fixed'),
    ({'poses': {'topic': '/odom', 'base': '/'}}, "poses.base: found '', expected")])
def test_a_mapping_that_says_what_nobody_reads_is_refused(tmp_path, changes, words):
    with pytest.raises(BadFile, match=words):
        read_mapping(written(tmp_path, MAPPING | changes))


def test_json_is_read_as_json_and_nothing_of_a_file_is_lost(tmp_path):
    """1e-05 is text to YAML 1.1, tabs are an error there, and of two equal names it keeps the last."""
    place = {'xyz_m': [1e-05, 0, 1], 'quaternion_xyzw': [0, 0, 0, 1]}
    content = MAPPING | {'lidar': {'topic': '/points', 'pose': place}}
    found = read_mapping(written(tmp_path, json.dumps(content, indent='\t')))
    assert found.lidars['LIDAR_TOP'].base_T_sensor[0, 3] == 1e-05
    found = load_plain(written(tmp_path, 'a: 1e-05\nb: [-2E3, 1.5e-3]', 'a.yaml'))
    assert found == {'a': 1e-05, 'b': [-2000, 0.0015]}

    twice = 'poses: {topic: /odom}\ncameras:\n  C: {topic: /a, info: /b}\n  C: {topic: /c, info: /d}\n'
    for text in (twice, '{"cameras": {"C": {}, "C": {}}}'):
        with pytest.raises(BadFile, match="mapping.json: found 'C' twice in one place"):
            read_mapping(written(tmp_path, text))
    bomb = 'a: &a [x, x]\nb: &b [*a, *a]\nname: *b\n'
    with pytest.raises(BadFile, match='found a YAML reference'):
        read_mapping(written(tmp_path, bomb, 'mapping.yaml'))


def test_frames_lose_the_slash_of_ros_1(tmp_path):
    poses = {'fixed': '/map', 'base': '/base_link'}
    found = read_mapping(written(tmp_path, MAPPING | {
        'poses': poses, 'lidar': {'topic': '/points', 'frame': '/velodyne'}}))
    assert (found.poses.fixed, found.poses.base, found.lidars['LIDAR_TOP'].frame) == (
        'map', 'base_link', 'velodyne')


def test_two_topics_of_one_name_stay_two_cameras():
    topics = {
        name: BagTopic(name, 'sensor_msgs/msg/Image', 'cdr')
        for name in ('/cam/front/image', '/cam_front/image_raw', '/cam-front/image')}
    topics['/odom'] = BagTopic('/odom', 'nav_msgs/msg/Odometry', 'cdr')
    recording = SimpleNamespace(topics=topics, path=Path('-bag-'), messages=lambda names: iter(()))
    suggested = suggest_mapping(recording)
    assert len({source['topic'] for source in suggested['cameras'].values()}) == 3
    assert suggested['name'] == 'bag'


# -------------------------------------------------------------------- times

def test_a_simulators_clock_holds_from_the_first_message_on():
    """Transforms have no header: the first were put years behind all that came after."""
    topics = {name: BagTopic(name, 'x', 'cdr') for name in ('/tf_static', '/a')}
    decoder = SimpleNamespace(
        stamp_ns=lambda topic, data: None if topic.name == '/tf_static' else int(data))
    raws = [RawMessage(topics['/tf_static'], START, b'')] + [
        RawMessage(topics['/a'], START + i * NS // 10, b'%d' % (NS + i * NS // 10)) for i in range(20)]
    order = InOrder(decoder, OrderOptions())
    found = [(message.topic.name, message.time_ns) for message in order(raws)]
    assert found == [('/tf_static', NS)] + [('/a', NS + i * NS // 10) for i in range(20)]
    assert not order.report.late


def test_a_calibration_may_have_been_sent_once_long_ago(tmp_path):
    rows, seen = [], set()
    for topic, time_ns, message in Drive(1.0).messages():
        if topic.endswith('camera_info'):
            if topic in seen:
                continue
            seen.add(topic)
            time_ns = START - NS // 5
            message.header.stamp.sec -= 3600
        rows.append((topic, time_ns, message))
    report = imported(tmp_path, sorted(rows, key=lambda row: row[1]), key_frames={})
    assert report.written['CAM_LEFT'] == report.written['CAM_RIGHT'] == report.key_frames == 3


def test_a_repeated_time_is_one_row_and_one_file(tmp_path):
    rows = [row for row in Drive(1.0).messages() for _ in range(2 if row[0] in ('/points', '/radar') else 1)]
    report = imported(tmp_path, rows, key_frames={})
    assert report.dropped == {
        'LIDAR_TOP: the same time as the measurement before it': 11,
        'RADAR_FRONT: the same time as the measurement before it': 10}
    rows = table(tmp_path / 'out', 'sample_data')
    assert len({row['token'] for row in rows}) == len({row['filename'] for row in rows}) == len(rows)


def test_a_sensor_that_never_comes_back_has_a_gap():
    times = SensorTimes()
    for step in range(10):
        times.add(START + step * NS // 10)
    times.end(START + 5 * NS)
    assert times.gap_count == 1 and times.gaps == [(0.9, 4.1)]


def test_poses_that_come_a_little_late_do_not_start_over():
    poses = LivePoses()
    for milliseconds in (0, 20, 40, 35, 60):
        pose = np.eye(4)
        pose[0, 3] = milliseconds
        poses.add(milliseconds * 10 ** 6, pose)
    assert len(poses) == 5 and poses.at(10 * 10 ** 6)[0, 3] == pytest.approx(10)
    assert poses.at(37 * 10 ** 6)[0, 3] == pytest.approx(37)


# -------------------------------------------------------------------- frames and sensors

def test_one_bad_transform_does_not_spoil_the_tree():
    tree = TransformTree()
    tree.add_pose('map', 'odom', None, np.eye(4))
    tree.add_pose('odom', 'base', 0, np.eye(4))
    with pytest.raises(BadMessage, match='circle'):
        tree.add_pose('base', 'map', 0, np.eye(4))
    assert tree.at('map', 'base', 0) is not None

    # poses in odom and poses in map are no one track
    far = np.eye(4)
    far[0, 3] = 100
    tree.add_pose('map', 'base', NS // 2, far)
    assert tree.at('map', 'base', 0) is None and tree.at('map', 'base', NS // 4) is None
    assert tree.at('map', 'base', NS // 2)[0, 3] == 100


def test_a_camera_whose_frame_is_its_body_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(POSES['left_optical'], 'rotation', [1, 0, 0, 0])
    rows = Drive(1.0).messages()
    with pytest.raises(ValueError, match="CAM_LEFT: the z of its frame 'left_optical' points up"):
        imported(tmp_path, rows)

    readings = LiveReadings(read_mapping(written(tmp_path)))
    with pytest.raises(ValueError, match='points up'):
        for raw in Recording(tmp_path / 'bag').raw_messages():
            heard = readings.hear(raw)
            if heard is not None and heard[0] == 'CAM_LEFT':
                readings.read(*heard)


def test_pictures_of_another_size_than_the_rig_says_are_refused(tmp_path):
    rig = json.loads(DEFAULT_RIG_PATH.read_text())
    written(tmp_path, rig, 'rig.json')
    cameras = {'CAM_FRONT': {'topic': '/left/image_raw'}}
    with pytest.raises(ValueError, match='have 40 x 24 pixels, its calibration says 1600 x 900'):
        imported(tmp_path, Drive(1.0).messages(), rig='rig.json', cameras=cameras, radars={}, key_frames={})


def test_two_cameras_may_share_a_calibration(tmp_path):
    cameras = {name: {**MAPPING['cameras'][name], 'info': '/left/camera_info'} for name in MAPPING['cameras']}
    readings = LiveReadings(read_mapping(written(tmp_path, MAPPING | {'cameras': cameras})))
    bag = write_drive(tmp_path / 'bag', Drive(0.1).messages())
    heard = [one for raw in Recording(bag).raw_messages() if (one := readings.hear(raw)) is not None]
    for name in cameras:
        message = next(message for channel, message in heard if channel == name)
        assert readings.read(name, message).K_33[0, 0] == 30


def test_a_topic_of_transforms_has_their_type(tmp_path):
    rows = Drive(0.2).messages()
    rows += [('/tf', time_ns, message) for topic, time_ns, message in rows if topic == '/points']
    recording = Recording(write_drive(tmp_path / 'bag', rows))
    with pytest.raises(ValueError, match='/tf: found the type sensor_msgs/msg/PointCloud2, expected'):
        DriveStream([recording], read_mapping(written(tmp_path)))


def test_a_fisheye_without_numbers_and_a_picture_that_was_cut():
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0)
    info = SimpleNamespace(
        header=SimpleNamespace(frame_id=''), height=600, width=800, distortion_model='equidistant', d=[],
        k=[500.0, 0, 400, 0, 500, 300, 0, 0, 1], binning_x=0, binning_y=0, roi=roi)
    with pytest.raises(BadMessage, match='CameraInfo.d: .*expected 4'):
        camera_model(info)

    for end in ('.jpg', '.png'):
        data = cv2.imencode(end, np.zeros((40, 60, 3), np.uint8))[1]
        assert packed_image(SimpleNamespace(format='', data=data))[2] == (40, 60)
        with pytest.raises(BadMessage, match='has no end, it was cut'):
            packed_image(SimpleNamespace(format='', data=data[:-20]))


# -------------------------------------------------------------------- words, and going on

def test_reasons_are_few_however_many_numbers_they_have():
    reasons = Reasons()
    for i in range(3000):
        reasons.add(f'/odom{i % 2}: found the place [{i}, -1.5e-3] and the turn [0.0]')
    assert reasons == {
        f'/odom{i}: found the place [{i}, -1.5e-3] and the turn [0.0]': 1500 for i in range(2)}
    for i in range(3000):
        reasons.add(f'/own{i}: found nothing')
    assert len(reasons) == MOST_REASONS + 1 and sum(reasons.values()) == 6000


def test_a_mapping_may_be_mended_until_something_is_written(tmp_path):
    bag = write_drive(tmp_path / 'bag', Drive(1.0).messages())
    wrong = read_mapping(written(tmp_path, MAPPING | {'lidar': {'topic': '/points', 'frame': 'velodyne'}}))
    out, right = tmp_path / 'out', read_mapping(written(tmp_path))
    with pytest.raises(ValueError, match="where the frame 'velodyne' lies"):
        import_drive([Recording(bag)], wrong, out, lambda line: None)
    assert import_drive([Recording(bag)], right, out, lambda line: None).key_frames == 3

    # how messages are put in order chooses key frames, too
    with pytest.raises(ValueError, match='begun with another order'):
        import_drive([Recording(bag, OrderOptions(0.1))], right, out, lambda line: None)
    lidar = next(row for row in table(out, 'calibrated_sensor') if not row['camera_intrinsic'])
    assert lidar['translation'][2] in (1.5 + HEIGHT, 0.2 + HEIGHT)
