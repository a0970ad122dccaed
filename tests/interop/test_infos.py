"""Info files: ours read by mmdet3d's dataset, mmdet3d's read by ours; boxes, points and cameras lie in the
same places."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
pytest.importorskip('mmcv', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from perception.core.contracts import VELOCITY, YAW  # noqa: E402
from perception.core.geometry import quaternion_to_matrix, transform_points, wrap_yaw  # noqa: E402
from perception.core.protocols import CAMERAS, DETECTION_CLASSES  # noqa: E402
from perception.datasets.exchange.conventions import MMDET3D_CLASSES, lidar_boxes_to_ego  # noqa: E402
from perception.datasets.exchange.mmdet3d_infos import import_infos  # noqa: E402
from perception.datasets.reading.dataset import NuScenesDataset  # noqa: E402
from perception.datasets.reading.infos import SceneFrames, read_index, scene_path  # noqa: E402
from perception.datasets.reading.records import FrameRecord  # noqa: E402
from tests.interop.conftest import VERSION  # noqa: E402

pytestmark = pytest.mark.interop


def own_frames(folder: Path) -> dict[str, FrameRecord]:
    return {frame.token: frame for name in read_index(folder)['scenes']
            for frame in SceneFrames(scene_path(folder, name)).frames()}


@pytest.fixture(scope='module')
def theirs(tiny_world: Path, exported: dict[str, Path]):
    """mmdet3d's dataset on our infos, with its own loading of points and boxes."""
    from mmdet3d.datasets import NuScenesDataset as TheirDataset
    from mmdet3d.utils import register_all_modules
    register_all_modules(init_default_scope=False)
    points = dict(coord_type='LIDAR', load_dim=5, use_dim=5)
    pipeline = [dict(type='mmdet3d.LoadPointsFromFile', **points),
                dict(type='mmdet3d.LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True)]
    prefix = {
        'pts': 'samples/LIDAR_TOP', 'sweeps': 'sweeps/LIDAR_TOP',
        **{name: f'samples/{name}' for name in CAMERAS}}
    return TheirDataset(
        data_root=str(tiny_world), ann_file=str(exported['train']), data_prefix=prefix, pipeline=pipeline,
        modality=dict(use_lidar=True, use_camera=True), filter_empty_gt=False)


@pytest.fixture(scope='module')
def ours(tiny_world: Path) -> NuScenesDataset:
    return NuScenesDataset(
        tiny_world, VERSION, split='train', sensors=['camera', 'lidar'], tasks=['detection'],
        reading=dict(lidar_sweeps=0, radar_sweeps=0, own_returns_m=0, image_reduce=1))


# -------------------------------------------------------------------- ours read by mmdet3d

def test_their_dataset_reads_our_boxes(theirs, ours: NuScenesDataset, tiny_world: Path) -> None:
    """mmdet3d leaves boxes without LiDAR points away; it calls an unknown velocity zero."""
    frames, compared = own_frames(tiny_world / 'infos' / VERSION), 0
    assert len(theirs) == len(ours) == 3
    for i in range(len(theirs)):
        sample, annotations = ours[i]
        info, frame = theirs.get_data_info(i), frames[sample.frame.token]
        assert info['token'] == sample.frame.token
        found = theirs[i]
        boxes = found['gt_bboxes_3d']
        rows = np.concatenate([boxes.gravity_center.numpy(), boxes.tensor[:, 3:].numpy()], 1).astype(float)
        labels = [
            DETECTION_CLASSES.index(MMDET3D_CLASSES[j]) if j >= 0 else -1 for j in found['gt_labels_3d']
        ]
        ego = lidar_boxes_to_ego(rows, sample.frame.global_T_ego, frame.lidar[0].ego_T_sensor)
        ego, labels = ego[np.array(labels) >= 0], [j for j in labels if j >= 0]
        mine = annotations.boxes.select(annotations.boxes.num_lidar_points_M > 0)
        assert labels == mine.labels_M.tolist()
        np.testing.assert_allclose(ego[:, :6], mine.boxes_M9[:, :6], atol=2e-5)
        assert np.abs(wrap_yaw(ego[:, YAW] - mine.boxes_M9[:, YAW])).max() < 1e-5
        np.testing.assert_allclose(ego[:, VELOCITY], np.nan_to_num(mine.boxes_M9[:, VELOCITY]), atol=2e-5)
        compared += len(labels)
    assert compared > 20


def test_their_dataset_reads_our_points(theirs, ours: NuScenesDataset, tiny_world: Path) -> None:
    frames = own_frames(tiny_world / 'infos' / VERSION)
    for i in range(len(theirs)):
        sample, points = ours[i][0], theirs[i]['points'].tensor.numpy()
        ego_T_lidar = frames[sample.frame.token].lidar[0].ego_T_sensor
        expected = sample.lidar.points_P6
        np.testing.assert_allclose(
            transform_points(ego_T_lidar, points[:, :3].astype(float)), expected[:, :3], atol=1e-4
        )
        np.testing.assert_array_equal(points[:, 3], expected[:, 3])


def test_a_point_keeps_its_pixel_in_their_cameras(theirs, ours: NuScenesDataset, tiny_world: Path) -> None:
    frames = own_frames(tiny_world / 'infos' / VERSION)
    for i in range(len(theirs)):
        sample, info = ours[i][0], theirs.get_data_info(i)
        ego_T_lidar = frames[sample.frame.token].lidar[0].ego_T_sensor
        for n, name in enumerate(sample.camera.names):
            image = info['images'][name]
            assert Path(image['img_path']).is_file()
            ego_points = transform_points(
                sample.camera.ego_T_cam_N44[n], np.array([[0, 0, 10.0], [3, -1, 12], [-2, 1, 30]])
            )
            lidar_points = transform_points(np.linalg.inv(ego_T_lidar), ego_points)
            theirs_px = (
                transform_points(np.array(image['lidar2cam']), lidar_points) @ np.array(image['cam2img']).T
            )
            ours_px = np.array([[0, 0, 10.0], [3, -1, 12], [-2, 1, 30]]) @ sample.camera.K_N33[n].T
            np.testing.assert_allclose(
                theirs_px[:, :2] / theirs_px[:, 2:], ours_px[:, :2] / ours_px[:, 2:], atol=1e-4
            )


# -------------------------------------------------------------------- mmdet3d's read by ours

@pytest.mark.parametrize(('version', 'atol'), [('v1', 1e-6), ('v2', 1e-5)])
def test_infos_of_their_converters_equal_ours(
    written_by_mmdet3d: dict[str, Path], tiny_world: Path, tmp_path: Path, version: str, atol: float
) -> None:
    """v2 keeps its matrices in float32; both keep boxes in the LiDAR's frame.

    What leans there, as vehicles on a slope do, has another yaw by less than its lean squared and by its lean
    times the frame's; what stands upright has the same.
    """
    import_infos(written_by_mmdet3d[version], tmp_path, 'val', tiny_world)
    lean = {row['token']: np.hypot(*quaternion_to_matrix(row['rotation'])[2, :2])
            for row in json.loads((tiny_world / VERSION / 'sample_annotation.json').read_text())}
    found, expected = own_frames(tmp_path), own_frames(tiny_world / 'infos' / VERSION)
    assert sorted(found) == sorted(read_index(tiny_world / 'infos' / VERSION)['splits']['val'])
    for token, frame in found.items():
        mine = expected[token]
        assert frame.timestamp_us == mine.timestamp_us
        a, b = frame.boxes.boxes_M9, mine.boxes.boxes_M9
        np.testing.assert_allclose(a[:, :6], b[:, :6], atol=atol)
        lean_M = np.array([lean[annotation] for annotation in mine.boxes.tokens])
        tilt = np.hypot(*(mine.global_T_ego @ mine.lidar[0].ego_T_sensor)[2, :2])
        assert np.all(np.abs(wrap_yaw(a[:, YAW] - b[:, YAW])) < atol + lean_M * (lean_M + tilt))
        assert len(a) > 5 and np.any(lean_M == 0) and lean_M.max() > 0.01
        np.testing.assert_allclose(a[:, VELOCITY], b[:, VELOCITY], atol=1e-4)
        np.testing.assert_array_equal(frame.boxes.num_lidar_points_M, mine.boxes.num_lidar_points_M)
        np.testing.assert_array_equal(frame.boxes.num_radar_points_M, mine.boxes.num_radar_points_M)
        sensors = [(*f.lidar, *f.cameras.values()) for f in (frame, mine)]
        for one, other in zip(*sensors, strict=True):
            assert (one.file, one.missing, one.timestamp_us) == (other.file, False, other.timestamp_us)
            np.testing.assert_allclose(one.ego_T_sensor, other.ego_T_sensor, atol=1e-5)


def test_a_dataset_of_ours_runs_on_their_infos(
    written_by_mmdet3d: dict[str, Path], tiny_world: Path, tmp_path: Path
) -> None:
    """By LiDAR: mmdet3d does not keep the size of images, and the tiny world's are not nuScenes' 900 x
    1600."""
    import_infos(written_by_mmdet3d['v2'], tmp_path, 'val', tiny_world)
    options = dict(
        split='val', sensors=['lidar'], tasks=['detection'], reading=dict(lidar_sweeps=2, radar_sweeps=0)
    )
    theirs, ours = (
        NuScenesDataset(tiny_world, VERSION, infos=infos, **options) for infos in (tmp_path, None)
    )
    for (a, labels_a), (b, labels_b) in zip(theirs, ours, strict=True):
        assert a.frame.token == b.frame.token
        np.testing.assert_allclose(a.lidar.points_P6, b.lidar.points_P6, atol=1e-3)
        assert labels_a.boxes.labels_M.tolist() == labels_b.boxes.labels_M.tolist()
