from __future__ import annotations

import numpy as np
import pytest

from perception.core.protocols import (
    OCCUPANCY_LOW_M as LOW_M,
)
from perception.core.protocols import (
    OCCUPANCY_SHAPE_XYZ as SHAPE_XYZ,
)
from perception.core.protocols import (
    OCCUPANCY_VOXEL_M as VOXEL_M,
)
from perception.core.voxels import walk_line, walk_line_reference, walk_lines
from perception.world.labels.occupancy import FREE, label_occupancy, occupancy_class
from tests.world.sensor_scene import RIG, SNAPSHOT


@pytest.fixture(scope='module')
def labels():
    return label_occupancy(SNAPSHOT, 1.0, RIG)


def centres() -> np.ndarray:
    return np.stack(
        np.meshgrid(*[LOW_M[a] + (np.arange(SHAPE_XYZ[a]) + 0.5) * VOXEL_M for a in range(3)], indexing='ij'),
        -1)


def test_format(labels):
    for array in (labels.semantics, labels.mask_lidar, labels.mask_camera):
        assert array.shape == (200, 200, 16) and array.dtype == np.uint8
    assert labels.mask_lidar.max() == 1 and labels.mask_camera.max() == 1


def test_car_fills_its_box_and_nothing_else(labels):
    car = labels.semantics == 4
    found = centres()[car]
    # centre (15, 0) in the ego frame, 4.6 x 1.9 x 1.7 m
    assert car.sum() > 150
    assert (np.abs(found - [15.0, 0.0, 0.85]) <= np.array([2.3, 0.95, 0.85]) + VOXEL_M / 2 + 1e-3).all()
    core = labels.semantics[135:140, 99:101, 2:4]
    assert (core == 4).all()


def test_ground_layer_has_road_walkway_and_grass_where_they_are(labels):
    layer = labels.semantics[:, :, 2]
    y = LOW_M[1] + (np.arange(200) + 0.5) * VOXEL_M - 1.75
    assert (layer[20, np.abs(y) < 6.6] == 11).all()
    assert (layer[20, (np.abs(y) > 7.4) & (np.abs(y) < 9.7)] == 13).all()
    assert (layer[20, np.abs(y) > 10.4] == 14).all()


def test_building_is_manmade_and_hides_what_lies_behind(labels):
    # walls at x in [12, 32], y in [13.75, 23.75] of the ego frame
    wall = labels.semantics[130:179, 134, 3:]
    assert (wall == 15).all()
    assert labels.mask_camera[150, 134, 4] == 1 and labels.mask_lidar[150, 134, 4] == 1
    assert labels.mask_camera[150, 150, 4] == 0 and labels.mask_lidar[150, 150, 4] == 0
    assert labels.mask_camera[150, 196, 4] == 0 and labels.mask_lidar[150, 196, 4] == 0


def test_nothing_below_the_ground_is_observed(labels):
    assert labels.mask_lidar[:, :, :2].sum() == 0 and labels.mask_camera[:, :, :2].sum() == 0
    assert (labels.semantics[:, :, :2] == FREE).all()


def test_road_around_is_observed_without_gaps(labels):
    road = labels.semantics[60:135, 92:100, 2] == 11
    assert labels.mask_camera[60:90, 92:100, 2][road[:30]].mean() > 0.95
    assert labels.mask_lidar[110:135, 92:100, 2][road[50:]].mean() > 0.95


@pytest.mark.parametrize('seed', range(3))
def test_walk_equals_dense_sampling(seed: int):
    rng = np.random.default_rng(seed)
    blocked = rng.random((20, 18, 8)) < 0.03
    mask, expected = np.zeros(blocked.shape, np.uint8), np.zeros(blocked.shape, bool)
    for _ in range(8):
        start, end = rng.uniform(-2, 20, 3) * [1, 0.9, 0.4], rng.uniform(0, 18, 3) * [1, 0.9, 0.4]
        one = np.zeros(blocked.shape, np.uint8)
        walk_line(start, end, blocked, one)
        reference = walk_line_reference(start, end, blocked)
        assert (one.astype(bool) & ~reference).sum() <= 1 and (reference & ~one.astype(bool)).sum() == 0
        mask |= one
        expected |= reference
    assert expected.sum() > 20


def test_several_lines_from_one_place_mark_what_each_alone_marks():
    blocked = np.zeros((6, 5, 1), np.uint8)
    blocked[3, 0] = 1
    start, ends = np.array([0.5, 0.5, 0.5]), np.array([[5.5, 0.5, 0.5], [0.5, 4.5, 0.5]])
    mask = np.zeros_like(blocked)
    walk_lines(start, ends, blocked, mask)
    assert np.flatnonzero(mask[:, 0, 0]).tolist() == [0, 1, 2, 3] and np.flatnonzero(
        mask[0, :, 0]
    ).tolist() == [0, 1, 2, 3, 4]
    assert mask.sum() == 8


def test_every_detection_class_has_an_occupancy_class():
    names = [
        'movable_object.barrier', 'vehicle.bicycle', 'vehicle.bus.rigid', 'vehicle.car',
        'vehicle.construction', 'vehicle.motorcycle', 'human.pedestrian.adult', 'movable_object.trafficcone',
        'vehicle.trailer', 'vehicle.truck']
    assert [occupancy_class(name) for name in names] == list(range(1, 11))
    assert occupancy_class('movable_object.debris') == 0
