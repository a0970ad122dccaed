"""The records check themselves at birth, say what is wrong, and know who is present."""
from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from perception.core import contracts as c
from perception.core import protocols as p

POSE = np.eye(4)
FRAME = c.Frame('t', 0, POSE)


def rig(cameras: int = 2, **changes) -> c.CameraRig:
    fields = dict(
        names=tuple('abcdef'[:cameras]), images_NHW3=np.zeros((cameras, 4, 6, 3), np.uint8),
        K_N33=np.zeros((cameras, 3, 3)), ego_T_cam_N44=np.zeros((cameras, 4, 4)),
        present_N=np.ones(cameras, bool), time_lag_s_N=np.zeros(cameras))
    return c.CameraRig(**{**fields, **changes})


def labels(count: int = 3, **changes) -> c.BoxLabels:
    fields = dict(
        boxes_M9=np.arange(count * 9, dtype=np.float32).reshape(count, 9), labels_M=np.arange(count),
        attributes_M=-np.ones(count, int), num_lidar_points_M=np.arange(count),
        num_radar_points_M=np.zeros(count, int), visibility_M=np.zeros(count, int),
        instance_tokens=tuple('xyzuvw'[:count]))
    return c.BoxLabels(**{**fields, **changes})


def test_words_have_the_published_order_and_number() -> None:
    assert len(p.DETECTION_CLASSES) == 10
    assert p.DETECTION_CLASSES[0] == 'car'
    assert p.DETECTION_CLASSES[-1] == 'barrier'
    assert len(p.MAP_CLASSES) == 6 and p.MAP_CLASSES[-1] == 'divider'
    assert len(p.OCCUPANCY_CLASSES) == 18 and p.OCCUPANCY_CLASSES[p.OCCUPANCY_FREE] == 'free'
    assert len(p.CAMERAS) == len(set(p.CAMERAS)) == 6 and len(p.RADARS) == len(set(p.RADARS)) == 5
    assert len(p.ATTRIBUTES) == 8 and len(c.LIDAR_COLUMNS) == 6 and len(c.RADAR_COLUMNS) == 8


def test_words_are_the_devkits() -> None:
    constants = pytest.importorskip('nuscenes.eval.detection.constants')
    assert set(p.DETECTION_CLASSES) == set(constants.DETECTION_NAMES)
    assert set(p.ATTRIBUTES) == set(constants.ATTRIBUTE_NAMES)


def test_outputs_are_named_like_tasks() -> None:
    assert set(c.TaskOutput.__dataclass_fields__) == {'frame', 'extra', 'masked', *p.TASKS}


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: c.Frame('t', 0, np.eye(3)), r'Frame.global_T_ego: expected shape \(4, 4\), found \(3, 3\)'),
        (
            lambda: rig(images_NHW3=np.zeros((2, 4, 6))),
            r'CameraRig.images_NHW3: expected shape \(2, H, W, 3\), found \(2, 4, 6\)'),
        (lambda: rig(distortions=(None,)), r'CameraRig.distortions: expected a tuple of 2'),
        (lambda: rig(distortions=(None, [0.1])), r'CameraRig.distortions: .*found \(None, \[0.1\]\)'),
        (lambda: rig(images_NHW3=np.zeros((3, 4, 6, 3))), 'images_NHW3'),
        (lambda: rig(K_N33=np.zeros((2, 4, 4))), 'K_N33'),
        (lambda: rig(ego_T_cam_N44=np.zeros((1, 4, 4))), 'ego_T_cam_N44'),
        (lambda: rig(present_N=np.ones(3, bool)), 'present_N'),
        (lambda: rig(time_lag_s_N=None), r'time_lag_s_N: expected shape \(2\), found NoneType'),
        (
            lambda: c.LidarPoints(np.zeros((5, 5))),
            r'LidarPoints.points_P6: expected shape \(P, 6\), found \(5, 5\)'),
        (lambda: c.RadarPoints(np.zeros((5, 7)), np.ones(5, bool)), 'points_P8'),
        (lambda: c.RadarPoints(np.zeros((5, 8)), np.ones(4, bool)), 'present_R'),
        (
            lambda: labels(boxes_M9=np.zeros((2, 9))),
            r'BoxLabels.boxes_M9: expected shape \(3, 9\), found \(2, 9\)'),
        (lambda: labels(visibility_M=np.zeros(2)), 'visibility_M'),
        (lambda: labels(instance_tokens=('a',)), 'instance_tokens: expected 3 tokens, found 1'),
        (lambda: c.LanePolylines((np.zeros((2, 2)),), np.zeros(2), 5), 'labels_L'),
        (
            lambda: c.LanePolylines((np.zeros((2, 3)),), np.zeros(1), 5),
            r'points\[0\]: expected shape \(P, 2\)'),
        (
            lambda: c.OccupancyLabels(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), np.zeros((2, 2, 3))),
            'mask_camera_XYZ'),
        (lambda: c.Boxes3D(np.zeros((2, 9)), np.zeros(3), np.zeros(3), np.zeros(3)), 'Boxes3D.boxes_M9'),
        (lambda: c.MapSegmentation(np.zeros((5, 2, 2)), (0, 1), (0, 1)), 'probabilities_6YX'),
        (lambda: c.Occupancy(np.zeros((2, 2))), 'semantics_XYZ'),
        (lambda: c.Lanes(np.zeros((2, 5, 3)), np.zeros(2), np.zeros(2)), 'points_LP2'),
    ],
)
def test_wrong_shapes_name_record_field_found_and_expected(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        FRAME.token = 'u'


def test_image_size() -> None:
    assert rig().image_size_hw == (4, 6)


@pytest.mark.parametrize(('record', 'names'), [
    (rig(), {'images': 'images_NHW3', 'K': 'K_N33', 'ego_T_cam': 'ego_T_cam_N44'}),
    (c.LidarPoints(np.zeros((3, 6))), {'points': 'points_P6'}),
    (c.RadarPoints(np.zeros((3, 8)), np.ones(5, bool)), {'points': 'points_P8'}),
    (labels(), {'boxes': 'boxes_M9', 'labels': 'labels_M'}),
    (c.Boxes3D(np.zeros((2, 9)), np.ones(2), np.zeros(2), np.zeros(2)),
     {'boxes': 'boxes_M9', 'scores': 'scores_M', 'labels': 'labels_M'}),
    (c.MapSegmentation(np.zeros((6, 4, 5)), (-1, 1), (-1, 1)), {'probabilities': 'probabilities_6YX'}),
    (c.Occupancy(np.zeros((2, 3, 4))), {'semantics': 'semantics_XYZ'}),
    (c.Lanes(np.zeros((2, 7, 2)), np.ones(2), np.zeros(2)),
     {'points': 'points_LP2', 'scores': 'scores_L', 'labels': 'labels_L'})])
def test_plain_names_are_the_same_arrays(record, names: dict[str, str]) -> None:
    for plain, suffixed in names.items():
        assert getattr(record, plain) is getattr(record, suffixed)


def test_columns_have_the_names_they_are_listed_under() -> None:
    lidar, radar = np.array(c.LIDAR_COLUMNS), np.array(c.RADAR_COLUMNS)
    assert lidar[c.XYZ].tolist() == radar[c.XYZ].tolist() == ['x_m', 'y_m', 'z_m']
    assert lidar[[c.INTENSITY, c.RING, c.TIME_LAG]].tolist() == ['intensity', 'ring', 'time_lag_s']
    assert radar[c.RADAR_VELOCITY].tolist() == ['vx_mps', 'vy_mps']
    assert radar[[c.RADAR_RCS, c.RADAR_TIME_LAG, c.RADAR_INDEX]].tolist() == [
        'rcs_dbsm', 'time_lag_s', 'radar_index']


def test_who_is_present() -> None:
    radar = c.RadarPoints(np.zeros((0, 8)), np.array([False, True, False, False, False]))
    sample = c.Sample(FRAME, rig(), c.LidarPoints(np.zeros((0, 6))), radar)
    assert sample.present() == {'camera': True, 'lidar': True, 'radar': True}
    assert c.Sample(FRAME).present() == {'camera': False, 'lidar': False, 'radar': False}
    blind = replace(
        sample, camera=rig(present_N=np.zeros(2, bool)), radar=replace(radar, present_R=np.zeros(5, bool))
    )
    assert blind.present() == {'camera': False, 'lidar': True, 'radar': False}


@pytest.mark.parametrize('keep', [np.array([True, False, True]), np.array([0, 2]), [0, 2]])
def test_select_by_mask_or_indices(keep) -> None:
    kept = labels().select(keep)
    assert kept.labels_M.tolist() == [0, 2]
    assert kept.instance_tokens == ('x', 'z')
    assert kept.boxes_M9[1, 0] == 18


def test_select_nothing_and_without_tokens() -> None:
    assert labels().select(np.zeros(3, bool)).boxes_M9.shape == (0, 9)
    assert labels().select([]).labels_M.shape == (0,)
    assert labels(instance_tokens=()).select([1]).instance_tokens == ()


def test_closed_lanes() -> None:
    ring = np.array([[0, 0], [1, 0], [1, 1], [0, 0]], np.float32)
    lanes = c.LanePolylines((ring, ring[:3], ring[[0, 1, 0]]), np.zeros(3, int), 10)
    assert lanes.closed_L.tolist() == [True, False, False]


def batch(**changes) -> c.Batch:
    fields = dict(
        frames=(FRAME, FRAME), images_BN3HW=torch.zeros(2, 2, 3, 4, 6), K_BN33=torch.zeros(2, 2, 3, 3),
        ego_T_cam_BN44=torch.zeros(2, 2, 4, 4),
        camera_present_BN=torch.tensor([[True, False], [False, False]]),
        lidar_points=(torch.zeros(3, 6), torch.zeros(0, 6)), lidar_present_B=torch.tensor([True, False]),
        radar_points=(torch.zeros(1, 8),) * 2, radar_present_BR=torch.zeros(2, 5, dtype=torch.bool))
    return c.Batch(**{**fields, **changes})


def test_batch_knows_who_is_present() -> None:
    found = batch().present()
    assert {name: there.tolist() for name, there in found.items()} == {
        'camera': [True, False], 'lidar': [True, False], 'radar': [False, False]}
    assert len(batch()) == 2 and c.Batch((FRAME,)).present() == {}


def test_batch_moves_all_its_tensors() -> None:
    moved = batch().to('meta')
    assert (
        moved.images_BN3HW.device.type
        == moved.lidar_points[1].device.type
        == moved.radar_present_BR.device.type
        == 'meta'
    )
    assert moved.frames == (FRAME, FRAME) and c.Batch((FRAME,)).to('meta').lidar_points is None


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'images_BN3HW': torch.zeros(1, 2, 3, 4, 6)},
            r'Batch.images_BN3HW: expected shape \(2, 2, 3, H, W\)'),
        ({'K_BN33': None}, 'Batch.K_BN33'),
        ({'camera_present_BN': torch.zeros(2, 3)}, 'camera_present_BN'),
        ({'lens_BN10': torch.zeros(2, 2, 9)}, r'Batch.lens_BN10: expected shape \(2, 2, 10\)'),
        ({'lidar_present_B': torch.zeros(3)}, 'lidar_present_B'),
        ({'radar_present_BR': None}, 'radar_present_BR'),
    ],
)
def test_wrong_batches(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        batch(**changes)


def test_a_task_of_ones_own_travels_beside_the_four():
    output = c.TaskOutput.of(c.Frame('a', 0, np.eye(4)), {'brightness': 3.0, 'lanes': None})
    assert output.get('brightness') == 3.0 and output.get('lanes') is None
    assert output.predictions() == {'brightness': 3.0}
    marked = c.Annotations('a', extra={'brightness': 2.0})
    assert marked.get('brightness') == 2.0 and marked.get('detection') is None and marked.get('sound') is None


def test_extra_holds_no_built_in_task():
    with pytest.raises(ValueError, match=r"TaskOutput.extra: .*found 'lanes'"):
        c.TaskOutput(c.Frame('a', 0, np.eye(4)), extra={'lanes': None})
    with pytest.raises(ValueError, match=r"Annotations.extra: .*found 'occupancy'"):
        c.Annotations('a', extra={'occupancy': None})
