"""Map vectors of a whole invented city, at many places and headings: the devkit's masks, and lanes that make
sense."""
from __future__ import annotations

import json

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.core.grid import BEVGrid
from perception.core.protocols import LANE_CLASSES, MAP_CLASSES
from perception.core.raster import clip_polyline, draw_lines, fill_polygons, resample_polyline
from perception.datasets.maps.city_map import ExpansionMap, load_city
from perception.datasets.maps.lane_polylines import lanes_around
from perception.datasets.maps.map_layers import flat_ego_T_global, layers_around, scene_map
from perception.datasets.maps.scene_map import SceneMap

LOCATION = 'singapore-queenstown'
GRID = BEVGrid((-50, 50), (-50, 50), 0.5)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    from perception.world.city.city import make_city
    from perception.world.writing.map_expansion import city_map_expansion
    folder = tmp_path_factory.mktemp('city') / 'maps' / 'expansion'
    folder.mkdir(parents=True)
    (folder / f'{LOCATION}.json').write_text(json.dumps(city_map_expansion(make_city(LOCATION, 0))))
    return folder.parents[1]


@pytest.fixture(scope='module')
def city(root) -> ExpansionMap:
    return load_city(root, LOCATION)


@pytest.fixture(scope='module')
def poses(city) -> list[np.ndarray]:
    """Ten places on lanes all over the city, any heading, the car tilted a little: the map must not care."""
    rng = np.random.default_rng(3)
    places = [city.lanes[i].points_P2[0] for i in rng.choice(len(city.lanes), 10, replace=False)]
    return [make_transform(rotation_z(yaw)[:3, :3], np.array([*place, 1.5])) for place, yaw in
            zip(places, rng.uniform(-np.pi, np.pi, 10), strict=True)]


@pytest.fixture(scope='module')
def maps(city, poses) -> list[SceneMap]:
    return [scene_map(city, [pose]) for pose in poses]


@pytest.fixture(scope='module')
def devkit_map(root):
    from nuscenes.map_expansion.map_api import NuScenesMap, NuScenesMapExplorer

    class Explorer(NuScenesMapExplorer):
        """The devkit's loop over a line that the patch cuts in several parts does not run with shapely 2;
        this one does."""

        @staticmethod
        def mask_for_lines(lines, mask):
            for line in getattr(lines, 'geoms', [lines]):
                if line.geom_type == 'LineString':
                    NuScenesMapExplorer.mask_for_lines(line, mask)
            return mask

    api = NuScenesMap(str(root), LOCATION)
    api.explorer = Explorer(api)
    return api


@pytest.mark.parametrize('index', range(10))
def test_masks_are_the_devkits(devkit_map, maps, poses, index) -> None:
    pose = poses[index]
    patch = (pose[0, 3], pose[1, 3], 100.0, 100.0)
    angle = np.degrees(np.arctan2(pose[1, 0], pose[0, 0]))
    theirs = devkit_map.get_map_mask(
        patch, angle, [*MAP_CLASSES[:5], 'road_divider', 'lane_divider'], (200, 200)
    )
    layers = layers_around(maps[index], pose)
    for label, name in enumerate(MAP_CLASSES[:5]):
        np.testing.assert_array_equal(fill_polygons(layers.polygons[name], GRID), theirs[label], err_msg=name)
    dividers = draw_lines(layers.lines['divider'], GRID)
    assert (dividers != theirs[5:].any(0)).sum() <= 0.02 * dividers.sum()


def test_all_classes_were_met(maps, poses) -> None:
    layers = [layers_around(found, pose) for found, pose in zip(maps, poses, strict=True)]
    for name in MAP_CLASSES[:5]:
        assert sum(len(one.polygons[name]) for one in layers) > 5, name
    lanes = [lanes_around(found, *flat_ego_T_global(pose)) for found, pose in zip(maps, poses, strict=True)]
    assert set(np.concatenate([one.labels_L for one in lanes])) == {0, 1, 2, 3}


def test_a_scene_of_many_frames_says_what_each_frame_alone_says(city, maps, poses) -> None:
    """The map is cut once around the whole path; near a frame that is the same as cutting around that
    frame."""
    together = scene_map(city, poses)
    for alone, pose in zip(maps[:4], poses[:4], strict=True):
        for name in MAP_CLASSES[:5]:
            np.testing.assert_array_equal(fill_polygons(layers_around(together, pose).polygons[name], GRID),
                                          fill_polygons(layers_around(alone, pose).polygons[name], GRID))
        one, many = (lanes_around(found, *flat_ego_T_global(pose)) for found in (alone, together))
        assert drawn(one) == pytest.approx(drawn(many), rel=1e-3)


def drawn(lanes, x_range_m=(-30.0, 30.0), y_range_m=(-15.0, 15.0)) -> list[float]:
    """Metres of each class within the window of the lane task."""
    total = [0.0] * len(LANE_CLASSES)
    for line, label in zip(lanes.points, lanes.labels_L, strict=True):
        for piece in clip_polyline(line, x_range_m, y_range_m):
            total[label] += np.linalg.norm(np.diff(piece, axis=0), axis=1).sum()
    return total


def test_centrelines_lie_on_the_road_and_boundaries_at_its_border(maps, poses) -> None:
    """Sampled every metre. Within: at least 0.75 m from the road's border; near: on the road or up to 0.5 m
    beside it. Where a car park's entry leaves the street, the drivable area goes on and the boundary does not
    follow it."""
    import cv2
    fine = BEVGrid((-50, 50), (-50, 50), 0.25)
    shares = {'centerline': [], 'boundary': []}
    for found, pose in zip(maps, poses, strict=True):
        road = fill_polygons(layers_around(found, pose).polygons['drivable_area'], fine)
        near, within = cv2.dilate(road, np.ones((5, 5), np.uint8)), cv2.erode(road, np.ones((7, 7), np.uint8))
        lanes = lanes_around(found, *flat_ego_T_global(pose))
        for line, label in zip(lanes.points, lanes.labels_L, strict=True):
            for piece in (
                clip_polyline(line, (-49.0, 49.0), (-49.0, 49.0)) if LANE_CLASSES[label] in shares else ()
            ):
                length = np.linalg.norm(np.diff(piece, axis=0), axis=1).sum()
                columns, rows = fine.to_cells(resample_polyline(piece, int(length) + 2)).astype(int).T
                shares[LANE_CLASSES[label]] += zip(near[rows, columns], within[rows, columns], strict=True)
    centre, border = (np.mean(shares[name], axis=0) for name in ('centerline', 'boundary'))
    assert centre[0] > 0.999 and centre[1] > 0.98
    assert border[0] > 0.999 and border[1] < 0.15
