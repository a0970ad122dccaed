"""Predictions as ROS messages, read back by readers that are not ours."""
from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from perception.core.contracts import Boxes3D, Frame, Lanes, MapSegmentation, Occupancy, TaskOutput, Tracks
from perception.core.protocols import LANE_CLASSES, MAP_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE
from perception.recordings.outputs.definitions import Message, encode, output_types
from perception.recordings.outputs.frame import prediction_messages
from perception.recordings.outputs.parts import OutputOptions
from perception.recordings.outputs.recorder import McapRecorder
from perception.recordings.storage.mcap_file import McapBag
from perception.recordings.storage.records import BagTopic, RawMessage
from perception.visualization import palette

mcap_reader = pytest.importorskip('mcap.reader', reason='needs the extra [bags]')
pytest.importorskip('rosbags', reason='needs the extra [bags]')

STAMP_NS = 1_700_000_000_250_000_000
CAR, PEDESTRIAN, BARRIER = 0, 5, 9


def boxes() -> Boxes3D:
    """A car ahead that turns left, one that stands behind and is unlikely, a barrier of unknown speed."""
    rows = [
        [10, 2, 0.75, 4.5, 1.9, 1.5, math.pi / 2, 0, 6], [-8, -3, 0.9, 0.7, 0.6, 1.8, -0.5, 0.1, 0.1],
        [20, 0, 0.5, 0.5, 2.5, 1.0, 3.0, np.nan, np.nan]]
    return Boxes3D(
        np.array(rows, np.float32), np.array([0.9, 0.1, 0.5], np.float32),
        np.array([CAR, PEDESTRIAN, BARRIER]), np.array([5, 2, -1]))


def output(**changes: object) -> TaskOutput:
    """Every task, with few but telling values."""
    probabilities = np.zeros((6, 100, 200), np.float32)
    probabilities[0, 10, 150] = 0.754  # y = -44.5, x = 25.25
    semantics = np.full((200, 200, 16), OCCUPANCY_FREE, np.uint8)
    semantics[125, 75, 3] = OCCUPANCY_CLASSES.index('car')
    semantics[0, 0, 0] = 255
    points = np.stack([np.linspace(0, 19, 20), np.full(20, 1.5)], 1).astype(np.float32)

    predictions = dict(
        detection=boxes(), map_segmentation=MapSegmentation(probabilities, (-50.0, 50.0), (-50.0, 0.0)),
        occupancy=Occupancy(semantics, np.full(semantics.shape, 0.625, np.float16)),
        lanes=Lanes(np.stack([points, points + 5]), np.array([0.8, 0.2]), np.array([3, 0])))
    return TaskOutput(Frame('token', STAMP_NS, np.eye(4)), **{**predictions, **changes})


def decoded(messages: dict[str, Message]) -> dict[str, object]:
    """What rosbags reads of the encoded messages."""
    store = output_types()
    return {
        topic.removeprefix('/perception/'): store.deserialize_cdr(encode(message), message.type)
        for topic, message in messages.items()}


@pytest.fixture(scope='module')
def read() -> dict[str, object]:
    return decoded(prediction_messages(output()))


def yaw_of_quaternion(q: object) -> float:
    assert q.x == q.y == 0
    return 2 * math.atan2(q.z, q.w)


def test_every_stamp_and_frame_is_the_ego_frame_at_the_frames_time(read) -> None:
    assert set(read) == {
        'scene', 'detections', 'lanes', 'occupancy', *(f'map/{name}' for name in MAP_CLASSES)}
    headers = [read['detections'].header, read['detections'].detections[0].header, read['occupancy'].header,
               read['map/walkway'].header, *(marker.header for marker in read['lanes'].markers)]
    for found in headers:
        assert (found.stamp.sec, found.stamp.nanosec) == (1_700_000_000, 250_000_000)
        assert found.frame_id == 'base_link'
    for entity in read['scene'].entities:
        assert (entity.timestamp.sec, entity.timestamp.nanosec) == (1_700_000_000, 250_000_000)
        assert entity.frame_id == 'base_link' and not entity.frame_locked


def test_all_boxes_are_in_the_list_best_first(read) -> None:
    found = read['detections'].detections
    assert [d.results[0].hypothesis.class_id for d in found] == ['car', 'pedestrian', 'barrier']
    assert [d.results[0].hypothesis.score for d in found] == pytest.approx([0.9, 0.1, 0.5])

    for detection, box in zip(found, boxes().boxes_M9, strict=True):
        centre, size = detection.bbox.center.position, detection.bbox.size
        assert [centre.x, centre.y, centre.z, size.x, size.y, size.z] == box[:6].tolist()
        assert yaw_of_quaternion(detection.bbox.center.orientation) == pytest.approx(box[6], abs=1e-6)
        assert detection.results[0].pose.pose == detection.bbox.center and detection.id == ''


def test_likely_boxes_are_drawn_with_their_speed_and_what_is_known(read) -> None:
    car, barrier, lane = read['scene'].entities
    assert (car.id, barrier.id, lane.id) == ('box row 0', 'box row 2', 'lane 0')
    assert [deletion.type for deletion in read['scene'].deletions] == [1]

    cube, = car.cubes
    assert (cube.size.x, cube.size.y, cube.size.z) == pytest.approx((4.5, 1.9, 1.5))
    rgb = np.array(palette.DETECTION['car']) / 255
    assert [cube.color.r, cube.color.g, cube.color.b] == pytest.approx(rgb)

    # six metres in a second to the left, from the box's centre
    arrow, = car.arrows
    assert arrow.shaft_length + arrow.head_length == pytest.approx(6)
    assert yaw_of_quaternion(arrow.pose.orientation) == pytest.approx(math.pi / 2)
    assert (arrow.pose.position.x, arrow.pose.position.y) == (10, 2)
    assert barrier.arrows == []

    assert car.texts[0].text == 'car 0.90' and car.texts[0].pose.position.z > 1.5
    known = {pair.key: pair.value for pair in car.metadata}
    assert known == {
        'class': 'car', 'score': '0.900', 'attribute': 'vehicle.moving', 'vx_mps': '0.000', 'vy_mps': '6.000'}
    assert {pair.key for pair in barrier.metadata} == {'class', 'score'}


def test_a_track_names_its_box() -> None:
    all_boxes = boxes()
    tracks = Tracks(
        np.array([41]), all_boxes.boxes_M9[2:], all_boxes.scores_M[2:], all_boxes.labels_M[2:], np.array([2]),
        (np.zeros((1, 2)),), np.zeros((1, 3, 2)))
    found = decoded(prediction_messages(output(extra={'tracking': tracks})))
    assert [d.id for d in found['detections'].detections] == ['', '', '41']
    assert found['scene'].entities[1].id == 'box 41'
    assert found['scene'].entities[1].texts[0].text == 'barrier 41 0.50'


def test_a_cell_of_the_map_lies_where_it_is(read) -> None:
    grid = read['map/drivable_area']
    info = grid.info
    assert (info.width, info.height, info.resolution) == (200, 100, 0.5)
    assert (info.origin.position.x, info.origin.position.y, info.origin.orientation.w) == (-50, -50, 1)

    cell, = np.flatnonzero(grid.data)
    assert grid.data[cell] == 75
    x_m = info.origin.position.x + (cell % info.width + 0.5) * info.resolution
    y_m = info.origin.position.y + (cell // info.width + 0.5) * info.resolution
    assert (x_m, y_m) == (25.25, -44.75)
    assert not read['map/walkway'].data.any()

    oblong = MapSegmentation(np.zeros((6, 10, 10), np.float32), (0.0, 10.0), (0.0, 5.0))
    with pytest.raises(ValueError, match='expected square cells, found 1 m by 0.5 m'):
        prediction_messages(output(map_segmentation=oblong))


def test_a_voxel_is_a_point_with_its_class(read) -> None:
    cloud = read['occupancy']
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 6, 1), ('confidence', 16, 7, 1),
        ('label', 20, 2, 1)]
    assert (cloud.width, cloud.height, cloud.point_step, len(cloud.data)) == (1, 1, 21, 21)
    assert cloud.data[:12].view('<f4').tolist() == pytest.approx([10.2, -9.8, 0.4])

    red, green, blue = palette.OCCUPANCY['car']
    assert cloud.data[12:16].tolist() == [blue, green, red, 0]
    assert cloud.data[16:20].view('<f4')[0] == 0.625
    assert OCCUPANCY_CLASSES[cloud.data[20]] == 'car'

    with pytest.raises(ValueError, match=r'expected \(200, 200, 16\) voxels, found \(2, 2, 2\)'):
        prediction_messages(output(occupancy=Occupancy(np.zeros((2, 2, 2), np.uint8))))


def test_a_lane_is_a_strip_in_both_worlds(read) -> None:
    wipe, strip = read['lanes'].markers
    assert wipe.action == wipe.DELETEALL and (strip.action, strip.type) == (strip.ADD, strip.LINE_STRIP)
    assert strip.ns == LANE_CLASSES[3] == 'centerline' and strip.pose.orientation.w == 1
    line, = read['scene'].entities[2].lines
    for points in (strip.points, line.points):
        assert [(p.x, p.y, p.z) for p in points] == [(i, 1.5, 0) for i in range(20)]


def test_a_task_that_is_not_there_has_no_message() -> None:
    found = prediction_messages(output(occupancy=None, lanes=None, map_segmentation=None))
    assert list(found) == ['/perception/scene', '/perception/detections']


def test_options_and_fields_are_checked() -> None:
    named = decoded(prediction_messages(output(), OutputOptions('car', 0.95, '/perception')))
    assert named['detections'].header.frame_id == 'car' and named['scene'].entities == []
    for name, value in {'frame_id': '', 'score_threshold': 2, 'prefix': 'x'}.items():
        with pytest.raises(ValueError, match=f'OutputOptions.{name}: expected .*, found {value!r}'):
            OutputOptions(**{name: value})
    with pytest.raises(ValueError, match="std_msgs/msg/Header: found the field 'seq', expected some of"):
        encode(Message('std_msgs/msg/Header', {'seq': 1}))


# -------------------------------------------------------------------- the file

def raw(name: str, log_ns: int, definition: str = '', kind: str = 'std_msgs/msg/String') -> RawMessage:
    form = 'ros2msg' if definition else ''
    data = encode(Message('std_msgs/msg/String', {'data': f'{name} at {log_ns}'}))
    return RawMessage(BagTopic(name, kind, 'cdr', definition, form), log_ns, data)


def test_the_file_is_read_by_other_readers(tmp_path: Path) -> None:
    path = tmp_path / 'folder' / 'out.mcap'
    with McapRecorder(path) as recorder:
        recorder.copy(raw('/said', 5, 'string data'))
        recorder.copy(raw('/said', 6, 'string data'))
        recorder.copy(raw('/older', 7))
        recorder.copy(raw('/foreign', 8, kind='their_msgs/msg/Thing'))
        for topic, message in prediction_messages(output()).items():
            recorder.write(topic, message, log_ns=9, stamp_ns=STAMP_NS)
        assert not path.exists()
    recorder.copy(raw('/said', 10))
    recorder.close()

    with path.open('rb') as file:
        reader = mcap_reader.make_reader(file, validate_crcs=True)
        found = [(channel.topic, schema, message) for schema, channel, message in reader.iter_messages()]
    said = [message for topic, _, message in found if topic == '/said']
    assert [(m.log_time, m.sequence, m.data) for m in said] == [
        (5, 0, raw('/said', 5).data), (6, 1, raw('/said', 6).data)]
    schemas = {topic: (schema.name, schema.encoding, schema.data) for topic, schema, _ in found}
    assert schemas['/older'] == ('std_msgs/msg/String', 'ros2msg', b'string data\n')
    assert schemas['/foreign'] == ('their_msgs/msg/Thing', '', b'')
    stamps = {(m.log_time, m.publish_time) for topic, _, m in found if topic.startswith('/perception')}
    assert stamps == {(9, STAMP_NS)}


def test_rosbags_reads_definitions_and_values_from_the_file_alone(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    path = tmp_path / 'out.mcap'
    with McapRecorder(path) as recorder:
        for topic, message in prediction_messages(output()).items():
            recorder.write(topic, message, log_ns=STAMP_NS + 1, stamp_ns=STAMP_NS)

    with AnyReader([path], default_typestore=get_typestore(Stores.EMPTY)) as reader:
        found = {
            connection.topic: reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()}
    assert found['/perception/detections'].detections[0].bbox.center.position.x == 10
    assert found['/perception/scene'].entities[0].texts[0].text == 'car 0.90'
    assert found['/perception/map/drivable_area'].data.max() == 75
    assert found['/perception/occupancy'].width == 1
    assert len(found['/perception/lanes'].markers) == 2


def test_a_file_whose_writer_was_killed_can_be_read(tmp_path: Path) -> None:
    recorder = McapRecorder(tmp_path / 'out.mcap')
    noise = np.random.default_rng(0).bytes(200_000)
    for stamp in range(30):
        recorder.copy(RawMessage(BagTopic('/noise', 'std_msgs/msg/String', 'cdr'), stamp, noise))
    shutil.copy(recorder.part, tmp_path / 'killed.mcap')
    recorder.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ['killed.mcap', 'out.mcap']

    found = [message.log_ns for message in McapBag(tmp_path / 'killed.mcap').messages()]
    assert found == list(range(len(found))) and len(found) > 20
