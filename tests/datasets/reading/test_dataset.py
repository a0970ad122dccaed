"""Real frames as samples: points and boxes fall on each other in all images; what is missing or broken is
masked."""
from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.core.contracts import RADAR_INDEX, RADAR_VELOCITY, TIME_LAG, VELOCITY, XYZ
from perception.core.geometry import box_corners, invert, points_in_boxes, project, transform_points
from perception.core.protocols import CAMERAS, RADARS, SENSORS
from perception.datasets.reading.collate import collate
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.infos import InfosError
from perception.datasets.reading.io import BadFile
from perception.datasets.reading.labels import load_occupancy
from perception.datasets.transforms.image import ResizeCropFlipRotate
from perception.registry import DATA_SAMPLERS, DATASETS

FIRST = '3e8750f331d7499e9b5123e9eb70f2e2'
SECOND = '3950bd41f74548429c0f7700ff3d8269'
FOUR = (FIRST, SECOND, 'c5f58c19249d4137ae063b0e9ecd8b8e', '700c1a25559b4433be532de3475e58a9')


@pytest.fixture(scope='module')
def dataset(real_frames, real_infos) -> NuScenesDataset:
    return NuScenesDataset(real_frames, split='mini_val', infos=real_infos, reading=dict(lidar_sweeps=0))


@pytest.fixture()
def broken(real_frames, real_infos, tmp_path):
    """Builds the dataset over a copy of the first frames' files, in which a test has broken one."""
    root = tmp_path / 'root'

    def build(
        name: str, content: bytes | None, sensors: Sequence[str] = SENSORS, **reading
    ) -> NuScenesDataset:
        if not root.exists():
            shutil.copytree(real_frames / 'samples', root / 'samples')
            for path in [root, *root.rglob('*')]:
                path.chmod(0o755)
        path = next(p for p in sorted((root / 'samples' / name).iterdir()) if '15331516035' in p.name)
        path.unlink() if content is None else path.write_bytes(content)
        return NuScenesDataset(
            root, split='mini_val', infos=real_infos, sensors=sensors, reading=reading
        )

    return build


def at(dataset: NuScenesDataset, token: str):
    return dataset[dataset.tokens.index(token)]


def test_the_first_frame_is_complete(dataset) -> None:
    sample, annotations = at(dataset, FIRST)
    assert sample.camera.images_NHW3.shape == (6, 900, 1600, 3) and sample.camera.names == CAMERAS
    assert sample.camera.present_N.all() and sample.camera.images_NHW3.std(axis=(1, 2, 3)).min() > 20
    assert len(sample.lidar.points_P6) > 20_000 and (sample.lidar.points_P6[:, TIME_LAG] == 0).all()
    assert len(sample.radar.points_P8) == 74 and sample.radar.present_R.tolist() == [
        True, False, False, False, False]
    assert len(annotations.boxes.labels_M) == 23 and (annotations.boxes.attributes_M >= 0).sum() > 15
    assert annotations.map_layers is None and annotations.occupancy is None and annotations.lanes is None
    assert sample.frame.location == 'boston-seaport' and sample.frame.timestamp_ns == 1533151603547590_000


def test_lidar_points_of_a_box_project_into_the_projected_box(dataset) -> None:
    """For every box with at least five points: all its points lie within the hull of its corners in every
    image that sees the whole box. The box comes from the annotation, the points from the sensor file, both
    through the camera's own pose."""
    import cv2
    sample, annotations = at(dataset, FIRST)
    points = sample.lidar.points_P6[:, XYZ].astype(np.float64)
    boxes = annotations.boxes.boxes_M9.astype(np.float64)
    inside = points_in_boxes(points, boxes)
    seen = 0
    for n in range(len(CAMERAS)):
        cam_T_ego = invert(sample.camera.ego_T_cam_N44[n])
        for m in np.flatnonzero(inside.sum(0) >= 5):
            corners, depth = project(
                sample.camera.K_N33[n], transform_points(cam_T_ego, box_corners(boxes[m : m + 1])[0])
            )
            if (depth < 1).any() or (corners < 0).any() or (corners >= [1600, 900]).any():
                continue
            pixels, _ = project(sample.camera.K_N33[n], transform_points(cam_T_ego, points[inside[:, m]]))
            hull = cv2.convexHull(corners.astype(np.float32))
            assert min(cv2.pointPolygonTest(hull, (float(u), float(v)), True) for u, v in pixels) >= -1.0
            seen += 1
    assert seen >= 10


def test_point_counts_of_boxes_are_the_tables(dataset) -> None:
    """The points inside our boxes are as many as nuScenes itself counted, box by box. (In one box four points
    more are inside, because boxes are upright in ego here and in global there; the car leans by a degree.)"""
    sample, annotations = at(dataset, FIRST)
    boxes = annotations.boxes.boxes_M9.astype(np.float64)
    more = (
        points_in_boxes(sample.lidar.points_P6[:, XYZ].astype(np.float64), boxes).sum(0)
        - annotations.boxes.num_lidar_points_M
    )
    assert (more == 0).sum() >= 22 and np.abs(more).max() <= 4


def test_pixels_of_standing_objects_move_with_the_camera_time(dataset) -> None:
    """The compensated transform differs from the bare calibration by the car's motion between camera and
    LiDAR time."""
    sample, _ = at(dataset, FIRST)
    bare = dataset.record(FIRST).cameras['CAM_BACK'].own_ego_T_sensor
    moved = sample.camera.ego_T_cam_N44[CAMERAS.index('CAM_BACK')] - bare
    assert 0.05 < np.linalg.norm(moved[:2, 3]) < 0.5


def test_radar_velocities_turn_with_their_radar(dataset) -> None:
    from perception.datasets.reading.io import RADAR_FIELDS, load_radar_pcd
    sample, _ = at(dataset, FIRST)
    sweep = dataset.record(FIRST).radars['RADAR_FRONT'][0]
    raw = load_radar_pcd(dataset.root / sweep.file)
    ego_T_radar = sweep.ego_T_sensor
    velocity = np.zeros((len(raw), 3))
    velocity[:, :2] = raw[:, [RADAR_FIELDS.index('vx_comp'), RADAR_FIELDS.index('vy_comp')]]
    np.testing.assert_allclose(
        sample.radar.points_P8[:, RADAR_VELOCITY], (velocity @ ego_T_radar[:3, :3].T)[:, :2], atol=1e-5
    )
    np.testing.assert_allclose(
        sample.radar.points_P8[:, XYZ], transform_points(ego_T_radar, raw[:, XYZ]), atol=1e-4
    )
    assert (sample.radar.points_P8[:, RADAR_INDEX] == RADARS.index('RADAR_FRONT')).all()


def test_lidar_is_the_devkits_multi_sweep_cloud(real_frames, dataset, real_infos) -> None:
    """Same points, same order, same times as LidarPointCloud.from_file_multisweep, moved from the LiDAR's
    frame into ego."""
    from nuscenes.utils.data_classes import LidarPointCloud

    from perception.datasets.reading.nuscenes import open_tables
    nusc = open_tables(real_frames, 'v1.0-mini')
    cloud, times = LidarPointCloud.from_file_multisweep(
        nusc, nusc.get('sample', FIRST), 'LIDAR_TOP', 'LIDAR_TOP', nsweeps=1
    )
    sample, _ = at(dataset, FIRST)
    ego_T_lidar = dataset.record(FIRST).lidar[0].own_ego_T_sensor
    np.testing.assert_allclose(
        sample.lidar.points_P6[:, XYZ], transform_points(ego_T_lidar, cloud.points[:3].T), atol=1e-4
    )
    np.testing.assert_allclose(sample.lidar.points_P6[:, TIME_LAG], times[0], atol=1e-6)
    everything = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=['lidar'],
        reading=dict(lidar_sweeps=0, own_returns_m=0),
    )
    assert len(at(everything, FIRST)[0].lidar.points_P6) == 34_752


def test_an_earlier_sweep_falls_onto_the_key_frame(real_frames, real_infos, dataset) -> None:
    """The second frame's LiDAR list goes back to the first frame's file, half a second and metres earlier. In
    ego of the second frame, what stands still must lie where the annotated boxes of parked or standing
    objects are."""
    older = [sweep for sweep in dataset.record(SECOND).lidar if not sweep.missing]
    assert older and all(sweep.time_lag_s > 0 for sweep in older)
    merged = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=['lidar'], reading=dict(lidar_sweeps=10)
    )
    sample, annotations = at(merged, SECOND)
    assert set(np.round(sample.lidar.points_P6[:, TIME_LAG], 4)) == {
        np.float32(round(s.time_lag_s, 4)) for s in older
    }
    boxes = annotations.boxes
    slow = np.linalg.norm(boxes.boxes_M9[:, VELOCITY], axis=1) < 0.2
    counted = points_in_boxes(sample.lidar.points_P6[:, XYZ], boxes.boxes_M9[slow], margin_m=0.1).sum(0)
    assert ((counted > 0) | (boxes.num_lidar_points_M[slow] < 3)).mean() > 0.7


def test_occupancy_of_a_real_frame_loads(real_frames) -> None:
    labels = load_occupancy(next((real_frames / 'occupancy').rglob('labels.npz')))
    assert labels.semantics_XYZ.shape == (200, 200, 16) and 0.5 < (labels.semantics_XYZ == 17).mean() < 0.999
    assert set(np.unique(labels.mask_camera_XYZ)) <= {0, 1}


def test_occupancy_beside_the_frame_is_used(real_frames, tmp_path) -> None:
    """The labels at `gts/<scene>/<token>/labels.npz` are found by the infos and come with the annotations."""
    from perception.datasets.create import CreateOptions, create_infos
    root = tmp_path / 'root'
    root.mkdir()
    for name in ('v1.0-mini', 'maps', 'samples'):
        (root / name).symlink_to(real_frames / name)
    place = root / 'gts' / 'scene-0103' / FIRST
    place.mkdir(parents=True)
    shutil.copyfile(next((real_frames / 'occupancy').rglob('labels.npz')), place / 'labels.npz')
    report = create_infos(CreateOptions(root, 'v1.0-mini'), progress=False)
    assert report.index['left_out']['no occupancy labels'] == 81
    found = NuScenesDataset(root, 'v1.0-mini', 'mini_val', sensors=[])
    assert found.annotations_of(FIRST).occupancy is not None
    assert found.annotations_of(SECOND).occupancy is None


def test_absent_sensors_are_none_and_named(dataset) -> None:
    sample, annotations = dataset[10]
    assert sample.present() == {'camera': False, 'lidar': False, 'radar': False}
    assert sample.camera is not None
    assert not sample.camera.present_N.any()
    assert not sample.camera.images_NHW3.any()
    assert sample.lidar is None and sample.radar is None
    assert any('CAM_FRONT: no file samples/CAM_FRONT' in text for text in sample.left_out)
    assert len(annotations.boxes.labels_M) > 0
    assert dataset.bad_files == 0


BREAKAGES = {
    'corrupt': b'\xff\xd8\xff\xe0' + b'garbage' * 50, 'empty': b'', 'text': b'not an image', 'gone': None}


@pytest.mark.parametrize('kind', BREAKAGES)
def test_a_broken_image_is_masked_and_counted(broken, kind) -> None:
    found = broken('CAM_FRONT', BREAKAGES[kind])
    sample, _ = at(found, FIRST)
    assert sample.camera.present_N.tolist() == [False, True, True, True, True, True]
    assert not sample.camera.images_NHW3[0].any()
    assert found.bad_files == 1 and any('CAM_FRONT' in text for text in sample.left_out)


def test_an_image_of_another_size_is_masked(broken) -> None:
    import cv2
    small = cv2.imencode('.jpg', np.full((450, 800, 3), 90, np.uint8))[1].tobytes()
    sample, _ = at(broken('CAM_BACK', small), FIRST)
    assert sample.camera.present_N.tolist() == [True, True, True, False, True, True]
    assert any('found an image of 800 x 450 pixels, expected 1600 x 900' in text for text in sample.left_out)


def test_a_truncated_lidar_file_is_masked(broken) -> None:
    sample, _ = at(broken('LIDAR_TOP', b'\0' * 1001, lidar_sweeps=0), FIRST)
    assert sample.lidar is None and sample.camera.present_N.all()


def test_nan_points_are_dropped(broken) -> None:
    points = np.full((100, 5), 20.0, np.float32)
    points[::4, 1] = np.nan
    sample, _ = at(broken('LIDAR_TOP', points.tobytes(), lidar_sweeps=0), FIRST)
    assert sample.lidar.points_P6.shape == (75, 6) and np.isfinite(sample.lidar.points_P6).all()


def test_a_truncated_radar_file_is_masked(broken, real_frames) -> None:
    whole = next((real_frames / 'samples' / 'RADAR_FRONT').iterdir()).read_bytes()
    sample, _ = at(broken('RADAR_FRONT', whole[:-100]), FIRST)
    assert sample.radar is None


def test_raise_stops_with_the_files_name(broken) -> None:
    with pytest.raises(BadFile, match='CAM_FRONT'):
        at(broken('CAM_FRONT', b'', bad_file='raise'), FIRST)


def test_skip_gives_the_next_sample(broken) -> None:
    found = broken('CAM_FRONT', b'', bad_file='skip', sensors=['camera'])
    sample, annotations = at(found, FIRST)
    assert sample.frame.token == SECOND == annotations.token and found.bad_files == 1


def test_bad_files_are_counted_across_workers(broken) -> None:
    found = broken('CAM_FRONT', b'', sensors=['camera'])
    found.tokens = [FIRST, SECOND]
    loader = torch.utils.data.DataLoader(found, 1, num_workers=2, collate_fn=list)
    assert len(list(loader)) == 2 and found.bad_files == 1


def test_only_what_is_asked_for(real_frames, real_infos) -> None:
    found = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=['lidar'], tasks=['occupancy'],
        reading=dict(lidar_sweeps=0))
    sample, annotations = at(found, FIRST)
    assert sample.camera is None and sample.radar is None and sample.lidar is not None
    assert annotations is None


def test_some_cameras_in_the_asked_order(real_frames, real_infos) -> None:
    found = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=['camera'],
        reading=dict(cameras=['CAM_BACK', 'CAM_FRONT']),
    )
    assert at(found, FIRST)[0].camera.names == ('CAM_BACK', 'CAM_FRONT')


@pytest.mark.parametrize('reduce', [2, 4])
def test_reduced_images_keep_their_content_under_K(dataset, real_frames, real_infos, reduce) -> None:
    reduced = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=['camera'], reading=dict(image_reduce=reduce)
    )
    small = at(reduced, FIRST)[0]
    full = at(dataset, FIRST)[0]
    assert small.camera.image_size_hw == (900 // reduce, 1600 // reduce)
    points = np.array([[0.5, -0.3, 12.0], [-1.0, 0.2, 8.0]])
    pixels, _ = project(full.camera.K_N33[0], points)
    small_pixels, _ = project(small.camera.K_N33[0], points)
    np.testing.assert_allclose((small_pixels + 0.5) * reduce, pixels + 0.5, atol=1e-9)
    blocks = full.camera.images_NHW3[0].reshape(900 // reduce, reduce, 1600 // reduce, reduce, 3).mean((1, 3))
    assert np.abs(blocks - small.camera.images_NHW3[0]).mean() < 3


@pytest.mark.parametrize(
    ('size_hw', 'train', 'reduce'),
    [((256, 704), True, 1), ((256, 704), False, 2), ((128, 352), True, 2), ((64, 176), False, 8)])
def test_images_are_decoded_no_larger_than_needed(real_frames, real_infos, size_hw, train, reduce) -> None:
    found = NuScenesDataset(real_frames, split='mini_val', infos=real_infos, sensors=['camera'],
                            pipeline=[ResizeCropFlipRotate(size_hw, train)])
    assert found.load(0)[0].camera.image_size_hw == (-(-900 // reduce), 1600 // reduce)
    assert found[0][0].camera.image_size_hw == size_hw


def test_the_pipeline_is_deterministic_and_differs_by_draw(real_frames, real_infos) -> None:
    def build(seed: int) -> NuScenesDataset:
        return DATASETS.build(
            dict(
                type='NuScenesDataset', root=real_frames, split='mini_val', infos=real_infos, seed=seed,
                sensors=['camera'], pipeline=[dict(type='ResizeCropFlipRotate', size_hw=(64, 176))])
        )

    one, again, other = build(1), build(1), build(2)
    np.testing.assert_array_equal(one[0][0].camera.images_NHW3, again[0][0].camera.images_NHW3)
    assert not np.array_equal(one[0][0].camera.K_N33, other[0][0].camera.K_N33)
    assert not np.array_equal(one[0][0].camera.K_N33, one[len(one)][0].camera.K_N33)
    assert one[len(one)][0].frame.token == one[0][0].frame.token == one[-len(one)][0].frame.token


def test_a_loader_makes_batches(real_frames, real_infos) -> None:
    found = NuScenesDataset(real_frames, split='mini_val', infos=real_infos, reading=dict(lidar_sweeps=0),
                            pipeline=[ResizeCropFlipRotate((64, 176), train=False)])
    found.tokens = list(FOUR)
    loader = torch.utils.data.DataLoader(found, 2, num_workers=1, collate_fn=collate)
    batches = list(loader)
    assert [f.token for b in batches for f in b['inputs'].frames] == list(FOUR)
    assert batches[0]['inputs'].images_BN3HW.shape == (2, 6, 3, 64, 176)
    assert batches[0]['data_samples'][1].token == SECOND


def test_few_scenes_stay_in_memory(real_frames, real_infos) -> None:
    found = NuScenesDataset(
        real_frames, split='all', infos=real_infos, sensors=[], reading=dict(scenes_in_memory=1)
    )
    assert len({found.load(i)[0].frame.scene for i in (0, 1, 50, 2)}) == 3
    assert len(found._scenes) == 1 and len(found) == 82


def test_class_counts_are_the_boxes(dataset) -> None:
    index = dataset.tokens.index(FIRST)
    labels = dataset[index][1].boxes.labels_M
    np.testing.assert_array_equal(dataset.class_counts(index), np.bincount(labels, minlength=10))
    assert dataset.get_cat_ids(index) == sorted(set(labels.tolist()))


def test_the_frame_before(dataset) -> None:
    assert dataset.previous(dataset.tokens.index(SECOND)) == dataset.tokens.index(FIRST)
    assert dataset.previous(dataset.tokens.index(FIRST)) is None


def test_class_balanced_sampling_draws_frames(dataset) -> None:
    drawn = list(DATA_SAMPLERS.build(dict(type='ClassBalancedSampler', dataset=dataset, seed=0)))
    assert max(drawn) < (1 << 16) * len(dataset) and dataset.class_counts().shape == (81, 10)
    rare = dataset.class_counts()[:, 6] > 0  # motorcycles
    assert 0 < rare.mean() < np.mean([rare[number % len(dataset)] for number in drawn])


def test_a_split_without_annotations(real_frames, tmp_path, monkeypatch) -> None:
    """As in v1.0-test: samples come, annotations are None."""
    from perception.datasets.create import CreateOptions, create_infos
    root = tmp_path / 'root'
    shutil.copytree(real_frames / 'v1.0-mini', root / 'v1.0-mini')
    for path in [root / 'v1.0-mini', *(root / 'v1.0-mini').iterdir()]:
        path.chmod(0o755)
    for name in ('maps', 'samples'):
        (root / name).symlink_to(real_frames / name)
    for name in ('sample_annotation', 'instance'):
        (root / 'v1.0-mini' / f'{name}.json').write_text('[]')
    create_infos(CreateOptions(root, 'v1.0-mini'), progress=False)
    found = NuScenesDataset(root, 'v1.0-mini', 'mini_val', test_mode=True, reading=dict(lidar_sweeps=0))
    with pytest.raises(ValueError, match='a link leads to .*PERCEPTION_FOLLOW_LINKS=1'):
        at(found, FIRST)
    monkeypatch.setenv('PERCEPTION_FOLLOW_LINKS', '1')
    sample, annotations = at(found, FIRST)
    assert annotations is None and sample.lidar is not None and not found.class_counts().any()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'split': 'train'}, "split: found 'train'.*mini_val"),
        ({'sensors': ['sonar']}, "sensors: found 'sonar'"), ({'tasks': ['depth']}, "tasks: found 'depth'"),
        ({'reading': {'lidar_sweeps': 11}}, 'lidar_sweeps: found 11.*up to 10'),
        ({'reading': {'bad_file': 'ignore'}}, "bad_file: found 'ignore'"),
        ({'reading': {'bad_file': 'skip'}, 'test_mode': True}, 'skip.*test'),
        ({'reading': {'cameras': ['CAM_TOP']}}, "cameras: found 'CAM_TOP'"),
        ({'reading': {'image_reduce': 3}}, 'image_reduce')],
)
def test_unknown_words_are_refused_before_any_work(real_frames, real_infos, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        NuScenesDataset(real_frames, infos=real_infos, **{'split': 'mini_val', **options})


def test_no_infos_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InfosError, match='create_data.py'):
        NuScenesDataset(tmp_path)


def test_sweeps_are_asked_of_the_sensors_that_are_loaded(tiny_world) -> None:
    """The tiny world's infos hold two LiDAR sweeps and none of the radars; the defaults ask for 9 and 5."""
    labels = NuScenesDataset(tiny_world, split='val', sensors=())
    assert labels.annotations_of(labels.tokens[0]).boxes is not None
    lidar = NuScenesDataset(tiny_world, split='val', sensors=['lidar'], reading=dict(lidar_sweeps=2))
    assert lidar.load(0)[0].lidar is not None

    for sensor, name, most in (('lidar', 'lidar_sweeps: found 9', 2), ('radar', 'radar_sweeps: found 5', 0)):
        with pytest.raises(ValueError, match=f'{name}, the infos in .* hold up to {most}'):
            NuScenesDataset(tiny_world, split='val', sensors=[sensor])
