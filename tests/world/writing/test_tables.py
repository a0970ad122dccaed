"""Rows, tokens, links, point labels, point counts and CAN-bus messages."""

import numpy as np
import pytest

from perception.core.geometry import wrap_yaw
from perception.core.lens import Distortion
from perception.core.nuscenes.tables import (
    category_rows,
    fixed_tables,
    link,
    map_rows,
    merge_tables,
    rotation_quaternion,
    token,
    visibility_rows,
)
from perception.core.protocols import LIDARSEG_CATEGORIES
from perception.world.labels.annotations import Sight, annotate
from perception.world.labels.boxes import count_points_in_boxes, count_points_in_boxes_reference
from perception.world.labels.lidarseg import point_labels
from perception.world.scene.materials import MATERIAL_ID
from perception.world.scene.mesh import pose_matrix
from perception.world.sensors.timing import key_time_us, lidar_measurements
from perception.world.toy import toy_scene
from perception.world.writing import can_bus
from perception.world.writing.scene_rows import SceneRows
from perception.world.writing.splits import LOCATIONS


def test_tokens_are_stable_words_of_32_hex_digits():
    assert token(0, 'scene-0001') == token(0, 'scene-0001') != token(1, 'scene-0001')
    assert len(token('a', 1)) == 32 and int(token('a', 1), 16) >= 0


def test_a_lens_is_written_and_a_pinhole_has_no_field_for_it():
    rows = SceneRows(toy_scene(), 0, 3, 'v1.0-trainval')
    lens = Distortion('kannala_brandt', (0.1, 0, 0, 0))
    rows.add_sensor('CAM_FRONT', np.eye(4), np.eye(3))
    rows.add_sensor('CAM_BACK', np.eye(4), np.eye(3), lens)
    pinhole, fisheye = rows.tables['calibrated_sensor']
    assert 'distortion' not in pinhole and fisheye['distortion'] == lens.to_record()


def test_categories_stand_at_the_devkits_lidarseg_index():
    color_map = pytest.importorskip('nuscenes.utils.color_map')
    assert list(color_map.get_colormap()) == [row['name'] for row in category_rows()]
    assert [row['index'] for row in category_rows()] == list(range(32))


def test_columns_are_those_of_the_real_tables(real_frames):
    from perception.core.nuscenes.storage import load_json
    made = fixed_tables({'LIDAR_TOP': 'lidar'}) | _toy_tables() | {'map': map_rows([], LOCATIONS)}
    for name in (path.stem for path in (real_frames / 'v1.0-mini').glob('*.json')):
        real = set(load_json(real_frames / 'v1.0-mini' / f'{name}.json')[0])
        assert set(made[name][0]) - {'index'} == real, name
    assert [row['token'] for row in visibility_rows()] == ['1', '2', '3', '4']


def test_linked_rows_name_their_neighbours():
    rows = [{'token': name} for name in 'abc']
    link(rows)
    assert [(row['prev'], row['next']) for row in rows] == [('', 'b'), ('a', 'c'), ('b', '')]


def _toy_tables():
    scene = toy_scene()
    rows = SceneRows(scene, 0, 3, 'v1.0-trainval')
    rows.add_sensor('LIDAR_TOP', np.eye(4), None)
    for measurement in lidar_measurements('LIDAR_TOP', 3, 2):
        rows.add_measurement(measurement, 'lidar')
        if measurement.is_key_frame:
            rows.add_lidarseg(measurement)
    for key_frame in range(3):
        sight = Sight(np.array([9, 9 * (key_frame != 1)]), np.array([4, 2]))
        empty = np.zeros((0, 3))
        rows.add_annotations(key_frame, annotate(scene, key_time_us(key_frame) * 1e-6, empty, empty, sight))
    return rows.finish()


def test_measurements_form_one_chain_through_sweeps_and_key_frames():
    rows = {row['token']: row for row in _toy_tables()['sample_data']}
    row = next(row for row in rows.values() if not row['prev'])
    chain = [row]
    while row['next']:
        row = rows[row['next']]
        chain.append(row)
    assert len(chain) == 9
    assert [r['is_key_frame'] for r in chain] == [False, False, True] * 3
    assert all(r['filename'].startswith('samples' if r['is_key_frame'] else 'sweeps') for r in chain)


def test_annotations_chain_over_a_gap_and_instances_know_their_ends():
    tables = _toy_tables()
    annotations = {row['token']: row for row in tables['sample_annotation']}
    assert sorted(row['nbr_annotations'] for row in tables['instance']) == [2, 3]
    for instance in tables['instance']:
        row, count = annotations[instance['first_annotation_token']], 1
        while row['next']:
            row, count = annotations[row['next']], count + 1
        assert row['token'] == instance['last_annotation_token'] and count == instance['nbr_annotations']
    walker = [row for row in tables['sample_annotation'] if row['size'] == [0.7, 0.7, 1.75]]
    assert len(walker) == 2 and {row['visibility_token'] for row in walker} == {'2'}


def test_merging_keeps_a_shared_log_once():
    merged = merge_tables([_toy_tables(), _toy_tables()])
    assert len(merged['log']) == 1 and len(merged['sample']) == 6


def test_unseen_objects_are_not_annotated_and_points_count_as_seen():
    scene, unseen = toy_scene(), Sight(np.zeros(2), np.ones(2))
    centre = scene.tracks[0].pose_at(0.45)[0]
    nothing = np.zeros((0, 3))
    assert annotate(scene, 0.45, nothing, nothing, unseen) == []
    by_lidar = annotate(scene, 0.45, centre[None], nothing, unseen)
    by_radar = annotate(scene, 0.45, nothing, centre[None], unseen)
    assert [(a.track.index, a.num_lidar_pts, a.num_radar_pts) for a in by_lidar + by_radar] == [
        (0, 1, 0), (0, 0, 1)]


def test_points_in_a_tilted_box_are_counted_as_the_reference_and_the_devkit_count_them():
    rng = np.random.default_rng(3)
    points = rng.uniform(-6, 6, (4000, 3))
    xyz, yaw, lwh = rng.uniform(-2, 2, (12, 3)), rng.uniform(-4, 4, 12), rng.uniform(0.5, 6, (12, 3))
    poses = [pose_matrix(*box) for box in zip(xyz, yaw, rng.uniform(-0.3, 0.3, (12, 2)), strict=True)]
    counts = count_points_in_boxes(points, poses, lwh)
    np.testing.assert_array_equal(counts, count_points_in_boxes_reference(points, poses, lwh))
    assert counts.min() >= 0 and counts.max() > 100
    pytest.importorskip('nuscenes')
    from nuscenes.eval.common.utils import quaternion_yaw
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import points_in_box
    from pyquaternion import Quaternion
    for i in range(12):
        box = Box(xyz[i], lwh[i][[1, 0, 2]], Quaternion(rotation_quaternion(poses[i][:3, :3])))
        assert quaternion_yaw(box.orientation) == pytest.approx(wrap_yaw(yaw[i]), abs=1e-9)
        assert points_in_box(box, points.T).sum() == counts[i]


def test_a_point_is_labelled_by_its_object_or_its_surface():
    labels = point_labels(np.full(3, MATERIAL_ID['asphalt'], np.uint8), np.array([-1, 1, 0]),
                          ['vehicle.car', 'movable_object.barrier'])
    names = [LIDARSEG_CATEGORIES[label] for label in labels]
    assert names == ['flat.driveable_surface', 'movable_object.barrier', 'vehicle.car']
    with pytest.raises(ValueError, match='found 1, expected less than 1 tracks'):
        point_labels(np.zeros(1, np.uint8), np.array([1]), ['vehicle.car'])


def test_pose_messages_at_fifty_hertz_say_eight_metres_a_second():
    scene = toy_scene()
    messages = can_bus.pose_messages(scene)
    assert len(messages) == 1001
    assert {m['utime'] - scene.start_timestamp_us for m in messages[:3]} == {0, 20_000, 40_000}
    assert messages[100]['vel'] == [8.0, 0.0, 0.0]
    assert messages[100]['pos'][0] == pytest.approx(16.0)
    np.testing.assert_allclose(messages[500]['accel'], [0, 0, 9.81], atol=1e-6)
    route = np.array(can_bus.route_message(scene.ego))
    np.testing.assert_allclose(np.linalg.norm(np.diff(route, axis=0), axis=1), 1.0, atol=1e-6)


def test_can_messages_of_a_car_in_a_left_turn():
    motion = can_bus.Motion(0, (0.0, 0, 0), (1.0, 0, 0, 0), (1.0, 2.0, 9.81), 10.0, (0.0, 0, 0.2), 5.0)
    made = {kind: make(motion) for kind, (_, make) in can_bus.MESSAGES.items()}
    # atan(2.588 m * 0.2 rad/s / 10 m/s) at the wheels, 15.2 times that at the driver's
    assert made['steeranglefeedback']['value'] == pytest.approx(15.2 * 0.051714, rel=1e-4)
    assert made['vehicle_monitor']['vehicle_speed'] == 36.0
    wheels = [made['zoe_veh_info'][f'{name}_wheel_speed'] for name in ('RL', 'RR', 'FR')]
    assert wheels == sorted(wheels) and np.mean(wheels[:2]) == pytest.approx(10 / 0.31 * 60 / (2 * np.pi))
    assert made['zoesensors']['throttle_sensor'] > 0.105 and made['zoesensors']['brake_sensor'] == 0.166


def test_the_statistics_of_messages_by_hand():
    messages = [{'utime': 0, 'v': [1.0, 2.0]}, {'utime': 500_000, 'v': [3.0, 2.0]}]
    found = can_bus.message_statistics(messages)
    assert (found['message_count'], found['message_freq'], found['timespan']) == (2, 2.0, 0.5)
    assert found['var_stats']['v'] == {
        'max': [3, 2], 'mean': [2, 2], 'min': [1, 2], 'std': [1, 0]}


def test_pose_messages_have_the_fields_of_the_real_ones(real_frames):
    from perception.core.nuscenes.storage import load_json
    real = load_json(next((real_frames / 'can_bus').glob('*_pose.json')))[0]
    made = can_bus.pose_messages(toy_scene())[0]
    assert set(made) == set(real)
    assert {key: np.shape(value) for key, value in made.items()} == {
        key: np.shape(value) for key, value in real.items()
    }
