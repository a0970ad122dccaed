"""Lanes as published protocols cut them, on streets one can draw on squared paper."""
from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perception.core.contracts import LanePolylines
from perception.core.geometry import make_transform, rotation_z
from perception.core.protocols import LANE_CLASSES
from perception.datasets.maps.city_map import load_city
from perception.datasets.maps.lane_polylines import lanes_around
from perception.datasets.maps.map_layers import flat_ego_T_global, scene_map
from perception.datasets.maps.published_lanes import paths_through, published_lanes
from perception.datasets.maps.scene_map import SceneMap, read_scene_map, write_scene_map
from perception.datasets.transforms.bev import move_lanes
from perception.evaluation.lanes.protocol import cut_truth

_spec = importlib.util.spec_from_file_location('map_expansion', Path(__file__).with_name('map_expansion.py'))
map_expansion = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(map_expansion)
rectangle = map_expansion.rectangle

EGO = make_transform(np.eye(3), np.array([*map_expansion.ORIGIN, 0.0]))


def lidar(yaw_deg: float = -90.0, x_m: float = 1.0) -> np.ndarray:
    """A roof LiDAR 1 m before ego's origin; nuScenes' looks to the right with its x."""
    return make_transform(rotation_z(np.deg2rad(yaw_deg))[:3, :3], np.array([x_m, 0.0, 1.84]))


def road(folder: Path, *shapes: tuple[str, np.ndarray]) -> SceneMap:
    """The map of some polygons and of a divider along x, 400 m long."""
    city = map_expansion.Expansion()
    for layer, polygon in shapes:
        city.polygon(layer, polygon)
    city.line('road_divider', np.array([[-200.0, 0], [200, 0]]))
    city.write(folder)
    return scene_map(load_city(folder, 'boston-seaport'), [EGO])


def elements(
    scene: SceneMap, name: str, size: str = '60x30', ego_T_lidar=None, protocol: str = 'maptr'
) -> list[np.ndarray]:
    lanes = published_lanes(scene, EGO, lidar() if ego_T_lidar is None else ego_T_lidar, protocol)
    window = lanes.in_range(size)
    label = LANE_CLASSES.index(name)
    return [window.points[i] for i in np.flatnonzero(window.labels_L == label)]


def box_of(line: np.ndarray) -> list[float]:
    return [*line.min(0), *line.max(0)]


@pytest.fixture(scope='module')
def street(tmp_path_factory) -> SceneMap:
    """A road along x, 14 m wide, with one crossing in sight and one that the window's front border cuts."""
    return road(
        tmp_path_factory.mktemp('street'), ('road_segment', rectangle(-200, -7, 0, 7)),
        ('road_segment', rectangle(0, -7, 200, 7)), ('ped_crossing', rectangle(10, -7, 14, 7)),
        ('ped_crossing', rectangle(29, -3, 35, 3)))


@pytest.mark.parametrize(('size', 'ends'), [('60x30', (-29, 31)), ('100x50', (-49, 51))])
def test_windows_are_centred_on_the_lidar(street, size, ends):
    (divider,) = elements(street, 'divider', size)
    assert box_of(divider) == pytest.approx([ends[0], 0, ends[1], 0], abs=1e-9)


def test_windows_turn_with_the_lidar(street):
    """Its y looks 10 degrees to the left: a line straight on leaves by the window's right side, 15 m away."""
    (divider,) = elements(street, 'divider', ego_T_lidar=lidar(-80.0))
    assert np.ptp(divider[:, 0]) == pytest.approx(60 / np.cos(np.deg2rad(10)))
    (turned,) = elements(street, 'divider', ego_T_lidar=lidar(-60.0))
    assert np.ptp(turned[:, 0]) == pytest.approx(30 / np.sin(np.deg2rad(30)))


def test_the_long_axis_looks_forward_whichever_axis_of_the_lidar_does(street):
    (divider,) = elements(street, 'divider', ego_T_lidar=lidar(0.0))
    assert box_of(divider) == pytest.approx([-29, 0, 31, 0], abs=1e-9)


def test_boundaries_end_within_the_window(street):
    """The window's border is no boundary: lines end 0.2 m before it, and run clockwise around the road."""
    lines = elements(street, 'boundary')
    assert sorted(box_of(line) for line in lines) == [
        pytest.approx([-28.8, -7, 30.8, -7]), pytest.approx([-28.8, 7, 30.8, 7])]
    left = next(line for line in lines if line[0, 1] > 0)
    assert left[-1, 0] > left[0, 0]


def test_crossings_are_closed_along_the_window(street):
    rings = elements(street, 'ped_crossing')
    assert sorted(box_of(ring) for ring in rings) == [
        pytest.approx([10, -7, 14, 7]), pytest.approx([29, -3, 31, 3])]
    for ring in rings:
        np.testing.assert_allclose(ring[0], ring[-1], atol=1e-12)


def test_cracks_are_boundaries(tmp_path):
    """5 cm between two pieces of road: ours closes them to one ring, the published truth has two."""
    scene = road(tmp_path, ('road_segment', rectangle(-20, -5, 0, 5)), ('lane', rectangle(0.05, -5, 20, 5)))
    assert len(elements(scene, 'boundary')) == 2
    around = published_lanes(scene, EGO, lidar(), 'maptr')
    assert (around.labels_L == 2).sum() == 2
    assert (lanes_around(scene, *flat_ego_T_global(EGO)).labels_L == 2).sum() == 1


def test_centre_lines_are_all_paths_through_a_fork(tmp_path):
    """A lane of 20 m that two connectors of 10 m leave: two paths of 30 m, each with the first stretch."""
    city = map_expansion.Expansion()
    lane = city.polygon('lane', rectangle(-20, -2, 0, 2))
    city.path(lane, (-20, 0, 0.0), 'LSR', 10.0, [0.0, 20.0, 0.0], outgoing=('left', 'right'))
    for token, turn in (('left', 'LSR'), ('right', 'RSL')):
        area = city._shape(rectangle(0, -8, 10, 8), ())
        city.json['lane_connector'].append({'token': token, 'polygon_token': area})
        city.path(token, (0, 0, 0.0), turn, 30.0, [10.0, 0.0, 0.0], incoming=(lane,))
    city.write(tmp_path)
    scene = scene_map(load_city(tmp_path, 'boston-seaport'), [EGO])

    paths = elements(scene, 'centerline', protocol='maptr_v2_centerline')
    assert [path[0].tolist() for path in paths] == [pytest.approx([-20, 0], abs=1e-3)] * 2
    assert sorted(np.sign(path[-1, 1]) for path in paths) == [-1, 1]
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in paths]
    assert lengths == pytest.approx([30, 30], abs=0.05)
    assert elements(scene, 'centerline') == []  # no class of maptr


def test_paths_by_hand():
    """A diamond has two paths; a ring that nothing enters has none; a loop on the way is not walked."""
    diamond = {1: {2: None, 3: None}, 2: {4: None}, 3: {4: None}, 4: {}}
    assert list(paths_through(diamond)) == [[1, 2, 4], [1, 3, 4]]
    assert list(paths_through({1: {2: None}, 2: {1: None}})) == []
    assert list(paths_through({1: {2: None}, 2: {3: None, 4: None}, 3: {2: None}, 4: {}})) == [[1, 2, 4]]


def test_windows_travel_with_the_labels_and_stay_behind_when_these_are_moved(street, tmp_path):
    lanes = published_lanes(street, EGO, lidar(), 'maptr')
    again = pickle.loads(pickle.dumps(lanes))
    for one, other in zip(cut_truth(lanes)[0], cut_truth(again)[0], strict=True):
        np.testing.assert_array_equal(one, other)

    moved = move_lanes(np.eye(4), lanes)
    assert moved.protocol == 'maptr'
    with pytest.raises(ValueError, match=r"protocol 'maptr'.*moved by a transform"):
        cut_truth(moved)


def test_what_a_protocol_needs_is_named(street, tmp_path):
    with pytest.raises(ValueError, match=r'earlier layout.*create_data'):
        published_lanes(replace(street, roads=None), EGO, lidar(), 'maptr')
    with pytest.raises(ValueError, match='the frame has none; expected a LiDAR'):
        published_lanes(street, EGO, None, 'maptr')

    write_scene_map(tmp_path / 'a.npz', street)
    again = read_scene_map(tmp_path / 'a.npz')
    for name, array in street.roads.arrays().items():
        np.testing.assert_array_equal(again.roads.arrays()[name], array)
    write_scene_map(tmp_path / 'b.npz', replace(street, roads=None))
    assert read_scene_map(tmp_path / 'b.npz').roads is None


def test_protocols_in_the_dataset(tiny_world):
    """The world's frames: truth of the published window as it is read, ours untouched by it."""
    from perception.datasets.reading.dataset import NuScenesDataset

    def lanes(protocol: str) -> LanePolylines:
        reading = {'lane_protocol': protocol, 'lidar_sweeps': 0, 'radar_sweeps': 0}
        dataset = NuScenesDataset(tiny_world, split='val', sensors=(), tasks=('lanes',), reading=reading)
        return dataset.load(0)[1].lanes

    published, ours = lanes('maptr_v2_centerline'), lanes('ours')
    assert (published.protocol, ours.protocol, ours.in_range) == ('maptr_v2_centerline', 'ours', None)
    assert set(published.in_range('60x30').labels_L) <= {0, 1, 2, 3}
    assert len(published.in_range('60x30').points) > 3
    with pytest.raises(ValueError, match='lane_protocol: found'):
        lanes('maptr2')
