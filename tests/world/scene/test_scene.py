"""Meshes, tracks, the ground raster and the toy scene: numbers one can check in the head."""
import numpy as np
import pytest

from perception.world.bodies.shapes import ball, beam, box, frustum, prism, wheel
from perception.world.scene.ground_raster import GroundRaster
from perception.world.scene.materials import MATERIAL_ID, MATERIALS
from perception.world.scene.mesh import Mesh, pose_matrix
from perception.world.scene.track import EgoTrajectory, Track
from perception.world.scene.weather import Weather, make_weather
from perception.world.toy import toy_scene


def signed_volume(mesh: Mesh) -> float:
    """Volume by the divergence theorem: positive when all faces of a closed body look outwards."""
    a, b, c = mesh.triangles_F33.astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum('ij,ij->i', a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(('mesh', 'volume'), [
    (box((0, 2), (0, 3), (1, 5), 'concrete'), 24.0),
    (frustum((-1, 1), (-1, 1), 1.0, 1.0, (0, 1), 'concrete'), 4.0),
    (prism(1.0, 1.0, (0, 2), 'concrete', sides=4), 4.0), (wheel(5.0, 1.0, 1.0, 0.5, 2.0, sides=4), 2.0),
    (beam((0, 0, 0), (3, 0, 4), 0.5, 1.0, 'concrete'), 10.0)])
def test_shapes_are_closed_and_look_outwards(mesh, volume):
    assert signed_volume(mesh) == pytest.approx(volume, rel=1e-5)
    edges = np.sort(mesh.faces_F3[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_ball_looks_outwards_and_fits_its_radii():
    mesh = ball((1, 2, 3), (1.0, 2.0, 0.5), 'leaves')
    outward = mesh.triangles_F33.mean(axis=1) - [1, 2, 3]
    assert (np.einsum('ij,ij->i', outward, mesh.normals_F3) > 0).all()
    assert np.abs((mesh.vertices_V3 - [1, 2, 3]) / [1.0, 2.0, 0.5]).max() <= 1.0


def test_mesh_transform_and_merge():
    cube = box((0, 1), (0, 1), (0, 1), 'concrete')
    turned = cube.transform(pose_matrix((10, 0, 0), np.pi / 2))
    np.testing.assert_allclose(turned.bounds_m[0], [9, 0, 0], atol=1e-6)
    np.testing.assert_allclose(turned.bounds_m[1], [10, 1, 1], atol=1e-6)
    both = Mesh.merge([cube, turned])
    assert both.area_m2 == pytest.approx(12.0)
    assert both.faces_F3.max() == 15
    assert len(Mesh.merge([]).faces_F3) == 0


def test_mesh_refuses_wrong_input():
    with pytest.raises(ValueError, match='as many materials'):
        Mesh(np.zeros((3, 3)), [[0, 1, 2]], [0, 0])
    with pytest.raises(ValueError, match='face indices'):
        Mesh(np.zeros((3, 3)), [[0, 1, 3]], [0])
    with pytest.raises(ValueError, match='material ids'):
        Mesh(np.zeros((3, 3)), [[0, 1, 2]], [len(MATERIALS)])


def test_ground_raster_rows_are_y_columns_are_x():
    cells = np.array([[1, 2], [3, 4]], np.uint8)
    ground = GroundRaster(cells, np.array([10.0, 20.0]), 0.5, outside=9)
    places = np.array([[10.1, 20.1], [10.6, 20.1], [10.1, 20.6], [10.99, 20.99], [9.9, 20.1], [11.01, 20.1]])
    assert ground.material_at(places).tolist() == [1, 2, 3, 4, 9, 9]


def test_track_interpolates_pose_and_velocity_across_the_turn_of_pi():
    times = np.array([0.0, 1.0, 2.0])
    xyz = np.array([[0, 0, 1], [2, 0, 1], [2, 4, 1]], float)
    track = Track(0, 'vehicle.car', (4, 2, 1.5), times, xyz, np.array([3.0, -3.0, -3.0]),
                  ['vehicle.moving', 'vehicle.moving', 'vehicle.stopped'], Mesh.empty())
    place, yaw = track.pose_at(0.5)
    np.testing.assert_allclose(place, [1, 0, 1])
    assert abs(yaw) == pytest.approx(np.pi)
    vx, vy, rate = track.velocity_at(0.5)
    assert (vx, vy) == pytest.approx((2.0, 0.0))
    assert rate == pytest.approx(2 * np.pi - 6)
    assert track.velocity_at(1.0)[:2] == pytest.approx((1.0, 2.0))
    assert track.attribute_at(1.8) == 'vehicle.stopped'


def test_track_refuses_times_that_do_not_rise():
    with pytest.raises(ValueError, match='rising'):
        Track(
            0, 'vehicle.car', (4, 2, 1.5), [0.0, 0.0], np.zeros((2, 3)), np.zeros(2), ['', ''], Mesh.empty()
        )


def test_ego_on_a_circle():
    """10 m/s on a circle of 20 m: yaw rate 0.5 rad/s, centripetal acceleration 5 m/s^2."""
    times = np.arange(0, 4, 0.02)
    angle = 0.5 * times
    xyz = np.column_stack([20 * np.sin(angle), 20 * (1 - np.cos(angle)), 0 * angle])
    ego = EgoTrajectory(times, xyz, angle, np.full_like(times, 10.0))
    assert ego.yaw_rate_at(2.0) == pytest.approx(0.5, rel=1e-3)
    assert np.linalg.norm(ego.velocity_at(2.0)) == pytest.approx(10.0, rel=1e-2)
    assert np.linalg.norm(ego.acceleration_at(2.0)) == pytest.approx(5.0, rel=2e-2)
    np.testing.assert_allclose(ego.pose_at(2.0)[:2, 0], [np.cos(1), np.sin(1)], atol=1e-6)


@pytest.mark.parametrize('kind', ['day', 'dusk', 'night', 'rain'])
def test_weather(kind):
    weather = make_weather(kind, np.random.default_rng(0))
    assert np.linalg.norm(weather.sun_direction) == pytest.approx(1.0)
    assert (weather.rain_rate > 0) == (kind == 'rain')
    day = make_weather('day', np.random.default_rng(0))
    assert kind == 'day' or sum(weather.sun_rgb) < 0.7 * sum(day.sun_rgb)


def test_weather_refuses_unknown_kind_and_sunk_sun():
    with pytest.raises(ValueError, match="found 'hail'"):
        make_weather('hail', np.random.default_rng(0))
    with pytest.raises(ValueError, match='upwards'):
        Weather('day', (0, 0, -1), (1, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), 0, 0, 0)


def test_toy_scene_is_what_it_says():
    scene = toy_scene()
    np.testing.assert_allclose(scene.ego.pose_at(2.0)[:3, 3], [16.0, -1.75, 0.0])
    assert scene.tracks[0].velocity_at(5.0) == pytest.approx((8.0, 0.0, 0.0))
    ids = scene.ground.material_at(np.array([[0.0, 0.0], [5.0, -2.0], [5.0, -8.5], [5.0, 30.0]]))
    assert [MATERIALS[index].name for index in ids] == [
        'paint_yellow', 'asphalt', 'sidewalk', 'terrain_grass']


def test_material_names_are_unique_and_their_classes_valid():
    assert len(MATERIAL_ID) == len(MATERIALS) < 256
    assert all(0 <= material.lidarseg < 32 and 0 <= material.occupancy < 17 for material in MATERIALS)
