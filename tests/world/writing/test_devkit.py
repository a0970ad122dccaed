"""The official devkit opens a world, and everything it offers works on it."""

import json

import numpy as np
import pytest

from perception.world.writing.splits import LOCATIONS
from tests.world.conftest import TINY

pytest.importorskip('nuscenes')


@pytest.fixture(autouse=True)
def headless():
    import matplotlib
    matplotlib.use('Agg')


def readings(nusc, modality, key_frame=True):
    return [
        row
        for row in nusc.sample_data
        if row['sensor_modality'] == modality and row['is_key_frame'] == key_frame
    ]


def test_every_sample_has_all_sensors_and_files(tiny_nusc, tiny_world):
    assert len(tiny_nusc.sample) == 6 and len(tiny_nusc.scene) == 2
    for sample in tiny_nusc.sample:
        assert len(sample['data']) == 12
        assert len(sample['anns']) > 3
    assert all((tiny_world / row['filename']).is_file() for row in tiny_nusc.sample_data)
    files = [path for folder in ('samples', 'sweeps') for path in (tiny_world / folder).rglob('*.*')]
    assert len(files) == len(tiny_nusc.sample_data) == 2 * 3 * 14


def test_sensors_are_read_within_fifty_milliseconds_of_their_sample(tiny_nusc):
    for row in tiny_nusc.sample_data:
        if row['is_key_frame']:
            lag_us = row['timestamp'] - tiny_nusc.get('sample', row['sample_token'])['timestamp']
            assert -50_000 < lag_us <= 38_500
            assert tiny_nusc.get('ego_pose', row['ego_pose_token'])['timestamp'] == row['timestamp']


def test_annotations_count_the_points_the_devkit_counts(tiny_nusc):
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box
    counted, listed = [], []
    for sample in tiny_nusc.sample:
        path, boxes, _ = tiny_nusc.get_sample_data(sample['data']['LIDAR_TOP'])
        points = LidarPointCloud.from_file(path).points[:3]
        counted += [points_in_box(box, points).sum() for box in boxes]
        listed += [tiny_nusc.get('sample_annotation', box.token)['num_lidar_pts'] for box in boxes]
    counted, listed = np.array(counted), np.array(listed)
    assert listed.sum() > 500
    assert np.abs(counted - listed).sum() <= 0.002 * listed.sum()


def test_annotations_are_perceived_and_near(tiny_nusc):
    for sample in tiny_nusc.sample:
        lidar = tiny_nusc.get('sample_data', sample['data']['LIDAR_TOP'])
        ego = np.array(tiny_nusc.get('ego_pose', lidar['ego_pose_token'])['translation'])
        for annotation in (tiny_nusc.get('sample_annotation', name) for name in sample['anns']):
            assert np.linalg.norm(np.array(annotation['translation'])[:2] - ego[:2]) <= 80
            assert annotation['visibility_token'] in '1234' and len(annotation['attribute_tokens']) <= 1
            kind = annotation['category_name'].split('.')[0]
            names = [tiny_nusc.get('attribute', name)['name'] for name in annotation['attribute_tokens']]
            assert all(
                name.split('.')[0] in ({'human': ('pedestrian',)}.get(kind, ('vehicle', 'cycle')))
                for name in names
            )


def test_scene_walks_through_its_samples(tiny_nusc):
    for scene in tiny_nusc.scene:
        token, count = scene['first_sample_token'], 1
        while tiny_nusc.get('sample', token)['next']:
            token, count = tiny_nusc.get('sample', token)['next'], count + 1
        assert (token, count) == (scene['last_sample_token'], scene['nbr_samples'])


def test_lidar_sweeps_add_up_and_carry_their_age(tiny_nusc):
    from nuscenes.utils.data_classes import LidarPointCloud
    sample = tiny_nusc.get('sample', tiny_nusc.scene[0]['first_sample_token'])
    cloud, ages = LidarPointCloud.from_file_multisweep(
        tiny_nusc, sample, 'LIDAR_TOP', 'LIDAR_TOP', nsweeps=10
    )
    np.testing.assert_allclose(np.unique(ages.round(3)), [0, 0.05, 0.1])
    assert cloud.points.shape[1] > 30_000


def test_static_surroundings_of_two_sweeps_coincide(tiny_nusc):
    """Ground points of a sweep, moved by the ego poses, lie at the height of the key frame's ground."""
    from nuscenes.utils.data_classes import LidarPointCloud
    sample = tiny_nusc.get('sample', tiny_nusc.scene[0]['first_sample_token'])
    cloud, ages = LidarPointCloud.from_file_multisweep(tiny_nusc, sample, 'LIDAR_TOP', 'LIDAR_TOP', nsweeps=3)
    near = np.hypot(*cloud.points[:2]) < 15
    for age in (0.0, 0.1):
        z = cloud.points[2, near & (np.abs(ages[0] - age) < 1e-3)]
        assert np.percentile(z, 30) == pytest.approx(-1.84, abs=0.15)


def test_radars_load_with_the_default_filters(tiny_nusc, tiny_world):
    from nuscenes.utils.data_classes import RadarPointCloud
    RadarPointCloud.default_filters()
    kept = [RadarPointCloud.from_file(str(tiny_world / row['filename'])).nbr_points()
            for row in readings(tiny_nusc, 'radar')]
    assert len(kept) == 30 and np.mean(kept) > 5
    sample = tiny_nusc.get('sample', tiny_nusc.scene[0]['last_sample_token'])
    cloud, ages = RadarPointCloud.from_file_multisweep(
        tiny_nusc, sample, 'RADAR_FRONT', 'LIDAR_TOP', nsweeps=3
    )
    assert cloud.points.shape == (18, ages.shape[1])


def test_lidarseg_has_one_label_per_point_in_known_classes(tiny_nusc, tiny_world):
    assert len(tiny_nusc.lidarseg) == 6
    for record in tiny_nusc.lidarseg:
        labels = np.fromfile(tiny_world / record['filename'], np.uint8)
        scan = tiny_world / tiny_nusc.get('sample_data', record['sample_data_token'])['filename']
        assert len(labels) == scan.stat().st_size // 20
        names = {tiny_nusc.lidarseg_idx2name_mapping[label] for label in np.unique(labels)}
        assert {'flat.driveable_surface', 'static.manmade'} <= names
    assert tiny_nusc.get_sample_lidarseg_stats(tiny_nusc.sample[0]['token']) is None


def test_lidarseg_and_boxes_agree_on_cars(tiny_nusc, tiny_world):
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box
    right = total = 0
    for record in tiny_nusc.lidarseg:
        path, boxes, _ = tiny_nusc.get_sample_data(record['sample_data_token'])
        points, labels = (
            LidarPointCloud.from_file(path).points[:3],
            np.fromfile(tiny_world / record['filename'], np.uint8))
        inside = np.zeros(len(labels), bool)
        for box in boxes:
            if box.name == 'vehicle.car':
                inside |= points_in_box(box, points, wlh_factor=1.03)
        is_car = labels == tiny_nusc.lidarseg_name2idx_mapping['vehicle.car']
        right, total = right + (is_car & inside).sum(), total + is_car.sum()
    assert total > 100 and right > 0.99 * total


def test_maps_load_and_the_ego_drives_on_the_drivable_area(tiny_nusc, tiny_world):
    from nuscenes.map_expansion.map_api import NuScenesMap
    for location in LOCATIONS:
        city = NuScenesMap(str(tiny_world), location)
        assert all(len(getattr(city, layer)) > 0 for layer in (
            'drivable_area', 'road_segment', 'road_block', 'lane', 'ped_crossing', 'walkway', 'stop_line',
            'carpark_area', 'road_divider', 'lane_divider', 'lane_connector')), location
    for scene in tiny_nusc.scene:
        location = tiny_nusc.get('log', scene['log_token'])['location']
        city = NuScenesMap(str(tiny_world), location)
        sample = tiny_nusc.get('sample', scene['first_sample_token'])
        pose = tiny_nusc.get(
            'ego_pose', tiny_nusc.get('sample_data', sample['data']['LIDAR_TOP'])['ego_pose_token']
        )
        x, y, _ = pose['translation']
        layers = ['drivable_area', 'walkway', 'lane_divider']
        mask = city.get_map_mask((x, y, 60, 60), 0, layers, (300, 300))
        assert mask.shape == (3, 300, 300) and mask[0, 150, 150] == 1
        assert 0.05 < mask[0].mean() < 0.95
        assert city.layers_on_point(x, y)['drivable_area']


def test_the_basemap_shows_the_road_below_the_ego(tiny_nusc):
    for scene in tiny_nusc.scene:
        log = tiny_nusc.get('log', scene['log_token'])
        mask = tiny_nusc.get('map', log['map_token'])['mask']
        poses = [
            tiny_nusc.get('ego_pose', row['ego_pose_token'])['translation']
            for row in tiny_nusc.sample_data
            if tiny_nusc.get('sample', row['sample_token'])['scene_token'] == scene['token']
        ]
        x, y, _ = np.array(poses).T
        assert mask.is_on_mask(x, y).all()
        assert 0.02 < (mask.mask() == 255).mean() < 0.9


def test_the_devkit_draws_the_map(tiny_nusc, tiny_world):
    """All ways of drawing polygons: layers, one record, a patch, on an image."""
    from matplotlib import pyplot
    from nuscenes.map_expansion.map_api import NuScenesMap
    scene = tiny_nusc.scene[0]
    city = NuScenesMap(str(tiny_world), tiny_nusc.get('log', scene['log_token'])['location'])
    lidar = tiny_nusc.get('sample', scene['first_sample_token'])['data']['LIDAR_TOP']
    pose = tiny_nusc.get('ego_pose', tiny_nusc.get('sample_data', lidar)['ego_pose_token'])
    x, y, _ = pose['translation']

    figure, axes = city.render_map_patch((x - 40, y - 40, x + 40, y + 40), ['road_segment', 'walkway'])
    assert len(axes.patches) > 2
    assert any(patch.get_path().contains_point((x, y)) for patch in axes.patches)
    city.render_layers(['drivable_area'])
    city.render_record('lane', city.lane[0]['token'])
    city.render_map_in_image(tiny_nusc, scene['first_sample_token'])
    pyplot.close('all')


def test_holes_of_drawn_polygons_stay_open():
    import descartes
    from matplotlib import pyplot
    from shapely.geometry import MultiPolygon, Polygon
    outer = [(0, 0), (0, 9), (9, 9), (9, 0)]
    ring = Polygon(outer, [[(3, 3), (3, 6), (6, 6), (6, 3)]])
    for turned in (ring, Polygon(outer, [[(3, 3), (6, 3), (6, 6), (3, 6)]])):
        figure = pyplot.figure(figsize=(1.2, 0.9), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 12), ylim=(9, 0), autoscale_on=False)
        far = Polygon([(10, 0), (12, 0), (12, 4), (10, 4)])
        axes.add_patch(descartes.PolygonPatch(MultiPolygon([turned, far]), fc='k', ec='none'))
        figure.canvas.draw()

        # ten pixels a unit: row, column of a border, the hole, the far part, and beside it
        red = np.asarray(figure.canvas.buffer_rgba())[..., 0]
        assert [red[15, 15], red[45, 45], red[20, 110], red[60, 110]] == [0, 255, 0, 255]
        pyplot.close(figure)
    assert len(descartes.PolygonPath(ring.__geo_interface__)) == 10
    with pytest.raises(ValueError, match='found Point'):
        descartes.PolygonPath({'type': 'Point', 'coordinates': (0, 0)})


def test_bitmaps_of_the_map_expansion_load(tiny_world):
    from nuscenes.map_expansion.bitmap import BitMap
    for location in LOCATIONS:
        for layer in ('basemap', 'semantic_prior'):
            assert BitMap(str(tiny_world), location, layer).image.ndim == 2


def test_can_bus_poses_lie_on_the_driven_path(tiny_nusc, tiny_world):
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    can_bus = NuScenesCanBus(str(tiny_world))
    for scene in tiny_nusc.scene:
        messages = can_bus.get_messages(scene['name'], 'pose')
        utime, xy = np.array([m['utime'] for m in messages]), np.array([m['pos'][:2] for m in messages])
        assert set(np.diff(utime)) == {20_000} and len(messages) == 1001
        sample = tiny_nusc.get('sample', scene['last_sample_token'])
        row = tiny_nusc.get('sample_data', sample['data']['LIDAR_TOP'])
        pose = tiny_nusc.get('ego_pose', row['ego_pose_token'])['translation'][:2]
        at = [np.interp(row['timestamp'], utime, xy[:, axis]) for axis in range(2)]
        np.testing.assert_allclose(at, pose, atol=0.05)
        route, driven = can_bus.get_pose_and_route(scene['name'])
        assert np.min(np.linalg.norm(driven[:, None] - route[None], axis=2), axis=1).max() < 1.0


def test_can_bus_statistics_and_plots_of_every_message(tiny_nusc, tiny_world, capsys):
    from matplotlib import pyplot
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    can_bus, scene = NuScenesCanBus(str(tiny_world)), tiny_nusc.scene[0]['name']
    can_bus.print_all_message_stats(scene)
    assert set(json.loads(capsys.readouterr().out)) == set(can_bus.can_messages)

    for kind, field in (('steeranglefeedback', 'value'), ('zoe_veh_info', 'odom'), ('ms_imu', 'q')):
        can_bus.print_message_stats(scene, kind)
        can_bus.plot_message_data(scene, kind, field)
        pyplot.close('all')
    assert '"message_count": 2001' in capsys.readouterr().out


def test_pictures_render_with_points_on_images(tiny_nusc, tmp_path):
    token = tiny_nusc.scene[1]['first_sample_token']
    tiny_nusc.render_sample(token, out_path=str(tmp_path / 'sample.png'), verbose=False)
    assert (tmp_path / 'sample.png').stat().st_size > 50_000
    data = tiny_nusc.get('sample', token)['data']
    points, depth, _ = tiny_nusc.explorer.map_pointcloud_to_image(
        data['LIDAR_TOP'], data['CAM_FRONT'], min_dist=1.0
    )
    assert points.shape[1] > 1000 and depth.min() > 1.0
    points, _, _ = tiny_nusc.explorer.map_pointcloud_to_image(data['RADAR_FRONT'], data['CAM_FRONT'])
    assert points.shape[1] > 0


def test_occupancy_files_have_the_occ3d_form(tiny_nusc, tiny_world):
    for sample in tiny_nusc.sample:
        scene = tiny_nusc.get('scene', sample['scene_token'])['name']
        with np.load(tiny_world / 'gts' / scene / sample['token'] / 'labels.npz') as labels:
            assert set(labels) == {'semantics', 'mask_lidar', 'mask_camera'}
            assert all(
                labels[name].shape == (200, 200, 16) and labels[name].dtype == np.uint8 for name in labels
            )
            assert set(np.unique(labels['mask_camera'])) == {0, 1} and labels['semantics'].max() == 17
            assert 0.5 < (labels['semantics'] == 17).mean() < 0.99


def truth_as_results(nusc, split_names):
    """Every ground-truth box of a split in the results format, with full confidence."""
    from nuscenes.eval.detection.utils import category_to_detection_name
    results = {}
    for sample in nusc.sample:
        if nusc.get('scene', sample['scene_token'])['name'] not in split_names:
            continue
        boxes = []
        for annotation in (nusc.get('sample_annotation', name) for name in sample['anns']):
            name = category_to_detection_name(annotation['category_name'])
            if name is not None and annotation['num_lidar_pts'] + annotation['num_radar_pts'] > 0:
                attributes = [nusc.get('attribute', a)['name'] for a in annotation['attribute_tokens']]
                boxes.append({'sample_token': sample['token'], 'translation': annotation['translation'],
                              'size': annotation['size'], 'rotation': annotation['rotation'],
                              'velocity': nusc.box_velocity(annotation['token'])[:2].tolist(),
                              'detection_name': name, 'detection_score': 1.0,
                              'attribute_name': attributes[0] if attributes else ''})
        results[sample['token']] = boxes
    return results


@pytest.mark.parametrize('split', ['train', 'val'])
def test_truth_as_prediction_is_perfect(tiny_nusc, tmp_path, split):
    """Average precision is 1 for every class that occurs; the small world need not hold all ten."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval
    from nuscenes.utils import splits
    results = truth_as_results(tiny_nusc, getattr(splits, split))
    assert len(results) == TINY.key_frames
    meta = {f'use_{name}': False for name in ('camera', 'lidar', 'radar', 'map', 'external')}
    (tmp_path / 'results.json').write_text(json.dumps({'meta': meta, 'results': results}))
    evaluation = DetectionEval(
        tiny_nusc, config_factory('detection_cvpr_2019'), str(tmp_path / 'results.json'), split,
        str(tmp_path), verbose=False)
    metrics, _ = evaluation.evaluate()
    present = {box.detection_name for box in evaluation.gt_boxes.all}
    assert {'car', 'pedestrian'} <= present
    for name in present:
        for distance, precision in metrics._label_aps[name].items():
            assert precision == pytest.approx(1.0), (name, distance)
        assert metrics.get_label_tp(name, 'trans_err') == pytest.approx(0.0, abs=1e-9)


def test_custom_splits_are_found_by_the_devkit(tiny_nusc):
    from nuscenes.utils.splits import get_scenes_of_split
    names = [get_scenes_of_split(f'world_{split}', tiny_nusc) for split in ('train', 'val')]
    assert [len(split) for split in names] == [1, 1]
    assert {row['name'] for row in tiny_nusc.scene} == {*names[0], *names[1]}
