from __future__ import annotations

import numpy as np
import pytest

from perception.core.nuscenes.radar_file import RADAR_DTYPE, radar_pcd_bytes, read_radar_pcd
from perception.world.sensors.radar import encode_radar_pcd, scan_radar
from tests.world.sensor_scene import GEOMETRY, RIG, SNAPSHOT

FRONT = RIG.radars['RADAR_FRONT']


@pytest.fixture(scope='module')
def scans():
    return [scan_radar(SNAPSHOT, 1.0, FRONT, np.random.default_rng(seed)) for seed in range(60)]


def joined(scans) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([s.targets_P for s in scans]), np.concatenate([s.track_id_P for s in scans])


def test_targets_lie_on_the_car(scans):
    targets, track = joined(scans)
    car = targets[track == 0]
    assert len(car) >= 10
    # car from 12.7 to 17.3 m before the ego origin, radar at 3.41 m; range noise 0.08 m, 0.35 degrees
    assert car['x'].min() > 12.7 - 3.41 - 0.4 and car['x'].max() < 17.3 - 3.41 + 0.4
    assert np.abs(car['y']).max() < 0.95 + 0.35


def test_doppler_is_the_radial_speed(scans):
    targets, track = joined(scans)
    direction = np.stack([targets['x'], targets['y']], -1) / np.hypot(targets['x'], targets['y'])[:, None]
    compensated = targets['vx_comp'] * direction[:, 0] + targets['vy_comp'] * direction[:, 1]
    relative = targets['vx'] * direction[:, 0] + targets['vy'] * direction[:, 1]
    car, still = (
        track == 0,
        (track < 0) & (targets['invalid_state'] == 0) & (targets['pdh0'] == 1) & (targets['dyn_prop'] == 1))
    # both drive 8 m/s along x: nothing relative, 8 cos(angle) over ground; structure stands still
    assert np.abs(relative[car]).max() < 0.3
    np.testing.assert_allclose(compensated[car], 8.0 * direction[car, 0], atol=0.3)
    assert still.sum() > 5
    np.testing.assert_allclose(compensated[still], 0.0, atol=0.3)
    np.testing.assert_allclose(relative[still], -8.0 * direction[still, 0], atol=0.3)
    assert (targets['dyn_prop'][car] == 0).all()


def test_side_radar_sees_the_walker_or_the_building_on_its_side():
    left = scan_radar(SNAPSHOT, 1.0, RIG.radars['RADAR_FRONT_LEFT'], np.random.default_rng(0))
    wall = (left.targets_P['invalid_state'] == 0) & (left.targets_P['pdh0'] == 1) & (left.targets_P['x'] > 8)
    # the building's front stands 13.75 m to the left of the car, the radar 0.8 m
    assert np.any(np.abs(left.targets_P['x'][wall] - 12.95) < 0.5)


def test_devkit_reads_the_file_and_filters_what_is_invalid(scans, tmp_path):
    data_classes = pytest.importorskip(
        'nuscenes.utils.data_classes', reason='nuscenes-devkit is not installed'
    )
    scan = scans[0]
    path = tmp_path / 'scan.pcd'
    path.write_bytes(encode_radar_pcd(scan))
    data_classes.RadarPointCloud.disable_filters()
    everything = data_classes.RadarPointCloud.from_file(str(path)).points
    data_classes.RadarPointCloud.default_filters()
    kept = data_classes.RadarPointCloud.from_file(str(path)).points
    assert everything.shape == (18, len(scan.targets_P))
    for row, name in enumerate(RADAR_DTYPE.names):
        np.testing.assert_array_equal(everything[row], scan.targets_P[name].astype(np.float64))
    keep = (scan.targets_P['invalid_state'] == 0) & (scan.targets_P['ambig_state'] == 3)
    assert kept.shape[1] == keep.sum() < len(keep)
    assert keep[scan.track_id_P >= 0].all()


def test_empty_scan_and_round_trip(scans, tmp_path):
    empty = radar_pcd_bytes(np.zeros(0, RADAR_DTYPE))
    assert len(read_radar_pcd(empty)) == 0
    np.testing.assert_array_equal(read_radar_pcd(encode_radar_pcd(scans[0])), scans[0].targets_P)
    data_classes = pytest.importorskip(
        'nuscenes.utils.data_classes', reason='nuscenes-devkit is not installed'
    )
    (tmp_path / 'empty.pcd').write_bytes(empty)
    assert data_classes.RadarPointCloud.from_file(str(tmp_path / 'empty.pcd')).points.shape == (18, 0)
    with pytest.raises(ValueError, match='RADAR_DTYPE'):
        radar_pcd_bytes(np.zeros((3, 18)))
    with pytest.raises(ValueError, match='bytes'):
        read_radar_pcd(encode_radar_pcd(scans[0])[:-60])


def test_same_seed_same_targets(scans):
    again = scan_radar(GEOMETRY, 1.0, FRONT, np.random.default_rng(0))
    np.testing.assert_array_equal(again.targets_P, scans[0].targets_P)
