"""The street network, the map layers, the ground raster and the standing objects agree with one another."""
import numpy as np
import pytest

from perception.world.city.city import LOCATIONS, make_city
from perception.world.city.ground import crop_ground
from perception.world.scene.curves import Curve, bezier
from perception.world.scene.materials import LIDARSEG_DRIVEABLE, LIDARSEG_SIDEWALK, MATERIALS

LIDARSEG = np.array([material.lidarseg for material in MATERIALS])


@pytest.fixture(scope='module')
def city():
    return make_city('singapore-hollandvillage', 0)


def test_curve_offsets_of_a_circle():
    angle = np.linspace(0, np.pi / 2, 400)
    curve = Curve(50 * np.column_stack([np.sin(angle), 1 - np.cos(angle)]))
    assert curve.length_m == pytest.approx(25 * np.pi, rel=1e-4)
    assert curve.offset(10.0).length_m == pytest.approx(20 * np.pi, rel=1e-3)
    place, yaw = curve.beside(12.5 * np.pi, 50.0)
    np.testing.assert_allclose(place, [0, 50], atol=0.05)
    assert yaw == pytest.approx(np.pi / 4, abs=1e-3)


def test_bezier_keeps_its_end_poses():
    curve = bezier(np.zeros(2), 0.0, np.array([10.0, 10.0]), np.pi / 2, 0.39)
    np.testing.assert_allclose(curve.points_K2[[0, -1]], [[0, 0], [10, 10]], atol=1e-9)
    assert curve.yaw_K[0] == pytest.approx(0.0, abs=0.05)
    assert curve.yaw_K[-1] == pytest.approx(np.pi / 2, abs=0.05)
    assert curve.length_m == pytest.approx(5 * np.pi, rel=0.01)


@pytest.mark.parametrize('location', LOCATIONS)
def test_every_lane_leads_somewhere_without_a_jump(location):
    lanes = make_city(location, 0).network.lanes
    for lane in lanes:
        assert lane.outgoing
        for onward in (lanes[index] for index in lane.outgoing):
            assert lane.index in onward.incoming
            np.testing.assert_allclose(lane.curve.points_K2[-1], onward.curve.points_K2[0], atol=1e-6)
            turn = np.angle(np.exp(1j * (onward.curve.yaw_K[0] - lane.curve.yaw_K[-1])))
            assert abs(turn) < 0.12


def test_cities_have_three_and_four_way_crossroads_and_turn_both_ways():
    arms = [len(city.network.arms(node)) for city in map(make_city, LOCATIONS)
            for node in range(len(city.network.nodes_N2))]
    assert {3, 4} <= set(arms)
    turns = {lane.turn for lane in make_city(LOCATIONS[0], 0).network.lanes}
    assert {'left', 'right', 'straight'} <= turns


def test_singapore_drives_on_the_left_and_boston_on_the_right():
    for location, sign in (('boston-seaport', -1), ('singapore-queenstown', 1)):
        network = make_city(location, 0).network
        lane = network.lanes[0]
        road = network.roads[lane.road]
        middle = road.curve.at(0.5 * sum(road.span_m))
        offset = lane.curve.points_K2[len(lane.curve.points_K2) // 2] - middle[0]
        left = np.array([-np.sin(middle[1]), np.cos(middle[1])])
        assert np.sign(offset @ left) == sign * lane.direction


def test_layers_are_valid_and_lanes_lie_on_the_drivable_area(city):
    from shapely.ops import unary_union

    drivable = unary_union(city.layers['drivable_area']).buffer(0.3)
    for name, geometries in city.layers.items():
        assert geometries, name
        assert all(geometry.is_valid for geometry in geometries), name
    for layer in ('lane', 'lane_connector', 'ped_crossing', 'stop_line', 'carpark_area'):
        for polygon in city.layers[layer]:
            assert polygon.difference(drivable).area < 0.12 * polygon.area, layer
    walkway = unary_union(city.layers['walkway'])
    assert walkway.intersection(unary_union(city.layers['drivable_area'])).area < 1.0


def test_ground_raster_agrees_with_the_layers(city):
    from shapely import contains_xy
    from shapely.ops import unary_union

    rng = np.random.default_rng(0)
    places = rng.uniform((0, 0), city.canvas_edge, (20000, 2))
    painted = LIDARSEG[city.ground.material_at(places)]
    for layer, seg in (('drivable_area', LIDARSEG_DRIVEABLE), ('walkway', LIDARSEG_SIDEWALK)):
        inside = contains_xy(unary_union(city.layers[layer]), *places.T)
        agree = (painted == seg) == inside
        assert agree.mean() > 0.985, layer
        assert inside.sum() > 200


def test_paint_lies_on_lane_borders_and_not_on_lane_centres(city):
    network = city.network
    lanes = [lane for lane in network.lanes if not lane.is_connector]
    middle = np.concatenate([lane.curve.points_K2[4:-6] for lane in lanes])
    names = np.array([MATERIALS[index].name for index in city.ground.material_at(middle)])
    assert np.mean(names == city.style.asphalt) > 0.97
    edge = np.concatenate([road.curve.piece(*road.span_m).offset(0.14).points_K2 for road in network.roads
                           if road.median_m == 0])
    edge_names = np.array([MATERIALS[index].name for index in city.ground.material_at(edge)])
    assert np.mean(edge_names == city.style.divider) > 0.8


def test_nothing_stands_on_the_street(city):
    from shapely import contains_xy
    from shapely.ops import unary_union

    streets = unary_union(city.layers['drivable_area'])
    low = np.array([mesh.vertices_V3[mesh.vertices_V3[:, 2] < 0.05][:, :2].mean(axis=0)
                    for mesh in city.static.meshes if (mesh.vertices_V3[:, 2] < 0.05).any()])
    assert len(low) > 300
    assert contains_xy(streets, *low.T).mean() < 0.005


def test_city_is_deterministic_and_seeds_differ(city):
    make_city.cache_clear()
    again, other = make_city('singapore-hollandvillage', 0), make_city('singapore-hollandvillage', 1)
    np.testing.assert_array_equal(again.ground.material_YX, city.ground.material_YX)
    assert len(again.static.meshes) == len(city.static.meshes)
    np.testing.assert_array_equal(again.static.meshes[7].vertices_V3, city.static.meshes[7].vertices_V3)
    assert not np.array_equal(other.network.nodes_N2, city.network.nodes_N2)


def test_crop_keeps_what_lies_where(city):
    low, high = np.array([200.0, 150.0]), np.array([260.0, 230.0])
    crop = crop_ground(city.ground, low, high)
    places = np.random.default_rng(1).uniform(low, high, (2000, 2))
    np.testing.assert_array_equal(crop.material_at(places), city.ground.material_at(places))
    assert crop.material_YX.size < 0.1 * city.ground.material_YX.size


def test_make_city_refuses_unknown_places():
    with pytest.raises(ValueError, match='atlantis'):
        make_city('atlantis', 0)
