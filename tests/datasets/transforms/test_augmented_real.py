"""Real frames through the whole loader: augmented together, the same for any number of workers."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from perception.core.contracts import XYZ
from perception.core.geometry import box_corners, invert, points_in_boxes, project, transform_points
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.transforms.bev import RandomFlipRotateScale
from perception.datasets.transforms.image import ResizeCropFlipRotate, sample_rng

WITH_FILES = [
    '3e8750f331d7499e9b5123e9eb70f2e2', '3950bd41f74548429c0f7700ff3d8269',
    'c5f58c19249d4137ae063b0e9ecd8b8e', '700c1a25559b4433be532de3475e58a9']


@pytest.fixture(scope='module')
def infos(real_infos: Path, tmp_path_factory) -> Path:
    """Infos of the frames whose camera files are there, as the split `seen`."""
    folder = tmp_path_factory.mktemp('infos')
    shutil.copytree(real_infos, folder, dirs_exist_ok=True)
    index = json.loads((folder / 'index.json').read_text())
    index['splits'] = {'seen': WITH_FILES}
    (folder / 'index.json').write_text(json.dumps(index))
    return folder


def loader(root: Path, infos: Path, workers: int):
    pipeline = [
        dict(type='ResizeCropFlipRotate', size_hw=(64, 176)), dict(type='PhotometricDistortion'),
        dict(type='RandomFlipRotateScale'), dict(type='PointShuffle', limit=5000),
        dict(type='SensorDropout', keep={'camera': 0.3, 'lidar': 0.3, 'camera+lidar': 0.4}, drop_camera=0.1)]
    with DefaultScope.overwrite_default_scope('perception'):
        return Runner.build_dataloader(
            dict(
                batch_size=2,
                num_workers=workers,
                sampler=dict(type='ClassBalancedSampler', samples_per_epoch=6),
                dataset=dict(
                    type='NuScenesDataset', root=str(root), version='v1.0-mini', infos=str(infos),
                    split='seen', reading=dict(lidar_sweeps=0), tasks=['detection'], pipeline=pipeline),
                collate_fn=dict(type='collate', sensors=['camera', 'lidar'], image_size_hw=(64, 176)),
            ),
            seed=3,
        )


def test_workers_do_not_change_the_batches(real_frames: Path, infos: Path) -> None:
    alone, two = (list(loader(real_frames, infos, workers)) for workers in (0, 2))
    assert len(alone) == 3
    for a, b in zip(alone, two, strict=True):
        assert torch.equal(a['inputs'].images_BN3HW, b['inputs'].images_BN3HW)
        assert all(
            torch.equal(p, q) for p, q in zip(a['inputs'].lidar_points, b['inputs'].lidar_points, strict=True)
        )
        for p, q in zip(a['data_samples'], b['data_samples'], strict=True):
            np.testing.assert_array_equal(p.boxes.boxes_M9, q.boxes.boxes_M9)


def test_epochs_and_repeated_draws_differ(real_frames: Path, infos: Path) -> None:
    batches = loader(real_frames, infos, 0)
    first = [frame.global_T_ego for batch in batches for frame in batch['inputs'].frames]
    batches.sampler.set_epoch(1)
    second = [frame.global_T_ego for batch in batches for frame in batch['inputs'].frames]
    poses = np.stack([*first, *second]).reshape(12, 16)
    assert len(np.unique(poses.round(9), axis=0)) == 12  # every draw moved the world in its own way


@pytest.mark.parametrize('seed', range(3))
def test_boxes_points_and_pixels_stay_together(real_frames: Path, infos: Path, seed: int) -> None:
    """After image and ground augmentation: LiDAR points inside a box project into the projected box, and keep
    their colours."""
    dataset = NuScenesDataset(
        real_frames, 'v1.0-mini', 'seen', infos, tasks=['detection'], reading=dict(lidar_sweeps=0)
    )
    before, labels_before = dataset[0]
    rng = sample_rng(seed, 0, 0)
    image = ResizeCropFlipRotate((450, 1200), scale=(0.9, 1.1))
    sample, labels = RandomFlipRotateScale()(*image(before, labels_before, rng), rng)
    points = sample.lidar.points_P6[:, XYZ].astype(np.float64)
    boxes = labels.boxes.boxes_M9.astype(np.float64)
    inside = points_in_boxes(points, boxes, margin_m=1e-3)
    np.testing.assert_array_equal(
        inside.sum(0) >= 5,
        points_in_boxes(before.lidar.points_P6, labels_before.boxes.boxes_M9, margin_m=1e-3).sum(0) >= 5)
    checked, colours = 0, []
    for i in range(6):
        cam_T_ego = invert(sample.camera.ego_T_cam_N44[i])
        pixels, depth = project(sample.camera.K_N33[i], transform_points(cam_T_ego, points))
        for m in np.flatnonzero(inside.sum(0) >= 5):
            corners, corner_depth = project(
                sample.camera.K_N33[i], transform_points(cam_T_ego, box_corners(boxes[m : m + 1])[0])
            )
            mine = inside[:, m] & (depth > 0.5)
            if corner_depth.min() < 0.5 or not mine.any():
                continue
            assert (pixels[mine] >= corners.min(0) - 0.5).all() and (
                pixels[mine] <= corners.max(0) + 0.5
            ).all()
            checked += 1
        old, old_depth = project(
            before.camera.K_N33[i],
            transform_points(
                invert(before.camera.ego_T_cam_N44[i]), before.lidar.points_P6[:, XYZ].astype(np.float64)
            ),
        )
        both = (
            (old_depth > 1)
            & in_image(old, before.camera.image_size_hw)
            & in_image(pixels, sample.camera.image_size_hw)
        )
        a, b = (images[i][tuple(np.round(uv[both]).astype(int).T[::-1])].astype(int)
                for images, uv in ((before.camera.images_NHW3, old), (sample.camera.images_NHW3, pixels)))
        colours.append(np.abs(a - b)[b.sum(1) > 0].mean(1))  # black: nothing there
    assert checked >= 8
    assert np.median(np.concatenate(colours)) < 4  # of 255: resized pictures are a little smoother


def in_image(pixels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return ((pixels >= 2) & (pixels < np.array(size_hw[::-1]) - 3)).all(1)
