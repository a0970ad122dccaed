"""One scene from geometry to files: every sensor read at its times, every label written beside it.

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

from ..labels.annotations import annotate
from ..labels.lidarseg import point_labels
from ..labels.occupancy import label_occupancy
from ..labels.visibility import sight_of_things
from ..scene.scene import WorldScene
from ..sensors.camera import CameraFrame, render_camera
from ..sensors.lidar import scan_lidar
from ..sensors.radar import encode_radar_pcd, scan_radar
from ..sensors.rig import CameraSensor, RadarSensor, SensorRig
from ..sensors.timing import Reading, camera_readings, key_time_us, lidar_readings, radar_readings
from ..sensors.triangles import SceneGeometry, Snapshot
from . import can_bus
from .options import WorldOptions
from .scene_rows import SceneRows
from .storage import SCENE_ROWS, SceneFolder, to_json

JPEG_QUALITY = 90


class StageClock:
    """Adds up the processor seconds spent in each named stage; waiting for a busy machine does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside ``with`` towards ``name``."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - start


def modalities(rig: SensorRig, radars: bool) -> dict[str, str]:
    """Modality of every channel that is recorded."""
    channels = dict.fromkeys(rig.cameras, 'camera') | {rig.lidar.name: 'lidar'}
    return channels | (dict.fromkeys(rig.radars, 'radar') if radars else {})


def reading_rng(scene: WorldScene, seed: int, reading: Reading) -> np.random.Generator:
    """Random numbers of one reading; they depend on nothing that happened before it."""
    words = [seed, int(scene.name.removeprefix('scene-')), reading.time_us, *reading.channel.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


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
        self.clock = StageClock()

    def record(self) -> dict[str, float]:
        """Writes the scene's files and table rows and returns the seconds of each stage."""
        self._add_sensors()
        readings = self._readings_by_key_frame()
        for key_frame in range(self.options.key_frames):
            self.check()
            self._record_key_frame(key_frame, readings[key_frame])
        with self.clock.stage('CAN bus'):
            self.folder.write(
                f'can_bus/{self.scene.name}_pose.json', to_json(can_bus.pose_messages(self.scene))
            )
            self.folder.write(
                f'can_bus/{self.scene.name}_route.json', to_json(can_bus.route_message(self.scene.ego))
            )
        with self.clock.stage('tables'):
            self.folder.write(SCENE_ROWS, to_json(self.rows.finish()))
        return dict(self.clock.seconds)

    def _add_sensors(self) -> None:
        for camera in self.rig.cameras.values():
            self.rows.add_sensor(
                camera.name, camera.ego_T_cam, camera.intrinsics_for(self.options.image_size_hw)
            )
        self.rows.add_sensor(self.rig.lidar.name, self.rig.lidar.ego_T_lidar, None)
        for radar in self.rig.radars.values() if self.options.radars else ():
            self.rows.add_sensor(radar.name, radar.ego_T_radar, None)

    def _readings_by_key_frame(self) -> dict[int, list[Reading]]:
        count, sweeps = self.options.key_frames, self.options.sweeps
        readings = lidar_readings(self.rig.lidar.name, count, self.options.lidar_turns_before)
        for camera in self.rig.cameras.values():
            axis = camera.ego_T_cam[:3, 2]
            readings += camera_readings(camera.name, float(np.arctan2(axis[1], axis[0])), count, sweeps)
        for index, name in enumerate(self.rig.radars if self.options.radars else ()):
            readings += radar_readings(name, index, count, sweeps)
        grouped: dict[int, list[Reading]] = defaultdict(list)
        for reading in readings:
            grouped[reading.key_frame].append(reading)
        return grouped

    def _record_key_frame(self, key_frame: int, readings: list[Reading]) -> None:
        key_time_s = key_time_us(key_frame) * 1e-6
        with self.clock.stage('snapshot'):
            snapshot = self.geometry.at(key_time_s)
        frames: dict[str, CameraFrame] = {}
        lidar_P3, radar_P3 = np.zeros((0, 3)), [np.zeros((0, 3))]
        for reading in readings:
            if reading.channel in self.rig.cameras:
                frame = self._record_camera(reading, self.rig.cameras[reading.channel])
                if reading.is_key_frame:
                    frames[reading.channel] = frame
            elif reading.channel in self.rig.radars:
                points_global_P3 = self._record_radar(reading, self.rig.radars[reading.channel])
                if reading.is_key_frame:
                    radar_P3.append(points_global_P3)
            elif reading.is_key_frame:
                lidar_P3 = self._record_lidar(reading, snapshot)
            else:
                self._record_lidar(reading, self.geometry)
        self._record_labels(key_frame, snapshot, frames, lidar_P3, np.concatenate(radar_P3))

    def _rng(self, reading: Reading) -> np.random.Generator:
        return reading_rng(self.scene, self.options.seed, reading)

    def _record_camera(self, reading: Reading, camera: CameraSensor) -> CameraFrame:
        size_hw = self.options.image_size_hw
        with self.clock.stage('cameras'):
            frame = render_camera(self.geometry, reading.time_s, camera, size_hw, self._rng(reading))
        with self.clock.stage('JPEG'):
            bgr_HW3 = np.ascontiguousarray(frame.image_HW3[..., ::-1])
            _, jpeg = cv2.imencode('.jpg', bgr_HW3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        with self.clock.stage('write'):
            self.folder.write(self.rows.add_reading(reading, 'camera', size_hw), jpeg.tobytes())
        return frame

    def _record_lidar(self, reading: Reading, geometry: SceneGeometry | Snapshot) -> np.ndarray:
        with self.clock.stage('LiDAR'):
            scan = scan_lidar(geometry, reading.time_s, self.rig.lidar, self._rng(reading))
        with self.clock.stage('write'):
            name = self.rows.add_reading(reading, 'lidar')
            self.folder.write(name, np.ascontiguousarray(scan.points_P5, '<f4').tobytes())
            if reading.is_key_frame:
                labels = point_labels(scan.material_P, scan.track_id_P, self.categories)
                self.folder.write(self.rows.add_lidarseg(reading), labels.tobytes())
        return self._to_global(scan.points_P5[:, :3], reading, self.rig.lidar.ego_T_lidar)

    def _record_radar(self, reading: Reading, radar: RadarSensor) -> np.ndarray:
        with self.clock.stage('radars'):
            scan = scan_radar(self.geometry, reading.time_s, radar, self._rng(reading))
        with self.clock.stage('write'):
            self.folder.write(self.rows.add_reading(reading, 'radar'), encode_radar_pcd(scan))
        return self._to_global(scan.points_P3, reading, radar.ego_T_radar)

    def _to_global(
        self, points_sensor_P3: np.ndarray, reading: Reading, ego_T_sensor: np.ndarray
    ) -> np.ndarray:
        global_T_sensor = self.scene.ego.pose_at(reading.time_s) @ ego_T_sensor
        return points_sensor_P3.astype(np.float64) @ global_T_sensor[:3, :3].T + global_T_sensor[:3, 3]

    def _record_labels(self, key_frame: int, snapshot: Snapshot, frames: dict[str, CameraFrame],
                       lidar_P3: np.ndarray, radar_P3: np.ndarray) -> None:
        with self.clock.stage('visibility'):
            sight = sight_of_things(snapshot, snapshot.t_s, self.rig, frames)
        with self.clock.stage('boxes'):
            annotations = annotate(self.scene, snapshot.t_s, lidar_P3, radar_P3, sight)
            self.rows.add_annotations(key_frame, annotations)
        if self.options.occupancy:
            with self.clock.stage('occupancy'):
                labels = label_occupancy(snapshot, snapshot.t_s, self.rig)
            with self.clock.stage('occupancy file'):
                name = f'gts/{self.scene.name}/{self.rows.sample_tokens[key_frame]}/labels.npz'
                self.folder.write(name, _npz(semantics=labels.semantics, mask_lidar=labels.mask_lidar,
                                             mask_camera=labels.mask_camera))


def _npz(**arrays: np.ndarray) -> bytes:
    """A compressed .npz; its members carry numpy's fixed date, so equal arrays make equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
