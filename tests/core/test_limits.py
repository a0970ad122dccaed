"""A batch without what no sensor measures: rows beyond the limits of their columns, cameras at 1e300 m."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from perception.core.contracts.finite import NotFiniteError, check_losses, not_finite
from perception.core.contracts.limits import within_limits
from perception.preprocessor import BatchPreprocessor
from tests.helpers import make_batch


@pytest.mark.parametrize(
    ('column', 'value'),
    [(0, 1001.0), (2, -1e30), (3, 1e38), (3, 256.0), (3, -1.0), (4, 2000.0), (5, 1e38), (1, float('nan')),
     (5, float('-inf'))])
def test_a_row_out_of_range_is_dropped_alone(column: int, value: float):
    batch = make_batch(2, points=20)
    spoilt = torch.cat([batch.lidar_points[1], batch.lidar_points[1][:1]])
    spoilt[-1, column] = value

    found, left_out = within_limits(replace(batch, lidar_points=(batch.lidar_points[0], spoilt)))
    assert all(map(torch.equal, found.lidar_points, batch.lidar_points))
    assert left_out == {'lidar points out of range': 1}


def test_the_limits_themselves_are_allowed_and_nothing_is_copied():
    batch = make_batch(1, points=2)
    edges = torch.tensor([[-1000, 1000, 0, 0, -1, -10], [1000, -1000, 1000, 255, 1023, 10]]).float()
    batch = replace(batch, lidar_points=(edges,))
    assert within_limits(batch)[0] is batch and not within_limits(batch)[1]


def test_a_radar_that_measures_the_impossible_loses_that_row():
    rows = torch.zeros(3, 8)
    rows[1, 3], rows[2, 5] = 300.0, -1e4
    batch = replace(make_batch(1), radar_points=(rows,), radar_present_BR=torch.ones(1, 5, dtype=torch.bool))
    found, left_out = within_limits(batch)
    assert torch.equal(found.radar_points[0], rows[:1]) and left_out == {'radar points out of range': 2}


@pytest.mark.parametrize('value', [1e300, float('nan'), 5000.0])
def test_a_camera_whose_place_overflows_is_absent_alone(value: float):
    batch = make_batch(1)
    poses = batch.ego_T_cam_BN44.double()
    poses[0, 2, 0, 3] = value
    preprocessor = BatchPreprocessor()
    with pytest.warns(UserWarning, match='cameras with a calibration out of range are left out'):
        found = preprocessor({'inputs': replace(batch, ego_T_cam_BN44=poses.float())})['inputs']

    assert found.camera_present_BN.tolist() == [[True, True, False, True, True, True]]
    assert found.ego_T_cam_BN44.isfinite().all() and not found.images_BN3HW[0, 2].any()
    assert preprocessor.left_out == {'cameras with a calibration out of range': 1}


def test_an_absent_camera_may_have_any_calibration():
    batch = make_batch(1)
    batch = replace(batch, K_BN33=torch.full_like(batch.K_BN33, torch.nan),
                    camera_present_BN=torch.zeros(1, 6, dtype=torch.bool))
    assert within_limits(batch) == (batch, {})


def test_tensors_that_hold_no_numbers_are_named():
    tensors = {'a': torch.ones(3), 'b': torch.tensor([1.0, torch.nan]), 'c': torch.tensor([1]),
               'large': torch.full((4,), 3e38), 'd': torch.tensor([-torch.inf]),
               'opposite': torch.tensor([torch.inf, -torch.inf])}
    assert not_finite(tensors) == ['b', 'd', 'opposite'] and not_finite({}) == []
    with pytest.raises(NotFiniteError, match='not finite: b, d, opposite; samples: first, second'):
        check_losses(tensors, ['first', 'second'])
