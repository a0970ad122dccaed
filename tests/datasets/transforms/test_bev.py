"""The world around the car moves as one: pixels, points, boxes, maps, lanes and voxels stay with each
other."""
from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from perception.core.contracts import VELOCITY, XY, XYZ, Annotations, OccupancyLabels, Sample
from perception.core.geometry import invert, points_in_boxes, project, transform_points
from perception.core.grid import BEVGrid
from perception.core.raster import draw_lines, fill_polygons
from perception.datasets.transforms import bev as tb
from perception.datasets.transforms.bev import RandomFlipRotateScale, apply_bev, bev_transform
from perception.datasets.transforms.image import sample_rng
from perception.registry import TRANSFORMS

MOVES = {
    'nothing': {}, 'flip x': {'flip_x': True}, 'flip y': {'flip_y': True},
    'both flips': {'flip_x': True, 'flip_y': True}, 'turn': {'yaw_rad': 0.6}, 'scale': {'scale': 1.1},
    'shift': {'shift_m': (1.5, -0.7, 0.2)},
    'all': {'flip_y': True, 'yaw_rad': -2.1, 'scale': 0.93, 'shift_m': (0.4, 0.9, -0.3)}}
every_move = pytest.mark.parametrize('move', list(MOVES.values()), ids=list(MOVES))
Whole = tuple[Sample, Annotations]


@pytest.mark.parametrize(
    ('move', 'expected'),
    [
        ({}, (1, 2, 3)),
        ({'flip_x': True}, (-1, 2, 3)),
        ({'flip_y': True}, (1, -2, 3)),
        ({'yaw_rad': np.pi / 2}, (-2, 1, 3)),
        ({'scale': 2}, (2, 4, 6)),
        ({'shift_m': (10, 20, 30)}, (11, 22, 33)),
        # (1,-2) -> (2,1) -> (4,2) -> (5,2)
        ({'flip_y': True, 'yaw_rad': np.pi / 2, 'scale': 2, 'shift_m': (1, 0, 0)}, (5, 2, 6)),
    ],
)
def test_where_a_point_goes(move: dict, expected: tuple) -> None:
    np.testing.assert_allclose(
        transform_points(bev_transform(**move), np.array([[1.0, 2, 3]]))[0], expected, atol=1e-12
    )


def test_a_car_ahead_driving_left_seen_in_the_mirror(pair: Whole) -> None:
    boxes = replace(
        pair[1].boxes,
        boxes_M9=np.tile(np.array([[10, 1, 0, 4, 2, 1.5, np.pi / 2, 0, 3]], np.float32), (3, 1)))
    moved = tb.move_boxes(bev_transform(flip_y=True), boxes).boxes_M9[0]
    np.testing.assert_allclose(moved, [10, -1, 0, 4, 2, 1.5, -np.pi / 2, 0, -3], atol=1e-6)


@every_move
def test_a_point_keeps_its_pixel(pair: Whole, move: dict) -> None:
    new_T_old = bev_transform(**move)
    moved, _ = apply_bev(new_T_old, *pair)
    for i in range(2):
        before = project(
            pair[0].camera.K_N33[i],
            transform_points(invert(pair[0].camera.ego_T_cam_N44[i]), pair[0].lidar.points_P6[:, XYZ]))
        after = project(moved.camera.K_N33[i], transform_points(invert(moved.camera.ego_T_cam_N44[i]),
                                                                moved.lidar.points_P6[:, XYZ]))
        ahead = before[1] > 1
        assert ahead.sum() > 50
        np.testing.assert_allclose(after[0][ahead], before[0][ahead], atol=0.02)
        np.testing.assert_allclose(after[1], before[1], atol=1e-4)  # depth stays in the camera's own metres
    np.testing.assert_array_equal(moved.camera.images_NHW3, pair[0].camera.images_NHW3)


@every_move
def test_a_box_keeps_its_points(pair: Whole, move: dict) -> None:
    moved, labels = apply_bev(bev_transform(**move), *pair)
    before = points_in_boxes(pair[0].lidar.points_P6, pair[1].boxes.boxes_M9)
    after = points_in_boxes(moved.lidar.points_P6, labels.boxes.boxes_M9)
    assert (before.sum(0) >= 30).all()
    np.testing.assert_array_equal(after, before)


@every_move
def test_velocity_is_the_way_of_the_centre(pair: Whole, move: dict) -> None:
    """A box moved on by its velocity for a second, then transformed, equals the transformed box moved on by
    its velocity."""
    new_T_old = bev_transform(**move)
    now, later = pair[1].boxes, pair[1].boxes.boxes_M9.copy()
    later[:, XY] += now.boxes_M9[:, VELOCITY]
    moved_now = tb.move_boxes(new_T_old, now).boxes_M9
    moved_later = tb.move_boxes(new_T_old, replace(now, boxes_M9=later)).boxes_M9
    np.testing.assert_allclose(moved_now[:, XY] + moved_now[:, VELOCITY], moved_later[:, XY], atol=1e-4)
    assert np.isnan(moved_now[2, VELOCITY]).all()


@every_move
def test_radar_velocity_moves_with_its_points(pair: Whole, move: dict) -> None:
    new_T_old = bev_transform(**move)
    radar = pair[0].radar
    later = radar.points_P8.copy()
    later[:, :2] += later[:, 3:5]
    now, then = (
        tb.move_radar(new_T_old, radar).points_P8,
        tb.move_radar(new_T_old, replace(radar, points_P8=later)).points_P8)
    np.testing.assert_allclose(now[:, :2] + now[:, 3:5], then[:, :2], atol=1e-4)
    np.testing.assert_array_equal(now[:, 5:], radar.points_P8[:, 5:])


@every_move
def test_global_positions_stay(pair: Whole, move: dict) -> None:
    moved, _ = apply_bev(bev_transform(**move), *pair)
    before = transform_points(pair[0].frame.global_T_ego, pair[0].lidar.points_P6[:, XYZ].astype(float))
    after = transform_points(moved.frame.global_T_ego, moved.lidar.points_P6[:, XYZ].astype(float))
    np.testing.assert_allclose(after, before, atol=1e-4)


@every_move
def test_there_and_back(pair: Whole, move: dict) -> None:
    new_T_old = bev_transform(**move)
    sample, labels = apply_bev(
        invert(new_T_old), *apply_bev(new_T_old, pair[0], replace(pair[1], occupancy=None))
    )
    np.testing.assert_allclose(sample.lidar.points_P6, pair[0].lidar.points_P6, atol=1e-4)
    np.testing.assert_allclose(sample.radar.points_P8, pair[0].radar.points_P8, atol=1e-4)
    np.testing.assert_allclose(sample.camera.ego_T_cam_N44, pair[0].camera.ego_T_cam_N44, atol=1e-9)
    np.testing.assert_allclose(labels.boxes.boxes_M9, pair[1].boxes.boxes_M9, atol=1e-4)
    for found, expected in zip(labels.lanes.points, pair[1].lanes.points, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.dtype == np.float32


def moved_mask(mask: np.ndarray, grid: BEVGrid, new_T_old: np.ndarray) -> np.ndarray:
    """Reference implementation: every new cell reads the old mask at its own centre.

    The pixel rule rounds corners to whole cells and paints borders, so borders may differ by two cells.
    """
    centres = grid.centres_m().reshape(-1, 2).astype(float)
    on_the_ground = np.concatenate([centres, np.zeros((len(centres), 1))], 1)
    old = transform_points(invert(new_T_old), on_the_ground)[:, :2]
    columns, rows = np.floor(grid.to_cells(old)).astype(int).T
    inside = grid.contains(old)
    values = np.zeros(len(centres), np.uint8)
    values[inside] = mask[rows[inside], columns[inside]]
    return values.reshape(grid.shape_YX)


@every_move
def test_mask_of_moved_polygons_is_the_moved_mask(pair: Whole, move: dict) -> None:
    grid, new_T_old = BEVGrid((-50, 50), (-50, 50), 0.25), bev_transform(**move)
    layers, kernel = tb.move_map(new_T_old, pair[1].map_layers), np.ones((5, 5), np.uint8)
    for name, polygons in pair[1].map_layers.polygons.items():
        expected = moved_mask(fill_polygons(polygons, grid), grid, new_T_old)
        found = fill_polygons(layers.polygons[name], grid)
        assert expected.sum() > 1000
        assert (cv2.erode(expected, kernel) <= found).all() and (found <= cv2.dilate(expected, kernel)).all()


def test_holes_move_too(pair: Whole) -> None:
    grid = BEVGrid((-50, 50), (-50, 50), 0.5)
    layers = tb.move_map(bev_transform(flip_y=True), pair[1].map_layers)
    mask = fill_polygons(layers.polygons['drivable_area'], grid)
    # the hole spans x 9..21, y 5.4..17.4 before
    hole_centre = grid.to_cells(np.array([15.0, -11.4])).astype(int)
    body = grid.to_cells(np.array([26.0, -20.0])).astype(int)
    assert mask[hole_centre[1], hole_centre[0]] == 0 and mask[body[1], body[0]] == 1


@every_move
def test_lines_of_the_map_and_lanes_move(pair: Whole, move: dict) -> None:
    grid, new_T_old = BEVGrid((-50, 50), (-50, 50), 0.25), bev_transform(**move)
    layers = tb.move_map(new_T_old, pair[1].map_layers)
    expected = moved_mask(draw_lines(pair[1].map_layers.lines['divider'], grid), grid, new_T_old)
    found = draw_lines(layers.lines['divider'], grid)
    assert (found <= cv2.dilate(expected, np.ones((5, 5), np.uint8))).all() and found.sum() > 100
    lanes = tb.move_lanes(new_T_old, pair[1].lanes)
    np.testing.assert_array_equal(lanes.closed_L, [False, True])
    np.testing.assert_allclose(
        lanes.points[0][1], transform_points(new_T_old, np.array([[10.0, 1, 0]]))[0, :2], atol=1e-5
    )


def test_what_the_map_still_covers(pair: Whole) -> None:
    layers = tb.move_map(bev_transform(scale=0.5, shift_m=(3, 4, 0)), pair[1].map_layers)
    assert layers.radius_m == pytest.approx(80 * 0.5 - 5)


@pytest.mark.parametrize(('move', 'slow'), [
    ({}, lambda v: v),
    ({'flip_x': True}, lambda v: v[::-1]),
    ({'flip_y': True}, lambda v: v[:, ::-1]),
    ({'flip_x': True, 'flip_y': True}, lambda v: v[::-1, ::-1]),
    ({'yaw_rad': np.pi / 2}, lambda v: np.rot90(v, 1)),
    ({'yaw_rad': np.pi}, lambda v: np.rot90(v, 2)),
    ({'yaw_rad': -np.pi / 2}, lambda v: np.rot90(v, -1)),
    ({'flip_y': True, 'yaw_rad': np.pi / 2}, lambda v: np.rot90(v[:, ::-1], 1))])
def test_voxels_are_exact_for_flips_and_quarter_turns(pair: Whole, move: dict, slow) -> None:
    moved = tb.move_occupancy(bev_transform(**move), pair[1].occupancy)
    for name in ('semantics_XYZ', 'mask_lidar_XYZ', 'mask_camera_XYZ'):
        np.testing.assert_array_equal(getattr(moved, name), slow(getattr(pair[1].occupancy, name)))
        assert getattr(moved, name).dtype == np.uint8


def test_voxels_move_by_whole_cells_and_the_rest_is_not_labelled(pair: Whole) -> None:
    occupancy = pair[1].occupancy
    # 2 cells ahead, 1 right, 1 up
    moved = tb.move_occupancy(bev_transform(shift_m=(0.8, -0.4, 0.4)), occupancy)
    np.testing.assert_array_equal(moved.semantics_XYZ[2:, :-1, 1:], occupancy.semantics_XYZ[:-2, 1:, :-1])
    assert (moved.semantics_XYZ[:2] == 255).all() and (moved.semantics_XYZ[:, -1] == 255).all()
    assert (moved.semantics_XYZ[..., 0] == 255).all()
    assert moved.mask_lidar_XYZ[:2].sum() == 0 and moved.mask_camera_XYZ[:, -1].sum() == 0


@every_move
def test_a_voxel_keeps_its_place_among_points(move: dict) -> None:
    """A solid block of class 4 moves to where `transform_points` moves its inner points."""
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[120:150, 60:80, 4:12] = 4  # x 8..20, y -16..-8, z 0.6..3.8
    empty = np.zeros_like(semantics)
    new_T_old = bev_transform(**move)
    density = (semantics == 4).astype(np.float16) / 2
    labels = tb.move_occupancy(new_T_old, OccupancyLabels(semantics, empty + 1, empty + 1, density))
    moved = labels.semantics_XYZ
    points = np.random.default_rng(0).uniform([8.5, -15.5, 1.1], [19.5, -8.5, 3.3], (500, 3))
    x, y, z = np.floor((transform_points(new_T_old, points) - [-40, -40, -1]) / 0.4).astype(int).T
    assert (moved[x, y, z] == 4).all()
    np.testing.assert_array_equal(labels.density_XYZ, (moved == 4) * np.float16(0.5))


def test_the_generator_alone_decides(pair: Whole) -> None:
    transform = TRANSFORMS.build(dict(type='RandomFlipRotateScale'))
    light = (pair[0], replace(pair[1], occupancy=None))
    first, again, other = (transform(*light, sample_rng(0, draw, 3))[0].lidar.points_P6 for draw in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_draws_stay_in_their_ranges() -> None:
    transform = RandomFlipRotateScale(
        flip_x=0.0, flip_y=1.0, rotate_deg=30, scale=(0.95, 1.05), shift_std_m=(1, 1, 0)
    )
    rng = np.random.default_rng(0)
    moves = np.stack([transform.draw(rng) for _ in range(500)])
    volume = np.linalg.det(moves[:, :3, :3])
    scale = np.abs(volume) ** (1 / 3)
    assert (volume < 0).all() and 0.95 <= scale.min() < 0.955 and 1.045 < scale.max() <= 1.0501
    yaw = np.degrees(np.arctan2(moves[:, 1, 0], moves[:, 0, 0]))
    assert -30 <= yaw.min() < -28 and 28 < yaw.max() <= 30
    assert 0.9 < moves[:, 0, 3].std() < 1.1 and not moves[:, 2, 3].any()


def test_parts_that_are_absent_stay_absent(pair: Whole) -> None:
    sample, labels = RandomFlipRotateScale()(Sample(pair[0].frame), Annotations('token'), sample_rng(0, 0, 0))
    assert sample.camera is None and sample.lidar is None and sample.radar is None
    assert labels == Annotations('token')
    assert RandomFlipRotateScale()(Sample(pair[0].frame), None, sample_rng(0, 0, 0))[1] is None


def test_records_are_not_changed_in_place(pair: Whole) -> None:
    before = (
        pair[0].lidar.points_P6.copy(), pair[1].boxes.boxes_M9.copy(), pair[1].occupancy.semantics_XYZ.copy())
    RandomFlipRotateScale()(*pair, sample_rng(0, 0, 0))
    for old, now in zip(
        before, (pair[0].lidar.points_P6, pair[1].boxes.boxes_M9, pair[1].occupancy.semantics_XYZ),
        strict=True):
        np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize(
    'options', [{'flip_x': 2}, {'scale': (0, 1)}, {'scale': (1.2, 1)}, {'rotate_deg': -1}]
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match='expected'):
        RandomFlipRotateScale(**options)
