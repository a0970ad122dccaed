"""Lane polylines: what each class is made of, which way it runs, and how it is kept to a square around the
car."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.core.protocols import LANE_CLASSES
from perception.datasets.maps.city_map import LaneMiddle, load_city
from perception.datasets.maps.lane_polylines import joined_lanes, lanes_around, pieces_near
from perception.datasets.maps.map_layers import flat_ego_T_global, scene_map
from perception.datasets.maps.scene_map import SceneMap

_spec = importlib.util.spec_from_file_location('map_expansion', Path(__file__).with_name('map_expansion.py'))
map_expansion = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(map_expansion)


def pose_at(x: float, y: float, yaw: float) -> np.ndarray:
    return make_transform(rotation_z(yaw)[:3, :3], np.array([*(map_expansion.ORIGIN + [x, y]), 0.7]))


@pytest.fixture(scope='module')
def found(tmp_path_factory) -> SceneMap:
    root = tmp_path_factory.mktemp('lanes_root')
    map_expansion.street().write(root)
    return scene_map(
        load_city(root, 'boston-seaport'),
        [pose_at(0, 0, 0), pose_at(30, 0, 0)])


def elements(found: SceneMap, name: str, place=(0, 0, 0), radius_m: float = 65.0) -> list[np.ndarray]:
    lanes = lanes_around(found, *flat_ego_T_global(pose_at(*place)), radius_m)
    return [
        line for line, label in zip(lanes.points, lanes.labels_L, strict=True) if LANE_CLASSES[label] == name
    ]


def signed_area(ring: np.ndarray) -> float:
    x, y = ring[:-1].T
    nx, ny = ring[1:].T
    return float((x * ny - nx * y).sum() / 2)


def test_crossings_that_touch_are_one(found) -> None:
    rings = elements(found, 'ped_crossing')
    assert len(rings) == 2
    touching = next(r for r in rings if r[:, 0].max() > 0)
    assert touching.min(0) == pytest.approx([10, -7]) and touching.max(0) == pytest.approx([14, 7])
    np.testing.assert_array_equal(touching[0], touching[-1])
    assert signed_area(touching) == pytest.approx(-4 * 14)  # clockwise


def test_boundary_is_the_outline_of_all_roads(found) -> None:
    """Four road segments and two lanes make one street: no boundary runs across it where they meet."""
    boundary = elements(found, 'boundary')
    assert len(boundary) == 2  # left and right side; the street's ends are out of the square
    for line in boundary:
        assert np.allclose(np.abs(line[:, 1]), 7, atol=1e-4)
    left = next(line for line in boundary if line[0, 1] > 0)
    assert left[-1, 0] > left[0, 0]  # clockwise around the street: road to the right


@pytest.mark.parametrize('gap_m', [0.0, 1e-12, 1e-6, 0.05])
def test_a_crack_between_two_pieces_of_road_is_no_boundary(tmp_path, gap_m) -> None:
    city = map_expansion.Expansion()
    city.polygon('road_segment', map_expansion.rectangle(-20, -5, 0, 5))
    city.polygon('road_segment', np.array([[gap_m, -5.0], [20, -5], [20, 5], [gap_m, 5], [-gap_m / 3, 1.7]]))
    city.write(tmp_path)
    found = scene_map(load_city(tmp_path, 'boston-seaport'), [pose_at(0, 0, 0)])
    (ring,) = elements(found, 'boundary')
    assert np.linalg.norm(np.diff(ring, axis=0), axis=1).sum() == pytest.approx(100, abs=0.5)


def test_a_gap_one_can_see_stays(tmp_path) -> None:
    city = map_expansion.Expansion()
    city.polygon('road_segment', map_expansion.rectangle(-20, -5, 0, 5))
    city.polygon('road_segment', map_expansion.rectangle(0.3, -5, 20, 5))
    city.write(tmp_path)
    found = scene_map(load_city(tmp_path, 'boston-seaport'), [pose_at(0, 0, 0)])
    assert len(elements(found, 'boundary')) == 2


def test_dividers_are_kept_whole(found) -> None:
    lines = elements(found, 'divider')
    assert len(lines) == 2
    assert max(np.ptp(line[:, 0]) for line in lines) == pytest.approx(400)


def test_centrelines_join_lane_to_lane_but_not_where_two_ways_meet(found) -> None:
    lines = elements(found, 'centerline')
    assert len(lines) == 2  # first + second, and the connector, which something else enters too
    street = max(lines, key=len)
    assert street[0] == pytest.approx([-50, -5], abs=1e-4)
    steps = np.diff(street, axis=0)
    assert (steps[:, 0] >= 0).all() and np.linalg.norm(steps, axis=1).max() <= 1.001


def test_a_ring_of_lanes_is_walked_once() -> None:
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    ring = [LaneMiddle(str(i), corners[i:i + 2], (str((i - 1) % 4),), (str((i + 1) % 4),)) for i in range(4)]
    (line,) = joined_lanes(ring)
    assert line.shape == (8, 2)


def test_turned_car_sees_the_street_across(found) -> None:
    lines = elements(found, 'divider', (0, 0, np.pi / 2))
    longest = max(lines, key=lambda line: np.ptp(line[:, 1]))
    assert np.allclose(longest[:, 0], 0, atol=1e-4)


def test_pieces_keep_what_is_near_and_one_point_beyond() -> None:
    line = np.stack([np.arange(-10.0, 11), np.zeros(21)], 1)
    (piece,) = pieces_near(line, 3.5)
    assert piece[0, 0] == -4 and piece[-1, 0] == 4
    there_and_back = np.array([[-9.0, 0], [9, 0], [9, 9], [0, 9], [0, 1], [1, 1]])
    assert [len(p) for p in pieces_near(there_and_back, 2.0)] == [2, 3]
    assert pieces_near(line + [0, 20], 3.5) == []


def test_a_ring_inside_stays_closed_and_one_that_leaves_is_not_broken_at_its_first_point() -> None:
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2], [0, 0]])
    np.testing.assert_array_equal(pieces_near(square, 3)[0], square)
    wide = np.array([[0.0, 0], [1, 0], [50, 0], [50, 50], [0, 50], [-1, 20], [-1, 0], [0, 0]])
    pieces = pieces_near(wide, 3)
    assert len(pieces) == 1
    np.testing.assert_array_equal(pieces[0], [[-1, 20], [-1, 0], [0, 0], [1, 0], [50, 0]])
