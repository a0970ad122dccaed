"""A vehicle's measurements as frames: motion, earlier sweeps, absent sensors."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.core.protocols import CAMERAS
from perception.deployment.vehicle.drive import VehicleDrive
from perception.deployment.vehicle.records import FrameRequest, SensorMeasurement
from perception.recordings.live.poses import LivePoses
from perception.recordings.live.readings import SensorReading

NS = 1_000_000_000
K = np.array([[100.0, 0, 50], [0, 100, 30], [0, 0, 1]])
LENS = object()
HIGH = make_transform(np.eye(3), np.array([1.0, 0, 2]))


def at(x: float, yaw: float = 0.0) -> np.ndarray:
    pose = rotation_z(yaw)
    pose[0, 3] = x
    return pose


def model(sweeps: int = 0, sensors: tuple[str, ...] = ('camera', 'lidar', 'radar')) -> SimpleNamespace:
    """Stands for `Perception`: a batch is the arguments that the sample was made of."""
    return SimpleNamespace(
        sensors=sensors, cameras=CAMERAS, lidar_sweeps=sweeps, own_returns_m=1.0,
        sample=lambda **frame: frame, batch=lambda sample: sample)


def read(measurement: SensorMeasurement) -> SensorReading:
    """Data that are values already; a text is damage."""
    if isinstance(measurement.data, str):
        raise ValueError('the cloud ends early')
    turned = rotation_z(np.pi / 2) if 'RADAR' in measurement.channel else HIGH
    camera = (K, LENS) if measurement.channel == 'CAM_BACK' else (K, None)
    return SensorReading(np.asarray(measurement.data), turned, *camera)


def frame(drive: VehicleDrive, **measured: tuple[int, np.ndarray]) -> dict:
    measurements = {name: SensorMeasurement(name, *found) for name, found in measured.items()}
    request = FrameRequest(1, 0, measurements, {}, 0)
    return drive.assemble(request, {name: drive.unpack(one) for name, one in measurements.items()})


def test_poses_are_interpolated_and_go_on_for_a_little() -> None:
    poses = LivePoses(ahead_s=0.5)
    assert poses.at(0) is None
    poses.add(NS, at(10))
    assert poses.at(7 * NS)[0, 3] == poses.at(0)[0, 3] == 10
    poses.add(2 * NS, at(14, 0.2))

    assert poses.at(1 * NS)[0, 3] == 10 and poses.at(0)[0, 3] == 10
    assert np.allclose(poses.at(int(1.25 * NS)), at(11, 0.05))
    assert np.allclose(poses.at(int(2.25 * NS)), at(15, 0.25))
    assert np.allclose(poses.at(9 * NS), at(16, 0.3))

    poses.add(2 * NS, at(14.5, 0.2))
    poses.add(3 * NS, np.full((4, 4), np.nan))
    assert poses.at(2 * NS)[0, 3] == 14.5
    poses.add(NS, at(-1))
    assert poses.at(2 * NS)[0, 3] == -1


def test_cameras_stand_where_they_were_seen_from_the_car_now() -> None:
    poses = LivePoses()
    poses.add(0, at(0))
    poses.add(NS, at(10))
    drive = VehicleDrive(model(), ('LIDAR_TOP', 'CAM_FRONT', 'CAM_BACK'), read, poses.at, 'trip')
    assert drive.channels == ('CAM_FRONT', 'CAM_BACK', 'LIDAR_TOP')

    image, points = np.zeros((60, 100, 3), np.uint8), np.array([[5.0, 0, 0, 9]])
    made = frame(drive, CAM_FRONT=(NS - NS // 10, image), LIDAR_TOP=(NS, points))
    assert set(made['images']) == set(made['K']) == {'CAM_FRONT'}
    assert 'radars' not in made and 'distortion' not in made
    assert np.allclose(made['ego_T_cam']['CAM_FRONT'][:3, 3], [0, 0, 2])  # one metre behind the mount
    assert np.allclose(made['ego_T_lidar'], HIGH) and made['points'] is points
    assert (made['timestamp_ns'], made['drive']) == (NS, 'trip')
    assert np.allclose(made['global_T_ego'], at(10))


def test_without_odometry_the_car_stands() -> None:
    drive = VehicleDrive(model(), ('CAM_FRONT',), read, lambda stamp_ns: None)
    made = frame(drive, CAM_FRONT=(NS, np.zeros((60, 100, 3), np.uint8)))
    assert np.allclose(made['ego_T_cam']['CAM_FRONT'], HIGH) and (made['global_T_ego'] == np.eye(4)).all()
    assert 'points' not in made and drive.options().trigger is None


def test_earlier_sweeps_are_moved_and_lose_the_car_itself() -> None:
    poses = LivePoses()
    poses.add(0, at(0))
    poses.add(NS, at(10))
    drive = VehicleDrive(model(sweeps=2), ('LIDAR_TOP',), read, poses.at)
    own = [0.5, -0.5, 0, 1]

    # of four sweeps the frame has the last three; the third is damaged
    for stamp_ns, x in ((0, 1.5), (NS // 4, 20.0), (NS // 2, None), (NS, 30.0)):
        data = 'damaged' if x is None else np.array([[x, 0, 0, 7, 3], [*own, 0]])
        drive.note(SensorMeasurement('LIDAR_TOP', stamp_ns, data))
    made = frame(drive, LIDAR_TOP=(NS, np.array([[30.0, 0, 0, 7, 3], [*own, 0]])))

    # 20 m before the sensor, 7.5 m before the car went on; lags as older is positive
    assert made['points'].tolist() == [[31, 0, 2, 7, 3, 0], [13.5, 0, 2, 7, 3, 0.75]]
    assert made['points'].dtype == np.float32 and 'ego_T_lidar' not in made


def test_radar_rows_are_turned_into_ego() -> None:
    poses = LivePoses()
    poses.add(0, at(0))
    drive = VehicleDrive(model(), ('RADAR_FRONT', 'LIDAR_TOP'), read, poses.at)
    rows = np.array([[10.0, 0, 1, 2, 0, 5]])
    made = frame(drive, RADAR_FRONT=(NS // 2, rows), LIDAR_TOP=(NS, np.zeros((0, 4))))
    assert np.allclose(made['radars']['RADAR_FRONT'], [[0, 10, 1, 0, 2, 5, 0.5]], atol=1e-5)


def test_a_lens_goes_with_its_camera() -> None:
    drive = VehicleDrive(model(), ('CAM_FRONT', 'CAM_BACK'), read, lambda stamp_ns: None)
    image = np.zeros((60, 100, 3), np.uint8)
    made = frame(drive, CAM_FRONT=(NS, image), CAM_BACK=(NS, image))
    assert made['distortion'] == {'CAM_BACK': LENS} and (made['K']['CAM_FRONT'] == K).all()


def test_sensors_that_the_model_cannot_read_are_refused_or_left_out() -> None:
    def channels(*names: str, **changes: object) -> tuple[str, ...]:
        return VehicleDrive(model(**changes), names, read, lambda stamp_ns: None).channels

    assert channels('LIDAR_TOP', 'CAM_BACK', sensors=('lidar',)) == ('LIDAR_TOP',)
    with pytest.raises(ValueError, match="name 'CAM_UP', expected names .*: CAM_FRONT, .*LIDAR_TOP"):
        channels('CAM_UP')
    with pytest.raises(ValueError, match=r'found CAM_BACK, expected some that the model reads \(lidar\)'):
        channels('CAM_BACK', sensors=('lidar',))
