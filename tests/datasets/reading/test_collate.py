"""Samples to a batch: shapes, values, masks of what is missing, and errors with words."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS

from perception.core.contracts import Annotations, CameraRig, Frame, LidarPoints, RadarPoints, Sample
from perception.core.lens import Distortion
from perception.datasets.reading.collate import collate
from perception.registry import FUNCTIONS


def make_sample(
    token: str = 'a', height: int = 4, width: int = 6, cameras: int = 2, points: int = 3
) -> Sample:
    rng = np.random.default_rng(len(token) + cameras + points)
    names = ('CAM_FRONT', 'CAM_BACK', 'CAM_FRONT_LEFT')[:cameras]
    rig = CameraRig(
        names, rng.integers(0, 255, (cameras, height, width, 3), np.uint8), rng.random((cameras, 3, 3)),
        rng.random((cameras, 4, 4)), np.ones(cameras, bool), np.zeros(cameras))
    radar = RadarPoints(rng.random((2, 8), np.float32), np.array([True, False, True, True, True]))
    return Sample(Frame(token, 0, np.eye(4)), rig, LidarPoints(rng.random((points, 6), np.float32)), radar)


def test_shapes_types_and_values() -> None:
    a, b = make_sample('a', points=3), make_sample('bb', points=5)
    out = collate([(a, Annotations('a')), (b, None)])
    batch = out['inputs']
    assert len(batch) == 2 and [frame.token for frame in batch.frames] == ['a', 'bb']
    assert batch.images_BN3HW.shape == (2, 2, 3, 4, 6) and batch.images_BN3HW.dtype == torch.uint8
    assert batch.images_BN3HW.is_contiguous()
    np.testing.assert_array_equal(batch.images_BN3HW[1, 0, 2].numpy(), b.camera.images_NHW3[0, :, :, 2])
    np.testing.assert_allclose(batch.K_BN33[0].numpy(), a.camera.K_N33, rtol=1e-6)
    np.testing.assert_allclose(batch.ego_T_cam_BN44[1].numpy(), b.camera.ego_T_cam_N44, rtol=1e-6)
    assert [len(p) for p in batch.lidar_points] == [3, 5] and batch.lidar_points[0].dtype == torch.float32
    np.testing.assert_array_equal(batch.radar_present_BR[0].numpy(), a.radar.present_R)
    assert out['data_samples'] == [Annotations('a'), None]
    assert all(bool(found.all()) for found in batch.present().values())


def test_lenses_become_rows_and_pinholes_none() -> None:
    a, b = make_sample('a'), make_sample('b')
    assert collate([(a, None), (b, None)])['inputs'].lens_BN10 is None
    lens = Distortion('kannala_brandt', (0.1, 0.2, 0.3, 0.4))
    bent = replace(b, camera=replace(b.camera, distortions=(None, lens)))
    batch = collate([(replace(a, camera=None), None), (bent, None), (a, None)])['inputs']
    assert batch.lens_BN10.shape == (3, 2, 10) and batch.lens_BN10.dtype == torch.float32
    np.testing.assert_allclose(batch.lens_BN10[1, 1].numpy(), lens.row, rtol=1e-6)
    assert (batch.lens_BN10[:, 0, 0] == 0).all() and (batch.lens_BN10[[0, 2], :, 0] == 0).all()
    assert torch.equal(batch.select([1]).lens_BN10[0], batch.lens_BN10[1])


def test_sensors_that_no_sample_has_are_none() -> None:
    bare = replace(make_sample(), camera=None, radar=None)
    batch = collate([(bare, None)])['inputs']
    assert batch.images_BN3HW is None and batch.radar_points is None and set(batch.present()) == {'lidar'}


def test_camera_missing_in_one_sample() -> None:
    whole, blind = make_sample('a'), replace(make_sample('b'), camera=None)
    batch = collate([(blind, None), (whole, None)])['inputs']
    assert batch.images_BN3HW.shape == (2, 2, 3, 4, 6)
    assert not batch.camera_present_BN[0].any() and batch.camera_present_BN[1].all()
    assert batch.images_BN3HW[0].sum() == 0 and torch.equal(batch.K_BN33[0, 0], torch.eye(3))
    assert torch.isfinite(torch.linalg.inv(batch.ego_T_cam_BN44[0])).all()
    assert batch.present()['camera'].tolist() == [False, True]


def test_lidar_and_radar_missing_in_one_sample() -> None:
    deaf = replace(make_sample('b'), lidar=None, radar=None)
    batch = collate([(make_sample('a'), None), (deaf, None)])['inputs']
    assert batch.lidar_points[1].shape == (0, 6) and batch.radar_points[1].shape == (0, 8)
    assert batch.lidar_present_B.tolist() == [True, False] and not batch.radar_present_BR[1].any()


def test_no_points_is_not_no_lidar() -> None:
    empty = replace(make_sample(), lidar=LidarPoints(np.zeros((0, 6), np.float32)))
    assert collate([(empty, None)])['inputs'].present()['lidar'].tolist() == [True]


def test_sensors_of_the_model_keep_their_place_when_no_sample_has_them() -> None:
    bare = Sample(Frame('a', 0, np.eye(4)))
    batch = collate([(bare, None)], sensors=('camera', 'lidar', 'radar'), image_size_hw=(8, 10))['inputs']
    assert batch.images_BN3HW.shape == (1, 6, 3, 8, 10) and batch.lidar_points[0].shape == (0, 6)
    assert not any(bool(found.any()) for found in batch.present().values())


def test_sensors_not_asked_for_are_left_out() -> None:
    batch = collate([(make_sample(), None)], sensors=['lidar'])['inputs']
    assert batch.images_BN3HW is None and batch.radar_points is None and batch.lidar_points is not None


def test_the_batch_does_not_share_memory_with_the_samples() -> None:
    sample = make_sample()
    batch = collate([(sample, None)])['inputs']
    before = sample.lidar.points_P6.copy()
    batch.lidar_points[0].zero_()
    np.testing.assert_array_equal(sample.lidar.points_P6, before)


@pytest.mark.parametrize(
    ('other', 'words'),
    [
        (make_sample('b', height=5), r'sample a has images of \(H, W\) \(4, 6\) and sample b has \(5, 6\)'),
        (
            make_sample('b', cameras=3),
            r"sample a has cameras \('CAM_FRONT', 'CAM_BACK'\) and sample b has \('CAM_FRONT', "),
    ],
)
def test_samples_that_do_not_fit_together(other: Sample, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        collate([(make_sample('a'), None), (other, None)])


def test_errors() -> None:
    with pytest.raises(ValueError, match='at least one sample'):
        collate([])
    with pytest.raises(ValueError, match="unknown sensor 'sonar'"):
        collate([(make_sample(), None)], sensors=['sonar'])
    with pytest.raises(ValueError, match='image_size_hw'):
        collate([(replace(make_sample(), camera=None), None)], sensors=['camera'])


def test_registered_where_the_runner_looks() -> None:
    assert FUNCTIONS.get('collate') is collate
    assert MMENGINE_FUNCTIONS.get('collate') is collate
    assert MMENGINE_FUNCTIONS.get('perception.collate') is collate
