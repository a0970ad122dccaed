"""Occupancy scores on grids of four voxels, rays one can follow with a finger, and a real Occ3D sample."""
from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, Frame, Occupancy, OccupancyLabels, TaskOutput
from perception.core.geometry import make_transform, rotation_z
from perception.core.protocols import OCCUPANCY_FREE as FREE
from perception.evaluation.occupancy.metric import Occ3DOccupancy
from perception.evaluation.occupancy.protocol import (
    OccupancyCounts,
    count_occupancy,
    count_rays,
    count_rays_reference,
    count_voxels_reference,
    geometry_iou,
    iou_of_confusion,
    occupancy_scores,
    ray_iou,
)
from perception.evaluation.occupancy.rays import (
    cast,
    cast_reference,
    compare,
    in_voxels,
    lidar_directions,
    scene_origins,
)

ORIGIN = np.array([[0.0, 0.0, 1.8]])


def labels(values, camera=None, lidar=None) -> OccupancyLabels:
    grid = np.array(values, dtype=np.uint8).reshape(len(values), 1, 1)
    ones = np.ones_like(grid)
    return OccupancyLabels(grid, ones if lidar is None else np.array(lidar, np.uint8).reshape(grid.shape),
                           ones if camera is None else np.array(camera, np.uint8).reshape(grid.shape))


def predicted(values) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(len(values), 1, 1)


def room(seed: int = 0) -> np.ndarray:
    """A ground, some blocks, much air."""
    rng = np.random.default_rng(seed)
    grid = np.full((200, 200, 16), FREE, np.uint8)
    grid[:, :, 0] = 11
    for _ in range(40):
        x, y, z = rng.integers(0, 195), rng.integers(0, 195), rng.integers(1, 10)
        grid[x:x + 5, y:y + 5, z:z + 4] = rng.integers(0, 17)
    grid[95:105, 95:105] = FREE
    return grid


def test_four_voxels_by_hand():
    """Truth car car road free, predicted car road road car: car 1/3, road 1/2, mIoU 5/12; occupied 3 of 4."""
    counts = count_occupancy(predicted([4, 11, 11, 4]), labels([4, 4, 11, FREE]))
    scores = occupancy_scores(counts)
    assert scores['occupancy/IoU_all_car'] == pytest.approx(1 / 3)
    assert scores['occupancy/IoU_all_driveable_surface'] == pytest.approx(1 / 2)
    assert scores['occupancy/mIoU_all'] == pytest.approx(5 / 12)
    assert scores['occupancy/geometry_IoU_all'] == pytest.approx(3 / 4)
    assert math.isnan(scores['occupancy/IoU_all_bus'])


def test_masks_are_kept_apart():
    """The wrong voxel is seen by the LiDAR only, so the camera's score is perfect."""
    counts = count_occupancy(predicted([4, 11]), labels([4, 4], camera=[1, 0], lidar=[0, 1]))
    scores = occupancy_scores(counts)
    assert scores['occupancy/mIoU_camera'] == 1.0 and scores['occupancy/mIoU_lidar'] == 0.0
    assert scores['occupancy/mIoU_all'] == pytest.approx(1 / 4)


def test_unlabelled_voxels_do_not_count():
    counts = count_occupancy(predicted([4, 11]), labels([4, 255]))
    assert counts.confusion_MCC.sum() == 3 and occupancy_scores(counts)['occupancy/mIoU_all'] == 1.0


def test_counts_equal_the_reference():
    rng = np.random.default_rng(0)
    truth = OccupancyLabels(
        rng.integers(0, 18, (9, 8, 7)).astype(np.uint8), rng.integers(0, 2, (9, 8, 7)).astype(np.uint8),
        rng.integers(0, 2, (9, 8, 7)).astype(np.uint8))
    guess = rng.integers(0, 18, (9, 8, 7)).astype(np.uint8)
    found = count_occupancy(guess, truth).confusion_MCC
    for i, mask in enumerate((truth.mask_camera_XYZ, truth.mask_lidar_XYZ, np.ones_like(guess))):
        np.testing.assert_array_equal(found[i], count_voxels_reference(guess, truth.semantics_XYZ, mask))


def test_sums_of_samples_equal_one_big_sample():
    a, b = (
        count_occupancy(predicted([4, 11]), labels([4, 4])), count_occupancy(predicted([FREE]), labels([2])))
    both = count_occupancy(predicted([4, 11, FREE]), labels([4, 4, 2]))
    np.testing.assert_array_equal((a + b).confusion_MCC, both.confusion_MCC)
    assert (OccupancyCounts.zero() + a + b).samples == 2


def test_iou_of_a_hand_made_confusion():
    table = np.zeros((18, 18), np.int64)
    table[4, 4] = 6
    table[4, FREE] = 2
    table[FREE, 4] = 4
    table[FREE, FREE] = 88
    assert iou_of_confusion(table)[4] == pytest.approx(6 / 12) and geometry_iou(table) == pytest.approx(
        6 / 12
    )


@pytest.mark.parametrize(('grid', 'message'), [(np.zeros((2, 1, 1), np.uint8), 'predicted grid'),
                                               (np.full((1, 1, 1), 18, np.uint8), 'class numbers'),
                                               (np.zeros((1, 1, 1), np.float32), 'class numbers')])
def test_wrong_predictions_are_named(grid, message):
    with pytest.raises(ValueError, match=message):
        count_occupancy(grid, labels([4]))


# -------------------------------------------------------------------- rays

def test_ray_set_is_the_published_one():
    rays = lidar_directions()
    assert rays.shape == (14040, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    pitch_deg = np.rad2deg(np.arcsin(rays[::360, 2].astype(float)))
    assert pitch_deg[:2] == pytest.approx([-45, -26.565], abs=1e-3) and pitch_deg[9] == pytest.approx(
        -5.7106, abs=1e-3
    )
    assert pitch_deg[-2] < np.rad2deg(0.21) <= pitch_deg[-1]


def test_depth_is_where_the_ray_leaves_the_voxel():
    """From x = 0 forward, a wall in the voxel x in [4.0, 4.4): depth 4.4."""
    grid = np.full((200, 200, 16), FREE, np.uint8)
    grid[110, :, :] = 15
    level = np.abs(lidar_directions()[:, 2]) < 0.01
    forward = level & (lidar_directions()[:, 0] > 0.99999)
    label, depth = cast(grid, np.array([[0.0, 0.2, 1.8]]))
    assert forward.any()
    np.testing.assert_allclose(depth[forward], 4.4, atol=2e-3)
    assert (label[forward] == 15).all()


def test_a_ray_that_meets_nothing_is_free():
    label, depth = cast(np.full((200, 200, 16), FREE, np.uint8), ORIGIN)
    assert (label == FREE).all() and depth.min() > 2.5 and depth.max() < 60


def test_rays_equal_the_reference():
    grid, origin = room(), np.array([[0.13, 0.07, 1.83]])
    label, depth = cast(grid, origin)
    for r in np.random.default_rng(0).integers(0, 14040, 20):
        slow_label, slow_depth = cast_reference(grid, origin[0], lidar_directions()[r].astype(float), 4e-3)
        assert abs(depth[r] - slow_depth) < 5e-3 and label[r] == slow_label, r


def test_counted_rays_equal_the_reference():
    truth, guess = (
        room(0),
        np.where(np.random.default_rng(0).random((200, 200, 16)) < 0.01, 16, room(1)).astype(np.uint8))
    origins = np.array([[0.13, 0.07, 1.83], [-20.4, 11.1, 1.8]])
    for fast, slow in zip(
        count_rays(guess, truth, origins), count_rays_reference(guess, truth, origins), strict=True
    ):
        np.testing.assert_array_equal(fast, slow)


def test_truth_as_prediction_is_perfect():
    grid = room()
    ones = np.ones_like(grid)
    scores = occupancy_scores(count_occupancy(grid, OccupancyLabels(grid, ones, ones), origins_T3=ORIGIN))
    for name in (
        'mIoU_camera', 'mIoU_lidar', 'mIoU_all', 'geometry_IoU_camera', 'RayIoU', 'RayIoU@1m', 'RayIoU@4m'):
        assert scores[f'occupancy/{name}'] == 1.0, name


def test_rays_leave_the_threads_of_torch_alone():
    """In a process of its own: OpenMP's number of threads is set once, by whoever comes first."""
    code = (
        'import numpy as np, torch; from perception.evaluation.occupancy.rays import compare\n'
        'grid = np.full((200, 200, 16), 17, np.uint8)\n'
        'compare(grid, grid, np.array([[0.0, 0.0, 1.8]]), (1.0,), 18)\n'
        'print(torch.get_num_threads())'
    )
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == '1', done.stderr


def test_no_origin_no_rays():
    """A car that has left the ray set's reach for the whole drive counts nothing."""
    grid = np.full((200, 200, 16), 17, np.uint8)
    hits, true, guessed = compare(grid, grid, np.zeros((0, 3)), (1.0, 2.0), 18)
    assert hits.shape == (2, 18)
    assert not hits.any()
    assert true.shape == guessed.shape == (18,)
    assert not true.any()


def test_ray_thresholds_by_hand():
    """The whole wall 1.6 m too far: wrong at 1 m, right at 2 and 4 m (for rays that meet it squarely)."""
    truth, guess = (np.full((200, 200, 16), FREE, np.uint8) for _ in range(2))
    truth[110, :, :], guess[114, :, :] = 15, 15
    ones = np.ones_like(truth)
    counts = count_occupancy(
        guess, OccupancyLabels(truth, ones, ones), origins_T3=np.array([[0.0, 0.2, 1.8]])
    )
    table = ray_iou(counts)[:, 15]
    assert table[0] == 0 and 0.2 < table[1] < table[2] <= 1
    assert np.isnan(np.delete(ray_iou(counts), 15, axis=1)).all()


def frame_at(i, x, lidar_m=(0.96, 0.0, 1.84)) -> Frame:
    pose, ego_T_lidar = np.eye(4), make_transform(rotation_z(-1.5)[:3, :3], np.array(lidar_m))
    pose[:3, 3] = 100 + x, 50, 0
    return Frame(str(i), i, pose, 'scene', 'boston-seaport', ego_T_lidar)


def test_origins_follow_the_drive():
    drive = [frame_at(i, 5.0 * i) for i in range(40)]
    origins = scene_origins(drive[20], drive)
    assert origins.shape == (8, 3)
    assert (np.abs(origins[:, 0]) < 39).all()
    assert (np.diff(origins[:, 0]) > 0).all()
    np.testing.assert_allclose(origins[:, 2], 1.84, atol=1e-6)


def test_origins_are_the_calibrations_own():
    """Two frames of one drive, 2.5 m apart, with differently mounted LiDARs: each says where its own is.

    The sample's own place is exact, the other one is rounded to float32 in the sample's LiDAR frame.
    """
    drive = [frame_at(0, 0.0, (0.985793, 0.0, 1.84019)), frame_at(1, 2.5, (0.943713, 0.1, 1.84023))]
    own, other = scene_origins(drive[0], drive)
    assert own.tolist() == [0.985793, 0.0, 1.84019]
    np.testing.assert_allclose(other, [3.443713, 0.1, 1.84023], atol=3e-7)
    assert 0 < np.abs(other - [3.443713, 0.1, 1.84023]).max()


def test_samples_without_the_lidars_place_have_no_rays_and_are_counted():
    grid = room()
    ones = np.ones_like(grid)
    truth = Annotations('0', occupancy=OccupancyLabels(grid, ones, ones))
    metric, frames = Occ3DOccupancy(), [replace(frame_at(0, 0.0), ego_T_lidar=None), frame_at(1, 1.0)]
    assert scene_origins(frames[0], frames).shape == (0, 3)

    outputs = [TaskOutput(frame, occupancy=Occupancy(grid)) for frame in frames]
    total = metric.accumulate([(output.frame, metric.summarise(output, truth)) for output in outputs])
    assert total.samples == 2
    assert 0 < total.ray_truth_C.sum() <= len(lidar_directions())
    assert 'leaves out 1 sample' in metric.format_details(metric.details(total))[0]


def test_rays_are_rounded_as_the_public_code_rounds():
    """Its edge of a voxel is a float32 tensor, 0.4000000059604645 m, and the rest follows torch's promotion.

    Divided by 0.4, many ends fall on the next float32, and a ray that grazes a voxel meets another one.
    """
    origin = np.array([[0.985793, -1.37, 1.84019]])
    starts, ends = in_voxels(origin)
    low, edge = torch.tensor([-40.0, -40.0, -1.0]), torch.tensor([0.4] * 3)
    rays = torch.from_numpy(lidar_directions()) + torch.from_numpy(origin)
    np.testing.assert_array_equal(starts, ((torch.from_numpy(origin) - low) / edge).float().numpy())
    np.testing.assert_array_equal(ends[0], ((rays - low) / edge).float().numpy())
    assert (ends[0] != ((rays - low) / 0.4).float().numpy()).any()
    assert cast(room(), origin)[1].dtype == np.float32


def test_real_sample_scores_perfect(real_frames):
    path = next((real_frames / 'occupancy').glob('*/labels.npz'))
    with np.load(path, allow_pickle=False) as file:
        truth = OccupancyLabels(file['semantics'], file['mask_lidar'], file['mask_camera'])
    scores = occupancy_scores(count_occupancy(truth.semantics_XYZ, truth, origins_T3=ORIGIN))
    assert scores['occupancy/mIoU_camera'] == 1.0 and scores['occupancy/RayIoU'] == 1.0
    empty = np.full_like(truth.semantics_XYZ, FREE)
    nothing = occupancy_scores(count_occupancy(empty, truth, origins_T3=ORIGIN))
    assert nothing['occupancy/mIoU_camera'] == 0.0 and nothing['occupancy/RayIoU'] == 0.0
