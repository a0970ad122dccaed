"""Dense occupancy from a scene's LiDAR: by hand on two frames, and against the world's exact voxels."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.core.lens import Distortion
from perception.core.protocols import CATEGORY_TO_CLASS, OCCUPANCY_CLASSES
from perception.datasets.dense_occupancy import (
    LIDARSEG_TO_OCCUPANCY,
    UNKNOWN,
    LabelOptions,
    accumulate,
    box_class,
    ego_T_box,
    label_frame,
    owners,
    seen_by_cameras,
    vote,
    voxelise,
    write_scene_labels,
)
from perception.datasets.reading.infos import read_index
from perception.datasets.reading.io import BadFile
from perception.datasets.reading.labels import load_occupancy
from perception.datasets.reading.records import BoxRecords, CameraRecord, FrameRecord, SensorRecord

CAR, MANMADE, FREE = OCCUPANCY_CLASSES.index('car'), OCCUPANCY_CLASSES.index('manmade'), 17


def frame(
    root: Path, number: int, ego_x_m: float, points: list, labels: list | None, box: list
) -> FrameRecord:
    """A record whose LiDAR sits at (0, 0, 1.8) in ego, with one car and one camera that looks forward."""
    rows = np.zeros((len(points), 5), np.float32)
    rows[:, :3] = np.array(points) - [0, 0, 1.8]
    rows.tofile(root / f'{number}.pcd.bin')
    if labels is not None:
        np.array(labels, np.uint8).tofile(root / f'{number}_seg.bin')
    look = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    times = dict(missing=False, token='', timestamp_us=0, time_lag_s=0.0)
    lidar = SensorRecord(
        file=f'{number}.pcd.bin', ego_T_sensor=make_transform(np.eye(3), np.array([0, 0, 1.8])), **times)
    camera = CameraRecord(
        file='', ego_T_sensor=make_transform(look, np.array([1.0, 0, 1.5])), width_px=200, height_px=100,
        K_33=np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]), **times)
    count = np.zeros(1, np.int64)
    boxes = BoxRecords(
        boxes_M9=np.array([box], float), categories=('vehicle.car',), tokens=('',), instances=('the car',),
        attributes=('',), visibility_M=count, num_lidar_points_M=count, num_radar_points_M=count)
    return FrameRecord(
        token=f't{number}', timestamp_us=0,
        global_T_ego=make_transform(np.eye(3), np.array([ego_x_m, 0, 0])), cameras={'CAM_FRONT': camera},
        lidar=(lidar,), lidarseg=None if labels is None else f'{number}_seg.bin', boxes=boxes)


@pytest.fixture
def two_frames(tmp_path) -> tuple[Path, list[FrameRecord]]:
    """The car drives from x = 10 to 20 (global) and turns by 90 degrees; each frame sees another of its
    corners. A wall stands at y = 8.2: the first frame labels a point of it, the second sees another point 0.3
    m beside. The ego drives 2 m.
    """
    first = frame(
        tmp_path, 0, 0.0, [[11.8, 0.2, 1.1], [5.0, 8.2, 1.1]], [17, 28], [10, 0, 0.8, 4, 2, 1.6, 0, 5, 0]
    )
    turned = [18, 0, 0.8, 4, 2, 1.6, np.pi / 2, np.nan, np.nan]
    second = frame(tmp_path, 1, 2.0, [[17.8, -1.8, 1.1], [3.3, 8.2, 1.1]], None, turned)
    return tmp_path, [first, second]


def test_a_fisheye_sees_to_the_side_and_a_pinhole_does_not(two_frames) -> None:
    _, frames = two_frames
    camera = frames[0].cameras['CAM_FRONT']  # at x = 1 m, z = 1.5 m, 90 degrees wide
    lenses = [None, Distortion('kannala_brandt', (0, 0, 0, 0)), Distortion('brown_conrady', (1e-9, 0, 0, 0))]
    nothing = np.zeros((200, 200, 16), np.uint8)
    pinhole, fisheye, straight = (
        seen_by_cameras(replace(frames[0], cameras={'C': replace(
            camera, distortion=lens, K_33=np.array([[60.0, 0, 100], [0, 60, 50], [0, 0, 1]]))}), nothing)
        for lens in lenses)

    # 100 pixels are 95 degrees through the fisheye, 59 through the pinhole
    beside, ahead = cell(1.2, 10.0, 1.5), cell(12.0, 0.0, 1.5)
    assert fisheye[beside] and not pinhole[beside] and fisheye[ahead] and pinhole[ahead]
    assert not fisheye[cell(-5.0, 10.0, 1.5)] and (straight != pinhole).mean() < 1e-3


def cell(x: float, y: float, z: float) -> tuple[int, int, int]:
    return tuple(np.floor((np.array([x, y, z]) - [-40, -40, -1]) / 0.4).astype(int))


def test_objects_gather_in_their_own_frame_and_still_surfaces_in_global(two_frames) -> None:
    root, frames = two_frames
    cloud = accumulate(root, frames, LabelOptions())
    car, labels = cloud.objects['the car'].joined()
    np.testing.assert_allclose(car, [[1.8, 0.2, 0.3], [-1.8, 0.2, 0.3]], atol=1e-5)
    assert labels.tolist() == [CAR, CAR]
    still, labels = cloud.still.joined()
    np.testing.assert_allclose(still, [[5, 8.2, 1.1], [5.3, 8.2, 1.1]], atol=1e-5)
    assert labels.tolist() == [MANMADE, UNKNOWN]
    assert vote(still, labels, 5, 0.8).tolist() == [MANMADE, MANMADE]
    assert vote(still, labels, 5, 0.2).tolist() == [MANMADE, UNKNOWN]


def test_a_frame_holds_what_all_frames_saw_at_its_own_time(two_frames) -> None:
    root, frames = two_frames
    cloud = accumulate(root, frames, LabelOptions())
    found = label_frame(cloud, frames, 0, LabelOptions())
    assert found.semantics_XYZ[cell(11.8, 0.2, 1.1)] == CAR
    assert found.semantics_XYZ[cell(8.2, 0.2, 1.1)] == CAR
    assert found.semantics_XYZ[cell(19.8, -1.8, 1.1)] == FREE  # where the car will be, it is not yet
    assert found.semantics_XYZ[cell(5.0, 8.2, 1.1)] == MANMADE and (found.semantics_XYZ != FREE).sum() <= 4
    later = label_frame(cloud, frames, 1, LabelOptions())
    # the first frame's front corner, turned to the left
    assert later.semantics_XYZ[cell(17.8, 1.8, 1.1)] == CAR
    assert later.semantics_XYZ[cell(3.0, 8.2, 1.1)] == MANMADE


def test_beams_and_sight_lines_by_hand(two_frames) -> None:
    root, frames = two_frames
    found = label_frame(accumulate(root, frames, LabelOptions()), frames, 0, LabelOptions(ray_frames=0))
    assert found.mask_lidar_XYZ[cell(6.1, 0.1, 1.44)] == 1     # half way to the car
    assert found.mask_lidar_XYZ[cell(14.0, 0.2, 1.0)] == 0    # behind it
    assert found.mask_lidar_XYZ[cell(6.0, -10.0, 1.4)] == 0   # where no beam went
    assert found.mask_camera_XYZ[cell(11.8, 0.2, 1.1)] == found.mask_lidar_XYZ[cell(11.8, 0.2, 1.1)] == 1
    assert not (found.mask_camera_XYZ & ~found.mask_lidar_XYZ.astype(bool)).any()
    assert not found.mask_camera_XYZ[:98].any()               # nothing behind the camera


def test_density_counts_neighbours_in_a_voxel() -> None:
    points = np.array([[1.0, 1.0, 1.0]] * 3 + [[5.0, 1.0, 1.0], [90.0, 0, 0]])
    semantics, counts = voxelise(points, np.array([MANMADE, CAR, CAR, UNKNOWN, CAR], np.uint8))
    assert counts.sum() == 4 and counts[cell(1, 1, 1)] == 3
    assert semantics[cell(1, 1, 1)] == CAR and semantics[cell(5, 1, 1)] == UNKNOWN


def test_points_of_turned_boxes() -> None:
    box = np.array([[3.0, 2.0, 1.0, 4.0, 1.0, 2.0, np.pi / 2, 0, 0]])
    assert owners(np.array([[3.0, 3.9, 1.0], [4.9, 2.0, 1.0], [3.0, 2.0, 2.3]]), box, 0.0).tolist() == [
        0, -1, -1]
    np.testing.assert_allclose(ego_T_box(box[0])[:3, :3], rotation_z(np.pi / 2)[:3, :3], atol=1e-12)


def test_classes_are_occ3d_s() -> None:
    assert len(LIDARSEG_TO_OCCUPANCY) == 32 and LIDARSEG_TO_OCCUPANCY[[17, 24, 28, 30]].tolist() == [
        4, 11, 15, 16]
    assert {OCCUPANCY_CLASSES[box_class(c)] for c in CATEGORY_TO_CLASS} == set(OCCUPANCY_CLASSES[1:11])
    assert box_class('animal') == 0


def test_labels_of_another_scan_are_refused(two_frames) -> None:
    root, frames = two_frames
    np.zeros(5, np.uint8).tofile(root / '0_seg.bin')
    with pytest.raises(BadFile, match='expected 2'):
        accumulate(root, frames, LabelOptions())


def test_against_the_worlds_exact_voxels(tiny_world, tmp_path) -> None:
    """Made from the beams alone, they lie where the world's own voxels lie; the files are read as Occ3D's."""
    infos = next((tiny_world / 'infos').iterdir())
    scene = sorted(read_index(infos)['scenes'])[0]
    made = write_scene_labels(tiny_world, infos, scene, tmp_path, LabelOptions())
    assert made == len(read_index(infos)['scenes'][scene]['tokens'])
    assert write_scene_labels(tiny_world, infos, scene, tmp_path, LabelOptions()) == 0
    for path in tmp_path.glob('*/*/labels.npz'):
        found, exact = (
            load_occupancy(path),
            load_occupancy(tiny_world / 'gts' / scene / path.parent.name / 'labels.npz'))
        seen = (found.mask_lidar_XYZ & exact.mask_lidar_XYZ).astype(bool)
        here, there = ((o.semantics_XYZ != FREE) & seen for o in (found, exact))
        both = here & there
        assert both.sum() > 0.85 * here.sum() and both.sum() > 1000
        assert (found.semantics_XYZ == exact.semantics_XYZ)[both].mean() > 0.85
        with np.load(path) as arrays:
            assert arrays['density'].max() == 1
            assert not arrays['density'][~(found.semantics_XYZ != FREE)].any()
            np.testing.assert_array_equal(found.density_XYZ, arrays['density'])
        assert exact.density_XYZ is None
