"""One scene from geometry to files: what every sensor measures at its times, with all labels.

Letters: H W image rows and columns, P points, M tracks.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from ...core.nuscenes.storage import SCENE_ROWS, SceneFolder, to_json
from ...core.rig.sensors import CameraSensor, RadarSensor, SensorRig
from ..labels.annotations import annotate
from ..labels.lidarseg import point_labels
from ..labels.occupancy import label_occupancy
from ..labels.visibility import sight_of_objects
from ..scene.scene import WorldScene
from ..sensors.camera import CameraFrame, render_camera
from ..sensors.lidar import scan_lidar
from ..sensors.radar import encode_radar_pcd, scan_radar
from ..sensors.timing import (
    Measurement,
    camera_measurements,
    key_time_us,
    lidar_measurements,
    radar_measurements,
)
from ..sensors.triangles import SceneGeometry, Snapshot
from . import can_bus
from .options import WorldOptions
from .scene_rows import SceneRows

JPEG_QUALITY = 90


class StageTimer:
    """Adds up the processor seconds spent in each named stage; waiting for a busy machine does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside `with` towards `name`."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - start


def modalities(rig: SensorRig, radars: bool) -> dict[str, str]:
    """Modality of every channel that is recorded."""
    channels = dict.fromkeys(rig.cameras, 'camera') | {rig.lidar.name: 'lidar'}
    return channels | (dict.fromkeys(rig.radars, 'radar') if radars else {})


def measurement_rng(scene: WorldScene, seed: int, measurement: Measurement) -> np.random.Generator:
    """Random numbers of one measurement; they do not depend on any other measurement."""
    scene_number = int(scene.name.removeprefix('scene-'))
    entropy = [seed, scene_number, measurement.time_us, *measurement.channel.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


class SceneRecorder:
    """Records one scene into its unfinished folder.

    Args:
        scene: what there is to see.
        rig: the car's sensors.
        options: what to write.
        folder: where to write it.
        check: called before every key frame; raises to stop early.
    """

    def __init__(self, scene: WorldScene, rig: SensorRig, options: WorldOptions, folder: SceneFolder,
                 check: Callable[[], None] = lambda: None) -> None:
        self.scene = scene
        self.rig = rig
        self.options = options
        self.folder = folder
        self.check = check
        self.geometry = SceneGeometry(scene)
        self.rows = SceneRows(scene, options.seed, options.key_frames, options.version)
        self.categories = [track.category for track in scene.tracks]
        self.timer = StageTimer()

    def record(self) -> dict[str, float]:
        """Write the scene's files and table rows and return the seconds of each stage."""
        self._add_sensors()
        measurements = self._measurements_by_key_frame()
        for key_frame in range(self.options.key_frames):
            self.check()
            self._record_key_frame(key_frame, measurements[key_frame])

        with self.timer.stage('CAN bus'):
            for kind, content in can_bus.can_bus_files(self.scene).items():
                self.folder.write(f'can_bus/{self.scene.name}_{kind}.json', to_json(content))
        with self.timer.stage('tables'):
            self.folder.write(SCENE_ROWS, to_json(self.rows.finish()))
        return dict(self.timer.seconds)

    def _add_sensors(self) -> None:
        for camera in self.rig.cameras.values():
            K = camera.intrinsics_for(self.options.image_size_hw)
            self.rows.add_sensor(camera.name, camera.ego_T_cam, K, camera.distortion)
        self.rows.add_sensor(self.rig.lidar.name, self.rig.lidar.ego_T_lidar, None)
        for radar in self.rig.radars.values() if self.options.radars else ():
            self.rows.add_sensor(radar.name, radar.ego_T_radar, None)

    def _measurements_by_key_frame(self) -> dict[int, list[Measurement]]:
        count, sweeps = self.options.key_frames, self.options.sweeps
        measurements = lidar_measurements(self.rig.lidar.name, count, self.options.lidar_turns_before)
        for camera in self.rig.cameras.values():
            axis = camera.ego_T_cam[:3, 2]
            azimuth_rad = float(np.arctan2(axis[1], axis[0]))
            measurements += camera_measurements(camera.name, azimuth_rad, count, sweeps)
        for index, name in enumerate(self.rig.radars if self.options.radars else ()):
            measurements += radar_measurements(name, index, count, sweeps, self.options.radar_sweeps)
        grouped: dict[int, list[Measurement]] = defaultdict(list)
        for measurement in measurements:
            grouped[measurement.key_frame].append(measurement)
        return grouped

    def _record_key_frame(self, key_frame: int, measurements: list[Measurement]) -> None:
        key_time_s = key_time_us(key_frame) * 1e-6
        with self.timer.stage('snapshot'):
            snapshot = self.geometry.at(key_time_s)

        # labels need the measurements of the key frame itself; sweeps are written and forgotten
        frames: dict[str, CameraFrame] = {}
        lidar_P3, radar_P3 = np.zeros((0, 3)), [np.zeros((0, 3))]
        for measurement in measurements:
            if measurement.channel in self.rig.cameras:
                frame = self._record_camera(measurement, self.rig.cameras[measurement.channel])
                if measurement.is_key_frame:
                    frames[measurement.channel] = frame
            elif measurement.channel in self.rig.radars:
                points_global_P3 = self._record_radar(measurement, self.rig.radars[measurement.channel])
                if measurement.is_key_frame:
                    radar_P3.append(points_global_P3)
            elif measurement.is_key_frame:
                lidar_P3 = self._record_lidar(measurement, snapshot)
            else:
                self._record_lidar(measurement, self.geometry)

        self._record_labels(key_frame, snapshot, frames, lidar_P3, np.concatenate(radar_P3))

    def _rng(self, measurement: Measurement) -> np.random.Generator:
        return measurement_rng(self.scene, self.options.seed, measurement)

    def _record_camera(self, measurement: Measurement, camera: CameraSensor) -> CameraFrame:
        size_hw = self.options.image_size_hw
        with self.timer.stage('cameras'):
            frame = render_camera(self.geometry, measurement.time_s, camera, size_hw, self._rng(measurement))
        with self.timer.stage('JPEG'):
            bgr_HW3 = np.ascontiguousarray(frame.image_HW3[..., ::-1])
            _, jpeg = cv2.imencode('.jpg', bgr_HW3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        with self.timer.stage('write'):
            self.folder.write(self.rows.add_measurement(measurement, 'camera', size_hw), jpeg.tobytes())
        return frame

    def _record_lidar(self, measurement: Measurement, geometry: SceneGeometry | Snapshot) -> np.ndarray:
        with self.timer.stage('LiDAR'):
            scan = scan_lidar(geometry, measurement.time_s, self.rig.lidar, self._rng(measurement))
        with self.timer.stage('write'):
            name = self.rows.add_measurement(measurement, 'lidar')
            self.folder.write(name, np.ascontiguousarray(scan.points_P5, '<f4').tobytes())
            if measurement.is_key_frame:
                labels = point_labels(scan.material_P, scan.track_id_P, self.categories)
                self.folder.write(self.rows.add_lidarseg(measurement), labels.tobytes())
        return self._to_global(scan.points_P5[:, :3], measurement, self.rig.lidar.ego_T_lidar)

    def _record_radar(self, measurement: Measurement, radar: RadarSensor) -> np.ndarray:
        with self.timer.stage('radars'):
            scan = scan_radar(self.geometry, measurement.time_s, radar, self._rng(measurement))
        with self.timer.stage('write'):
            self.folder.write(self.rows.add_measurement(measurement, 'radar'), encode_radar_pcd(scan))
        return self._to_global(scan.points_P3, measurement, radar.ego_T_radar)

    def _to_global(
        self, points_sensor_P3: np.ndarray, measurement: Measurement, ego_T_sensor: np.ndarray
    ) -> np.ndarray:
        global_T_sensor = self.scene.ego.pose_at(measurement.time_s) @ ego_T_sensor
        return points_sensor_P3.astype(np.float64) @ global_T_sensor[:3, :3].T + global_T_sensor[:3, 3]

    def _record_labels(self, key_frame: int, snapshot: Snapshot, frames: dict[str, CameraFrame],
                       lidar_P3: np.ndarray, radar_P3: np.ndarray) -> None:
        with self.timer.stage('visibility'):
            sight = sight_of_objects(snapshot, snapshot.t_s, self.rig, frames)
        with self.timer.stage('boxes'):
            annotations = annotate(self.scene, snapshot.t_s, lidar_P3, radar_P3, sight)
            self.rows.add_annotations(key_frame, annotations)
        if self.options.occupancy:
            with self.timer.stage('occupancy'):
                labels = label_occupancy(snapshot, snapshot.t_s, self.rig)
            with self.timer.stage('occupancy file'):
                name = f'gts/{self.scene.name}/{self.rows.sample_tokens[key_frame]}/labels.npz'
                self.folder.write(name, _npz(semantics=labels.semantics, mask_lidar=labels.mask_lidar,
                                             mask_camera=labels.mask_camera))


def _npz(**arrays: np.ndarray) -> bytes:
    """A compressed .npz; its members carry numpy's fixed date, so equal arrays make equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
