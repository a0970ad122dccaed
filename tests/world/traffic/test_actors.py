"""Scenes: actors do not overlap, motion is sound, attributes tell the truth, all classes appear, the dice are
fixed."""
import numpy as np
import pytest

from perception.world.city.city import make_city
from perception.world.traffic.actors import boxes_overlap, draw_size
from perception.world.traffic.make_scene import make_world_scene
from perception.world.traffic.routes import Signal, draw_route
from perception.world.traffic.simulation import Driver, Walkers, simulate
from perception.world.traffic.sizes import fit_statistics, load_statistics
from perception.world.traffic.surroundings import SceneParameters

TEN = (
    'vehicle.car', 'vehicle.truck', 'vehicle.bus', 'vehicle.trailer', 'vehicle.construction',
    'human.pedestrian', 'vehicle.motorcycle', 'vehicle.bicycle', 'movable_object.trafficcone',
    'movable_object.barrier')
EGO_BOX = (1.25, 4.084, 1.73)


@pytest.fixture(scope='module')
def city():
    return make_city('singapore-hollandvillage', 0)


@pytest.fixture(scope='module')
def scenes(city):
    return [make_world_scene(city, index, 0) for index in range(3)]


def footprint(scene, t_s):
    """(M + 1, 5) boxes x, y, yaw, length, width at a time; the last is the ego."""
    rows = []
    for track in scene.tracks:
        xyz, yaw = track.pose_at(t_s)
        rows.append([*xyz[:2], yaw, *track.size_lwh_m[:2]])
    xyz, yaw = scene.ego.xyz_yaw_at(t_s)
    ahead, length, width = EGO_BOX
    rows.append([xyz[0] + ahead * np.cos(yaw), xyz[1] + ahead * np.sin(yaw), yaw, length, width])
    return np.array(rows)


def test_overlap_of_boxes():
    first = np.array([[0, 0, 0, 4, 2]] * 4, float)
    second = np.array(
        [[3, 0, 0, 4, 2], [4.2, 0, 0, 4, 2], [0, 2.5, np.pi / 2, 4, 2], [2.6, 1.9, np.pi / 4, 2, 2]]
    )
    assert boxes_overlap(first, second).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(boxes_overlap(first, second), boxes_overlap(second, first))


def test_nothing_overlaps(scenes):
    for scene in scenes:
        for t_s in np.arange(0, 20.1, 0.5):
            boxes = footprint(scene, t_s)
            first, second = np.triu_indices(len(boxes), 1)
            near = np.linalg.norm(boxes[first, :2] - boxes[second, :2], axis=1) < 16
            overlap = boxes_overlap(boxes[first[near]], boxes[second[near]], slack_m=0.15)
            assert not overlap.any(), (scene.name, t_s)


def test_every_pair_of_scenes_shows_all_ten_classes_near_the_ego(scenes):
    def shown(scene):
        found = set()
        for track in scene.tracks:
            for t_s in np.arange(0, 20, 2.0):
                if np.linalg.norm(track.pose_at(t_s)[0][:2] - scene.ego.pose_at(t_s)[:2, 3]) < 50:
                    found.update(name for name in TEN if track.category.startswith(name))
        return found

    assert shown(scenes[0]) | shown(scenes[1]) == set(TEN)
    assert shown(scenes[1]) | shown(scenes[2]) == set(TEN)


def test_motion_is_that_of_cars(scenes):
    for scene in scenes:
        for track in scene.tracks:
            if not track.category.startswith('vehicle'):
                continue
            for t_s in np.arange(0.5, 19.5, 1.5):
                vx, vy, rate = track.velocity_at(t_s)
                speed = np.hypot(vx, vy)
                assert speed < 18.0
                assert abs(rate) < 1.2
                if speed > 1.0:
                    heading = track.pose_at(t_s)[1]
                    slip = abs(np.angle(np.exp(1j * (np.arctan2(vy, vx) - heading))))
                    assert slip < 0.45, (track.category, t_s)


def test_attributes_tell_the_truth(scenes):
    for scene in scenes:
        for track in scene.tracks:
            for t_s in (2.0, 7.0, 12.0, 17.0):
                attribute, speed = track.attribute_at(t_s), np.hypot(*track.velocity_at(t_s)[:2])
                if attribute.endswith('.moving'):
                    assert speed > 0.1
                if attribute.endswith(
                    ('.parked', '.stopped', '.standing', 'sitting_lying_down', 'without_rider')
                ):
                    assert speed < 0.6
                assert (attribute == '') == track.category.startswith(('movable_object', 'static_object'))


def test_people_on_the_street_are_on_crossings(city, scenes):
    from shapely import contains_xy
    from shapely.ops import unary_union

    gates = unary_union([park.driveway for park in city.map.car_parks])
    streets = unary_union(city.layers['drivable_area']).difference(gates).buffer(-0.6)
    crossings = unary_union(city.layers['ped_crossing']).buffer(1.0)
    for scene in scenes:
        for track in scene.tracks:
            if track.category in ('human.pedestrian.adult', 'human.pedestrian.child'):
                places = track.xyz_T3[::10, :2]
                astray = contains_xy(streets, *places.T) & ~contains_xy(crossings, *places.T)
                assert not astray.any(), (scene.name, track.index, places[astray][0])


def test_moving_cars_stay_on_the_street(city, scenes):
    from shapely import contains_xy
    from shapely.ops import unary_union

    streets = unary_union(city.layers['drivable_area']).buffer(0.2)
    for scene in scenes:
        assert contains_xy(streets, *scene.ego.xyz_T3[::20, :2].T).all()
        for track in scene.tracks:
            if track.category == 'vehicle.car' and 'vehicle.moving' in track.attribute_T:
                assert contains_xy(streets, *track.xyz_T3[::10, :2].T).mean() > 0.98


def test_ego_drives_smoothly(scenes):
    for scene in scenes:
        speed = np.linalg.norm([scene.ego.velocity_at(t_s) for t_s in np.arange(0.1, 20, 0.1)], axis=1)
        assert speed.max() < 14
        np.testing.assert_allclose(
            speed, [scene.ego.speed_at(t_s) for t_s in np.arange(0.1, 20, 0.1)], atol=0.35
        )
        assert max(np.linalg.norm(scene.ego.acceleration_at(t_s)) for t_s in np.arange(0.5, 19.5, 0.1)) < 8.5


def test_same_seed_same_scene_other_index_other_scene(city, scenes):
    again = make_world_scene(city, 1, 0)
    assert len(again.tracks) == len(scenes[1].tracks)
    for first, second in zip(again.tracks, scenes[1].tracks, strict=True):
        np.testing.assert_array_equal(first.xyz_T3, second.xyz_T3)
        np.testing.assert_array_equal(first.mesh.vertices_V3, second.mesh.vertices_V3)
    np.testing.assert_array_equal(again.static_mesh.vertices_V3, scenes[1].static_mesh.vertices_V3)
    assert not np.array_equal(scenes[0].ego.xyz_T3[0], scenes[1].ego.xyz_T3[0])


def test_parameters_are_obeyed_and_checked(city):
    scene = make_world_scene(city, 5, 0, SceneParameters(name='scene-0103', weather='night', duration_s=6.0))
    assert (scene.name, scene.weather.kind, scene.duration_s) == ('scene-0103', 'night', 6.0)
    assert scene.ego.times_s[0] <= -0.4 and scene.ego.times_s[-1] >= 6.4
    with pytest.raises(ValueError, match="found 'snow'"):
        SceneParameters(weather='snow')


def test_followers_keep_their_distance_and_halt_at_red(city):
    route = draw_route(city.network, 0, 260.0, np.random.default_rng(0))
    fast = Driver(route, 6.0, 8.0, 12.0, 4.5, 1.8, 1.3)
    slow = Driver(route, 25.0, 3.0, 3.0, 4.5, 1.8, 1.3)
    times = np.arange(0, 12, 0.1)
    no_walkers = Walkers(np.zeros((0, len(times), 2)))
    free = {node: Signal((road,), -1.0, 1e9) for _, node, road in route.stops}
    log = simulate([fast, slow], free, no_walkers, times)
    assert (log.s_DT[1] - log.s_DT[0] - 4.5).min() > 1.0
    assert log.speed_DT[0, -1] == pytest.approx(3.0, abs=0.5)
    stop_m, node, road = route.stops[0]
    red = {**free, node: Signal((-1,), 0.0, 1e9)}
    driver = Driver(route, max(stop_m - 45.0, 1.0), 7.0, 9.0, 4.5, 1.8, 1.3)
    alone = simulate([driver], red, no_walkers, times)
    front = alone.s_DT[0, -1] + 1.3 + 2.25
    assert alone.speed_DT[0, -1] == pytest.approx(0.0, abs=0.1)
    assert -2.5 < front - stop_m < 0.3


def test_signal_shows_green_to_one_arm_at_a_time():
    signal = Signal((3, 5, 9), 2.0, 12.0)
    for t_s in np.arange(-40, 60, 0.5):
        assert sum(signal.is_green(arm, t_s) for arm in signal.arms) <= 1
    assert signal.is_green(3, 2.1) and signal.is_green(3, 13.9) and not signal.is_green(3, 14.1)
    assert signal.is_green(5, 16.1) and signal.is_green(9, 26.1)


def test_sizes_follow_the_fitted_statistics():
    rng = np.random.default_rng(0)
    sizes = np.array([draw_size('vehicle.car', rng) for _ in range(600)])
    size = load_statistics()['fitted']['categories']['vehicle.car']['size_lwh_m']
    np.testing.assert_allclose(sizes.mean(axis=0), size['mean'], rtol=0.02)
    assert (sizes.std(axis=0) < np.array(size['std'])).all()


def test_committed_statistics_are_those_of_the_real_boxes(real_frames):
    fitted = fit_statistics(real_frames / 'v1.0-mini')
    assert fitted == load_statistics()['fitted']
