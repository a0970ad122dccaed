"""Map vectors around the car: rasterised, they are the devkit's masks."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from perception.core.config import read_config
from perception.core.contracts import Frame
from perception.core.geometry import make_transform, rotation_z, yaw_of
from perception.core.grid import BEVGrid
from perception.core.protocols import MAP_CLASSES
from perception.core.raster import draw_lines, fill_polygons
from perception.datasets.maps.city_map import arcline_points, lane_middle, load_city
from perception.datasets.maps.map_layers import MAP_RADIUS_M, layers_around, scene_map
from perception.datasets.maps.scene_map import SceneMap, read_scene_map, write_scene_map
from perception.datasets.reading.io import BadFile
from perception.evaluation.map_segmentation.protocol import draw_truth
from perception.evaluation.map_segmentation.window import around_lidar

_spec = importlib.util.spec_from_file_location('map_expansion', Path(__file__).with_name('map_expansion.py'))
map_expansion = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(map_expansion)
ROOT = Path(__file__).resolve().parents[3]
GRID = BEVGrid((-50, 50), (-50, 50), 0.5)
PLACES = [(0.0, 0.0, 0.0), (3.3, 1.2, 0.4), (25.0, -2.0, -2.5), (-80.0, 4.0, 1.6), (40.0, 20.0, 3.0)]


def pose_at(x: float, y: float, yaw: float) -> np.ndarray:
    return make_transform(rotation_z(yaw)[:3, :3], np.array([*(map_expansion.ORIGIN + [x, y]), 0.7]))


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('map_root')
    map_expansion.street().write(folder)
    return folder


@pytest.fixture(scope='module')
def found(root: Path) -> SceneMap:
    return scene_map(load_city(root, 'boston-seaport'), [pose_at(*place) for place in PLACES])


@pytest.fixture(scope='module')
def devkit_map(root: Path):
    from nuscenes.map_expansion.map_api import NuScenesMap
    return NuScenesMap(str(root), 'boston-seaport')


def patch_at(place: tuple[float, float, float]) -> tuple[float, ...]:
    return map_expansion.ORIGIN[0] + place[0], map_expansion.ORIGIN[1] + place[1], 100.0, 100.0


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('name', MAP_CLASSES[:5])
def test_polygons_are_the_devkits_mask(found, devkit_map, place, name) -> None:
    theirs = devkit_map.get_map_mask(patch_at(place), np.degrees(place[2]), [name], (200, 200))[0]
    ours = fill_polygons(layers_around(found, pose_at(*place)).polygons[name], GRID)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('place', PLACES)
def test_dividers_are_the_devkits_mask(found, devkit_map, place) -> None:
    """At one place a line's cut end lies on the last cell's far side to 1e-13 m, so truncation puts it in one
    cell or the next: there the line may lean by a cell, and no cell that is away from the line differs."""
    theirs = devkit_map.get_map_mask(
        patch_at(place), np.degrees(place[2]), ['road_divider', 'lane_divider'], (200, 200)
    ).any(0)
    ours = draw_lines(layers_around(found, pose_at(*place)).lines['divider'], GRID) > 0
    differ = ours != theirs
    assert theirs.sum() > 600
    if place == PLACES[1]:
        assert not differ[~near_border(theirs)].any() and differ.sum() < 0.1 * theirs.sum()
    else:
        assert not differ.any()


def near_border(mask: np.ndarray) -> np.ndarray:
    """Cells with a neighbour of the other kind among the eight around."""
    import cv2
    kernel, mask = np.ones((3, 3), np.uint8), mask.astype(np.uint8)
    return cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)


@pytest.mark.parametrize('place', PLACES[:3])
def test_masks_around_the_lidar_are_the_devkits(found, devkit_map, place) -> None:
    """BEVFusion's patch: the LiDAR's place and yaw, roll and pitch of the car included."""
    tilt = make_transform(np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]), np.zeros(3))
    ego_T_lidar = make_transform(rotation_z(-1.55)[:3, :3], np.array([0.96, 0.1, 1.84]))
    frame = Frame('a', 0, pose_at(*place) @ tilt, ego_T_lidar=ego_T_lidar)
    global_T_lidar = frame.global_T_ego @ ego_T_lidar
    patch, angle_deg = (*global_T_lidar[:2, 3], 100.0, 100.0), np.degrees(yaw_of(global_T_lidar))

    layers = layers_around(found, frame.global_T_ego)
    masks = draw_truth(around_lidar(layers, frame))
    for name in MAP_CLASSES[:5]:
        theirs = devkit_map.get_map_mask(patch, angle_deg, [name], (200, 200))[0] > 0
        np.testing.assert_array_equal(masks[MAP_CLASSES.index(name)], theirs)


def test_a_place_one_can_check_in_the_head(found) -> None:
    """The car stands at the street's middle, heading along it: forward is +x, left is +y."""
    layers = layers_around(found, pose_at(0, 0, 0))
    mask = fill_polygons(layers.polygons['drivable_area'], GRID)
    cell = lambda x, y: mask[int((y + 50) / 0.5), int((x + 50) / 0.5)]  # noqa: E731
    assert cell(0, 0) and cell(40, -6) and cell(25, 10)
    # beside the street, and in the court yard
    assert not cell(0, 10) and not cell(0, -9) and not cell(45, 30)
    turned = fill_polygons(layers_around(found, pose_at(0, 0, np.pi / 2)).polygons['drivable_area'], GRID)
    assert turned[180, 100 + 12] and not turned[180, 100 + 18]  # 40 m to the left the street ends 7 m ahead
    assert turned[int((-25 + 50) / 0.5), int((10 + 50) / 0.5)]  # the block lies ahead and to the right


def test_invalid_polygons_are_left_out_as_in_the_devkit(found) -> None:
    assert len(layers_around(found, pose_at(0, 0, 0)).polygons['walkway']) == 1


def test_holes_stay_with_their_polygon(found) -> None:
    with_holes = [p for p in layers_around(found, pose_at(0, 0, 0)).polygons['drivable_area'] if p[1]]
    assert len(with_holes) == 1
    exterior, (hole,) = with_holes[0]
    assert exterior.min(0) == pytest.approx([20, 7]) and hole.min(0) == pytest.approx([35, 20])


def test_far_elements_are_left_out(found) -> None:
    near = layers_around(found, pose_at(0, 0, 0))
    assert near.radius_m == MAP_RADIUS_M
    assert len(near.lines['divider']) == 2  # the third is 300 m away
    assert len(near.polygons['carpark_area']) == 1
    assert layers_around(found, pose_at(-150, 0, 0)).polygons['carpark_area'] == ()


def test_the_map_reaches_the_corners_under_the_flagships_augmentation() -> None:
    """Shrunk as far as it goes and shifted by 4.5 deviations, it covers its map grid's farthest corner."""
    config = read_config(ROOT / 'configs/nuscenes/camera_lidar.py')
    grid = config.model.heads.map_segmentation.task_grid
    change = config.train_dataloader.dataset.pipeline.bev
    corner = np.hypot(np.abs(grid.x_range_m).max(), np.abs(grid.y_range_m).max())
    assert MAP_RADIUS_M * min(change.scale) - 4.5 * max(change.shift_std_m[:2]) >= corner


def test_polygons_are_cut_beyond_the_radius_only(found) -> None:
    """The walkway is 400 m long; what is kept of it reaches past the radius of every frame, not 400 m."""
    (walkway, _), = layers_around(found, pose_at(40, 20, 0)).polygons['walkway']
    assert walkway[:, 0].max() > MAP_RADIUS_M and np.ptp(walkway[:, 0]) < 300


def test_file_round_trip(found, tmp_path) -> None:
    path = tmp_path / 'scene.map.npz'
    write_scene_map(path, found)
    again = read_scene_map(path)
    for name in ('polygons', 'lines', 'lanes'):
        for field in ('points_V2', 'starts', 'labels_R', 'groups_R'):
            np.testing.assert_array_equal(
                getattr(getattr(again, name), field), getattr(getattr(found, name), field)
            )


@pytest.mark.parametrize('damage', ['cut', 'empty', 'pickle', 'absent', 'field'])
def test_a_damaged_file_is_named(found, tmp_path, damage) -> None:
    path = tmp_path / 'scene.map.npz'
    write_scene_map(path, found)
    whole = path.read_bytes()
    if damage == 'absent':
        path.unlink()
    elif damage == 'pickle':
        np.savez(path, polygons_points=np.array([{'a': 1}], dtype=object))
    elif damage == 'field':
        np.savez(path, polygons_points=np.zeros((0, 2)))
    else:
        path.write_bytes(whole[:len(whole) // 2] if damage == 'cut' else b'')
    with pytest.raises(BadFile, match='scene.map.npz'):
        read_scene_map(path)


def test_no_expansion_is_none(tmp_path) -> None:
    assert load_city(tmp_path, 'boston-seaport') is None


def test_a_file_that_is_no_expansion_is_named(tmp_path) -> None:
    folder = tmp_path / 'maps' / 'expansion'
    folder.mkdir(parents=True)
    (folder / 'boston-seaport.json').write_text('{"version": "1.3"}')
    with pytest.raises(ValueError, match='boston-seaport.json.*KeyError'):
        load_city(tmp_path, 'boston-seaport')


@pytest.mark.parametrize('shape', ['LSL', 'LSR', 'RSL', 'RSR', 'LRL', 'RLR'])
@pytest.mark.parametrize('step', [0.3, 1.0, 5.0])
def test_arcline_points_are_the_devkits(shape, step) -> None:
    from nuscenes.map_expansion.arcline_path_utils import pose_at_length
    path = {'start_pose': [3.0, -2.0, 0.7], 'end_pose': [0, 0, 0], 'shape': shape, 'radius': 9.0,
            'segment_length': [5.5, 7.25, 11.0]}
    points = arcline_points(path, step)
    along = np.linspace(0, 23.75, len(points))
    theirs = [path['start_pose'][:2]] + [pose_at_length(path, s)[:2] for s in along[1:]]
    np.testing.assert_allclose(points, theirs, atol=1e-9)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= step + 1e-9


def test_arcline_spacing_is_the_devkits() -> None:
    from nuscenes.map_expansion.arcline_path_utils import discretize

    path = {
        'start_pose': [0.0, 0, 0], 'end_pose': [0, 0, 0], 'shape': 'LSR', 'radius': 5.0,
        'segment_length': [0.0, 12.3, 0.0]}
    np.testing.assert_allclose(arcline_points(path, 0.5), np.array(discretize(path, 0.5))[:, :2], atol=1e-9)


def test_lane_middle_has_every_point_once() -> None:
    piece = {
        'start_pose': [0.0, 0, 0], 'end_pose': [2, 0, 0], 'shape': 'LSL', 'radius': 5.0,
        'segment_length': [0.0, 2.0, 0.0]}
    points = lane_middle([piece, {**piece, 'start_pose': [2.0, 0, 0]}])
    np.testing.assert_allclose(points, [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]], atol=1e-12)


def test_the_dataset_brings_the_map_of_real_poses(real_frames, tmp_path) -> None:
    """Real tables with a hand-made map under scene-0103: masks are the devkit's at the car's own, tilted
    pose. The other city has no map: None there, counted in the report."""
    from nuscenes.map_expansion.map_api import NuScenesMap

    from perception.datasets.create import CreateOptions, create_infos
    from perception.datasets.reading.dataset import NuScenesDataset
    root = tmp_path / 'root'
    (root / 'maps').mkdir(parents=True)
    (root / 'v1.0-mini').symlink_to(real_frames / 'v1.0-mini')
    for picture in (real_frames / 'maps').glob('*.png'):
        (root / 'maps' / picture.name).symlink_to(picture)
    map_expansion.street().write(root)
    report = create_infos(CreateOptions(root, 'v1.0-mini'), progress=False)
    assert report.index['left_out']['no map expansion'] == 42
    dataset = NuScenesDataset(root, 'v1.0-mini', 'mini_val', sensors=[])
    sample, annotations = dataset[10]
    pose = sample.frame.global_T_ego
    patch, angle = (pose[0, 3], pose[1, 3], 100.0, 100.0), np.degrees(np.arctan2(pose[1, 0], pose[0, 0]))
    theirs = NuScenesMap(str(root), 'boston-seaport').get_map_mask(
        patch, angle, ['drivable_area'], (200, 200)
    )[0]
    np.testing.assert_array_equal(
        fill_polygons(annotations.map_layers.polygons['drivable_area'], GRID), theirs
    )
    assert theirs.any() and len(annotations.lanes.points) > 3
    other = dataset.annotations_of(report.index['scenes']['scene-0916']['tokens'][0])
    assert other.map_layers is None and other.lanes is None and other.boxes is not None
    without = NuScenesDataset(root, 'v1.0-mini', 'mini_val', sensors=[], tasks=['detection'])[10][1]
    assert without.map_layers is None and without.lanes is None
